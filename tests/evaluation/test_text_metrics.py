"""Scores against hand-computed values, brute force, and sacreBLEU's own functions."""

import functools
import random
import sys

import pytest
import sacrebleu

from tfzoo.errors import DataError, RecipeError, UsageError
from tfzoo.evaluation import text_metrics
from tfzoo.evaluation.config import METRICS, EvaluationConfig

OUTPUTS = ["the cat sat on the mat today", "dogs run very fast in the park", "hello there my old friend"]
REFERENCES = [
    ["the cat sat on a mat today", "a cat was sitting on the mat"],
    ["dogs run fast in the park"],
    ["hello my old friend", "hi there my old friend", "hello there my dear friend"],
]


def recursive_distance(a, b):
    """The definition, written as a recursion over prefixes."""

    @functools.cache
    def distance(i, j):
        if i == 0 or j == 0:
            return i + j
        if a[i - 1] == b[j - 1]:
            return distance(i - 1, j - 1)
        return 1 + min(distance(i - 1, j - 1), distance(i - 1, j), distance(i, j - 1))

    return distance(len(a), len(b))


@pytest.mark.parametrize(
    ("a", "b", "distance"),
    [("", "", 0), ("", "abc", 3), ("abc", "", 3), ("kitten", "sitting", 3), ("flaw", "lawn", 2), ("abc", "abc", 0)],
)
def test_edit_distance_of_known_words(a, b, distance):
    assert text_metrics.edit_distance(a, b) == distance


def test_edit_distance_equals_the_recursion():
    generator = random.Random(7)
    for _ in range(300):
        a, b = ("".join(generator.choices("xyz", k=generator.randrange(9))) for _ in range(2))
        assert text_metrics.edit_distance(a, b) == recursive_distance(a, b), (a, b)


def test_token_error_rate_by_hand():
    # 1 substitution of 3 tokens, then 1 deletion and 1 insertion of 4 tokens: 3 errors in 7 tokens.
    outputs = ["K AE T", "B D EY Z"]
    references = [["K AH T"], ["B IH D EY"]]
    assert text_metrics.score(["token_error_rate"], outputs, references) == {"token_error_rate": 3 / 7}


def test_token_error_rate_is_over_the_corpus_and_can_exceed_one():
    assert text_metrics.token_error_rate(["a b c", "d"], [["x"], ["d"]]) == {"token_error_rate": 3 / 2}


def test_the_closest_reference_counts_and_the_longest_breaks_a_tie():
    assert text_metrics.token_error_rate(["R EH D"], [["R IY D", "R EH D"]]) == {"token_error_rate": 0.0}
    # Both references are one edit away; the longer one has 3 tokens.
    assert text_metrics.token_error_rate(["a b"], [["a", "a b c"]]) == {"token_error_rate": 1 / 3}


def test_word_error_rate_by_hand():
    outputs = ["K AE T", "R EH D ", "D AO G"]
    references = [["K AH T"], ["R IY D", "R EH  D"], ["D AO G"]]
    assert text_metrics.word_error_rate(outputs, references) == {"word_error_rate": 1 / 3}


def test_exact_match_sees_inner_spaces_but_not_outer_ones():
    outputs = ["yes", " no ", "may be", "No"]
    references = [["yes"], ["maybe", "no"], ["may  be"], ["no"]]
    assert text_metrics.exact_match(outputs, references) == {"exact_match": 2 / 4}


def test_bleu_and_chrf_with_one_reference_equal_sacrebleu():
    references = [alternatives[:1] for alternatives in REFERENCES]
    stream = [alternatives[0] for alternatives in REFERENCES]
    scores = text_metrics.score(["bleu", "chrf"], OUTPUTS, references)
    assert scores["bleu"] == sacrebleu.corpus_bleu(OUTPUTS, [stream]).score
    assert scores["chrf"] == sacrebleu.corpus_chrf(OUTPUTS, [stream]).score
    assert 20 < scores["bleu"] < 80
    assert scores["bleu_signature"].startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.")
    assert scores["chrf_signature"].startswith("nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:2.")


def test_bleu_and_chrf_with_different_numbers_of_references_equal_sacrebleu():
    streams = [
        [REFERENCES[0][0], REFERENCES[1][0], REFERENCES[2][0]],
        [REFERENCES[0][1], None, REFERENCES[2][1]],
        [None, None, REFERENCES[2][2]],
    ]
    scores = text_metrics.score(["bleu", "chrf"], OUTPUTS, REFERENCES)
    assert scores["bleu"] == sacrebleu.corpus_bleu(OUTPUTS, streams).score
    assert scores["chrf"] == sacrebleu.corpus_chrf(OUTPUTS, streams).score
    assert scores["bleu_signature"].startswith("nrefs:var|")


def test_more_references_help_bleu():
    one = text_metrics.bleu(OUTPUTS, [alternatives[:1] for alternatives in REFERENCES])["bleu"]
    assert text_metrics.bleu(OUTPUTS, REFERENCES)["bleu"] > one


