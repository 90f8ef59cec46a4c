"""What an encoder reads: in graph, in plain Python and by Hugging Face's own library, on the same texts."""

import random

import numpy as np
import pytest
import tensorflow as tf
import tokenizers as hf

from tests.text import fuzz
from tfzoo import text
from tfzoo.data import examples
from tfzoo.runtime import tasks

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcd", *(f"##{one}" for one in "abcd"), "你", "é", ".", "ab"]


@pytest.fixture(scope="module")
def tokenizer():
    # Moved, so that no id is what BERT's usually is.
    return text.WordPieceTokenizer(["zz", *PIECES[1:], "[PAD]"])


@pytest.fixture(scope="module")
def reference(tokenizer):
    """Hugging Face's BERT over the same vocabulary."""
    ids = {piece: index for index, piece in enumerate(["zz", *PIECES[1:], "[PAD]"])}
    library = hf.Tokenizer(hf.models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=100))
    library.normalizer = hf.normalizers.BertNormalizer(lowercase=True)
    library.pre_tokenizer = hf.pre_tokenizers.BertPreTokenizer()
    library.post_processor = hf.processors.BertProcessing(("[SEP]", ids["[SEP]"]), ("[CLS]", ids["[CLS]"]))
    library.add_special_tokens([hf.AddedToken(one, special=True) for one in ("[MASK]", "[PAD]")])
    library.enable_padding(pad_id=ids["[PAD]"], pad_token="[PAD]")
    return library


def _by_library(reference, texts, max_length):
    reference.enable_truncation(max_length, strategy="longest_first")
    rows = reference.encode_batch(texts)
    return {
        "token_ids": [row.ids for row in rows],
        "padding_mask": [row.attention_mask for row in rows],
        "segment_ids": [row.type_ids for row in rows],
    }


def _assert_same(inputs, expected):
    assert list(inputs) == ["token_ids", "padding_mask", "segment_ids"]
    for name, value in inputs.items():
        value = np.asarray(value)
        assert value.dtype == np.int32, name
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


def _letters(generator, longest=20):
    return "".join(generator.choices("abcd. ", k=generator.randrange(longest)))


@pytest.mark.parametrize("max_length", [2, 3, 8, 9, 64])
def test_one_text_is_as_the_library_cuts_it(tokenizer, reference, max_length):
    texts = fuzz.strings(150, seed=max_length)
    expected = _by_library(reference, texts, max_length)
    _assert_same(tasks.encode_segments(texts, tokenizer, max_length), expected)
    _assert_same(examples.encode_segments(tf.constant(texts), None, tokenizer, max_length), expected)


@pytest.mark.parametrize("max_length", [3, 4, 5, 10, 11, 64])
def test_a_pair_is_as_the_library_cuts_it(tokenizer, reference, max_length):
    generator = random.Random(max_length)
    odd = fuzz.strings(60, seed=max_length)
    pairs = [(_letters(generator), _letters(generator)) for _ in range(150)]
    pairs += [*zip(odd, generator.sample(odd, len(odd)), strict=True), ("", ""), ("", "ab"), ("abcd" * 5, "")]
    expected = _by_library(reference, pairs, max_length)
    _assert_same(tasks.encode_segments(pairs, tokenizer, max_length), expected)
    first, second = zip(*pairs, strict=True)
    _assert_same(
        examples.encode_segments(tf.constant(first), tf.constant(second), tokenizer, max_length),
        expected,
    )


@pytest.mark.parametrize("max_length", [7, 64])
def test_masks_are_as_the_library_finds_them(tokenizer, reference, max_length):
    generator = random.Random(max_length)
    texts = ["[MASK]".join(_letters(generator, 6) for _ in range(generator.randrange(1, 4))) for _ in range(99)]
    texts += ["", "[MASK]", "[MASK][MASK]", "a[MASK", "[mask]", " [MASK] [[MASK]]", "[MASK]x"]
    expected = _by_library(reference, texts, max_length)
    assert tokenizer.mask_id in expected["token_ids"][-1]
    _assert_same(tasks.encode_masked(texts, tokenizer, max_length), expected)
    _assert_same(examples.encode_masked(tf.constant(texts), tokenizer, max_length), expected)


@pytest.mark.parametrize("max_length", [2, 9, 64])
def test_words_are_as_the_library_tokenizes_split_text(tokenizer, reference, max_length):
    generator = random.Random(max_length)
    texts = [_letters(generator) for _ in range(99)] + fuzz.strings(99, seed=max_length)
    words = [[one.decode() for one in text.encode().split()] for text in texts]
    reference.enable_truncation(max_length)
    rows = [reference.encode(one, is_pretokenized=True) for one in words]
    places = []
    for row, one in zip(rows, words, strict=True):
        found = dict(reversed([(word, place) for place, word in enumerate(row.word_ids) if word is not None]))
        places.append([found.get(index, -1) for index in range(len(one))])
    expected = {"token_ids": tasks.padded([row.ids for row in rows], tokenizer.pad_id)}

    inputs, our_words, ours = tasks.encode_words(texts, tokenizer, max_length)
    np.testing.assert_array_equal(inputs["token_ids"], expected["token_ids"])
    assert our_words == words
    assert ours == places
    assert any(-1 in row for row in ours)
    in_graph, graph_words, positions = examples.encode_words(tf.constant(texts), tokenizer, max_length)
    _assert_same(in_graph, inputs)
    assert [[one.decode() for one in row] for row in graph_words.to_list()] == words
    assert positions.dtype == tf.int32
    assert positions.to_list() == places


def test_the_examples_of_the_docstrings():
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijk", *(f"##{one}" for one in "bcd")]
    letters = text.WordPieceTokenizer(pieces)
    spaced = [("a b", "a"), ("a b c d", "a b c")]
    expected = {
        "token_ids": [[2, 5, 6, 3, 5, 3, 0], [2, 5, 6, 3, 5, 6, 3]],
        "padding_mask": [[1, 1, 1, 1, 1, 1, 0], [1] * 7],
        "segment_ids": [[0, 0, 0, 0, 1, 1, 0], [0, 0, 0, 0, 1, 1, 1]],
    }
    _assert_same(tasks.encode_segments(spaced, letters, 7), expected)
    inputs, words, positions = tasks.encode_words(["ab c"], letters, 9)
    assert (inputs["token_ids"].tolist(), words, positions) == ([[2, 5, 16, 7, 3]], [["ab", "c"]], [[1, 3]])


def test_the_encoders_work_in_a_graph_of_unknown_batch(tokenizer):
    strings = tf.TensorSpec([None], tf.string)

    @tf.function(input_signature=[strings, strings])
    def served(first, second):
        _, words, positions = examples.encode_words(first, tokenizer, 8)
        return (
            examples.encode_segments(first, second, tokenizer, 8),
            examples.encode_masked(first, tokenizer, 8),
            words.to_tensor(""),
            positions.to_tensor(-1),
        )

    pair, masked, words, positions = served(tf.constant(["ab [MASK]"]), tf.constant(["c d"]))
    _assert_same(pair, tasks.encode_segments([("ab [MASK]", "c d")], tokenizer, 8))
    _assert_same(masked, tasks.encode_masked(["ab [MASK]"], tokenizer, 8))
    assert words.numpy().tolist() == [[b"ab", b"[MASK]"]]
    assert positions.numpy().tolist() == [[1, 2]]
    for value in tf.nest.flatten(served(tf.constant([], tf.string), tf.constant([], tf.string))):
        assert value.shape[0] == 0
