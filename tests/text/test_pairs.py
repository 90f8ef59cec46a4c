"""One shared tokenizer or two, and where their files lie."""

import pytest

from tfzoo import text
from tfzoo.errors import RecipeError, UsageError

RECORDS = [("abc", "A B C"), ("cab", "C A B"), ("add", "A D D")]


def test_one_tokenizer_is_shared():
    config = text.TokenizerConfig(source="characters")
    pair = text.train_pair(config, iter(RECORDS), 100)
    assert pair.shared
    assert pair.target.encode("a A") == pair.source.encode("a A")
    assert 1 not in pair.source.encode("abcd ABCD")


def test_two_tokenizers_learn_from_one_side_each():
    config = text.TokenizerConfig(source="characters", target="symbols")
    pair = text.train_pair(config, iter(RECORDS), 100)
    assert not pair.shared
    assert 1 not in pair.source.encode("abcd")
    assert set(pair.source.encode("ABCD")) == {1}
    assert 1 not in pair.target.encode("A B C D")
    assert pair.target.encode("a") == [1]


def test_sentencepiece_learns_from_both_sides():
    pair = text.train_pair(text.TokenizerConfig(), [("wasser", "water"), ("hund", "dog")] * 5, 60)
    assert pair.shared
    assert 1 not in pair.source.encode("hund water")


@pytest.mark.parametrize("target", [None, "symbols"])
def test_save_and_load_keep_the_pair(tmp_path, target):
    pair = text.train_pair(text.TokenizerConfig(source="characters", target=target), RECORDS, 100)
    pair.save(tmp_path)
    names = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    one = {"vocab.json", "tokenizer.json", "tokenizer_config.json"}
    assert names == (one if target is None else {f"{side}/{name}" for side in ("source", "target") for name in one})
    loaded = text.TokenizerPair.load(tmp_path)
    assert loaded.shared == pair.shared
    assert loaded.assets() == pair.assets()


def test_pair_takes_one_two_or_a_pair():
    letters, words = text.SymbolTokenizer(["a"], ""), text.SymbolTokenizer(["A"], " ")
    assert text.pair(letters).shared
    assert text.pair((letters, words)) == text.TokenizerPair(letters, words)
    assert text.pair(text.TokenizerPair(letters, words)).target is words
    with pytest.raises(UsageError, match="received 3 of them"):
        text.pair((letters, words, words))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"source": "wordpiece"}, "received source='wordpiece'"),
        ({"target": "words"}, "received target='words'"),
        ({"character_coverage": 0.0}, "received character_coverage=0.0"),
        ({"character_coverage": 1.5}, "received character_coverage=1.5"),
    ],
)
def test_a_wrong_configuration_is_refused(fields, message):
    with pytest.raises(RecipeError) as error:
        text.TokenizerConfig(**fields)
    assert message in str(error.value)
