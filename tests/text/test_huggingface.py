"""Hugging Face's `tokenizers` reads our tokenizer.json and gives our ids, the end token behind them."""

import io
import json
import unicodedata

import pytest
import sentencepiece
import tokenizers as hf

from tests.text import fuzz
from tests.text.test_tokenizers import SENTENCES
from tfzoo import text


def _load(tokenizer):
    return hf.Tokenizer.from_str(tokenizer.assets()["tokenizer.json"].decode())


@pytest.mark.parametrize("separator", ["", " "])
def test_symbols_agree_on_any_text(separator):
    ours = text.SymbolTokenizer.train(SENTENCES, separator=separator)
    theirs = _load(ours)
    for string in fuzz.strings(3000, seed=5) + SENTENCES:
        assert theirs.encode(string).ids == [*ours.encode(string), 3], ascii(string)


def test_sentencepiece_agrees_on_any_text_without_bare_marks():
    ours = text.SentencePieceTokenizer.train(SENTENCES, 160)
    theirs = _load(ours)
    for string in fuzz.strings(3000, seed=6, bare_marks=False) + SENTENCES:
        assert theirs.encode(string).ids == [*ours.encode(string), 3], ascii(string)


def test_sentencepiece_agrees_on_decomposed_text_and_half_width_kana():
    composed = ["Tiếng Việt rất đẹp", "각 나라의 말", "Ünïcödé ǖ", "ΐ ᾧ ἄλλος", "ガギグパピプ"]
    strings = [unicodedata.normalize("NFD", one) for one in composed] + ["ｶﾞｷﾞｸﾞﾊﾟﾋﾟﾌﾟ"]
    ours = text.SentencePieceTokenizer.train(composed * 4, 120)
    theirs = _load(ours)
    for string, plain in zip(strings, [*composed, composed[-1]], strict=True):
        assert theirs.encode(string).ids == [*ours.encode(string), 3], ascii(string)
        assert ours.encode(string) == ours.encode(plain)


@pytest.mark.parametrize(
    "options",
    [
        {"model_type": "bpe"},
        {"model_type": "bpe", "byte_fallback": True, "vocab_size": 420},
        {"normalization_rule_name": "identity"},
        {"add_dummy_prefix": False},
        {"remove_extra_whitespaces": False},
    ],
    ids=str,
)
def test_models_trained_elsewhere_agree_on_plain_text(options):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES),
        model_writer=model,
        hard_vocab_limit=False,
        pad_id=0,
        unk_id=1,
        bos_id=2,
        eos_id=3,
        minloglevel=2,
        **{"vocab_size": 160, **options},
    )
    ours = text.SentencePieceTokenizer(model.getvalue())
    theirs = _load(ours)
    for string in [*SENTENCES, "a  dog", " dog ", "zzz", "drei Hunde"]:
        assert theirs.encode(string).ids == [*ours.encode(string), 3], string


def test_decoding_gives_the_text_back():
    for ours in (
        text.SentencePieceTokenizer.train(SENTENCES, 160),
        text.SymbolTokenizer.train(SENTENCES, separator=""),
        text.SymbolTokenizer.train(SENTENCES, separator=" "),
    ):
        theirs = _load(ours)
        assert theirs.decode(theirs.encode(SENTENCES[0]).ids) == SENTENCES[0]


def test_the_configuration_names_the_special_tokens():
    config = json.loads(text.SymbolTokenizer(["a"], "").assets()["tokenizer_config.json"])
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert [config[f"{name}_token"] for name in ("pad", "unk", "bos", "eos")] == ["<pad>", "<unk>", "<s>", "</s>"]
