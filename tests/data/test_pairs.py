"""Batches of pairs of texts: the partner's row is the label."""

import random

import numpy as np
import pytest

from tests.data import encoders
from tests.data.batches import to_numpy
from tests.data.encoders import LETTERS, assert_resumes
from tfzoo import data
from tfzoo.errors import DataError, UsageError


@pytest.fixture(scope="module")
def tokenizer():
    return encoders.tokenizer()


@pytest.fixture(scope="module")
def pairs():
    generator = random.Random(3)
    return [
        tuple(" ".join(generator.choices(LETTERS, k=generator.randint(1, 15))) for _ in range(2)) for _ in range(61)
    ]


@pytest.fixture(scope="module")
def spec(pairs, tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "pairs.tsv"
    path.write_text("".join(f"{first}\t{second}\n" for first, second in pairs), encoding="utf-8")
    return f"tsv:{path}"


def test_the_lines_of_the_docstring_give_its_arrays(tokenizer, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text_a": "a", "text_b": "b"}\n{"text_a": "c", "text_b": "a b"}\n', encoding="utf-8")
    ((inputs, labels, weights),) = to_numpy(data.text_pairs(f"jsonl:{path}", tokenizer, shuffle=False))
    np.testing.assert_array_equal(inputs["token_ids"], [[2, 5, 3, 0], [2, 7, 3, 0], [2, 6, 3, 0], [2, 5, 6, 3]])
    np.testing.assert_array_equal(inputs["padding_mask"], [[1, 1, 1, 0]] * 3 + [[1] * 4])
    np.testing.assert_array_equal(inputs["segment_ids"], np.zeros((4, 4)))
    np.testing.assert_array_equal(labels, [2, 3, 0, 1])
    np.testing.assert_array_equal(weights, [1, 1, 1, 1])
    assert {value.dtype for value in (*inputs.values(), labels)} == {np.dtype("int32")}
    assert weights.dtype == np.float32


def test_an_epoch_holds_every_pair_once(spec, pairs, tokenizer):
    batches = to_numpy(data.text_pairs(spec, tokenizer, batch_size=8, sequence_length=9))
    assert sorted(len(labels) for _, labels, _ in batches) == [10] + [16] * 7
    found = []
    for inputs, labels, _ in batches:
        texts = [
            tokenizer.decode(ids[: int(mask.sum())])
            for ids, mask in zip(inputs["token_ids"], inputs["padding_mask"], strict=True)
        ]
        half = len(labels) // 2
        np.testing.assert_array_equal(labels[labels], np.arange(2 * half))
        found += [(texts[row], texts[labels[row]]) for row in range(half)]
    expected = [tuple(text[: 2 * 7 - 1] for text in pair) for pair in pairs]
    assert sorted(found) == sorted(expected)
    assert found != expected


def test_epochs_differ_and_a_resumed_run_sees_the_same(spec, tokenizer):
    assert_resumes(
        lambda **options: data.text_pairs(spec, tokenizer, batch_size=8, seed=5, **options),
        8,
        (1, 6, 9),
    )


def test_wrong_data_and_options_are_refused(spec, tokenizer, tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("a\tb\nonly one\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"a\.tsv:2: 1 column\(s\) where 2 are needed; write text_a<TAB>text_b\."):
        data.text_pairs(f"tsv:{path}", tokenizer)
    with pytest.raises(UsageError, match="received batch_size=0"):
        data.text_pairs(spec, tokenizer, batch_size=0)
