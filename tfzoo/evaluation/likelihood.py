"""How likely a model finds given targets: loss, perplexity and token accuracy, from any runtime's logits."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np
from absl import logging

from tfzoo.errors import DataError
from tfzoo.runtime.predictor import encode_batch
from tfzoo.text import TokenizerPair

BATCH_SIZE = 64  # examples that are scored together

Logits = Callable[[dict[str, np.ndarray]], np.ndarray]


def likelihood(
    logits: Logits, records: Iterable[tuple[str, str]], tokenizer: TokenizerPair, max_length: int
) -> dict[str, float]:
    """Scores every target token, the end token included, given the source and the tokens before it.

    Args:
        logits: model inputs, (B, T) int32 each -> (B, T, V) float32.
        records: (source, target) texts.
        tokenizer: of both sides.
        max_length: longest target in tokens, the end token included; longer ones are left out and counted in the log.

    Returns: `loss` (nats per token), `perplexity` (its exponential), `token_accuracy` (share of tokens whose logit is
        the highest) and `num_tokens`.

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
    loss, num_correct, num_tokens = 0.0, 0, 0
    for first in range(0, len(short), BATCH_SIZE):
        sources, targets = zip(*short[first : first + BATCH_SIZE], strict=True)
        labels = np.full((len(targets), len(targets[-1])), target.pad_id, np.int32)
        weights = np.zeros(labels.shape, bool)
        for row, ids in enumerate(targets):
            labels[row, : len(ids)] = ids
            weights[row, : len(ids)] = True
        start = np.full((len(targets), 1), target.start_id, np.int32)
        shifted = np.concatenate([start, labels[:, :-1]], axis=1)
        scores = logits(
            {
                "encoder_token_ids": encode_batch(sources, tokenizer, max_length),
                "decoder_token_ids": np.where(weights, shifted, np.int32(target.pad_id)),
            }
        ).astype(np.float64)
        highest = scores.max(axis=-1, keepdims=True)
        normalizer = highest[..., 0] + np.log(np.exp(scores - highest).sum(axis=-1))
        of_label = np.take_along_axis(scores, labels[..., np.newaxis], axis=-1)[..., 0]
        loss += float((normalizer - of_label)[weights].sum())
        num_correct += int((scores.argmax(axis=-1) == labels)[weights].sum())
        num_tokens += int(weights.sum())
    return {
        "loss": loss / num_tokens,
        "perplexity": math.exp(loss / num_tokens),
        "token_accuracy": num_correct / num_tokens,
        "num_tokens": num_tokens,
    }
