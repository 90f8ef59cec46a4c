"""Forced decoding, against sums by hand and against the likelihood of the whole corpus."""

import math

import numpy as np
import pytest

from tests.evaluation.test_likelihood import LETTERS, MAX_LENGTH, RECORDS, V, logits
from tfzoo.evaluation import forced
from tfzoo.evaluation.forced import score_targets
from tfzoo.evaluation.likelihood import likelihood
from tfzoo.text import SymbolTokenizer, TokenizerPair


def score(records, **changes):
    return [*score_targets(logits, records, LETTERS, **{"max_length": MAX_LENGTH, "task": "seq2seq", **changes})]


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_pairs_add_up_to_the_corpus(monkeypatch, batch_size):
    monkeypatch.setattr(forced, "BATCH_SIZE", batch_size)
    found = score(RECORDS)
    assert [(one["source"], one["target"]) for one in found] == RECORDS
    assert [one["num_tokens"] for one in found] == [2, 5, 1, 3]
    for record, one in zip(RECORDS, found, strict=True):
        alone = likelihood(logits, [record], LETTERS, MAX_LENGTH)
        assert one["log_prob"] == pytest.approx(-alone["loss"] * alone["num_tokens"], rel=1e-6)
        assert one["perplexity"] == pytest.approx(alone["perplexity"], rel=1e-6)
    whole = likelihood(logits, RECORDS, LETTERS, MAX_LENGTH)
    assert -sum(one["log_prob"] for one in found) / 11 == pytest.approx(whole["loss"], rel=1e-6)


def test_what_is_too_long_has_no_score():
    long, short = score([("a", "abcab"), ("a", "abca")])
    assert (long["num_tokens"], long["log_prob"], long["perplexity"]) == (6, None, None)
    assert short["log_prob"] < 0
    assert score([("a", "abcab")]) == [long]
    assert score([]) == []


def test_an_impossible_target_has_a_finite_perplexity():
    (one,) = score_targets(
        lambda inputs: 1e6 * logits(inputs), [("a", "c")], LETTERS, max_length=MAX_LENGTH, task="seq2seq"
    )
    assert one["log_prob"] < -1e5
    assert math.isfinite(one["perplexity"])


def causal_logits(inputs):
    """Favours by 2.0 the id after the token just read; NaN where there is none."""
    token_ids = inputs["token_ids"]
    scores = np.zeros((*token_ids.shape, V), np.float32)
    np.put_along_axis(scores, (token_ids[..., None] + 1) % V, 2.0, axis=-1)
    scores[inputs["padding_mask"] == 0] = np.nan
    return scores


def test_an_answer_is_scored_behind_its_prompt():
    one = SymbolTokenizer("abc", "")
    pair = TokenizerPair(one, one, prompt_suffix="a")
    records = [("c", "bc"), ("ab", ""), ("", "b"), ("abcab", "c")]
    found = [*score_targets(causal_logits, records, pair, max_length=6, task="causal_lm")]
    yes, no = (math.log(math.exp(2) + 6) - 2, math.log(math.exp(2) + 6))
    # behind "ca": b follows a, c follows b, and the end does not follow c
    assert found[0]["log_prob"] == pytest.approx(-(yes + yes + no), rel=1e-6)
    assert found[0]["num_tokens"] == 3
    assert found[1]["log_prob"] == pytest.approx(-no, rel=1e-6)
    assert found[2]["log_prob"] == pytest.approx(-(yes + no), rel=1e-6)
    assert found[3]["log_prob"] is None  # 6 tokens of prompt, and 2 of answer, of which the last is not read
    (fits,) = score_targets(causal_logits, records[3:], pair, max_length=7, task="causal_lm")
    assert fits["log_prob"] == pytest.approx(-2 * no, rel=1e-6)


def test_an_empty_prompt_is_an_end_token():
    one = SymbolTokenizer("abc", "")
    seen = []

    def watched(inputs):
        seen.append(inputs["token_ids"].tolist())
        return causal_logits(inputs)

    [*score_targets(watched, [("", "b")], TokenizerPair(one, one), max_length=9, task="causal_lm")]
    assert seen == [[[3, 5]]]
