"""The likelihood of given targets, against sums written out by hand."""

import math

import numpy as np
import pytest

from tfzoo.errors import DataError
from tfzoo.evaluation import likelihood as module
from tfzoo.evaluation.likelihood import likelihood
from tfzoo.text import SymbolTokenizer, pair

# Ids: <pad> 0, <unk> 1, <s> 2, </s> 3, a 4, b 5, c 6.
LETTERS = pair(SymbolTokenizer("abc", ""))
V, MAX_LENGTH = 7, 5
RECORDS = [("ab", "c"), ("cab", "abca"), ("a", ""), ("bb", "bx")]
# The labels of the records above: each target with its end token; x is unknown.
LABELS = [[6, 3], [4, 5, 6, 4, 3], [3], [5, 1, 3]]


def logits(inputs):
    """Favours by 2.0 the id after the token just read, and by the source's length in tokens the end token."""
    source, decoder = inputs["encoder_token_ids"], inputs["decoder_token_ids"]
    scores = np.zeros((*decoder.shape, V), np.float32)
    np.put_along_axis(scores, (decoder[..., None] + 1) % V, 2.0, axis=-1)
    scores[..., 3] += (source != 0).sum(axis=1, keepdims=True)
    return scores


def by_hand():
    """One example at a time, without batch, padding or shortcut: nats of each token, and whether it comes first."""
    nats, hits = [], []
    for (source, _), labels in zip(RECORDS, LABELS, strict=True):
        for before, label in zip([2, *labels[:-1]], labels, strict=True):
            scores = [2.0 * (token_id == (before + 1) % V) for token_id in range(V)]
            scores[3] += len(source) + 1
            nats.append(math.log(sum(map(math.exp, scores))) - scores[label])
            hits.append(label == max(range(V), key=scores.__getitem__))
    return nats, hits


def test_equals_sums_by_hand():
    nats, hits = by_hand()
    found = likelihood(logits, RECORDS, LETTERS, MAX_LENGTH)
    assert found == {
        "loss": pytest.approx(sum(nats) / 11, rel=1e-6),
        "perplexity": pytest.approx(math.exp(sum(nats) / 11), rel=1e-6),
        "token_accuracy": pytest.approx(sum(hits) / 11),
        "num_tokens": 11,
    }
    assert len(nats) == 11
    assert 0 < sum(hits) < 11


def test_every_token_counts_the_same_and_the_end_token_is_one():
    (one,) = (likelihood(logits, [record], LETTERS, MAX_LENGTH) for record in [("a", "")])
    assert one["num_tokens"] == 1
    # After <s> the end token has 2.0 for its place and 2 for two source tokens; the six others have nothing.
    assert one["loss"] == pytest.approx(math.log(math.exp(4) + 6) - 4, rel=1e-6)
    five = likelihood(logits, [RECORDS[1]], LETTERS, MAX_LENGTH)
    both = likelihood(logits, [RECORDS[1], ("a", "")], LETTERS, MAX_LENGTH)
    assert five["num_tokens"] == 5
    assert both["loss"] == pytest.approx((5 * five["loss"] + one["loss"]) / 6)
    assert abs(both["loss"] - (five["loss"] + one["loss"]) / 2) > 0.1  # not a mean of means


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_batches_change_nothing(monkeypatch, batch_size):
    whole = likelihood(logits, RECORDS, LETTERS, MAX_LENGTH)
    monkeypatch.setattr(module, "BATCH_SIZE", batch_size)
    shapes = []

    def watched(inputs):
        shapes.append(inputs["decoder_token_ids"].shape)
        return logits(inputs)

    assert likelihood(watched, RECORDS, LETTERS, MAX_LENGTH) == pytest.approx(whole)
    assert [rows for rows, _ in shapes] == [batch_size] * (4 // batch_size) + [4 % batch_size] * (4 % batch_size > 0)


def test_padding_is_ignored():
    def wrong_at_padding(inputs):
        scores = logits(inputs)
        scores[inputs["decoder_token_ids"] == 0] = np.nan
        return scores

    with np.errstate(invalid="ignore"):
        found = likelihood(wrong_at_padding, RECORDS, LETTERS, MAX_LENGTH)
    assert found == pytest.approx(likelihood(logits, RECORDS, LETTERS, MAX_LENGTH))


def test_inputs_are_those_of_training():
    seen = []
    likelihood(lambda inputs: seen.append(inputs) or logits(inputs), RECORDS, LETTERS, MAX_LENGTH)
    (inputs,) = seen
    # By the length of the target: "", "c", "bx", "abca".
    assert inputs["encoder_token_ids"].tolist() == [[4, 3, 0, 0], [4, 5, 3, 0], [5, 5, 3, 0], [6, 4, 5, 3]]
    assert inputs["decoder_token_ids"].tolist() == [[2, 0, 0, 0, 0], [2, 6, 0, 0, 0], [2, 5, 1, 0, 0], [2, 4, 5, 6, 4]]
    assert {value.dtype for value in inputs.values()} == {np.dtype("int32")}


def test_large_logits_do_not_overflow():
    found = likelihood(lambda inputs: 1000 * logits(inputs), [("a", "")], LETTERS, MAX_LENGTH)
    assert found["loss"] == 0.0


def test_targets_too_long_are_left_out():
    long = ("a", "abcab")
    assert likelihood(logits, [*RECORDS, long], LETTERS, MAX_LENGTH) == likelihood(logits, RECORDS, LETTERS, MAX_LENGTH)
    with pytest.raises(DataError, match="there is no target of at most 5 tokens to score"):
        likelihood(logits, [long], LETTERS, MAX_LENGTH)
