"""The whole road on a small run: train, resume, evaluate, predict, export, verify, and open both in Python."""

import dataclasses
import io
import json
import os
import shutil
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

import tfzoo
from tests import tiny_run
from tests.tiny_run import CHECKPOINT_STEPS, NUM_TRAINED, STEPS, WORDS, digest
from tests.tolerances import tolerance
from tfzoo import recipes, runs
from tfzoo.cli.main import main
from tfzoo.errors import UsageError
from tfzoo.export import exporter
from tfzoo.run_data import NUM_EXAMPLES
from tfzoo.run_folder import EXAMPLES, RECIPE, REQUESTED, TOKENIZER, begin, read_examples
from tfzoo.text import TokenizerPair
from tfzoo.training import checkpoints
from tfzoo.training.measures import best_record

pytestmark = pytest.mark.xdist_group("run")

RUNTIMES = ("keras", "saved_model", "onnx")
# Two words that were trained on, letters and signs that the vocabulary lacks, nothing, and more than fits the model.
TEXTS = ["river", "Zebra-9", "", "honey honey honey honey", "stone"]


@pytest.fixture
def test_data(tmp_path):
    """Six words that were trained on, one of them with a second reference that is wrong."""
    path = tmp_path / "test.tsv"
    path.write_text("".join(map(tiny_run.pair, WORDS[:6])) + f"{WORDS[0]}\tX Y Z\n", encoding="utf-8")
    return f"tsv:{path}"


@pytest.fixture
def type_in(monkeypatch):
    def give(text):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))

    return give


def path_of(trained, runtime):
    return trained.run_dir if runtime == "keras" else trained.artifact


def recipe_of(run_dir):
    return recipes.from_json((run_dir / REQUESTED).read_text(encoding="utf-8"))


