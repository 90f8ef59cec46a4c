"""Scores of an encoder by its task, against models whose answers are known."""

import dataclasses
import math

import numpy as np
import pytest

from tests.data import encoders
from tfzoo.data.config import ClassificationDataConfig, EncoderDataConfig, MaskedLmDataConfig
from tfzoo.errors import DataError
from tfzoo.evaluation import masked
from tfzoo.evaluation.classification import score_multi_label, score_regression, score_single_label
from tfzoo.evaluation.encoder import ENCODER_SCORES
from tfzoo.evaluation.entities import score_words
from tfzoo.models.config import BertConfig
from tfzoo.runtime import tasks

V = len(encoders.PIECES)
FIRST = 5  # of the letters; the 26th letter is no piece
MASK, SEP = 4, 3


@pytest.fixture(scope="module")
def tokenizer():
    return encoders.tokenizer()


@pytest.fixture
def write(tmp_path):
    def write(name, lines):
        path = tmp_path / name
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return str(path)

    return write


def _config(task, **options):
    return BertConfig(
        task=task,
        vocabulary_size=V,
        hidden_dim=2,
        intermediate_dim=2,
        num_layers=1,
        num_heads=1,
        pad_id=0,
        start_id=2,
        end_id=3,
        mask_id=4,
        **options,
    )


def _evaluate(logits, spec, tokenizer, config, **data):
    kind = {"fill_mask": MaskedLmDataConfig, "text_classification": ClassificationDataConfig}.get(
        config.task, EncoderDataConfig
    )
    fields = dataclasses.asdict(kind(**{"sequence_length": 16, **data}))
    return ENCODER_SCORES[config.task](logits, (spec,), tokenizer, config, fields)


def _counts(inputs, num_classes):
    """How often each of the first letters is in a row."""
    assert set(inputs) == {"token_ids", "padding_mask", "segment_ids"}
    ids = np.where(inputs["padding_mask"] > 0, inputs["token_ids"], -1)
    return np.stack([(ids == FIRST + letter).sum(axis=1) for letter in range(num_classes)], axis=1).astype(np.float32)


TEXTS = ["a", "b b a", "c a a", "a b", "b", "c c c c", "a c b b"] * 12  # more than a batch


def test_texts_with_one_label(tokenizer, write):
    labels = ["x", "y", "z", "x", "y", "z", "z"] * 12
    spec = "tsv:" + write("a.tsv", [f"{text}\t{label}" for text, label in zip(TEXTS, labels, strict=True)])
    config = _config("text_classification", labels=("x", "y", "z"))
    seen = []
    found = _evaluate(lambda inputs: seen.append(inputs) or _counts(inputs, 3), spec, tokenizer, config)
    assert [len(inputs["token_ids"]) for inputs in seen] == [64, 20]
    logits = _counts(tasks.encode_segments(TEXTS, tokenizer, 16), 3)
    assert found == score_single_label(logits, np.array(["xyz".index(label) for label in labels]), ("x", "y", "z"))
    assert 0 < found["accuracy"] < 1


def test_texts_are_cut_as_in_training(tokenizer, write):
    spec = "tsv:" + write("a.tsv", ["a b b b b\tx", "b\ty"])
    config = _config("text_classification", labels=("x", "y"))
    assert _evaluate(lambda inputs: _counts(inputs, 2), spec, tokenizer, config, sequence_length=3)["accuracy"] == 1
    assert _evaluate(lambda inputs: _counts(inputs, 2), spec, tokenizer, config)["accuracy"] == 0.5


def test_texts_with_several_labels(tokenizer, write):
    spec = "tsv:" + write("a.tsv", ["a b\tx;y", "c\tz", "b\t"])
    config = _config("text_classification", labels=("x", "y", "z"), problem="multi_label")
    found = _evaluate(lambda inputs: _counts(inputs, 3) - 0.5, spec, tokenizer, config, label_separator=";")
    logits = np.array([[0.5, 0.5, -0.5], [-0.5, -0.5, 0.5], [-0.5, 0.5, -0.5]])
    assert found == score_multi_label(logits, np.array([[1, 1, 0], [0, 0, 1], [0, 0, 0]]), ("x", "y", "z"))


def test_pairs_of_texts_with_numbers(tokenizer, write):
    spec = "tsv:" + write("a.tsv", ["a\tb\t1", "a a\tb\t2.5", "a a a\tb\t2"])
    config = _config("text_classification", num_texts=2, problem="regression")

    def logits(inputs):
        assert inputs["segment_ids"].any(axis=1).all()
        return _counts(inputs, 1)

    assert _evaluate(logits, spec, tokenizer, config) == score_regression(np.array([1, 2, 3]), np.array([1, 2.5, 2]))


def test_a_label_that_the_model_lacks_is_named(tokenizer, write):
    spec = "tsv:" + write("a.tsv", ["a\tx", "b\tw"])
    with pytest.raises(DataError, match=r"a\.tsv:2: the training data has no label 'w', but x, y"):
        _evaluate(None, spec, tokenizer, _config("text_classification", labels=("x", "y")))
    spec = "conll:" + write("a.conll", ["a O", "b B-Y"])
    with pytest.raises(DataError, match=r"a\.conll:2: the training data has no label 'B-Y'"):
        _evaluate(None, spec, tokenizer, _config("token_classification", labels=("O", "B-X")))


