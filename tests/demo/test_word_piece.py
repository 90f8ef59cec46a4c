"""BERT's word pieces in the page: our ids and places on any text, by the tables of `tokenizers`."""

import json
import random
import subprocess
import unicodedata
from pathlib import Path

import pytest
import tokenizers as hf

from tests.demo import word_piece_tables
from tests.demo.test_tokenizer import NODE, SENTENCES, tokenize
from tests.text import fuzz
from tests.text.test_word_piece import STRINGS
from tfzoo import text
from tfzoo.demo.server import PAGE

pytestmark = pytest.mark.skipif(NODE is None, reason="node is missing; run tests/setup")
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


@pytest.fixture(scope="module", params=[True, False], ids=["uncased", "cased"])
def lowercase(request):
    return request.param


def check(tokenizer, directory, texts):
    texts = [json.loads(json.dumps(one)) for one in texts]  # two halves of a pair, one after the other, are one there
    found = tokenize(tokenizer, directory, texts)
    assert isinstance(found, dict), found
    for one, ids, offsets in zip(texts, found["ids"], found["offsets"], strict=True):
        expected_ids, expected_offsets = tokenizer.encode_with_offsets(one)
        assert ids == expected_ids, ascii(one)
        assert [tuple(pair) for pair in offsets] == expected_offsets, ascii(one)
    return found


def test_ids_and_places_equal_ours_whatever_the_text(lowercase, tmp_path):
    pieces = text.WordPieceTokenizer.train(SENTENCES, 250, lowercase).assets()["vocab.txt"].decode().split("\n")[:-1]
    random.Random(4).shuffle(pieces)  # no special token where it usually is
    texts = [*STRINGS, *SENTENCES, *fuzz.strings(3000, seed=21), " ".join(SENTENCES) * 5, "o" * 3000]
    texts += ["constructor __proto__ 1 2", "\ud83d\ude00\ude00\ud83d a", "[CLS] [MASK]"]
    found = check(text.WordPieceTokenizer(pieces, lowercase), tmp_path, texts)
    assert len({one for row in found["ids"] for one in row}) > 160


def test_every_code_point_makes_the_words_of_hugging_face(lowercase):
    generator = random.Random(3)
    generator.shuffle(code_points := [*word_piece_tables.CODE_POINTS])
    texts = ["".join(map(chr, code_points[at : at + 512])) for at in range(0, len(code_points), 512)]
    job = json.dumps({"texts": texts, "lowercase": lowercase})
    command = [NODE, Path(__file__).with_name("split_words.mjs"), PAGE / "word_piece.mjs"]
    found = json.loads(subprocess.run(command, input=job.encode(), capture_output=True, check=True).stdout)
    normalizer, splitter = hf.normalizers.BertNormalizer(lowercase=lowercase), hf.pre_tokenizers.BertPreTokenizer()
    for one, words in zip(texts, found, strict=True):
        assert words == [word for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(one))]


def test_runs_of_marks_have_our_order_and_places(lowercase, tmp_path):
    """Each character is a piece, so that ids tell what each became."""
    marks = [chr(code) for code in word_piece_tables.CODE_POINTS if unicodedata.combining(chr(code))]
    letters = [*"ab\xad\u034f\u0903\u093f\u09c7\u0344", "\U0001d15e"]
    characters = {part for one in marks + letters for part in unicodedata.normalize("NFD", one)}
    pieces = [*SPECIAL, *sorted(characters), *(f"##{one}" for one in sorted(characters))]
    generator = random.Random(5)
    texts = ["".join(generator.choices(marks + letters * 20, k=40)) for _ in range(3000)]
    found = check(text.WordPieceTokenizer(pieces, lowercase), tmp_path, texts)
    assert len({one for row in found["ids"] for one in row}) > 100


def test_the_example_of_the_class(tmp_path):
    tokenizer = text.WordPieceTokenizer([*SPECIAL, "the", "dog", "##s", "!"])
    found = tokenize(tokenizer, tmp_path, ["The\u0301 do\xadgs"], [[5, 6, 7, 4, 99]], [*range(5), 7])
    assert found == {
        "ids": [[5, 6, 7]],
        "offsets": [[[0, 4], [5, 9], [9, 10]]],
        "texts": ["the dogs ⁇"],
        "labels": ["padding", "unknown", "start", "end", "mask", "##s"],
    }


def test_the_tables_are_those_of_tokenizers():
    assert word_piece_tables.FILE.read_text(encoding="utf-8") == word_piece_tables.content(), (
        "`tokenizers` has other tables than the page: run python -m tests.demo.word_piece_tables"
    )
