"""Every step of the cleaning, on what it changes and what it leaves alone."""

import random

import pytest

from tfzoo.data import clean, cleaning
from tfzoo.data.config import CLEANING, CausalLmDataConfig
from tfzoo.errors import RecipeError


@pytest.mark.parametrize(
    ("step", "document", "expected"),
    [
        ("nfkc", "ﬁne ① e\u0301 ｆｕｌｌ a\u00a0b\n\tx", "fine 1 \u00e9 full a b\n\tx"),
        ("whitespace", " \n a \t b  \n\n \n\n\nc\t\nd\u00a0 e\n\nf  ", "a b\n\nc\nd\u00a0 e\n\nf"),
        ("whitespace", "a\nb\n\nc\n\n\nd\n \n \n \ne", "a\nb\n\nc\n\nd\n\ne"),
        (
            "control_characters",
            "\ufeffa\x00b\x1bc\x7fd\x85e\r\n\tf\u200bg\ud83d \U0001f600",
            "abcde\n\tf\u200bg\ufffd \U0001f600",
        ),
    ],
)
def test_a_step_changes_this(step, document, expected):
    assert list(clean([document], [step])) == [expected]
    assert list(clean([expected], [step])) == [expected]


def test_no_step_changes_nothing_but_empty_documents():
    assert list(clean([" a\x00\n\n\n", "", "b", "b"], [])) == [" a\x00\n\n\n", "b", "b"]


def test_steps_are_applied_in_their_order():
    documents = ["a  b", "a b", "a\u00a0b"]
    assert list(clean(documents, ["whitespace", "exact_duplicates", "nfkc"])) == ["a b", "a b"]
    assert list(clean(documents, ["nfkc", "whitespace", "exact_duplicates"])) == ["a b"]
    assert list(clean(documents, ["exact_duplicates", "nfkc"])) == ["a  b", "a b", "a b"]


def test_exact_duplicates_are_exact_and_the_first_is_kept():
    documents = ["a", "b", "A", "a", "a ", "b", "\ud800", "\ud800"]
    assert list(clean(documents, ["exact_duplicates"])) == ["a", "b", "A", "a ", "\ud800"]


def _words(seed, count):
    generator = random.Random(seed)
    return [f"{generator.choice('abcdefgh')}{generator.randint(0, 999)}" for _ in range(count)]


def _with_tail(words, count, seed):
    """The words, the last `count` of which are others: (n - c) of n + c shingles are shared, n = len(words) - 4."""
    return " ".join([*words[:-count], *_words(seed, count)])


@pytest.mark.parametrize(
    ("num_changed", "is_duplicate"),
    [(0, True), (2, True), (10, True), (40, False), (100, False), (203, False)],  # similarity 1, .98, .9, .67, .33, 0
)
def test_near_duplicates_go_by_the_similarity_of_their_shingles(num_changed, is_duplicate):
    for seed in range(20):
        words = _words(seed, 204)  # 200 shingles
        other = _with_tail(words, num_changed, 1000 + seed) if num_changed else "\n".join(words).upper()
        documents = [" ".join(words), other]
        assert len(list(clean(documents, ["near_duplicates"]))) == (1 if is_duplicate else 2)


def test_the_estimated_similarity_is_that_of_the_shingles():
    ours, theirs = _words(1, 204), _words(2, 204)
    # 100 words in common at the beginning: 96 shingles of 400 - 96.
    theirs[:100] = ours[:100]
    first, second = (cleaning._signature(cleaning._shingles(" ".join(words))) for words in (ours, theirs))
    assert (first == second).mean() == pytest.approx(96 / 304, abs=0.1)
    assert len(cleaning._shingles(" ".join(ours))) == 200
    # More shingles than are computed at once give the least values of all parts.
    many = _words(3, 10_000)
    halves = [cleaning._signature(cleaning._shingles(" ".join(part))) for part in (many[:5004], many[5000:])]
    assert (cleaning._signature(cleaning._shingles(" ".join(many))) == halves[0]).mean() == pytest.approx(0.5, abs=0.15)
    expected = [min(pair) for pair in zip(*halves, strict=True)]
    assert cleaning._signature(cleaning._shingles(" ".join(many))).tolist() == expected


def test_a_signature_is_the_same_on_every_machine():
    signature = cleaning._signature(cleaning._shingles("the quick brown fox jumps over"))
    assert signature[:2].tolist() == [439703121, 1850833470]


def test_short_documents_are_near_when_their_words_are_the_same():
    documents = ["one two", "One  two", "one two three", "two one", "one", " \n", "\t", "one two three four five six"]
    kept = ["one two", "one two three", "two one", "one", " \n", "one two three four five six"]
    assert list(clean(documents, ["near_duplicates"])) == kept


def test_documents_that_are_far_are_all_kept():
    documents = [" ".join(_words(seed, 60)) for seed in range(300)]
    assert list(clean(documents, ["near_duplicates"])) == documents


def test_what_each_step_did_is_logged_once(monkeypatch):
    lines = []
    monkeypatch.setattr(cleaning.logging, "info", lambda line, *values: lines.append(line % values))
    documents = ["ﬁ  x", "ﬁ  x", "\x00", "b  c ", "", "d"]
    cleaned = clean(documents, ["control_characters", "nfkc", "exact_duplicates", "whitespace"])
    assert next(cleaned) == "fi x"
    assert not lines
    assert list(cleaned) == ["b c", "d"]
    assert list(clean(documents, [])) == [one for one in documents if one]
    assert lines == [
        "cleaning kept 3 of 6 documents: control_characters changed 1 documents by -1 characters; nfkc changed 2 "
        "documents by +2 characters; exact_duplicates dropped 1 documents; whitespace changed 2 documents by -3 "
        "characters; 2 empty."
    ]


def test_an_unknown_step_is_refused_at_once():
    with pytest.raises(RecipeError, match=r"`cleaning` holds 'whitespaces'; there are nfkc, .* mean 'whitespace'\?"):
        clean([], ["whitespaces"])
    with pytest.raises(RecipeError, match=r"`cleaning` holds 'exact'"):
        CausalLmDataConfig(cleaning=("nfkc", "exact"))


def test_every_name_of_the_config_is_a_step():
    assert tuple(cleaning._STEPS) == CLEANING
    assert list(clean(["a", "a"], CLEANING)) == ["a"]
    assert CausalLmDataConfig(cleaning=CLEANING).cleaning == CLEANING


def test_a_pair_is_cleaned_text_by_text_and_dropped_as_a_whole():
    pairs = [("a ", "b"), ("a", " b"), ("a", " "), ("a\x1fb", "c"), ("a", "c")]
    assert list(cleaning.clean_records(pairs, ["whitespace", "exact_duplicates"])) == [
        ("a", "b"),
        ("a\x1fb", "c"),
        ("a", "c"),
    ]
