"""Where in a text each of BERT's pieces stands: in Python as in a graph, and exactly."""

import functools
import json
import random
import subprocess
import sys

import keras
import pytest
import tensorflow as tf
import tokenizers as hf

from tests.text import fuzz
from tests.text.test_word_piece import SENTENCES, SPECIAL, STRINGS, awkward, bert, slices
from tfzoo import text

LONG = ["".join(random.Random(seed).choices(STRINGS, k=60)) for seed in range(40)]
TEXTS = [*STRINGS, *fuzz.strings(4000, seed=21), *awkward(3000, seed=22), *slices(500, seed=23), *LONG]


@pytest.fixture(scope="module", params=[True, False], ids=["uncased", "cased"])
def trained(request):
    return text.WordPieceTokenizer.train(SENTENCES, 300, lowercase=request.param)


@pytest.fixture(scope="module")
def spans(trained):
    """The offsets of TEXTS in Python."""
    return [trained.encode_with_offsets(one) for one in TEXTS]


def _in_graph(tokenizer, texts):
    ids, starts, ends = (one.to_list() for one in tokenizer.tokenize_with_offsets(tf.constant(texts)))
    return [(row, list(zip(*places, strict=True))) for row, *places in zip(ids, starts, ends, strict=True)]


def test_the_example_of_the_docstring():
    tokenizer = text.WordPieceTokenizer([*SPECIAL, "the", "dog", "##s", "!"])
    one = "The\u0301 do\xadgs"
    assert tokenizer.encode_with_offsets(one) == ([5, 6, 7], [(0, 4), (5, 9), (9, 10)])
    assert _in_graph(tokenizer, [one]) == [([5, 6, 7], [(0, 4), (5, 9), (9, 10)])]


@pytest.mark.parametrize(
    ("string", "pieces"),
    [
        ("漢字a", ["漢", "字", "a"]),
        ("\x07a\x07b\u200b", ["a", "b"]),
        ("각", ["각", "각"]),
        ("e\u0301e\u0301", ["e\u0301", "e\u0301"]),
        ("e\xad\u0301 !\u0301", ["e", "!\u0301"]),
        ("हिन्दी", ["ह", "ि", "न्", "द", "ी"]),
        ("e\u0301\u302eq", ["e\u0301\u302eq"]),
        ("e" * 101 + "!", ["e" * 101, "!"]),
        (" \u0301\n", []),
    ],
    ids=[
        "Chinese",
        "control characters",
        "one syllable",
        "decomposed",
        "an accent for itself",
        "vowel signs",
        "marks that change places",
        "too long",
        "nothing",
    ],
)
def test_a_piece_takes_in_what_it_was_made_of(string, pieces):
    alphabet = ["漢", "字", "a", "##b", "ᄀ", "##ᅡᆨ", "e", "##e", "!", "ह", "##ि", "##न", "##द", "##ी"]
    tokenizer = text.WordPieceTokenizer([*SPECIAL, *alphabet])
    _, spans = tokenizer.encode_with_offsets(string)
    assert [string[start:end] for start, end in spans] == pieces
    assert _in_graph(tokenizer, [string])[0][1] == spans


def test_the_graph_gives_the_same_offsets(trained, spans):
    assert len(TEXTS) > 18_000
    ids, starts, ends = trained.tokenize_with_offsets(tf.constant(TEXTS))
    assert {one.dtype for one in (ids, starts, ends)} == {tf.int32}
    assert _in_graph(trained, TEXTS) == spans
    assert ids.to_list() == trained.tokenize(tf.constant(TEXTS)).to_list()
    assert [row for row, _ in spans] == [trained.encode(one) for one in TEXTS]


def test_offsets_never_decrease_and_are_inside_the_text(spans):
    for one, (_, places) in zip(TEXTS, spans, strict=True):
        starts, ends = [start for start, _ in places], [end for _, end in places]
        assert starts == sorted(starts)
        assert ends == sorted(ends)
        assert all(0 <= start < end <= len(one) for start, end in places)


def test_a_span_holds_its_piece_and_nothing_else(trained, spans):
    normalizer = hf.normalizers.BertNormalizer(lowercase=trained.lowercase)
    pieces = trained.assets()["vocab.txt"].decode().split("\n")
    num_known = 0
    for one, (ids, places) in zip(TEXTS, spans, strict=True):
        for index, place in zip(ids, places, strict=True):
            if places.count(place) > 1:
                continue  # of a character that is several pieces
            made = "".join(normalizer.normalize_str(one[slice(*place)]).split(" "))
            if index == trained.unk_id:
                # An unknown word is whole, and another one would be unknown too.
                assert trained.encode(one[slice(*place)]) == [index]
            else:
                assert made == pieces[index].removeprefix("##")
                num_known += 1
    assert num_known > 30_000


