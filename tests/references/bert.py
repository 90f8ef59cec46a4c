"""BERT's forward in NumPy, from the papers alone (Devlin et al., 2019, sections 3 and 4; Vaswani et al., 2017).

One row at a time, its padding cut off, one head at a time, in float64. There are no masks: nothing here could share a
mistake with `tfzoo.models.bert`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np


def logits(config: Any, weights: Mapping[str, np.ndarray], inputs: Mapping[str, np.ndarray]) -> Any:
    """Computes what the head of the model's task gives.

    Args:
        config: the model's sizes and its task, as `BertConfig` names them.
        weights: variable path below the model's name -> value.
        inputs: `token_ids`, `padding_mask` and `segment_ids`, (B, T) each, real tokens first; and perhaps
            `mask_positions` (B, M).

    Returns: float64, in the shape that the model's docstring states; NaN where a value belongs to padding.
    """
    weights = {path: np.asarray(value, np.float64) for path, value in weights.items()}
    lengths = np.asarray(inputs["padding_mask"]).sum(axis=1)
    rows = [
        hidden_states(config, weights, np.asarray(ids)[:length], np.asarray(segments)[:length])
        for ids, segments, length in zip(inputs["token_ids"], inputs["segment_ids"], lengths, strict=True)
    ]
    padded = np.full((len(rows), np.shape(inputs["token_ids"])[1], config.hidden_dim), np.nan)
    for row, states in zip(padded, rows, strict=True):
        row[: len(states)] = states
    if config.task == "text_classification":
        return _dense(_below(weights, "text_classification"), _pooled(weights, rows))
    if config.task == "token_classification":
        return _dense(_below(weights, "token_classification"), padded)
    if config.task == "question_answering":
        starts_and_ends = _dense(_below(weights, "question_answering"), padded)
        return np.stack([starts_and_ends[..., 0], starts_and_ends[..., 1]], axis=1)
    if config.task == "text_embedding":
        means = np.stack([states.mean(axis=0) for states in rows])
        return np.stack([mean / math.sqrt(mean @ mean) for mean in means])
    if "mask_positions" in inputs:
        padded = np.stack([row[places] for row, places in zip(padded, inputs["mask_positions"], strict=True)])
    guess = _gelu(_dense(_below(weights, "masked_lm_dense"), padded))
    guess = _normalize(config, _below(weights, "masked_lm_normalization"), guess)
    tokens = guess @ weights["embedding/table"].T + weights["masked_lm_bias"]
    if not config.next_sentence:
        return tokens
    follows = _dense(_below(weights, "next_sentence"), _pooled(weights, rows))
    return {"logits": tokens, "next_sentence_logits": follows}


def hidden_states(config: Any, weights: Mapping[str, np.ndarray], ids: np.ndarray, segments: np.ndarray) -> np.ndarray:
    """Returns (T, D), the last hidden states of one row without padding."""
    x = np.array([weights["embedding/table"][token] for token in ids])
    x += weights["positions/table"][: len(ids)]
    x += np.array([weights["segment_embedding/table"][segment] for segment in segments])
    x = _normalize(config, _below(weights, "embedding_normalization"), x)
    for i in range(config.num_layers):
        block = _below(weights, f"block_{i}")
        x = x + _attend(config, _below(block, "self_attention"), x)
        x = _normalize(config, _below(block, "self_residual/normalization"), x)
        feed_forward = _below(block, "feed_forward")
        x = x + _dense(_below(feed_forward, "output"), _gelu(_dense(_below(feed_forward, "intermediate"), x)))
        x = _normalize(config, _below(block, "feed_forward_residual/normalization"), x)
    return x


def _attend(config: Any, weights: Mapping[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """Each head attends with its own columns of the projections; every token sees every other."""
    query, key, value = (_dense(_below(weights, part), x) for part in ("query", "key", "value"))
    width = config.hidden_dim // config.num_heads
    result = np.zeros_like(query)
    for head in range(config.num_heads):
        columns = slice(head * width, (head + 1) * width)
        for t in range(len(x)):
            scores = key[:, columns] @ query[t, columns] / np.sqrt(width)
            share = np.exp(scores - scores.max())
            result[t, columns] = share / share.sum() @ value[:, columns]
    return _dense(_below(weights, "output"), result)


def _pooled(weights: Mapping[str, np.ndarray], rows: list[np.ndarray]) -> np.ndarray:
    return np.tanh(_dense(_below(weights, "pooler"), np.stack([states[0] for states in rows])))


def _gelu(x: np.ndarray) -> np.ndarray:
    """x P(X <= x) for a standard normal X (Hendrycks & Gimpel, 2016, section 2)."""
    return x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2


def _dense(weights: Mapping[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    return x @ weights["kernel"] + weights["bias"]


def _normalize(config: Any, weights: Mapping[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    mean, deviation = x.mean(-1, keepdims=True), np.sqrt(x.var(-1, keepdims=True) + config.layer_norm_epsilon)
    return (x - mean) / deviation * weights["gamma"] + weights["beta"]


def _below(weights: Mapping[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    return {path.removeprefix(name + "/"): value for path, value in weights.items() if path.startswith(name + "/")}
