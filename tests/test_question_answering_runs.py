"""Question answering from a terminal: trained, evaluated, exported, proved, and answered the same by each runtime.

What is learnt is small: the answer is the word after "north", if the context has that word.
"""

import dataclasses
import json
import random
from pathlib import Path

import numpy as np
import pytest

import tfzoo
from tfzoo import runs
from tfzoo.cli.main import main
from tfzoo.evaluation.squad import evaluate_question_answering

pytestmark = pytest.mark.xdist_group("question_answering")

WORDS = "basket bridge butter candle carpet cheese cherry circle coffee cotton cousin dinner".split()
QUESTION = "What is north?"
SETTINGS = [
    "training.num_steps=400",
    "training.checkpoint_steps=200",
    "training.warmup_steps=20",
    "training.learning_rate=0.01",
    "model.hidden_dim=32",
    "model.intermediate_dim=64",
    "model.num_layers=1",
    "model.num_heads=2",
    "model.dropout=0",
    "model.vocabulary_size=200",
    "model.max_sequence_length=20",
    "data.batch_size=32",
    "decoding.window_length=20",
    "decoding.stride=5",
    "decoding.max_question_length=6",
    "decoding.max_answer_length=3",
    "decoding.no_answer_threshold=0",
]


def context(generator, length, place=None):
    """Words, and "north" in one place."""
    words = generator.choices(WORDS, k=length)
    if place is not None:
        words[place] = "north"
    return words


def _write(path, seed, count):
    """Questions with contexts of up to three windows, a quarter of them without an answer."""
    generator = random.Random(seed)
    paragraphs = []
    for number in range(count):
        length = generator.randrange(4, 30)
        place = generator.randrange(length - 1) if generator.random() < 0.75 else None
        words = context(generator, length, place)
        answers = []
        if place is not None:
            answers = [{"text": words[place + 1], "answer_start": len(" ".join(words[: place + 1])) + 1}]
        question = {"id": str(number), "question": QUESTION, "answers": answers, "is_impossible": not answers}
        paragraphs.append({"context": " ".join(words), "qas": [question]})
    path.write_text(json.dumps({"version": "v2.0", "data": [{"title": "North", "paragraphs": paragraphs}]}))


@dataclasses.dataclass(frozen=True)
class Made:
    """A trained run and its artifact, and the questions that it was not trained on."""

    run_dir: Path
    artifact: Path
    validation: str


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    directory = tmp_path_factory.mktemp("question_answering")
    _write(directory / "train.json", 1, 1000)
    _write(directory / "validation.json", 2, 120)
    made = Made(directory / "run", directory / "artifact", f"squad:{directory / 'validation.json'}")
    train = ["train", "--recipe=bert_tiny", "--task=question_answering", f"--run_dir={made.run_dir}"]
    train += [f"--data=squad:{directory / 'train.json'}", f"--validation_data={made.validation}"]
    assert main([*train, *(f"--set={setting}" for setting in SETTINGS)]) == 0
    assert main(["export", f"--run_dir={made.run_dir}", f"--output_dir={made.artifact}"]) == 0
    return made


@pytest.fixture(scope="module", params=["keras", "saved_model", "onnx"])
def model(request, made):
    return tfzoo.load(made.run_dir if request.param == "keras" else made.artifact, runtime=request.param)


def test_it_learns_to_answer_and_not_to(made, capsys):
    capsys.readouterr()
    command = ["evaluate", f"--run_dir={made.run_dir}", f"--data={made.validation}", "--json"]
    assert main(command) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["num_questions"] == 120
    assert scores["has_answer_exact_match"] > 0.9
    assert scores["no_answer_accuracy"] > 0.9
    assert scores["f1"] >= scores["exact_match"] > 0.9
    always = runs.evaluate(made.run_dir, made.validation, no_answer_threshold=1e6)
    assert always["no_answer_accuracy"] == 0
    assert always["best_f1"] == scores["best_f1"] >= scores["f1"]
    for runtime in ("onnx", "saved_model"):
        found = runs.evaluate(made.artifact, made.validation, runtime=runtime)
        assert found.keys() == scores.keys()
        for name, value in scores.items():
            assert found[name] == pytest.approx(value, abs=1e-3)


