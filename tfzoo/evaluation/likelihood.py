"""How likely a model finds given tokens: loss, perplexity and token accuracy, from any runtime's logits."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from absl import logging

from tfzoo.errors import DataError
from tfzoo.runtime.tasks import encode_sources, padded
from tfzoo.text import TokenizerPair

BATCH_SIZE = 64  # examples that are scored together

Logits = Callable[[dict[str, np.ndarray]], np.ndarray]
Batch = tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]  # inputs, labels, weights


def likelihood(
    logits: Logits, records: Iterable[tuple[str, str]], tokenizer: TokenizerPair, max_length: int
) -> dict[str, float]:
    """Scores every target token, the end token included, given the source and the tokens before it.

    Args:
        logits: model inputs, (B, T) int32 each -> (B, T, V) float32.
        records: (source, target) texts.
        tokenizer: of both sides.
        max_length: longest target in tokens, the end token included; longer ones are left out and counted in the log.

    Returns: as `token_likelihood`.

    Raises:
        DataError: no target is short enough.
    """
    target = tokenizer.target
    examples = [(source, [*target.encode(text), target.end_id]) for source, text in records]
    short = sorted(
        (example for example in examples if len(example[1]) <= max_length), key=lambda example: len(example[1])
    )
    if len(short) < len(examples):
        logging.info("likelihood: %d targets longer than %d tokens left out.", len(examples) - len(short), max_length)
    if not short:
        raise DataError(f"there is no target of at most {max_length} tokens to score.")
    return token_likelihood(logits, _batches(short, tokenizer, max_length))


def _batches(examples: list[tuple[str, list[int]]], tokenizer: TokenizerPair, max_length: int) -> Iterator[Batch]:
    for first in range(0, len(examples), BATCH_SIZE):
        sources, rows = zip(*examples[first : first + BATCH_SIZE], strict=True)
        yield seq2seq_batch(sources, rows, tokenizer, max_length)


def seq2seq_batch(
    sources: Sequence[str], rows: Sequence[Sequence[int]], tokenizer: TokenizerPair, max_length: int
) -> Batch:
    """Returns what scores given targets.

    Args:
        sources: B texts; a longer one than `max_length` tokens loses its tail.
        rows: ids of B targets, the end token included.
        tokenizer: of both sides.
        max_length: longest source in tokens.
    """
    target = tokenizer.target
    labels = padded(rows, target.pad_id)
    weights = padded([[1] * len(row) for row in rows], 0)
    start = np.full((len(rows), 1), target.start_id, np.int32)
    shifted = np.concatenate([start, labels[:, :-1]], axis=1)
    inputs = encode_sources(sources, tokenizer, max_length, weights)
    inputs["decoder_token_ids"] = np.where(weights > 0, shifted, np.int32(target.pad_id))
    return inputs, labels, weights


def label_log_probs(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(N, V) logits and (N,) labels -> (N,) float64 log-probabilities, nats."""
    scores = scores.astype(np.float64)
    highest = scores.max(axis=-1, keepdims=True)
    normalizer = highest[:, 0] + np.log(np.exp(scores - highest).sum(axis=-1))
    return np.take_along_axis(scores, labels[:, np.newaxis], axis=-1)[:, 0] - normalizer


def token_likelihood(logits: Logits, batches: Iterable[Batch]) -> dict[str, float]:
    """Adds up over batches what the model finds of each label that counts.

    Args:
        logits: model inputs, (B, T) int32 each -> (B, T, V) float32.
        batches: inputs, labels (B, T) int32 and weights (B, T); a label counts where its weight is above 0.

    Returns: `loss` (nats per token), `perplexity` (its exponential), `token_accuracy` (share of tokens whose logit is
        the highest) and `num_tokens`.
    """
    loss, num_correct, num_tokens = 0.0, 0, 0
    for inputs, labels, weights in batches:
        counts = weights > 0
        scores = logits(inputs)[counts]  # (N, V)
        labels = labels[counts]
        loss -= float(label_log_probs(scores, labels).sum())
        num_correct += int((scores.argmax(axis=-1) == labels).sum())
        num_tokens += len(labels)
    return {
        "loss": loss / num_tokens,
        "perplexity": math.exp(loss / num_tokens),
        "token_accuracy": num_correct / num_tokens,
        "num_tokens": num_tokens,
    }
