"""GPT-2's forward in NumPy, from the papers alone (Radford et al., 2018, section 3.1, and 2019, section 2.3).

One row at a time, its padding cut off, one head at a time, in float64. There are no masks and there is no cache:
nothing here could share a mistake with `tfzoo.models.gpt2`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def logits(config: Any, weights: Mapping[str, np.ndarray], inputs: Mapping[str, np.ndarray]) -> np.ndarray:
    """Scores every next token.

    Args:
        config: the model's sizes, as `GPT2Config` names them.
        weights: variable path below the model's name -> value.
        inputs: `token_ids` (B, T), `padding_mask` (B, T), real tokens first.

    Returns: (B, T, V) float64; NaN where the token is padding.
    """
    weights = {path: np.asarray(value, np.float64) for path, value in weights.items()}
    token_ids = np.asarray(inputs["token_ids"])
    result = np.full((*token_ids.shape, len(weights["embedding/table"])), np.nan)
    for row, length in enumerate(np.asarray(inputs["padding_mask"]).sum(axis=1)):
        result[row, :length] = _text(config, weights, token_ids[row, :length])
    return result


def _text(config: Any, weights: Mapping[str, np.ndarray], ids: np.ndarray) -> np.ndarray:
    x = np.array([weights["embedding/table"][token] for token in ids])
    x += weights["positions/table"][: len(ids)]
    for i in range(config.num_layers):
        block = _below(weights, f"block_{i}")
        normal = _normalize(config, _below(block, "self_residual/normalization"), x)
        x = x + _attend(config, _below(block, "self_attention"), normal)
        normal = _normalize(config, _below(block, "feed_forward_residual/normalization"), x)
        feed_forward = _below(block, "feed_forward")
        inner = _gelu(_dense(_below(feed_forward, "intermediate"), normal))
        x = x + _dense(_below(feed_forward, "output"), inner)
    return _normalize(config, _below(weights, "normalization"), x) @ weights["embedding/table"].T


def _attend(config: Any, weights: Mapping[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """Each head attends with its own columns of the projections; a token sees itself and those before it."""
    query, key, value = (_dense(_below(weights, part), x) for part in ("query", "key", "value"))
    width = config.hidden_dim // config.num_heads
    result = np.zeros_like(query)
    for head in range(config.num_heads):
        columns = slice(head * width, (head + 1) * width)
        for t in range(len(x)):
            scores = key[: t + 1, columns] @ query[t, columns] / np.sqrt(width)
            share = np.exp(scores - scores.max())
            result[t, columns] = share / share.sum() @ value[: t + 1, columns]
    return _dense(_below(weights, "output"), result)


def _gelu(x: np.ndarray) -> np.ndarray:
    """0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x ** 3))) (Hendrycks & Gimpel, 2016, section 2)."""
    return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x * x * x)))


def _dense(weights: Mapping[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    return x @ weights["kernel"] + weights["bias"]


def _normalize(config: Any, weights: Mapping[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    mean, deviation = x.mean(-1, keepdims=True), np.sqrt(x.var(-1, keepdims=True) + config.layer_norm_epsilon)
    return (x - mean) / deviation * weights["gamma"] + weights["beta"]


def _below(weights: Mapping[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    return {path.removeprefix(name + "/"): value for path, value in weights.items() if path.startswith(name + "/")}
