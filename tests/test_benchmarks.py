"""The benchmarks run, and count what they say they count."""

import json
import sys

import numpy as np
import pytest

import tfzoo
from benchmarks import decode, prepare, scale, text_to_text, train
from tests import prepared as corpora
from tests.tiny_run import NUM_TRAINED
from tfzoo.cli.main import main
from tfzoo.errors import UsageError
from tfzoo.recipes import override, to_json
from tfzoo.runtime.predictor import Hypotheses
from tfzoo.training import checkpoints
from tfzoo.training.utilisation import forward_flops

# With the tests that share the trained run.
pytestmark = pytest.mark.xdist_group("run")

TINY = ["model.num_layers=1", "data.batch_tokens=64"]


class Fake:
    """Answers with the text itself, or with something else."""

    def __init__(self, suffix=""):
        self.suffix = suffix
        self.batches = []

    def generate(self, texts, options):
        self.batches.append((list(texts), {name: value.tolist() for name, value in options.items()}))
        outputs = [[text + self.suffix] for text in texts]
        tokens = np.zeros((len(texts), 1, 1), np.int32)
        return Hypotheses(outputs, tokens, tokens.astype(np.float32), np.zeros((len(texts), 1), np.float32))


def read_results(path):
    record = json.loads(path.read_text(encoding="utf-8"))
    assert record["machine"]["cores"] >= 1
    assert record["versions"]["tfzoo"] == tfzoo.__version__
    return record


def test_decode_measures_every_runtime_by_beams_and_batch(tmp_path, monkeypatch, capsys):
    fakes = {}

    def fake(name):
        fakes[name] = Fake()
        return fakes[name]

    recipe = tfzoo.recipe("transformer_tiny_g2p")
    monkeypatch.setattr(decode.runs, "Run", lambda path: type("Run", (), {"backend": fake("keras"), "recipe": recipe}))
    monkeypatch.setattr(decode, "Artifact", lambda path, name: type("Artifact", (), {"backend": fake(name)}))
    data = tmp_path / "data.tsv"
    data.write_text("one two\tx\none two\ty\nthree\tz\nfour\tz\n", encoding="utf-8")
    output = tmp_path / "new" / "decode.json"
    decode.main(
        [f"--data=tsv:{data}", "--repetitions=2", "--num_texts=3", "--batch_sizes", "1", "2", f"--output={output}"]
    )
    record = read_results(output)
    assert record["command"].startswith(f"python -m benchmarks.decode --data=tsv:{data} --repetitions=2")
    keys = [(result["num_beams"], result["batch_size"], result["runtime"]) for result in record["results"]]
    assert keys == [
        (beams, size, name) for beams in (1, 4) for size in (1, 2) for name in ("keras", "saved_model", "onnx")
    ]
    for result in record["results"]:
        assert len(result["seconds"]) == 2
        assert result["words_per_second"] == pytest.approx(4 / result["median_seconds"])
    batches = fakes["onnx"].batches
    assert [texts for texts, _ in batches[:3]] == [["one two"], ["three"], ["four"]]
    assert [texts for texts, _ in batches[9:11]] == [["one two", "three"], ["four"]]  # after 3 passes of 3
    assert batches[-1][1]["num_beams"] == [4]
    assert capsys.readouterr().out.count(" words/s\n") == 12


def test_decode_measures_a_real_artifact(trained, tmp_path):
    output = tmp_path / "decode.json"
    folders = [f"--run_dir={trained.run_dir}", f"--artifact={trained.artifact}", f"--output={output}"]
    sizes = ["--num_texts=3", "--num_beams", "1", "--batch_sizes", "2", "--repetitions=1"]
    decode.main([f"--data=tsv:{trained.validation}", *folders, *sizes])
    results = read_results(output)["results"]
    assert [result["runtime"] for result in results] == ["keras", "saved_model", "onnx"]
    assert all(result["words_per_second"] == 3 / result["median_seconds"] for result in results)


def test_decode_refuses_runtimes_that_disagree():
    config = tfzoo.recipe("transformer_tiny_g2p").decoding
    with pytest.raises(UsageError, match="for 'a' onnx answers 'a!', keras 'a'"):
        decode.measure({"keras": Fake(), "onnx": Fake("!")}, ["a"], config, 1, 1)


@pytest.mark.parametrize(
    ("recipe", "changes"),
    [("transformer_tiny", TINY), ("gru_tiny", TINY), ("lstm_lm_tiny", ["model.num_layers=1", "data.batch_size=8"])],
)
def test_train_measures_a_step(recipe, changes, tmp_path, capsys):
    output = tmp_path / "train.json"
    overrides = [argument for change in changes for argument in ("--set", change)]
    arguments = [f"--recipe={recipe}", "--length=8", "--steps=2", "--repetitions=2", "--matrix_size=64"]
    train.main([*arguments, *overrides, f"--output={output}"])
    results = read_results(output)["results"]
    assert (results["batch_size"], results["length"], len(results["seconds"])) == (8, 8, 2)
    assert results["tokens_per_second"] == pytest.approx(64 / results["median_seconds"])
    config = override(tfzoo.recipe(recipe), changes).model
    assert results["flops_per_step"] == 3 * forward_flops(config, 8, 8, source_length=8)
    assert results["peak_memory_bytes"] > 1e8
    assert results["share_of_peak"] == pytest.approx(results["flops_per_second"] / results["peak_flops_per_second"])
    assert f"{recipe}, 8 x 8: " in capsys.readouterr().out


