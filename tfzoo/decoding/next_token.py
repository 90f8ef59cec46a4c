"""The next token of one sequence, in NumPy: for text that appears while it is generated, by a loop outside of a graph.

The same arithmetic as `generate` and `sampling`, so that the tokens are the same; imports no TensorFlow.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from tfzoo.decoding.config import PRIME, ROUND_CONSTANTS, DecodingConfig


def next_token(
    logits: np.ndarray,
    config: DecodingConfig,
    seen: Collection[int],
    num_generated: int,
    end_id: int,
    never: Collection[int] = (),
) -> int:
    """Chooses greedily, or samples if `temperature` is above 0.

    Args:
        logits: (V,) float32, of the next token.
        config: the options; `num_beams` is not looked at.
        seen: ids in the prompt and generated before.
        num_generated: tokens generated before.
        end_id: which token `min_length` keeps back.
        never: ids that are kept back always, see `never_generated`.
    """
    logits = np.array(logits, np.float32)
    if config.repetition_penalty != 1:
        ids = np.array([*seen], int)
        penalty = np.float32(config.repetition_penalty)
        logits[ids] = np.where(logits[ids] > 0, logits[ids] / penalty, logits[ids] * penalty)
    if num_generated < config.min_length:
        logits[end_id] = -1e9
    logits[[*never]] = -1e9
    if config.temperature == 0:
        return int(logits.argmax())
    return _sample(logits, config, num_generated)


def _sample(logits: np.ndarray, config: DecodingConfig, step: int) -> int:
    """As `tfzoo.decoding.sampling.sample`, one row."""
    order = np.argsort(-logits, kind="stable")
    logits = logits[order] / np.float32(config.temperature)
    if config.top_k:
        logits[config.top_k :] = -1e9
    probs = np.exp(logits - logits[0])
    probs /= probs.sum()
    kept = np.ones(len(probs), bool)
    if config.top_k:
        kept[config.top_k :] = False
    if config.top_p < 1:
        kept &= np.cumsum(probs) - probs < np.float32(config.top_p)
    cumulative = np.cumsum(np.where(kept, probs, 0))
    rank = int((cumulative <= uniform(config.seed, step) * cumulative[-1]).sum())
    return int(order[min(rank, int(kept.sum()) - 1)])


def uniform(*keys: int) -> np.float32:
    """As `tfzoo.decoding.sampling.uniform`, one row."""
    mixed = 0
    for key in keys:
        mixed = (mixed + key) % PRIME
        for constant in ROUND_CONSTANTS:
            mixed = pow((mixed + constant) % PRIME, 5, PRIME)
    return np.float32(mixed) / np.float32(PRIME)