class TestBegin:
    """A run that begins with weights from elsewhere: here with those of the trained one."""

    @pytest.fixture
    def begun(self, trained, tmp_path):
        recipe = recipes.from_json((trained.run_dir / RECIPE).read_text(encoding="utf-8"))
        recipe = dataclasses.replace(
            recipe, name="given", data=dataclasses.replace(recipe.data, train=(), validation=())
        )
        weights = checkpoints.read_weights(checkpoints.best(trained.run_dir))
        begin(recipe, TokenizerPair.load(trained.run_dir / TOKENIZER), weights, tmp_path / "begun", ["river", "stone"])
        return tmp_path / "begun"

    def test_it_answers_at_once(self, trained, begun):
        assert runs.load(begun)(TEXTS) == runs.load(trained.run_dir)(TEXTS)
        assert read_examples(begun) == ["river", "stone"]

    def test_it_trains_on_with_any_data_and_training(self, trained, begun):
        recipe = recipes.override(
            recipe_of(begun),
            [
                "training.num_steps=2",
                "training.checkpoint_steps=2",
                "training.learning_rate=1e-5",
                "training.warmup_steps=1",
                "training.weight_decay=0.1",
                "data.batch_size=7",
                "model.dropout=0.2",
            ],
        )
        tokenizer = digest(begun / TOKENIZER)
        runs.train(recipe, begun, data=f"tsv:{trained.train}", verbose=0)
        assert digest(begun / TOKENIZER) == tokenizer
        assert recipe_of(begun).data.train == (f"tsv:{trained.train}",)
        assert read_examples(begun) == [WORDS[NUM_TRAINED * place // NUM_EXAMPLES] for place in range(NUM_EXAMPLES)]
        assert checkpoints.steps(begun) == [0, 2]
        first, last = checkpoints.newest(begun).history
        assert first == {"step": 0}
        fresh = checkpoints.newest(trained.run_dir).history[0]
        assert last["nats_per_token"] < fresh["nats_per_token"]  # it did not begin anew
        with pytest.raises(UsageError, match=r"was started with data\.batch_size=7; received data\.batch_size=8"):
            runs.train(recipes.override(recipe, "data.batch_size=8"), begun, data=f"tsv:{trained.train}")

    @pytest.mark.parametrize("change", ["model.hidden_dim=64", "tokenizer.source=sentencepiece"])
    def test_what_the_weights_are_of_stays(self, trained, begun, change):
        before = digest(begun)
        with pytest.raises(UsageError, match=f"was started with {change.split('=')[0]}="):
            runs.train(recipes.override(recipe_of(begun), change), begun, data=f"tsv:{trained.train}")
        assert digest(begun) == before

    def test_it_takes_no_folder_that_is_in_use(self, trained, begun, tmp_path):
        recipe = recipe_of(begun)
        (tmp_path / "file").write_text("mine", encoding="utf-8")
        for folder in (begun, tmp_path / "file"):
            with pytest.raises(UsageError, match=r"`run_dir` .* exists and is not empty; name another folder"):
                begin(recipe, TokenizerPair.load(begun / TOKENIZER), {}, folder, [])


class TestTrain:
    def test_it_learns(self, trained):
        scores = runs.evaluate(trained.run_dir, f"tsv:{trained.train}")
        assert scores["num_sources"] == NUM_TRAINED
        assert scores["token_error_rate"] < 0.3  # 0.09 when it was written; the letters of an untrained model: above 1
        history = checkpoints.newest(trained.run_dir).history
        assert [record["step"] for record in history] == [*range(CHECKPOINT_STEPS, STEPS + 1, CHECKPOINT_STEPS)]

    def test_the_recipe_has_the_sizes_of_the_vocabulary(self, trained):
        tokenizer = TokenizerPair.load(trained.run_dir / TOKENIZER)
        letters = {letter for word in WORDS[:NUM_TRAINED] for letter in word}
        run = tfzoo.load(trained.run_dir)
        assert tokenizer.source.vocabulary_size == run.recipe.model.source_vocabulary_size == len(letters) + 4
        assert tokenizer.target.vocabulary_size == run.recipe.model.vocabulary_size == len(letters) + 4
        assert recipe_of(trained.run_dir).model.vocabulary_size == 43

    def test_the_same_command_again_changes_nothing(self, trained, capsys):
        before = digest(trained.run_dir)
        assert main(trained.command()) == 0
        assert digest(trained.run_dir) == before
        assert capsys.readouterr().err.endswith(f"{trained.run_dir}: finished at step {STEPS}.\n")

    def test_sigterm_ends_the_command_with_a_step_saved_and_the_exit_code_of_an_interrupt(self, trained, tmp_path):
        run_dir = tmp_path / "run"
        command = [sys.executable, "-m", "tfzoo", *trained.command(run_dir)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            while process.poll() is None and not checkpoints.steps(run_dir):
                time.sleep(0.01)
            process.terminate()
            errors = process.stderr.read()
        step = checkpoints.steps(run_dir)[-1]
        assert process.returncode == 130, errors
        assert errors.splitlines()[-1] == f"tfzoo: interrupted; the same command resumes {run_dir} from step {step}."
        resumed = runs.train(recipe_of(trained.run_dir), run_dir, verbose=0)
        for weight, expected in zip(resumed.model.weights, tfzoo.load(trained.run_dir).model.weights, strict=True):
            assert np.array_equal(weight.numpy(), expected.numpy()), weight.path

    def test_interrupted_and_resumed_it_ends_with_the_same_bits(self, trained, tmp_path, monkeypatch, capsys):
        save = checkpoints.save

        def interrupt_before_the_third(model, run_dir, history):
            if history[-1]["step"] == 3 * CHECKPOINT_STEPS:
                raise KeyboardInterrupt
            return save(model, run_dir, history)

        run_dir = tmp_path / "run"
        with monkeypatch.context() as patch:
            patch.setattr(checkpoints, "save", interrupt_before_the_third)
            assert main(trained.command(run_dir)) == 130
        last_line = capsys.readouterr().err.splitlines()[-1]
        step = 2 * CHECKPOINT_STEPS
        assert last_line == f"tfzoo: interrupted; the same command resumes {run_dir} from step {step}."
        assert checkpoints.steps(run_dir)[-1] == step

        np.random.seed(99)  # what came before in this process must not matter
        resumed = runs.train(recipe_of(trained.run_dir), run_dir, verbose=0)
        assert f"{run_dir}: going on from step {step}.\n" in capsys.readouterr().err
        ours, theirs = (digest(directory / "checkpoints") for directory in (run_dir, trained.run_dir))
        for name in theirs:
            if name.endswith(".safetensors"):
                assert ours[name] == theirs[name], name
        assert f"step-{STEPS:08d}/state.safetensors" in theirs
        assert resumed(TEXTS) == tfzoo.load(trained.run_dir)(TEXTS)

    def test_one_specification_needs_no_list(self, trained, tmp_path, monkeypatch):
        recipe = recipe_of(trained.run_dir)
        empty = dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, train=(), validation=()))
        monkeypatch.setattr("tfzoo.training.fit", lambda *args, **kwargs: None)
        with pytest.raises(tfzoo.errors.CheckpointError):
            runs.train(
                empty, tmp_path / "run", data=f"tsv:{trained.train}", validation_data=f"tsv:{trained.validation}"
            )
        assert recipe_of(tmp_path / "run") == recipe

    def test_decoding_may_change_on_the_way(self, trained, tmp_path):
        run_dir = shutil.copytree(trained.run_dir, tmp_path / "run")
        before = digest(run_dir / "checkpoints")
        recipe = recipes.override(recipe_of(run_dir), ["decoding.num_beams=2", f"training.num_steps={STEPS - 1}"])
        run = runs.train(recipe, run_dir, verbose=0)
        assert run.decoding.num_beams == 2
        assert digest(run_dir / "checkpoints") == before

    def test_without_a_checkpoint_another_recipe_starts_over(self, trained, tmp_path, monkeypatch):
        recipe = recipe_of(trained.run_dir)
        other = recipes.override(recipe, ["data.seed=5", "tokenizer.source=sentencepiece", "model.vocabulary_size=90"])
        steps_of_data = []
        monkeypatch.setattr("tfzoo.training.fit", lambda model, *args, **kwargs: steps_of_data.append(model))
        for each in (recipe, other):
            with pytest.raises(tfzoo.errors.CheckpointError, match="holds no checkpoint; train the run first"):
                runs.train(each, tmp_path / "run", verbose=0)
        assert recipe_of(tmp_path / "run") == other
        assert (tmp_path / "run" / TOKENIZER / "source" / "spiece.model").exists()
        assert len(steps_of_data) == 2

    def test_a_process_killed_while_it_saves_the_tokenizer_is_repeated(self, trained, tmp_path, monkeypatch):
        class Killed(BaseException):
            pass

        def save_half(tokenizer, directory):
            (directory / "source").mkdir(parents=True)
            (directory / "source" / "vocab.json").write_text('{"<pad>": 0, "<un')
            raise Killed

        run_dir = tmp_path / "run"
        recipe = recipe_of(trained.run_dir)
        with monkeypatch.context() as patch:
            patch.setattr(TokenizerPair, "save", save_half)
            with pytest.raises(Killed):
                runs.train(recipe, run_dir, verbose=0)
        assert (run_dir / f".{TOKENIZER}").exists()
        with pytest.raises(tfzoo.errors.CheckpointError, match="holds no checkpoint; train the run first"):
            tfzoo.load(run_dir)
        self._prepares_like(trained, recipe, run_dir, monkeypatch)
        assert not (run_dir / f".{TOKENIZER}").exists()

    def test_a_process_killed_while_it_saves_the_recipe_is_repeated(self, trained, tmp_path, monkeypatch):
        run_dir = tmp_path / "run"
        run_dir.mkdir()
        (run_dir / f".{REQUESTED}").write_text('{"name": "tran')
        self._prepares_like(trained, recipe_of(trained.run_dir), run_dir, monkeypatch)

    def _prepares_like(self, trained, recipe, run_dir, monkeypatch):
        monkeypatch.setattr("tfzoo.training.fit", lambda *args, **kwargs: None)
        with pytest.raises(tfzoo.errors.CheckpointError, match="holds no checkpoint; train the run first"):
            runs.train(recipe, run_dir, verbose=0)
        assert digest(run_dir / TOKENIZER) == digest(trained.run_dir / TOKENIZER)
        for name in (REQUESTED, RECIPE, EXAMPLES):
            assert (run_dir / name).read_bytes() == (trained.run_dir / name).read_bytes()


class TestEvaluate:
    def test_every_runtime_scores_alike(self, trained, test_data):
        scores = {runtime: runs.evaluate(path_of(trained, runtime), test_data, runtime=runtime) for runtime in RUNTIMES}
        ours = scores["keras"]
        assert ours["num_sources"] == 6
        assert ours["num_tokens"] == sum(len(word) + 1 for word in WORDS[:6]) + 4
        assert ours["perplexity"] == pytest.approx(np.exp(ours["loss"]))
        for runtime in ("saved_model", "onnx"):
            theirs = scores[runtime]
            assert theirs.keys() == ours.keys()
            for name in ("token_error_rate", "word_error_rate", "token_accuracy", "num_sources", "num_tokens"):
                assert theirs[name] == ours[name], name
            assert theirs["loss"] == pytest.approx(ours["loss"], rel=tolerance("numpy_loss"))

    def test_the_closest_of_several_references_counts(self, trained, test_data, tmp_path):
        one_each = tmp_path / "one_each.tsv"
        one_each.write_text("".join(map(tiny_run.pair, WORDS[:6])), encoding="utf-8")
        several, one = (runs.evaluate(trained.artifact, data) for data in (test_data, f"tsv:{one_each}"))
        assert several["token_error_rate"] == one["token_error_rate"] < 0.3
        assert several["loss"] > one["loss"] + 0.3  # the second reference is as likely as it is right

    def test_the_loss_is_that_of_the_best_checkpoint(self, trained):
        scores = runs.evaluate(trained.run_dir, f"tsv:{trained.validation}", max_length=1)
        record = best_record(checkpoints.newest(trained.run_dir).history)
        assert scores["loss"] == pytest.approx(record["val_nats_per_token"], rel=tolerance("numpy_loss"))
        assert scores["token_accuracy"] == pytest.approx(record["val_token_accuracy"])

    def test_the_command_prints_the_same(self, trained, test_data, capsys):
        assert main(["evaluate", f"--artifact={trained.artifact}", f"--data={test_data}", "--json"]) == 0
        captured = capsys.readouterr()
        assert json.loads(captured.out) == runs.evaluate(trained.artifact, test_data)
        assert captured.err == ""

    def test_details_of_each_sentence(self, trained, test_data, tmp_path, capsys):
        worst, forced = tmp_path / "worst.jsonl", tmp_path / "forced.jsonl"
        details = ["--by_length", f"--worst={worst}", f"--forced={forced}"]
        assert main(["evaluate", f"--artifact={trained.artifact}", f"--data={test_data}", *details]) == 0
        printed = capsys.readouterr().out
        scores = runs.evaluate(trained.run_dir, test_data, by_length=True)
        (bucket,) = scores["by_source_length"]
        its = scores["by_source_length"][bucket]
        assert its == {name: scores[name] for name in ("num_sources", "token_error_rate", "word_error_rate")}
        assert f"by_source_length.{bucket}.num_sources: {its['num_sources']}\n" in printed
        rows = [json.loads(line) for line in worst.read_text(encoding="utf-8").splitlines()]
        assert len(rows) == scores["num_sources"]
        assert [row["score"] for row in rows] == sorted((row["score"] for row in rows), reverse=True)
        assert {row["metric"] for row in rows} == {"token_error_rate"}
        outputs = tfzoo.load(trained.run_dir)([row["source"] for row in rows])
        assert [row["output"] for row in rows] == outputs
        pairs = [json.loads(line) for line in forced.read_text(encoding="utf-8").splitlines()]
        num_tokens = sum(pair["num_tokens"] for pair in pairs)
        assert num_tokens == scores["num_tokens"]
        assert -sum(pair["log_prob"] for pair in pairs) / num_tokens == pytest.approx(scores["loss"], rel=1e-5)
        given = [(pair["source"], pair["target"]) for pair in pairs]
        for ours, theirs in zip(tfzoo.score_pairs(trained.run_dir, given), pairs, strict=True):
            assert ours["log_prob"] == pytest.approx(theirs["log_prob"], abs=1e-4)


class TestPredict:
    def test_input_and_standard_input_give_what_python_gives(self, trained, tmp_path, capsys, type_in):
        expected = tfzoo.load(trained.run_dir)(TEXTS, num_beams=3)
        assert expected[0] == "R E V I R"
        path = tmp_path / "in.txt"
        path.write_text("\n".join(TEXTS), encoding="utf-8")
        arguments = ["predict", f"--run_dir={trained.run_dir}", "--num_beams=3"]
        assert main([*arguments, f"--input={path}"]) == 0
        assert capsys.readouterr().out.split("\n") == [*expected, ""]
        type_in("\n".join(TEXTS))
        assert main(arguments) == 0
        captured = capsys.readouterr()
        assert captured.out.split("\n") == [*expected, ""]
        assert captured.err == ""

    def test_json_has_the_alternatives(self, trained, capsys, type_in):
        type_in("river\n")
        flags = ["--json", "--num_beams=3", "--num_return_sequences=3", "--length_penalty=1"]
        assert main(["predict", f"--artifact={trained.artifact}", *flags]) == 0
        answer = json.loads(capsys.readouterr().out)
        assert list(answer) == ["input", "output", "score", "alternatives"]
        assert (answer["input"], answer["output"]) == ("river", "R E V I R")
        assert len({answer["output"], *(other["output"] for other in answer["alternatives"])}) == 3
        scores = [answer["score"], *(other["score"] for other in answer["alternatives"])]
        assert scores == sorted(scores, reverse=True)
        assert scores[0] < 0

    def test_sampling_has_a_seed(self, trained):
        artifact = tfzoo.load(trained.artifact, runtime="onnx")
        one, same, other = (artifact(TEXTS, temperature=2.0, seed=seed) for seed in (1, 1, 2))
        assert one == same
        assert one != other

    def test_one_at_a_time_each_text_is_answered_before_the_next_is_read(self, trained):
        read = []

        def texts():
            for text in TEXTS:
                read.append(text)
                yield text

        answers = []
        for answer in runs.predict(trained.artifact, texts(), batch_size=1):
            answers.append(answer["output"])
            assert len(read) == len(answers)
        assert answers == [answer["output"] for answer in runs.predict(trained.artifact, TEXTS)]

    def test_a_terminal_is_answered_line_by_line(self, trained, capsys, monkeypatch):
        class Terminal(io.BytesIO):
            def isatty(self):
                return True

            def __next__(self):
                printed.append(capsys.readouterr().out)
                return super().__next__()

        printed = []
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(Terminal(b"river\nstone\n")))
        assert main(["predict", f"--artifact={trained.artifact}"]) == 0
        assert printed == ["", "R E V I R\n", "E N O T S\n"]

    def test_the_onnx_runtime_needs_no_tensorflow(self, trained, test_data):
        code = (
            "import sys; from tfzoo.cli.main import main; artifact, data = sys.argv[1:]; "
            "print(main(['predict', artifact, '--runtime=onnx']), main(['evaluate', artifact, data, '--json']), "
            "sorted({'tensorflow', 'keras', 'tensorflow_text'} & {*sys.modules}))"
        )
        command = [sys.executable, "-c", code, f"--artifact={trained.artifact}", f"--data={test_data}"]
        done = subprocess.run(command, input="river\n", capture_output=True, text=True, check=True)
        predicted, *scores, last = done.stdout.splitlines()
        assert (predicted, last) == ("R E V I R", "0 0 []")
        assert json.loads("".join(scores)) == runs.evaluate(trained.artifact, test_data)
        assert done.stderr == ""

    def test_options_are_checked_before_a_text_is_read(self, trained):
        def texts():
            raise AssertionError("read")
            yield

        with pytest.raises(UsageError, match="no decoding option 'beams'. Did you mean 'num_beams'?"):
            runs.predict(trained.artifact, texts(), beams=3)
        with pytest.raises(UsageError, match="must not exceed the model's 17 positions; received max_length=18"):
            runs.predict(trained.artifact, texts(), max_length=18)
        with pytest.raises(UsageError, match="`batch_size` must be at least 1; received batch_size=0"):
            runs.predict(trained.artifact, texts(), batch_size=0)