def test_nothing_of_the_text_is_left_out(trained, spans):
    """What stands outside all spans makes no piece, and no accent of the letter before it."""
    normalizer = hf.normalizers.BertNormalizer(lowercase=trained.lowercase)
    for one, (_, places) in zip(TEXTS, spans, strict=True):
        covered = {at for place in places for at in range(*place)}
        outside = "".join(character for at, character in enumerate(one) if at not in covered)
        assert not normalizer.normalize_str(outside).strip(" ")


def test_hugging_face_differs_behind_accents_alone(trained, spans):
    theirs = [one.offsets for one in bert(trained).encode_batch(TEXTS, add_special_tokens=False)]
    unlike = [(one, ours, other) for one, (_, ours), other in zip(TEXTS, spans, theirs, strict=True) if ours != other]
    if not trained.lowercase:
        assert not unlike
    moved = "\u302e\u302f\U0001d15e"  # marks that are kept, and change places with those that are not
    for one, ours, other in unlike:
        if not any(mark in one for mark in moved):
            assert [start for start, _ in ours] == [start for start, _ in other]
            for (_, end), (_, their_end) in zip(ours, other, strict=True):
                assert not trained.encode(one[their_end:end])


def test_offsets_count_the_units_of_the_original_string(trained):
    # Python's own strings may hold halves of pairs; two that stand together are one character.
    assert trained.encode_with_offsets("the \ud83d\ude00 the \ud800the")[1] == [(0, 3), (4, 6), (7, 10), (12, 15)]
    assert trained.encode_with_offsets("the 😀 the")[1] == [(0, 3), (4, 5), (6, 9)]


def test_offsets_in_bytes_that_are_not_utf8_count_what_they_are_read_as(trained):
    strings = [b"th\xffe \xe4\xbd the", b"\xed\xa0\x80the", b"\xef\xbb\xbfthe"]
    expected = [trained.encode_with_offsets(one.decode("utf-8", "replace")) for one in strings[:2]]
    assert _in_graph(trained, strings[:2]) == expected
    assert _in_graph(trained, strings[2:])[0][1] == [(1, 4)]


def test_no_text_at_all(trained):
    assert trained.encode_with_offsets("") == ([], [])
    assert [one.to_list() for one in trained.tokenize_with_offsets(tf.constant([], tf.string))] == [[], [], []]
    assert _in_graph(trained, ["", " \x07", "the"])[:2] == [([], []), ([], [])]


def _serve(tokenizer, source):
    ids, starts, ends = tokenizer.tokenize_with_offsets(source)
    return {"token_ids": ids.to_tensor(-1), "starts": starts.to_tensor(-1), "ends": ends.to_tensor(-1)}


def test_a_saved_model_serves_them_in_a_process_without_tfzoo(tmp_path):
    tokenizer = text.WordPieceTokenizer.train(SENTENCES, 300)
    strings = TEXTS[:40] + TEXTS[-60:-40]
    archive = keras.export.ExportArchive()
    archive.track(tokenizer.trackable())
    signature = [tf.TensorSpec((None,), tf.string, name="source")]
    archive.add_endpoint("serve", functools.partial(_serve, tokenizer), input_signature=signature)
    archive.write_out(tmp_path / "1", verbose=False)
    code = (
        "import json, sys\n"
        "import tensorflow as tf, tensorflow_text\n"
        f"model = tf.saved_model.load({str(tmp_path / '1')!r})\n"
        "answer = model.signatures['serve'](source=tf.constant(json.load(sys.stdin)))\n"
        "json.dump({name: value.numpy().tolist() for name, value in answer.items()}, sys.stdout)\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(strings), capture_output=True, text=True, check=True
    )
    rows = {
        name: [[one for one in row if one >= 0] for row in value] for name, value in json.loads(answer.stdout).items()
    }
    for at, string in enumerate(strings):
        ids, spans = tokenizer.encode_with_offsets(string)
        assert rows["token_ids"][at] == ids
        assert list(zip(rows["starts"][at], rows["ends"][at], strict=True)) == spans