def test_a_long_context_is_read_to_its_end(model):
    generator = random.Random(3)
    for place in (0, 9, 57, 140, 198):
        words = context(generator, 200, place)
        (found,) = model.answer([(QUESTION, " ".join(words))])
        assert found["output"] == words[place + 1]
        assert found["start"] == len(" ".join(words[: place + 1])) + 1
        assert found["end"] == found["start"] + len(words[place + 1])


def test_an_answer_is_a_piece_of_the_original_text(model):
    texts = {
        "dinner butter  NO\u0301RTH\n\tBa\u0301sKet\u0301 candle": "Ba\u0301sKet\u0301",
        "cherry nörth cár\xadpet coffee dinner": "cár\xadpet",
        "😀 漢字 north 😀 cheese": "😀",
    }
    found = list(model.answer([("What is NORTH?", text) for text in texts]))
    assert [one["output"] for one in found[:2]] == [*texts.values()][:2]
    for text, one in zip(texts, found, strict=True):
        assert one["output"] == text[one["start"] : one["end"]]


def test_what_has_no_answer_gets_none(model):
    generator = random.Random(4)
    pairs = [(QUESTION, " ".join(context(generator, length))) for length in (8, 25, 200)]
    pairs += [(QUESTION, ""), (QUESTION, "\u200b \x07"), ("", " ".join(context(generator, 9)))]
    assert model(pairs[:5]) == [""] * 5
    found = list(model.answer(pairs))
    assert [(one["start"], one["end"]) for one in found[:5]] == [(-1, -1)] * 5
    assert [one["score"] for one in found[3:5]] == [1.0, 1.0]
    assert min(one["score"] for one in found[:5]) > 0.5


def test_runtimes_give_the_same_answers(made, model):
    generator = random.Random(5)
    pairs = [(QUESTION, " ".join(context(generator, 30, generator.choice([None, 3, 21])))) for _ in range(70)]
    expected = list(tfzoo.load(made.run_dir).answer(pairs))
    found = list(model.answer(pairs))
    for name in ("output", "start", "end"):
        assert [one[name] for one in found] == [one[name] for one in expected]
    np.testing.assert_allclose([one["score"] for one in found], [one["score"] for one in expected], atol=1e-4)


def test_a_line_is_a_question_and_a_context(made, tmp_path, capsys):
    path = tmp_path / "lines.txt"
    without = "butter candle dinner circle coffee cheese bridge carpet"  # as long as contexts that it has seen
    path.write_text(f"{QUESTION}\tbutter north candle dinner\n{QUESTION}\t{without}\n", encoding="utf-8")
    capsys.readouterr()
    for source in (f"--run_dir={made.run_dir}", f"--artifact={made.artifact}"):
        assert main(["predict", source, f"--input={path}"]) == 0
        assert capsys.readouterr().out == "candle\n\n"


def test_the_artifact_is_proved_again(made, capsys):
    capsys.readouterr()
    assert main(["verify", f"--artifact={made.artifact}"]) == 0
    manifest = tfzoo.load(made.artifact).manifest
    assert manifest["task"] == "question_answering"
    assert manifest["decoding"]["no_answer_threshold"] == 0


def test_the_logits_of_the_graph_are_enough_to_evaluate(made):
    artifact = tfzoo.load(made.artifact, runtime="onnx")
    answering = tfzoo.load(made.run_dir).recipe.decoding
    scores = evaluate_question_answering(
        artifact.backend.logits, [made.validation], artifact.tokenizer.source, answering
    )
    assert scores["exact_match"] > 0.9
