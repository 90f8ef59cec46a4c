"""The dispatcher: help, usage errors, exit codes, one line for each failure."""

import os
import re
import subprocess
import sys

import pytest
from absl import logging

import tfzoo
from tfzoo.cli import train
from tfzoo.cli.main import COMMANDS, main
from tfzoo.errors import ArtifactMismatch, DataError, UsageError


@pytest.fixture
def run(capsys):
    """Runs the command line in this process: arguments -> (exit code, standard output, standard error)."""

    def run(*arguments):
        status = main(arguments)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_overview_lists_every_command(run, arguments):
    status, out, err = run(*arguments)
    assert (status, err) == (0, "")
    listed = re.findall(r"^    (\w+)  +[A-Z].*\.$", out, re.MULTILINE)
    assert listed == list(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_an_example_and_every_flag(run, name):
    status, out, err = run(name, "--help")
    assert (status, err) == (0, "")
    assert re.search(rf"^    .*tfzoo {name}\b", out, re.MULTILINE)
    flag_lines = out.split("Flags:")[1]
    examples = out.split("Flags:")[0]
    for flag in re.findall(r"--(\w+)", examples):
        assert f"    --{flag}: " in flag_lines


def test_help_wins_over_other_mistakes(run):
    assert run("train", "--recipe", "--help")[0] == 0


def test_version(run):
    assert run("--version") == (0, f"{tfzoo.__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "unknown command 'trian'. Did you mean 'train'? `tfzoo --help` lists all."),
        (["--hepl"], "unknown command '--hepl'. `tfzoo --help` lists all."),
        (
            ["train", "--recip=x"],
            "`tfzoo train` has no flag --recip. Did you mean '--recipe'? See `tfzoo train --help`.",
        ),
        (["list", "--zzz"], "`tfzoo list` has no flag --zzz. See `tfzoo list --help`."),
        (["list", "x"], "`tfzoo list` does not take the argument 'x'. See `tfzoo list --help`."),
        (["show", "a", "b"], "`tfzoo show` does not take the argument 'b'. See `tfzoo show --help`."),
        (["show", "a", "--recipe=b"], "`tfzoo show` does not take the argument 'a'. See `tfzoo show --help`."),
        (["show"], "--recipe is missing: a name out of `tfzoo list`, or a recipe's JSON file."),
        (["train", "--run_dir=d"], "--recipe is missing: a name out of `tfzoo list`, or a recipe's JSON file."),
        (["train", "--recipe=r"], "--run_dir is missing: the folder where the run is kept and resumed."),
        (["train", "--recipe"], "Missing value for flag --recipe. See `tfzoo train --help`."),
        (
            ["train", "--recipe=transformer_tini", "--run_dir=d"],
            "unknown recipe 'transformer_tini'. Did you mean 'transformer_tiny'? "
            "`tfzoo list` shows all; a file's name ends in .json.",
        ),
        (
            ["train", "--recipe=gpt2_tiny", "--task=fill_mask", "--run_dir=d"],
            "the recipe 'gpt2_tiny' is for causal_lm; received task='fill_mask'.",
        ),
        (
            ["train", "--recipe=transformer_tiny", "--run_dir=d", "--set=training.monitor=acuracy"],
            "`monitor` must be one of loss, nats_per_token, perplexity, token_accuracy, without val_; received",
        ),
        (
            ["train", "--recipe=gpt2_tiny", "--run_dir=d", "--set=training.frozen_layers=3"],
            "`training.frozen_layers` must not exceed `model.num_layers`; received training.frozen_layers=3, ",
        ),
        (
            ["train", "--recipe=lstm_lm_tiny", "--run_dir=d", "--set=training.lora_rank=4"],
            "`training.lora_rank` adapts attention, which a model of the family 'lstm_lm' has not; received",
        ),
        (
            [
                "train",
                "--recipe=bert_tiny",
                "--task=text_embedding",
                "--run_dir=d",
                "--set=training.label_smoothing=.1",
            ],
            "`label_smoothing` must be 0 for 'text_embedding', whose labels are not classes out of a fixed set; ",
        ),
        (
            ["train", "--recipe=transformer_tiny", "--run_dir=d", "--set=training.num_steps=many"],
            "`training.num_steps` takes a whole number; received 'many'.",
        ),
        (
            ["train", "--recipe=transformer_tiny", "--run_dir=d", "--set=training.seed=1", "--set=model.size=2"],
            "`model` has no field 'size'.",
        ),
        (
            ["train", "--recipe=transformer_tiny", "--run_dir=d", "--strategy=parameter_server"],
            "`strategy` 'parameter_server' is not there: Keras 3 does not train under TensorFlow's ",
        ),
        (
            ["train", "--recipe=transformer_tiny", "--run_dir=d", "--strategy=singel"],
            "`strategy` must be one of auto, single, mirrored, multi_worker, tpu; received strategy='singel'. "
            "Did you mean 'single'?",
        ),
        (
            ["predict"],
            "give either --run_dir (a trained run) or --artifact (an exported one); received neither.",
        ),
        (
            ["evaluate", "--run_dir=a", "--artifact=b", "--data=tsv:x"],
            "give either --run_dir (a trained run) or --artifact (an exported one); received a and b.",
        ),
        (
            ["predict", "--run_dir=d", "--num_beams=four"],
            "flag --num_beams=four: invalid literal for int() with base 10: 'four'. See `tfzoo predict --help`.",
        ),
        (
            ["export", "--run_dir=a", "--output_dir=b", "--formats=saved_model,onyx"],
            "--formats knows saved_model, onnx, onnx_text; received 'onyx'. Did you mean 'onnx'?",
        ),
        (["export", "--run_dir=a", "--output_dir=b", "--formats="], "--formats is empty: give one or more of"),
        (["export", "--run_dir=a"], "--output_dir is missing: the artifact's folder; must be new or empty."),
        (["verify"], "--artifact is missing: the folder of an artifact."),
        (
            ["convert", "--checkpoint=a", "--run_dir=b"],
            "give either --from (read a checkpoint) or --to (write one); received neither.",
        ),
        (
            ["convert", "--from=hf", "--to=hf", "--checkpoint=a", "--run_dir=b"],
            "give either --from (read a checkpoint) or --to (write one); received both.",
        ),
        (
            ["convert", "--from=hf", "--run_dir=b"],
            "--checkpoint is missing: the checkpoint's folder, or sample:minilm; with --to it must",
        ),
        (
            ["convert", "--to=hf", "--checkpoint=a"],
            "--run_dir is missing: the run; with --from it must be new or empty.",
        ),
        (["convert", "--from=hv"], "flag --from=hv: value should be one of <hf|g2p_en>. See `tfzoo convert --help`."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_usage_errors_are_one_line_and_exit_code_2(run, arguments, message):
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith(f"tfzoo: {message}")
    assert err.count("\n") == 1


def test_evaluate_needs_data(run):
    status, _, err = run("evaluate", "--run_dir=d")
    assert status == 2
    assert err.startswith("tfzoo: --data is missing: data to score on: tsv:PATH,")


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (UsageError("no such thing."), 2, "tfzoo: no such thing.\n"),
        (DataError("a.tsv:3: one column\nof two."), 1, "tfzoo: a.tsv:3: one column of two.\n"),
        (ArtifactMismatch("logits differ by 0.5."), 1, "tfzoo: logits differ by 0.5.\n"),
        (FileNotFoundError(2, "No such file or directory", "a.tsv"), 1, "tfzoo: a.tsv: No such file or directory\n"),
        (OSError("disk on fire"), 1, "tfzoo: disk on fire\n"),
        (KeyboardInterrupt(), 130, "tfzoo: interrupted.\n"),
        (KeyboardInterrupt("interrupted at step 3."), 130, "tfzoo: interrupted at step 3.\n"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_failures_are_one_line(run, monkeypatch, error, status, line):
    def fail(flag_values):
        raise error

    monkeypatch.setattr(train, "run", fail)
    assert run("train") == (status, "", line)


def test_a_mistake_of_ours_keeps_its_stack_trace(monkeypatch):
    def fail(flag_values):
        raise ZeroDivisionError

    monkeypatch.setattr(train, "run", fail)
    with pytest.raises(ZeroDivisionError):
        main(["train"])


def test_python_m_tfzoo_passes_the_exit_code_on():
    done = subprocess.run([sys.executable, "-m", "tfzoo", "trian"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("tfzoo: unknown command 'trian'.")


def test_a_reader_that_goes_away_is_no_error():
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as pipe:
        done = subprocess.run(
            [sys.executable, "-m", "tfzoo", "list"], stdout=pipe, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (141, "")


def test_messages_of_the_library_are_shown_once_and_those_of_others_from_an_error_on(run, monkeypatch):
    def talk(flag_values):
        foreign = {"logging": logging}
        exec(compile("logging.info('noise')\nlogging.error('broken')", "/elsewhere/tensorflow/x.py", "exec"), foreign)
        exec(compile("logging.info('step %d.', 3)", train.__file__, "exec"), {"logging": logging})

    monkeypatch.setattr(train, "run", talk)
    assert run("train") == (0, "", "broken\nstep 3.\n")


def test_tensorflow_is_imported_without_its_greetings():
    code = "import os, sys; from tfzoo.cli.quiet import import_tensorflow; import_tensorflow(); os.write(2, b'after')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "after"
