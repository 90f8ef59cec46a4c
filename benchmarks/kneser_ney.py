"""The n-gram that a neural language model has to beat: interpolated modified Kneser-Ney.

Chen and Goodman (1999, "An empirical study of smoothing techniques for language modeling", sec. 3), with the choices of
KenLM's `lmplz` (Heafield et al., 2013), to which `compare` of `benchmarks/perplexity.py` holds it: three
discounts for each order, from its counts of counts; nothing is pruned; below the unigrams lies the uniform distribution
over the vocabulary, so that a token that training never saw has a probability, too. A document begins with a start
symbol that is no token of the vocabulary, and no context reaches across it. The end token is an ordinary token.

N-grams are numbered as they occur in the stream, training and scored documents together, and an n-gram is a pair of its
shorter one's number and its last token: all counts are NumPy's, and half a million tokens take a second.
"""

from __future__ import annotations

import dataclasses

import numpy as np

# Discounts of counts from 0 to 3, for an order whose counts of counts give none: few tokens, such as letters, all
# follow upon many others. Those of `lmplz --discount_fallback`.
FALLBACK = (0.0, 0.5, 1.0, 1.5)


@dataclasses.dataclass(frozen=True)
class Stream:
    """Documents one behind the other, each with its end token.

    Args:
        token_ids: (M,) int, each below the size of the vocabulary.
        is_first: (M,) bool, True = a document begins here.
    """

    token_ids: np.ndarray
    is_first: np.ndarray


def log_probs(train: Stream, scored: Stream, *, vocabulary_size: int, order: int) -> np.ndarray:
    """Estimates on `train` and scores every token of `scored` behind up to `order` - 1 others of its document.

    Args:
        train: what is counted.
        scored: what is scored.
        vocabulary_size: V.
        order: longest n-gram, in tokens.

    Returns: (M,) float64 for the M tokens of `scored`, in nats.
    """
    token_ids = np.concatenate([train.token_ids, scored.token_ids]).astype(np.int64)
    is_first = np.concatenate([train.is_first, scored.is_first])
    is_counted = np.arange(len(token_ids)) < len(train.token_ids)
    contexts, ngrams = _numbers(token_ids, is_first, vocabulary_size, order)
    probs = np.full(len(token_ids), 1 / vocabulary_size)
    position = np.arange(len(token_ids))
    num_before = position - np.maximum.accumulate(np.where(is_first, position, 0))
    for n in range(1, order + 1):
        ngram, context = ngrams[n - 1], contexts[n - 1]
        counted = is_counted & (ngram >= 0)
        # What no token can stand in front of is counted as it occurs; everything else by the tokens in front of it.
        as_it_occurs = counted if n == order else counted & (num_before + 2 == n)
        counts = np.bincount(ngram[as_it_occurs], minlength=ngram.max() + 1)
        if n < order:
            longer = np.where(is_counted, ngrams[n], -1)
            _, places = np.unique(longer, return_index=True)
            places = places[longer[places] >= 0]
            counts += np.bincount(ngram[places], minlength=len(counts))
        discounts = _discounts(counts)[np.minimum(counts, 3)]
        kinds, places = np.unique(np.where(counted, ngram, -1), return_index=True)
        kinds, places = kinds[kinds >= 0], places[kinds >= 0]
        totals = np.bincount(context[places], counts[kinds], context.max() + 1)
        withheld = np.bincount(context[places], discounts[kinds], context.max() + 1)
        seen = np.flatnonzero((context >= 0) & (totals[context] > 0))
        behind, kind = context[seen], ngram[seen]
        kept = counts[kind] - discounts[kind]
        probs[seen] = (kept + withheld[behind] * probs[seen]) / totals[behind]
    return np.log(probs[len(train.token_ids) :])


def _numbers(
    token_ids: np.ndarray, is_first: np.ndarray, vocabulary_size: int, order: int
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Numbers contexts and n-grams of each length.

    Returns: for n = 1 to `order`, (M,) the number of the n - 1 tokens before each token, and (M,) that of these with
        the token itself; -1 where the document has not that many. The start symbol is a token like any other here.
    """
    start_symbol = vocabulary_size
    contexts, ngrams = [np.zeros_like(token_ids)], [token_ids]
    for n in range(2, order + 1):
        context = np.where(is_first, start_symbol if n == 2 else -1, np.roll(ngrams[-1], 1))
        pairs = np.where(context >= 0, context * vocabulary_size + token_ids, -1)
        _, ngram = np.unique(np.append(pairs, -1), return_inverse=True)  # the -1 has number 0
        contexts.append(context)
        ngrams.append(ngram[:-1] - 1)
    return contexts, ngrams


def _discounts(counts: np.ndarray) -> np.ndarray:
    """Returns what is taken from counts of 0, 1, 2 and at least 3 (Chen and Goodman, 1999, eq. 17)."""
    once, twice, thrice, four_times = (int((counts == count).sum()) for count in (1, 2, 3, 4))
    if once and twice and thrice:
        share = once / (once + 2 * twice)
        taken = [1 - 2 * share * twice / once, 2 - 3 * share * thrice / twice, 3 - 4 * share * four_times / thrice]
        if min(taken) >= 0:
            return np.array([0, *taken])
    return np.array(FALLBACK)
