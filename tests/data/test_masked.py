"""Rows of documents, pairs of sentences, and their masks: a function of seed, epoch and row."""

import math
import random

import numpy as np
import pytest
import tensorflow as tf

from tests.data import encoders
from tests.data.batches import assert_equal, to_numpy
from tests.data.encoders import assert_resumes
from tfzoo import data
from tfzoo.data.sentences import split_sentences, tokenize_sentences
from tfzoo.errors import DataError, UsageError

CLS, SEP, MASK = 2, 3, 4


@pytest.fixture(scope="module")
def tokenizer():
    return encoders.tokenizer()


@pytest.fixture(scope="module")
def documents():
    """Documents of sentences, each a different word over "abcdefghij" of one piece a letter and a full stop [UNK]."""
    generator = random.Random(4)
    words = ("".join(generator.choices("abcdefghij", k=generator.randint(3, 9))) for _ in range(10_000))
    distinct = iter(dict.fromkeys(words))
    return [[next(distinct) for _ in range(generator.choice([1, 1, 2, 5, 20]))] for _ in range(60)]


@pytest.fixture(scope="module")
def spec(documents, tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "documents.txt"
    path.write_text("".join(" ".join(f"{one}." for one in document) + "\n" for document in documents), encoding="utf-8")
    return f"text:{path}"


def _unmasked(inputs, labels, weights):
    """The rows before anything was masked."""
    ids = inputs["token_ids"].copy()
    for row, positions, row_labels, row_weights in zip(ids, inputs["mask_positions"], labels, weights, strict=True):
        is_real = row_weights > 0
        row[positions[is_real]] = row_labels[is_real]
    return [row[mask > 0].tolist() for row, mask in zip(ids, inputs["padding_mask"], strict=True)]


@pytest.mark.parametrize(
    ("document", "sentences"),
    [
        ("One. Two!  Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("One, e.g. 1.5.\n\nTwo\nThree.", ["One, e.g.", "1.5.", "Two", "Three."]),
        ("你好。世界！好？", ["你好。", "世界！", "好？"]),
        (" \n. ", ["."]),
        ("", []),
    ],
)
def test_a_sentence_ends_at_a_line_end_or_a_mark(document, sentences):
    assert [one.strip() for one in split_sentences(document)] == sentences


def test_every_token_is_in_one_row_of_its_document(spec, documents, tokenizer):
    dataset = data.masked_lm(spec, tokenizer, sequence_length=16, batch_size=8)
    batches = to_numpy(dataset)
    assert dataset.cardinality().numpy() == len(batches)
    found = []
    for inputs, labels, weights in batches:
        assert list(inputs) == ["token_ids", "padding_mask", "segment_ids", "mask_positions"]
        assert {value.dtype for value in (*inputs.values(), labels)} == {np.dtype("int32")}
        assert weights.dtype == np.float32
        assert labels.shape == weights.shape == inputs["mask_positions"].shape
        assert labels.shape[1] == 2
        assert not inputs["segment_ids"].any()
        assert (inputs["token_ids"][inputs["padding_mask"] == 0] == 0).all()
        found += _unmasked(inputs, labels, weights)
    expected = []
    for document in documents:
        ids = tokenizer.encode(" ".join(f"{one}." for one in document))
        expected += [[CLS, *ids[start : start + 14], SEP] for start in range(0, len(ids), 14)]
    assert sorted(found) == sorted(expected)
    assert found != expected


@pytest.mark.parametrize("options", [{}, {"next_sentence": True}, {"whole_word": True}], ids=str)
def test_masks_change_with_the_epoch_and_a_resumed_run_sees_the_same(spec, tokenizer, options):
    def make(**others):
        return data.masked_lm(spec, tokenizer, sequence_length=32, batch_size=8, seed=5, **options, **others)

    num_batches = make().cardinality().numpy()
    first, second = assert_resumes(make, num_batches, (1, num_batches - 1, num_batches + 2))
    if not options.get("next_sentence"):
        masks = []
        for half in (first, second):
            rows = [row for batch in half for row in _unmasked(*batch)]
            places = [tuple(row[row > 0]) for inputs, _, _ in half for row in inputs["mask_positions"]]
            masks.append(dict(zip(map(tuple, rows), places, strict=True)))
        assert set(masks[0]) == set(masks[1])
        # Long words are seldom chosen as a whole in a short row.
        share = 0.1 if options else 0.5
        assert sum(masks[0][row] != masks[1][row] for row in masks[0]) > share * len(masks[0])


def test_a_row_is_masked_alike_in_whichever_batch_it_is(spec, tokenizer):
    def rows(batch_size):
        batches = to_numpy(data.masked_lm(spec, tokenizer, sequence_length=16, batch_size=batch_size, seed=3))
        found = []
        for inputs, labels, weights in batches:
            seen = [
                ids[mask > 0].tolist() for ids, mask in zip(inputs["token_ids"], inputs["padding_mask"], strict=True)
            ]
            found += zip(seen, inputs["mask_positions"].tolist(), labels.tolist(), weights.tolist(), strict=True)
        return sorted(found)

    assert rows(8) == rows(5)


def test_validation_is_in_order_and_always_masked_alike(spec, tokenizer):
    options = {"sequence_length": 16, "batch_size": 8, "shuffle": False}
    assert_equal(
        to_numpy(data.masked_lm(spec, tokenizer, **options)), to_numpy(data.masked_lm(spec, tokenizer, **options))
    )


@pytest.fixture(scope="module")
def pairs(spec, tokenizer):
    """The (a, b, is_other) of 40 epochs, as ids."""
    found = []
    dataset = data.masked_lm(spec, tokenizer, sequence_length=32, batch_size=32, next_sentence=True, repeat=True)
    once = data.masked_lm(spec, tokenizer, sequence_length=32, batch_size=32, next_sentence=True)
    num_batches = once.cardinality().numpy()
    for inputs, labels, weights in to_numpy(dataset.take(40 * num_batches)):
        assert set(labels) == set(weights) == {"logits", "next_sentence_logits"}
        assert labels["next_sentence_logits"].dtype == np.int32
        np.testing.assert_array_equal(weights["next_sentence_logits"], np.ones(len(labels["next_sentence_logits"])))
        rows = _unmasked(inputs, labels["logits"], weights["logits"])
        for row, segments, is_other in zip(rows, inputs["segment_ids"], labels["next_sentence_logits"], strict=True):
            assert len(row) <= 32
            border = row.index(SEP)
            assert row[0] == CLS
            assert row[-1] == SEP
            np.testing.assert_array_equal(
                segments, [0] * (border + 1) + [1] * (len(row) - border - 1) + [0] * (len(segments) - len(row))
            )
            found.append((tuple(row[1:border]), tuple(row[border + 1 : -1]), int(is_other)))
    return found


def test_half_of_the_pairs_follow_each_other(pairs):
    num_others = sum(is_other for _, _, is_other in pairs)
    assert len(pairs) > 1000
    assert abs(num_others - len(pairs) / 2) < 5 * math.sqrt(len(pairs) / 4)  # five standard deviations


def test_the_second_text_follows_or_is_another_documents(pairs, documents, tokenizer):
    ids = [[tuple(tokenizer.encode(f"{one}.")) for one in document] for document in documents]
    wholes = [sum(sentences, ()) for sentences in ids]
    beginnings = {
        index: [sum(sentences[count:], ()) for count in range(len(sentences))] for index, sentences in enumerate(ids)
    }
    lengths = {0: [], 1: []}
    for text_a, text_b, is_other in pairs:
        (home,) = (index for index, whole in enumerate(wholes) if _holds(whole, text_a))
        assert text_b
        if is_other:
            # A short one may begin sentences of several documents.
            assert any(
                text_b == beginning[: len(text_b)]
                for other in beginnings
                if other != home
                for beginning in beginnings[other]
            )
        else:
            assert _holds(wholes[home], text_a + text_b)
        lengths[is_other].append(len(text_b))
    # Every document of two sentences begins a pair, and those of one are second texts alone.
    firsts = {text_a for text_a, _, _ in pairs}
    for sentences, whole in zip(ids, wholes, strict=True):
        assert any(_holds(whole, text) for text in firsts) == (len(sentences) > 1)
    assert abs(np.mean(lengths[0]) - np.mean(lengths[1])) < 2


def _holds(whole, part):
    return any(whole[start : start + len(part)] == part for start in range(len(whole) - len(part) + 1))


def test_rows_are_of_whole_sentences_and_long_ones_are_cut(tokenizer, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "aaaaaaaa\\nab\\nc\\nd"}\n{"text": "a"}\n{"text": "a\\nb\\nc"}\n', encoding="utf-8")
    found = tokenize_sentences(f"jsonl:{path}", tokenizer, (), 6)
    np.testing.assert_array_equal(np.diff(found.starts), [3, 3, 2, 2, 1, 1, 1, 1, 1, 1])
    np.testing.assert_array_equal(found.row_starts, [0, 2, 7])
    np.testing.assert_array_equal(found.row_limits, [2, 6, 10])
    np.testing.assert_array_equal(found.first_of_document, [0] * 6 + [6] + [7] * 3)
    np.testing.assert_array_equal(found.end_of_document, [6] * 6 + [7] + [10] * 3)
    assert found.token_ids.shape == (16,)


def test_pairs_need_two_documents_and_two_sentences(tokenizer, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("a. b.\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"a\.txt: 1 document\(s\), of which 1 pairs of sentences can be made"):
        data.masked_lm(f"text:{path}", tokenizer, next_sentence=True)
    path.write_text("a.\nb.\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"a\.txt: 2 document\(s\), of which 0 pairs .* set `next_sentence` to false"):
        data.masked_lm(f"text:{path}", tokenizer, next_sentence=True)
    data.masked_lm(f"text:{path}", tokenizer)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sequence_length": 7}, "`sequence_length` must be at least 8"),
        ({"mask_probability": 1.0}, "`mask_probability` must be in (0, 1)"),
        ({"cleaning": ("nfk",)}, "Did you mean 'nfkc'?"),
        ({"start_step": -1}, "received start_step=-1"),
    ],
    ids=str,
)
def test_wrong_options_are_refused(spec, tokenizer, options, message):
    with pytest.raises(UsageError) as raised:
        data.masked_lm(spec, tokenizer, **options)
    assert message in str(raised.value)
    for next_sentence in (False, True):
        with pytest.raises(UsageError, match="a weight has no meaning"):
            data.masked_lm(f"{spec}@0.5", tokenizer, next_sentence=next_sentence)


def test_a_batch_is_made_in_graph(spec, tokenizer):
    dataset = data.masked_lm(spec, tokenizer, sequence_length=32, batch_size=4, next_sentence=True, whole_word=True)
    (inputs, labels, _) = dataset.element_spec
    assert inputs["mask_positions"].shape.as_list() == [None, 4]
    assert labels["logits"].dtype == tf.int32