def test_bleu_of_one_sentence_by_hand():
    # 5 tokens, matches: 4 of 5 unigrams, 3 of 4 bigrams, 2 of 3 trigrams, 1 of 2 4-grams; no brevity penalty.
    value = text_metrics.bleu(["a b c d e"], [["a b c d f"]])["bleu"]
    assert value == pytest.approx(100 * (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25, abs=1e-9)


def test_perfect_outputs():
    scores = text_metrics.score(METRICS, OUTPUTS, [[output] for output in OUTPUTS])
    values = {name: value for name, value in scores.items() if not name.endswith("_signature")}
    assert values == {
        "bleu": pytest.approx(100),
        "chrf": pytest.approx(100),
        "ter": 0.0,
        **dict.fromkeys(("rouge_1", "rouge_2", "rouge_l"), pytest.approx(100)),
        "exact_match": 1.0,
        "token_error_rate": 0.0,
        "word_error_rate": 0.0,
    }


def test_every_metric_of_the_config_is_computed_under_its_name():
    for name in METRICS:
        names = {"rouge_1", "rouge_2", "rouge_l"} if name == "rouge" else {name}
        assert set(text_metrics.score([name], OUTPUTS, REFERENCES)) - {f"{name}_signature"} == names


def test_ter_equals_sacrebleu_and_a_moved_phrase_is_one_edit():
    references = [alternatives[:1] for alternatives in REFERENCES]
    scores = text_metrics.score(["ter"], OUTPUTS, references)
    assert scores["ter"] == sacrebleu.corpus_ter(OUTPUTS, [[one for (one,) in references]]).score
    assert scores["ter_signature"].startswith("nrefs:1|case:lc|tok:tercom|norm:no|punct:yes|asian:no|version:")
    assert text_metrics.ter(["c d e a b"], [["a b c d e"]])["ter"] == pytest.approx(100 / 5)
    assert text_metrics.ter(["a x x"], [["a"]])["ter"] == pytest.approx(200)


def test_rouge_by_hand():
    # 3 of 4 words and 1 of 3 bigrams of the output are among the 5 words and 4 bigrams of the reference; the longest
    # common subsequence is "the sat mat".
    scores = text_metrics.rouge(["the cats sat mat"], [["the cat sat on mat"]])
    assert scores == {
        "rouge_1": pytest.approx(100 * 2 * 3 / (4 + 5)),
        "rouge_2": 0.0,
        "rouge_l": pytest.approx(100 * 2 * 3 / (4 + 5)),
    }
    two = text_metrics.rouge(["a b c", "x"], [["c b a", "a b d"], ["y"]])
    assert two["rouge_1"] == pytest.approx(100 / 2)  # the best reference of the first, nothing of the second
    assert two["rouge_2"] == pytest.approx(100 / 2 * 2 * 1 / (2 + 2))
    assert two["rouge_l"] == pytest.approx(100 / 2 * 2 * 2 / (3 + 3))


def test_words_of_chinese_are_its_characters():
    output, reference = "我 喜欢你。", [["我喜欢他。"]]
    by_character = sacrebleu.corpus_bleu([output], [["我喜欢他。"]], tokenize="zh")
    scores = text_metrics.score(["bleu"], [output], reference, tokenizer="zh")
    assert scores["bleu"] == by_character.score > 20
    assert "|tok:zh|" in scores["bleu_signature"]
    assert text_metrics.score(["bleu"], [output], reference)["bleu"] == 0
    ter = text_metrics.score(["ter"], [output], reference, tokenizer="zh")
    assert ter["ter"] == pytest.approx(100 / 5)
    assert "|norm:yes|punct:yes|asian:yes|" in ter["ter_signature"]
    assert text_metrics.rouge([output], reference, "zh")["rouge_1"] == pytest.approx(100 * 4 / 5)
    assert text_metrics.rouge(["Über!"], [["über"]], "intl")["rouge_1"] == pytest.approx(100 * 2 / 3)


def test_rouge_without_its_package_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "rouge_score.rouge_scorer", None)
    with pytest.raises(UsageError, match=r"needs the package rouge-score: pip install 'tfzoo\[rouge\]'"):
        text_metrics.rouge(OUTPUTS, REFERENCES)


def test_unknown_tokenizer_is_refused():
    with pytest.raises(
        RecipeError, match=r"`tokenizer` must be one of 13a, .*; received tokenizer='zhh'\. Did you mean"
    ):
        text_metrics.score(["bleu"], OUTPUTS, REFERENCES, tokenizer="zhh")


@pytest.mark.parametrize(
    ("outputs", "references", "message"),
    [
        ([], [], "nothing to score"),
        (["a"], [["a"], ["b"]], "received 1 outputs and references for 2"),
        (["a", "b"], [["a"], []], "received none for output 1, 'b'"),
        (["a"], ["a"], "list of texts per output; received 'a'"),
        (["a"], [[" "]], "needs reference tokens"),
    ],
)
def test_bad_corpora_are_refused(outputs, references, message):
    with pytest.raises(DataError, match=message):
        text_metrics.score(["token_error_rate"], outputs, references)


def test_unknown_metric_is_refused_with_the_nearest():
    with pytest.raises(RecipeError, match=r"received 'blue'\. Did you mean 'bleu'\?"):
        text_metrics.score(["blue"], OUTPUTS, REFERENCES)
    with pytest.raises(RecipeError, match=r"received 'chrff'\. Did you mean 'chrf'\?"):
        EvaluationConfig(metrics=("chrff",))


def test_repeated_metric_is_refused():
    with pytest.raises(RecipeError, match="must not repeat a name; received metrics=bleu,bleu"):
        EvaluationConfig(metrics=("bleu", "bleu"))