class TestExport:
    def test_the_manifest_carries_recipe_examples_and_metrics(self, trained):
        manifest = json.loads((trained.artifact / "manifest.json").read_text(encoding="utf-8"))
        run = tfzoo.load(trained.run_dir)
        assert recipes.from_json(json.dumps(manifest["recipe"])) == run.recipe
        held_out = WORDS[NUM_TRAINED:]  # from all over it
        spread = [held_out[len(held_out) * place // NUM_EXAMPLES] for place in range(NUM_EXAMPLES)]
        assert manifest["golden"]["texts"] == [*spread, ""]
        assert manifest["metrics"] == run.checkpoint.history[-1]
        assert manifest["decoding"] == {**dataclasses.asdict(run.recipe.decoding), "stop": []}

    def test_a_mean_of_checkpoints_is_exported_without_what_was_measured_of_one(
        self, trained, tmp_path, capsys, monkeypatch
    ):
        run_dir = shutil.copytree(trained.run_dir, tmp_path / "run")
        # The same command with another value, although the run is finished.
        assert main([*trained.command(run_dir), "--set=training.average_checkpoints=2"]) == 0
        run = tfzoo.load(run_dir)
        steps = [STEPS - CHECKPOINT_STEPS, STEPS]
        assert [checkpoint.step for checkpoint in run.checkpoints] == steps
        averaged = {step: checkpoints.read_weights(one) for step, one in zip(steps, run.checkpoints, strict=True)}
        for weight in run.model.weights:
            path = weight.path.removeprefix(f"{run.model.name}/")
            expected = sum(averaged[step][path].astype(np.float64) for step in steps) / 2
            assert np.array_equal(weight.numpy(), expected.astype(np.float32)), path
        exported = {}
        monkeypatch.setattr(exporter, "export", lambda model, *_, **others: exported.update(others, model=model))
        runs.export_run(run_dir, tmp_path / "artifact")
        assert exported["metrics"] == {"step": STEPS, "averaged_checkpoints": 2}
        for weight, mean in zip(exported["model"].weights, run.model.weights, strict=True):
            assert np.array_equal(weight.numpy(), mean.numpy()), weight.path
        shutil.rmtree(run.checkpoints[0].folder)
        capsys.readouterr()
        assert main(["predict", f"--run_dir={run_dir}", f"--input={trained.train}"]) == 1
        assert "average_checkpoints=2 needs the last 2 checkpoints" in capsys.readouterr().err

    def test_the_mean_of_the_best_checkpoints(self, trained, tmp_path, capsys):
        run_dir = tmp_path / "run"
        best = [
            "--set=training.average=best",
            "--set=training.average_checkpoints=2",
            "--set=training.keep_checkpoints=1",
        ]
        assert main([*trained.command(run_dir), *best]) == 0
        history = checkpoints.newest(run_dir).history
        order = sorted(history, key=lambda record: record["val_nats_per_token"])
        steps = sorted(record["step"] for record in order[:2])
        run = tfzoo.load(run_dir)
        assert [checkpoint.step for checkpoint in run.checkpoints] == steps
        assert checkpoints.steps(run_dir) == sorted({*steps, STEPS})
        assert run.metrics == {"step": steps[-1], "averaged_checkpoints": 2}
        # Of a run that has kept the last ones alone: one of the best may be gone.
        other = shutil.copytree(trained.run_dir, tmp_path / "other")
        shutil.rmtree(checkpoints.at(other, steps[0]).folder)
        assert main([*trained.command(other), *best[:2]]) == 1
        assert "average='best' needs the 2 best checkpoints" in capsys.readouterr().err

    def test_it_is_verified_again(self, trained, capsys):
        before = digest(trained.artifact)
        assert main(["verify", str(trained.artifact)]) == 0
        assert digest(trained.artifact) == before
        out = capsys.readouterr().out.splitlines()
        num_files = sum(1 for checksum in before.values() if checksum) - 1  # the manifest
        assert out[:2] == [f"verified: {trained.artifact}", f"  {num_files} files have the checksums of the manifest"]
        assert [line.split()[0] for line in out[2:]] == ["saved_model"] * 3 + ["onnx"] * 3


class TestLoad:
    def test_a_run_has_model_tokenizer_and_recipe(self, trained):
        before = np.random.get_state()[1].tolist()
        run = tfzoo.load(trained.run_dir)
        assert np.random.get_state()[1].tolist() == before  # opening a run is no reason to seed the caller's numbers
        assert isinstance(run.model, keras.Model)
        assert run.recipe.training.num_steps == STEPS
        assert run.tokenizer.source.decode(run.tokenizer.source.encode("river")) == "river"
        assert run(["river"]) == ["R E V I R"]

    def test_an_artifact_answers_as_the_run(self, trained):
        expected = [found[0] for found in tfzoo.load(trained.run_dir).generate(TEXTS)]
        for runtime in ("saved_model", "onnx"):
            found = [found[0] for found in tfzoo.load(trained.artifact, runtime=runtime).generate(TEXTS)]
            assert [one.token_ids for one in found] == [one.token_ids for one in expected]
            assert [one.output for one in found] == [one.output for one in expected]
            assert [one.score for one in found] == pytest.approx([one.score for one in expected], abs=1e-4)
        assert type(tfzoo.load(trained.artifact).backend).__module__ == "tfzoo.runtime.onnx"

    def test_one_string_is_no_list_of_texts(self, trained):
        with pytest.raises(UsageError, match="`texts` must be a list of strings; received one string"):
            runs.predict(trained.artifact, "river")
        with pytest.raises(UsageError, match="`texts` must be a list of strings; received one string"):
            tfzoo.load(trained.artifact)("river")


def test_a_run_folder_can_be_read_by_others(trained):
    umask = os.umask(0o022)
    os.umask(umask)
    for path in trained.run_dir.rglob("*.*"):
        if path.is_file():
            assert path.stat().st_mode & 0o777 == 0o666 & ~umask, path
