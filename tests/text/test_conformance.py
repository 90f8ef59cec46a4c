"""The conformance vectors: hundreds, of every kind; Hugging Face's reader agrees but where it is known not to."""

import collections
import json

import pytest
import tokenizers as hf

from tests.text import marian
from tfzoo import text
from tfzoo.text import conformance

SENTENCES = [
    "a dog runs over the green hill",
    "drei Hunde laufen über den Hügel",
    "Tiếng Việt rất đẹp",
    "съешь ещё булок",
    "你好，世界。",
    "😀👍🏽👩\u200d👧 ½ ㎏",
    "ｱ５ \u0301 ạ\u0338 क्ष ⁇",
] * 3
TOKENIZERS = {
    "sentencepiece": lambda: text.SentencePieceTokenizer.train(SENTENCES, 150),
    "byte_pair": lambda: text.BytePairTokenizer.train(SENTENCES, 300),
    "characters": lambda: text.SymbolTokenizer.train(SENTENCES, separator=""),
    "symbols": lambda: text.SymbolTokenizer.train(SENTENCES, separator=" "),
    "word_piece": lambda: text.WordPieceTokenizer.train(SENTENCES, 150),
    "marian": lambda: marian.one_side(SENTENCES),
}


@pytest.fixture(scope="module", params=TOKENIZERS)
def tokenizer(request):
    return TOKENIZERS[request.param]()


def test_there_are_hundreds_of_every_kind(tokenizer):
    made = conformance.vectors(tokenizer, ["a sentence of mine"])
    assert made == conformance.vectors(tokenizer, ["a sentence of mine"])
    texts = [vector["text"] for vector in made.encode]
    assert len(texts) > 200
    assert len(made.decode) > 40
    assert {"", "a sentence of mine", " a", "a ", "你好，世界。", "🇩🇪🇫🇷"} <= {*texts}
    assert max(map(len, texts)) >= 4000
    assert {ord(character) >> 16 for one in texts for character in one} >= {0, 1, 2}
    groups = collections.Counter(vector["group"] for vector in made.encode)
    of_marian = {"codes", "vocabulary_apart"} if isinstance(tokenizer, text.MarianTokenizer) else set()
    assert groups.keys() & {"codes", "vocabulary_apart"} == of_marian
    general = conformance.KNOWN_DIFFERENCES.keys() - {"unknown", "vocabulary_apart"}
    assert groups.keys() >= {"planes", "vocabulary", "long", *general, *of_marian}
    # Most of it is binding for everyone.
    assert sum(groups[group] for group in conformance.KNOWN_DIFFERENCES) < len(texts) / 4
    json.dumps(texts).encode("ascii")
    "".join(texts).encode("utf-8")  # no half of a surrogate pair


def test_hugging_face_agrees_but_for_the_known_differences(tokenizer):
    reader = hf.Tokenizer.from_str(tokenizer.assets()["tokenizer.json"].decode())
    made = conformance.vectors(tokenizer, SENTENCES)
    differing = set()
    for vector in made.encode:
        if reader.encode(vector["text"], add_special_tokens=False).ids != vector["ids"]:
            differing.add(vector["group"])
    for vector in made.decode:
        if reader.decode(vector["ids"]) != vector["text"]:
            differing.add(vector["group"])
    known = {group for group, one in conformance.KNOWN_DIFFERENCES.items() if "tokenizers" in one["readers"]}
    assert differing <= known
    assert "special_tokens" in differing
    assert ("unknown" in differing) == (tokenizer.unk_id != tokenizer.end_id)  # a byte-pair tokenizer knows all text
    is_sentencepiece = isinstance(tokenizer, (text.SentencePieceTokenizer, text.MarianTokenizer))
    assert ("bare_marks" in differing) == is_sentencepiece
    assert ("vocabulary_apart" in differing) == isinstance(tokenizer, text.MarianTokenizer)
