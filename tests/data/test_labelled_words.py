"""Batches of labelled words: the label is on the first piece of each."""

import random

import numpy as np
import pytest

from tests.data import encoders
from tests.data.batches import to_numpy
from tests.data.encoders import LETTERS, assert_resumes, rows
from tfzoo import data
from tfzoo.errors import DataError, UsageError
from tfzoo.runtime import tasks

LABELS = ("O", "B-X", "I-X")


@pytest.fixture(scope="module")
def tokenizer():
    return encoders.tokenizer()


@pytest.fixture(scope="module")
def sentences():
    generator = random.Random(2)

    def word():
        # \u200b is no token at all.
        return "\u200b" if generator.random() < 0.1 else "".join(generator.choices(LETTERS, k=generator.randint(1, 4)))

    return [[(word(), generator.choice(LABELS)) for _ in range(generator.randint(1, 9))] for _ in range(61)]


@pytest.fixture(scope="module")
def spec(sentences, tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "words.conll"
    lines = ("".join(f"{word} {label}\n" for word, label in sentence) for sentence in sentences)
    path.write_text("\n".join(lines), encoding="utf-8")
    return f"conll:{path}"


def test_the_words_of_the_docstring_give_its_arrays(tokenizer, tmp_path):
    path = tmp_path / "a.conll"
    path.write_text("ab B-X\nc O\n", encoding="utf-8")
    ((inputs, labels, weights),) = to_numpy(data.token_classification(f"conll:{path}", tokenizer, labels=("O", "B-X")))
    np.testing.assert_array_equal(inputs["token_ids"], [[2, 5, 16, 7, 3]])
    np.testing.assert_array_equal(labels, [[0, 1, 0, 0, 0]])
    np.testing.assert_array_equal(weights, [[0, 1, 0, 1, 0]])
    assert (labels.dtype, weights.dtype) == (np.int32, np.float32)


@pytest.mark.parametrize("sequence_length", [8, 64])
def test_each_word_has_its_label_where_the_runtime_looks_for_it(spec, sentences, tokenizer, sequence_length):
    batches = to_numpy(
        data.token_classification(spec, tokenizer, labels=LABELS, batch_size=8, sequence_length=sequence_length)
    )
    assert [len(labels) for _, labels, _ in batches].count(8) == 7
    found = sorted(
        (ids, [(place, LABELS[labels[place]]) for place in np.flatnonzero(weights)])
        for ids, _, labels, weights in rows(batches)
    )
    for _, labels, weights in batches:
        assert (labels[weights == 0] == 0).all()
    expected = []
    for sentence in sentences:
        words, labels = zip(*sentence, strict=True)
        inputs, (positions,) = tasks.word_inputs([words], tokenizer, sequence_length)
        places = [(place, label) for place, label in zip(positions, labels, strict=True) if place >= 0]
        expected.append((inputs["token_ids"][0].tolist(), places))
    assert found == sorted(expected)
    assert max(len(ids) for ids, _ in found) <= sequence_length


def test_epochs_differ_and_a_resumed_run_sees_the_same(spec, tokenizer):
    assert_resumes(
        lambda **options: data.token_classification(
            spec, tokenizer, labels=LABELS, batch_size=8, seed=5, sequence_length=9, **options
        ),
        8,
        (1, 6, 9),
    )


def test_labels_are_read_off_the_training_data(spec, tmp_path):
    assert data.word_labels(spec) == ("O", "B-X", "I-X")
    path = tmp_path / "a.conll"
    path.write_text("a O\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"a\.conll: the only label is 'O'; give data with at least 2"):
        data.word_labels([f"conll:{path}"])


def test_wrong_data_and_options_are_refused(spec, tokenizer, tmp_path):
    path = tmp_path / "a.conll"
    path.write_text("a O\n\nb O\nc B-Y\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"a\.conll:4: the training data has no label 'B-Y', but O, B-X, I-X\. Did you"):
        data.token_classification(f"conll:{path}", tokenizer, labels=LABELS)
    with pytest.raises(UsageError, match="`labels` is empty; read them off the training data with `tfzoo.data.word_"):
        data.token_classification(spec, tokenizer, labels=())
    with pytest.raises(UsageError, match="received sequence_length=2"):
        data.token_classification(spec, tokenizer, labels=LABELS, sequence_length=2)
