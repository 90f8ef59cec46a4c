"""Searches over next-token log-probabilities in plain Python, one sentence at a time, in float64.

`next_log_probs(prefix)` gives the log-probabilities of each token after `prefix`, a tuple without the start token.
Every search returns (score, tokens) pairs, best first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

NextLogProbs = Callable[[tuple[int, ...]], Sequence[float]]
Found = list[tuple[float, tuple[int, ...]]]


def penalized(log_prob: float, length: int, length_penalty: float) -> float:
    """Wu et al., 2016, equation 14, without coverage."""
    return log_prob / ((5 + length) ** length_penalty / (5 + 1) ** length_penalty)


def exhaustive(next_log_probs: NextLogProbs, end_id: int, max_length: int, length_penalty: float) -> Found:
    """Every sequence that ends with the end token or has `max_length` tokens."""
    found: Found = []

    def extend(prefix: tuple[int, ...], log_prob: float) -> None:
        for token, each in enumerate(next_log_probs(prefix)):
            sequence, total = (*prefix, token), log_prob + each
            if token == end_id or len(sequence) == max_length:
                found.append((penalized(total, len(sequence), length_penalty), sequence))
            else:
                extend(sequence, total)

    extend((), 0.0)
    return sorted(found, reverse=True)


def beam(next_log_probs: NextLogProbs, end_id: int, max_length: int, num_beams: int, length_penalty: float) -> Found:
    """Of the 2 n best continuations, those among the first n that end are finished; the n best others live on."""
    living: Found = [(0.0, ())]
    finished: Found = []
    while living and len(finished) < num_beams:
        continuations = [
            (total + each, (*prefix, token))
            for total, prefix in living
            for token, each in enumerate(next_log_probs(prefix))
        ]
        continuations = sorted(continuations, reverse=True)[: 2 * num_beams]
        living = []
        for rank, (total, sequence) in enumerate(continuations):
            if sequence[-1] != end_id and len(sequence) < max_length:
                living.append((total, sequence))
            elif rank < num_beams:
                finished.append((penalized(total, len(sequence), length_penalty), sequence))
        living = living[:num_beams]
    return sorted(finished, reverse=True)[:num_beams]


def greedy(next_log_probs: NextLogProbs, end_id: int, max_length: int, length_penalty: float) -> Found:
    """The likeliest token at each place."""
    sequence: tuple[int, ...] = ()
    total = 0.0
    while len(sequence) < max_length and sequence[-1:] != (end_id,):
        log_probs = list(next_log_probs(sequence))
        token = log_probs.index(max(log_probs))
        sequence, total = (*sequence, token), total + log_probs[token]
    return [(penalized(total, len(sequence), length_penalty), sequence)]