def test_train_refuses_what_it_has_no_batches_for():
    with pytest.raises(UsageError, match="'bert_tiny' is for 'fill_mask'"):
        train.main(["--recipe=bert_tiny"])


def test_scale_measures_records_but_the_first(tmp_path, capsys):
    sizes = ["--batch_size=3", "--length=5", "--hidden_dim=8", "--steps=1", "--records=2"]
    scale.main(["--setting=one device, two threads", f"--run_dir={tmp_path}", *sizes])
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    history = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in history] == [1, 2, 3]
    assert found["tokens_per_second"] == [record["tokens_per_second"] for record in history[1:]]
    assert history[1]["tokens_per_second"] == pytest.approx(3 * 5 / history[1]["seconds"])
    assert found["loss"] == history[-1]["loss"]
    assert found["peak_megabytes"] > 100
    assert 0 < found["processor_seconds_per_1000_tokens"] < 1000


def test_text_to_text_scores_runs_and_their_checkpoints(trained, tmp_path, capsys):
    output = tmp_path / "text_to_text.json"
    arguments = [f"--run={trained.run_dir}", f"--run={trained.run_dir}:RIVE ", f"--data=tsv:{trained.train}"]
    text_to_text.main([*arguments, "--curve", f"--output={output}"])
    results = read_results(output)["results"]
    run = tfzoo.load(trained.run_dir)
    whole, without = results["runs"]
    assert results["num_sources"] == NUM_TRAINED
    assert (whole["name"], whole["step"]) == ("transformer_tiny_g2p", run.checkpoint.step)
    expected = tfzoo.evaluate(trained.run_dir, f"tsv:{trained.train}")
    assert whole["token_error_rate"] == expected["token_error_rate"]
    assert without["token_error_rate"] > whole["token_error_rate"]
    seconds = [record["seconds"] for record in run.checkpoint.history if record["step"] <= run.checkpoint.step]
    assert whole["training_minutes"] == pytest.approx(sum(seconds) / 60)
    assert whole["words_per_second"] > 0
    kept = checkpoints.steps(trained.run_dir)
    assert [row["step"] for row in whole["curve"]] == kept
    # By greedy search, as the recipe has it: the run's own checkpoint has the run's own score.
    assert whole["curve"][kept.index(run.checkpoint.step)]["token_error_rate"] == whole["token_error_rate"]
    assert len(capsys.readouterr().out.splitlines()) == 2 * (1 + len(kept)) + 1


def test_text_to_text_is_for_text_to_text(monkeypatch):
    monkeypatch.setattr(text_to_text.runs, "Run", lambda path: type("Run", (), {"task": "causal_lm"}))
    with pytest.raises(UsageError, match="must be that of a text-to-text model; x is for 'causal_lm'"):
        text_to_text.main(["--run=x", "--data=sample:cmudict:test", "--output=x.json"])


def test_prepare_makes_what_plain_python_makes_and_is_timed(tmp_path, monkeypatch):
    """In one process; the script starts others."""
    monkeypatch.setattr(prepare, "in_process", lambda function, *arguments: function(*arguments))
    monkeypatch.setattr(prepare.subprocess, "run", lambda command, check: main([*command[3:]]))
    monkeypatch.setattr(prepare, "measured", lambda megabytes, run: (run(), {"megabytes": megabytes}))
    output = tmp_path / "prepare.json"
    prepare.main(["speed", "--megabytes=0.01", "--num_workers", "1", f"--folder={tmp_path}", f"--output={output}"])
    results = read_results(output)["results"]
    assert results["same_examples"]
    assert results["plain_python"] == results["prepare_1"]
    assert 0.01 <= results["megabytes"] < 0.2
    assert [path.name for path in tmp_path.iterdir()] == ["prepare.json"]


def test_prepared_data_is_timed_with_a_model_and_without(tmp_path, monkeypatch):
    monkeypatch.setattr(prepare.subprocess, "run", lambda command, check: main([*command[3:]]))
    recipe = tmp_path / "recipe.json"
    recipe.write_text(to_json(corpora.documents_recipe()), encoding="utf-8")
    output = tmp_path / "prepare.json"
    prepare.main(["input", "--megabytes=0.01", f"--recipe={recipe}", "--num_steps=1", f"--output={output}"])
    results = read_results(output)["results"]
    assert results["recipe"] == "gpt2_tiny"
    share = 1 - results["step_ms_on_one_batch"] / results["step_ms_on_the_corpus"]
    assert results["input_bound_share"] == pytest.approx(max(0, share), abs=0.01)
    assert results["tokens_per_second_without_a_model"] > 0


def test_the_memory_of_a_command_is_that_of_its_processes(tmp_path, monkeypatch):
    program = "import os, time; held = b'x' * 60_000_000; os.fork(); time.sleep(2)"
    monkeypatch.setattr(prepare, "command", lambda *_: [sys.executable, "-c", program])
    (tmp_path / "text.txt").write_text("a", encoding="ascii")
    found = prepare.memory(tmp_path, tmp_path, 1)
    assert found["processes_at_the_peak"] == 2
    assert 0.06 < found["peak_gigabytes"] < 0.1  # what both hold counts once
