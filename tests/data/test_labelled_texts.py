"""Batches of texts with their labels."""

import collections
import random

import numpy as np
import pytest

from tests.data import encoders
from tests.data.batches import to_numpy
from tests.data.encoders import LETTERS, assert_resumes, rows
from tfzoo import data
from tfzoo.errors import DataError, UsageError


@pytest.fixture(scope="module")
def tokenizer():
    return encoders.tokenizer()


@pytest.fixture(scope="module")
def texts():
    """97 different texts of 1 to 20 letters; the label is the first letter, "a" in half of them."""
    generator = random.Random(1)
    found = {}
    while len(found) < 97:
        first = generator.choice(["a", *"abc"])
        found[" ".join([first, *generator.choices(LETTERS, k=generator.randrange(20))])] = first
    return found


@pytest.fixture(scope="module")
def spec(texts, tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "texts.tsv"
    path.write_text("".join(f"{text}\t{label}\n" for text, label in texts.items()), encoding="utf-8")
    return f"tsv:{path}"


def _write(tmp_path, content, name="a.tsv"):
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    return f"{'jsonl' if name.endswith('jsonl') else 'tsv'}:{path}"


def test_the_lines_of_the_docstring_give_its_arrays(tokenizer, tmp_path):
    spec = _write(tmp_path, "a\tx\na b\ty\n")
    ((inputs, labels, weights),) = to_numpy(data.classification(spec, tokenizer, labels=("x", "y"), shuffle=False))
    np.testing.assert_array_equal(inputs["token_ids"], [[2, 5, 3, 0], [2, 5, 6, 3]])
    np.testing.assert_array_equal(inputs["padding_mask"], [[1, 1, 1, 0], [1, 1, 1, 1]])
    np.testing.assert_array_equal(inputs["segment_ids"], np.zeros((2, 4)))
    np.testing.assert_array_equal(labels, [0, 1])
    np.testing.assert_array_equal(weights, [1, 1])
    assert (labels.dtype, weights.dtype) == (np.int32, np.float32)
    ((_, labels, weights),) = to_numpy(
        data.classification(spec, tokenizer, labels=("x", "y"), problem="multi_label", shuffle=False)
    )
    np.testing.assert_array_equal(labels, [[1, 0], [0, 1]])
    assert (labels.dtype, weights.dtype, weights.shape) == (np.float32, np.float32, (2,))


def test_several_labels_and_none(tokenizer, tmp_path):
    spec = _write(tmp_path, "a\tz, x\na b\t\na b c\ty\n")
    ((_, labels, _),) = to_numpy(
        data.classification(spec, tokenizer, labels=("x", "y", "z"), problem="multi_label", shuffle=False)
    )
    np.testing.assert_array_equal(labels, [[1, 0, 1], [0, 0, 0], [0, 1, 0]])
    (batch, _) = to_numpy(
        data.classification(spec, tokenizer, labels=("x", "y", "z"), problem="multi_label", batch_size=2)
    )
    assert batch[1].shape == (2, 3)


def test_numbers_are_labels_of_a_regression(tokenizer, tmp_path):
    spec = _write(tmp_path, "a\tb\t2.5\na\tc d\t-1\n")
    ((inputs, labels, _),) = to_numpy(
        data.classification(spec, tokenizer, num_texts=2, problem="regression", shuffle=False)
    )
    np.testing.assert_array_equal(labels, [2.5, -1])
    assert labels.dtype == np.float32
    np.testing.assert_array_equal(inputs["token_ids"], [[2, 5, 3, 6, 3, 0], [2, 5, 3, 7, 8, 3]])
    np.testing.assert_array_equal(inputs["segment_ids"], [[0, 0, 0, 1, 1, 0], [0, 0, 0, 1, 1, 1]])


def test_an_epoch_holds_every_text_once_in_full_batches_of_similar_length(spec, texts, tokenizer):
    dataset = data.classification(spec, tokenizer, labels=("a", "b", "c"), batch_size=8, sequence_length=12)
    batches = to_numpy(dataset)
    assert dataset.cardinality().numpy() == len(batches) == 13
    assert sorted(len(labels) for _, labels, _ in batches) == [1] + [8] * 12
    found = [(tuple(ids), "abc"[label]) for ids, _, label, _ in rows(batches)]
    expected = [((2, *tokenizer.encode(text)[:10], 3), label) for text, label in texts.items()]
    assert sorted(found) == sorted(expected)
    assert found != expected
    sizes = sum(inputs["token_ids"].size for inputs, _, _ in batches)
    assert sum(len(ids) for ids, _ in found) / sizes > 0.9


def test_epochs_differ_and_a_resumed_run_sees_the_same(spec, tokenizer):
    first, second = assert_resumes(
        lambda **options: data.classification(
            spec, tokenizer, labels=("a", "b", "c"), batch_size=8, seed=5, class_weights=True, **options
        ),
        13,
        (1, 11, 14),
    )
    one, other = ([(tuple(ids), label) for ids, _, label, _ in rows(half)] for half in (first, second))
    assert one != other
    assert sorted(one) == sorted(other)
    reseeded = to_numpy(data.classification(spec, tokenizer, labels=("a", "b", "c"), batch_size=8, seed=6))
    assert [tuple(ids) for ids, *_ in rows(reseeded)] != [ids for ids, _ in one]


def test_weighted_each_class_counts_as_much_as_every_other(spec, texts, tokenizer):
    counts = collections.Counter(texts.values())
    totals: collections.Counter = collections.Counter()
    for _, labels, weights in to_numpy(
        data.classification(spec, tokenizer, labels=("a", "b", "c"), class_weights=True, batch_size=8)
    ):
        for label, weight in zip(labels, weights, strict=True):
            assert weight == np.float32(97 / (3 * counts["abc"[label]]))
            totals[label] += weight
    assert list(totals.values()) == pytest.approx([97 / 3] * 3)
    with pytest.raises(UsageError, match="`class_weights` needs one label an example; received problem='multi_label'"):
        data.classification(spec, tokenizer, labels=("a",), class_weights=True, problem="multi_label")


def test_a_mixture_draws_by_its_weights(spec, tokenizer, tmp_path):
    other = _write(tmp_path, "j j j\tj\n")
    batches = to_numpy(
        data.classification([f"{spec}@0.5", f"{other}@0.5"], tokenizer, labels=("a", "b", "c", "j"), batch_size=8)
    )
    assert [int(label) for _, _, label, _ in rows(batches)].count(3) == 49


def test_labels_are_read_off_the_training_data(spec, tokenizer, tmp_path):
    assert data.text_labels(spec) == ("a", "b", "c")
    multi = _write(tmp_path, "a\t10, 9\nb\t9\nc\t\n")
    assert data.text_labels([multi], problem="multi_label") == ("9", "10")
    numbers = _write(tmp_path, "a\tb\t1\n", "b.tsv")
    assert data.text_labels(numbers, num_texts=2, problem="regression") == ()
    with pytest.raises(DataError, match=r"a.tsv:1: the label '10, 9' is no finite number"):
        data.text_labels(multi, problem="regression")
    with pytest.raises(DataError, match=r"c.tsv: the only label is 'x'; give data with at least 2"):
        data.text_labels(_write(tmp_path, "a\tx\n", "c.tsv"))
    with pytest.raises(DataError, match=r"d.tsv: the only label is none; give data with at least 1"):
        data.text_labels(_write(tmp_path, "a\t\n", "d.tsv"), problem="multi_label")


def test_a_label_that_training_lacks_is_named(tokenizer, tmp_path):
    spec = _write(tmp_path, "a\tpos\na\tpositve\n")
    with pytest.raises(DataError, match=r"a\.tsv:2: the training data has no label 'positve', but neg, pos\."):
        data.classification(spec, tokenizer, labels=("neg", "pos"))
    with pytest.raises(DataError, match=r"a\.tsv:1: the training data has no label 'pos'"):
        data.classification(spec, tokenizer, labels=("x", "y"), problem="multi_label")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sequence_length": 2}, "`sequence_length` must be at least 3"),
        ({"batch_size": 0}, "received batch_size=0"),
        ({"start_step": -1}, "received start_step=-1"),
        ({"label_separator": ""}, "`label_separator` must not be empty"),
        ({"labels": ()}, "`labels` is empty; read them off the training data with `tfzoo.data.text_labels`"),
    ],
    ids=str,
)
def test_wrong_options_are_refused(spec, tokenizer, options, message):
    with pytest.raises(UsageError) as raised:
        data.classification(spec, tokenizer, **{"labels": ("a", "b", "c"), **options})
    assert message in str(raised.value)
    with pytest.raises(UsageError, match="`specs` is empty"):
        data.classification([], tokenizer, labels=("a", "b"))
