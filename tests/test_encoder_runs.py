"""Runs of encoders from a terminal: predicted with, exported, verified, and answered file by file."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest

import tfzoo
from tests.export.artifacts import S_MAX
from tfzoo import runs
from tfzoo.cli.main import main
from tfzoo.errors import UsageError
from tfzoo.run_folder import begin

pytestmark = pytest.mark.xdist_group("encoders")


@pytest.fixture(scope="module")
def run_dirs(exported_by_name, tmp_path_factory):
    """Name of an encoder -> a run with its weights."""
    made = {}
    for name in ("classifier", "pair_classifier", "word_classifier", "embedder"):
        exported = exported_by_name(name)
        config = exported.model.config
        recipe = tfzoo.recipe("bert_tiny", task=config.task)
        data = dataclasses.replace(recipe.data, sequence_length=S_MAX)
        recipe = dataclasses.replace(recipe, model=config, data=data)
        variables = (one for one in exported.model.variables if "seed" not in one.path)
        weights = {one.path.split("/", 1)[1]: one.numpy() for one in variables}
        made[name] = tmp_path_factory.mktemp("runs") / name
        texts = [text if isinstance(text, str) else list(text) for text in exported.texts[:3]]
        begin(recipe, exported.tokenizer, weights, made[name], texts)
    return made


@pytest.fixture
def lines(tmp_path):
    def write(text):
        path = tmp_path / "lines.txt"
        path.write_text(text, encoding="utf-8")
        return f"--input={path}"

    return write


def test_a_run_answers_as_the_model(run_dirs, exported_by_name):
    for name, run_dir in run_dirs.items():
        exported, run = exported_by_name(name), tfzoo.load(run_dir)
        assert (run.task, run.recipe.task, run.decoding) == (exported.model.task, exported.model.task, None)
        found, expected = run(exported.texts[:3]), exported.predictor(exported.texts[:3])
        assert (found.tolist() == expected.tolist()) if name == "embedder" else (found == expected)


def test_labels_are_printed_a_line_a_text(run_dirs, lines, capsys):
    run = tfzoo.load(run_dirs["classifier"])
    capsys.readouterr()
    assert main(["predict", f"--run_dir={run.directory}", lines("the dog\n\nover the hill\n")]) == 0
    assert capsys.readouterr().out.splitlines() == run(["the dog", "", "over the hill"])


def test_json_has_all_that_is_known(run_dirs, lines, capsys):
    capsys.readouterr()
    assert main(["predict", f"--run_dir={run_dirs['word_classifier']}", lines("the old dog\n"), "--json"]) == 0
    (answer,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert answer.keys() == {"input", "output", "score", "words", "labels", "scores"}
    assert (answer["input"], answer["words"]) == ("the old dog", ["the", "old", "dog"])
    assert answer["output"].split() == answer["labels"]
    assert answer["score"] == min(answer["scores"])


def test_a_line_of_two_texts_has_a_tab(run_dirs, lines, capsys):
    run = tfzoo.load(run_dirs["pair_classifier"])
    capsys.readouterr()
    command = ["predict", f"--run_dir={run.directory}"]
    assert main([*command, lines("the dog\ta cat\n\t\n")]) == 0
    expected = run([("the dog", "a cat"), ("", "")])
    assert any(len(labels) > 1 for labels in expected)
    assert capsys.readouterr().out.splitlines() == [",".join(labels) for labels in expected]
    assert main([*command, lines("the dog\ta cat\nno tab\n")]) == 2
    assert capsys.readouterr().err == (
        "tfzoo: `texts` must hold pairs of strings, (text_a, text_b), or strings with a tab between the two; received "
        "'no tab'.\n"
    )


def test_a_vector_is_a_line_of_numbers(run_dirs, lines, capsys):
    run = tfzoo.load(run_dirs["embedder"])
    capsys.readouterr()
    assert main(["predict", f"--run_dir={run.directory}", lines("the dog\n")]) == 0
    numbers = np.array(capsys.readouterr().out.split(), np.float32)
    np.testing.assert_array_equal(numbers, run(["the dog"])[0])  # nine digits are a float32


@pytest.mark.parametrize("flag", ["--num_beams=4", "--stream", "--json --token_log_probs"])
def test_flags_of_what_generates_are_refused(run_dirs, lines, capsys, flag):
    capsys.readouterr()
    assert main(["predict", f"--run_dir={run_dirs['classifier']}", lines("a\n"), *flag.split()]) == 2
    message = capsys.readouterr().err
    assert message.startswith("tfzoo: a model for 'text_classification' ")
    assert len(message.splitlines()) == 1


@pytest.fixture(scope="module")
def artifact(run_dirs, tmp_path_factory):
    path = tmp_path_factory.mktemp("exports") / "classifier"
    assert main(["export", f"--run_dir={run_dirs['classifier']}", f"--output_dir={path}"]) == 0
    return path


def test_a_run_is_exported_and_verified(artifact, run_dirs, exported_by_name, capsys):
    capsys.readouterr()
    assert main(["verify", f"--artifact={artifact}"]) == 0
    printed = capsys.readouterr().out
    assert "onnx gives the recorded answers: scores to " in printed
    assert "saved_model answers as a server: 4 texts by serving_default" in printed
    exported = exported_by_name("classifier")
    manifest = tfzoo.load(artifact).manifest
    assert manifest["golden"]["texts"] == [*exported.texts[:3], ""]
    assert manifest["head"] == {"num_texts": 1, "labels": ["bad", "größe", "so so"], "problem": "single_label"}
    assert (manifest["task"], manifest["decoding"], manifest["recipe"]["name"]) == (
        "text_classification",
        None,
        "bert_tiny",
    )
    for runtime in ("onnx", "saved_model"):
        assert tfzoo.load(artifact, runtime=runtime)(exported.texts) == exported.predictor(exported.texts)


def test_files_are_answered_file_by_file(artifact, tmp_path):
    (tmp_path / "a.txt").write_text("the dog\nover the hill\n", encoding="utf-8")
    command = ["predict", f"--artifact={artifact}", f"--input={tmp_path}/*.txt", f"--output_dir={tmp_path}/answers"]
    assert main(command) == 0
    expected = tfzoo.load(artifact)(["the dog", "over the hill"])
    assert (tmp_path / "answers/a.txt").read_text(encoding="utf-8").splitlines() == expected
    assert main([*command[:-1], f"--output_dir={tmp_path}/more", "--num_beams=2"]) == 2


def test_the_onnx_runtime_needs_no_tensorflow(artifact):
    code = (
        "import sys, tfzoo\n"
        f"print(tfzoo.load({str(artifact)!r})(['the dog'])[0])\n"
        "print([name for name in ('tensorflow', 'keras') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [tfzoo.load(artifact)(["the dog"])[0], "[]"]


def test_a_run_and_an_artifact_are_scored_alike(run_dirs, artifact, tmp_path, capsys):
    texts = ["the dog", "over the green hill", "far away", "the old man and the sea", "a sea"]
    labels = tfzoo.load(run_dirs["classifier"])(texts)
    path = tmp_path / "labelled.tsv"
    path.write_text("".join(f"{text}\t{label}\n" for text, label in zip(texts, labels, strict=True)), encoding="utf-8")
    for folder, runtime in ((run_dirs["classifier"], "keras"), (artifact, "onnx"), (artifact, "saved_model")):
        scores = runs.evaluate(folder, f"tsv:{path}", runtime=runtime)
        assert (scores["num_examples"], scores["accuracy"]) == (5, 1.0)
    capsys.readouterr()
    assert main(["evaluate", f"--run_dir={run_dirs['classifier']}", f"--data=tsv:{path}"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert "accuracy: 1.0000" in printed
    assert any(line.startswith("per_class.größe.f1: ") for line in printed)
    with pytest.raises(UsageError, match="takes no options; received num_beams=2"):
        runs.evaluate(artifact, f"tsv:{path}", num_beams=2)


def test_questions_are_asked_and_scored(exported_by_name, tmp_path, capsys, lines):
    """By the model's own answers, all of which are right then, and by a threshold that allows none."""
    answerer = exported_by_name("answerer")
    questions = [(question, context) for question, context in answerer.texts if context]
    answers = list(answerer.predictor.answer(questions))
    qas = [
        {
            "id": str(number),
            "question": question,
            "answers": [{"text": found["output"], "answer_start": found["start"]}],
        }
        for number, ((question, _), found) in enumerate(zip(questions, answers, strict=True))
    ]
    paragraphs = [{"context": context, "qas": [one]} for (_, context), one in zip(questions, qas, strict=True)]
    path = tmp_path / "questions.json"
    path.write_text(json.dumps({"version": "1.1", "data": [{"title": "t", "paragraphs": paragraphs}]}))
    for runtime in ("onnx", "saved_model"):
        scores = runs.evaluate(answerer.directory, f"squad:{path}", runtime=runtime)
        assert scores["exact_match"] == 1
        assert runs.evaluate(answerer.directory, f"squad:{path}", no_answer_threshold=-1e9)["exact_match"] == 0
    capsys.readouterr()
    command = ["predict", f"--artifact={answerer.directory}", lines("\t".join(questions[0]) + "\n")]
    assert main(command) == 0
    assert capsys.readouterr().out == f"{answers[0]['output']}\n"
    assert main([*command, "--no_answer_threshold=-1e9", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["output"], answer["start"], answer["end"]) == ("", -1, -1)


def test_an_option_is_refused_before_a_text_is_read(artifact):
    with pytest.raises(UsageError, match="takes no options; received temperature=1.0"):
        runs.predict(artifact, iter(()), temperature=1.0)