def test_labelled_words(tokenizer, write):
    names = ("O", "B-X", "I-X")
    words = [["ab", "b", "c"], ["b"] * 9, ["c", "\u200b", "b"]]
    labels = [["O", "B-X", "I-X"], ["B-X"] + ["O"] * 8, ["I-X", "O", "B-X"]]
    lines = [
        line
        for row in zip(words, labels, strict=True)
        for line in (*(f"{word} {label}" for word, label in zip(*row, strict=True)), "")
    ]
    spec = "conll:" + write("a.conll", lines)

    def logits(inputs):
        # Letters a, b, c say which label; pieces within a word say something else.
        scores = np.zeros((*inputs["token_ids"].shape, 3), np.float32)
        for index in range(3):
            scores[..., index] = inputs["token_ids"] == FIRST + index
        scores[inputs["token_ids"] >= 15] = [0, 0, 9]
        return scores

    found = _evaluate(logits, spec, tokenizer, _config("token_classification", labels=names), sequence_length=8)
    # Six words of the second sentence have room; what has no token counts as "O".
    answers = [["O", "B-X", "I-X"], ["B-X"] * 6 + ["O"] * 3, ["I-X", "O", "B-X"]]
    assert found == score_words(answers, labels, names) | {"num_words_cut": 4}


def test_cosines_of_pairs(tokenizer, write):
    spec = "tsv:" + write("a.tsv", ["a\ta a\t5", "a b\ta\t3.5", "a\tb\t0", "c\ta c\t4"])
    seen = []

    def logits(inputs):
        seen.append(inputs["token_ids"])
        return _counts(inputs, 3)

    found = _evaluate(logits, spec, tokenizer, _config("text_embedding"))
    half = math.sqrt(0.5)
    expected = score_regression(np.array([1, half, 0, half]), np.array([5, 3.5, 0, 4]))
    assert found["spearman"] == pytest.approx(expected["spearman"])
    assert found["pearson"] == pytest.approx(expected["pearson"])
    assert found["num_examples"] == 4
    assert sum(map(len, seen)) == 6  # each text once


def _next_letter(inputs):
    """Says that a token is the letter behind the one before it; certain to 2 nats."""
    scores = np.zeros((*inputs["token_ids"].shape, V), np.float32)
    guess = (np.roll(inputs["token_ids"], 1, axis=1) - FIRST + 1) % 10 + FIRST
    np.put_along_axis(scores, guess[..., np.newaxis], 2.0, axis=-1)
    return scores


def test_masked_tokens(tokenizer, write):
    spec = "text:" + write("a.txt", ["a b c d e f g h i j a b c", "a b a b", "j a b c"] * 5)
    normalizer = math.log(math.exp(2) + V - 1)
    masks = []

    def logits(inputs):
        assert set(inputs) == {"token_ids", "padding_mask", "segment_ids"}
        masks.append((inputs["token_ids"] == MASK).sum(axis=1))
        return _next_letter(inputs)

    found = _evaluate(logits, spec, tokenizer, _config("fill_mask"), mask_probability=0.2)
    assert found["num_rows"] == 15
    assert found["num_masked_tokens"] == 5 * (3 + 1 + 1)
    low, high = found["accuracy_interval"]
    assert 0 <= low <= found["accuracy"] <= high <= 1
    assert found["loss"] == pytest.approx(normalizer - 2 * found["accuracy"], rel=1e-6)
    # Each alone: right but for the first token of each row and the third of "a b a b".
    assert found["num_pseudo_tokens"] == 5 * (13 + 4 + 4)
    num_right = 5 * (12 + 2 + 3)
    assert found["pseudo_perplexity"] == pytest.approx(math.exp(normalizer - 2 * num_right / 105), rel=1e-6)
    low, high = found["pseudo_perplexity_interval"]
    assert low < found["pseudo_perplexity"] < high
    assert all((one == 1).all() for one in masks[-15:])


def test_of_many_rows_some_are_masked_in_turn(tokenizer, write, monkeypatch):
    monkeypatch.setattr(masked, "NUM_PSEUDO_ROWS", 3)
    spec = "text:" + write("a.txt", [" ".join("abcdefghij"[: count + 1]) for count in range(9)])
    found = _evaluate(_next_letter, spec, tokenizer, _config("fill_mask"))
    assert found["num_rows"] == 9
    assert found["num_pseudo_tokens"] == 1 + 4 + 7


def test_rows_of_unknown_words_have_nothing_to_score(tokenizer, write):
    spec = "text:" + write("a.txt", ["a b c", "?"])
    found = _evaluate(_next_letter, spec, tokenizer, _config("fill_mask"))
    assert (found["num_rows"], found["num_masked_tokens"], found["num_pseudo_tokens"]) == (2, 1, 3)
    assert found["pseudo_perplexity"] > 1
    assert not (np.array(tokenizer.encode("?")) >= FIRST).any()
    assert SEP not in tokenizer.encode("?")
