"""The Transformer's forward in NumPy, from the paper alone (Vaswani et al., 2017, sections 3.1 to 3.5).

One sentence at a time, one head at a time, in float64. A masked position is left out of the softmax instead of being
given a low score, and there is no cache: nothing here could share a mistake with `tfzoo.models.transformer`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

EPSILON = 1e-6  # of layer normalization; the paper names none


def logits(config: Any, weights: Mapping[str, np.ndarray], inputs: Mapping[str, np.ndarray]) -> np.ndarray:
    """Scores every next token.

    Args:
        config: the model's sizes and options, as `TransformerConfig` names them.
        weights: variable path below the model's name -> value.
        inputs: `encoder_token_ids` (B, S), `decoder_token_ids` (B, T).

    Returns: (B, T, V) float64.
    """
    weights = {path: np.asarray(value, np.float64) for path, value in weights.items()}
    rows = zip(inputs["encoder_token_ids"], inputs["decoder_token_ids"], strict=True)
    return np.stack([_sentence(config, weights, np.asarray(source), np.asarray(target)) for source, target in rows])


def _sentence(config: Any, weights: Mapping[str, np.ndarray], source: np.ndarray, target: np.ndarray) -> np.ndarray:
    real = [s for s in range(len(source)) if source[s] != config.pad_id]
    sees_source = [real] * max(len(source), len(target))
    sees_past = [list(range(t + 1)) for t in range(len(target))]

    target_table = weights["embedding/table"]
    source_table = target_table if config.source_vocabulary_size is None else weights["source_embedding/table"]

    x = _embed(config, weights, "encoder_positions", source_table, source)
    for i in range(config.num_layers):
        block = _below(weights, f"encoder_block_{i}")
        x = _residual(
            config,
            block,
            "self_residual",
            x,
            lambda y, w=block: _attend(config, w, "self_attention", y, y, sees_source),
        )
        x = _residual(config, block, "feed_forward_residual", x, lambda y, w=block: _feed_forward(w, y))
    memory = _normalize(_below(weights, "encoder_normalization"), x) if config.normalize_first else x

    x = _embed(config, weights, "decoder_positions", target_table, target)
    for i in range(config.num_layers):
        block = _below(weights, f"decoder_block_{i}")
        x = _residual(
            config, block, "self_residual", x, lambda y, w=block: _attend(config, w, "self_attention", y, y, sees_past)
        )
        x = _residual(
            config,
            block,
            "cross_residual",
            x,
            lambda y, w=block: _attend(config, w, "cross_attention", y, memory, sees_source),
        )
        x = _residual(config, block, "feed_forward_residual", x, lambda y, w=block: _feed_forward(w, y))
    if config.normalize_first:
        x = _normalize(_below(weights, "decoder_normalization"), x)
    return x @ target_table.T


def _embed(
    config: Any, weights: Mapping[str, np.ndarray], positions: str, table: np.ndarray, ids: np.ndarray
) -> np.ndarray:
    dim = config.hidden_dim
    x = np.array([table[token] * np.sqrt(dim) for token in ids])
    for position in range(len(ids)):
        if config.positions == "learned":
            x[position] += weights[f"{positions}/table"][position]
            continue
        for i in range(dim // 2):
            x[position, 2 * i] += np.sin(position / 10000 ** (2 * i / dim))
            x[position, 2 * i + 1] += np.cos(position / 10000 ** (2 * i / dim))
    return x


def _residual(
    config: Any,
    block: Mapping[str, np.ndarray],
    name: str,
    x: np.ndarray,
    sublayer: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    normalization = _below(block, f"{name}/normalization")
    if config.normalize_first:
        return x + sublayer(_normalize(normalization, x))
    return _normalize(normalization, x + sublayer(x))


def _attend(
    config: Any,
    block: Mapping[str, np.ndarray],
    name: str,
    x: np.ndarray,
    memory: np.ndarray,
    visible: list[list[int]],
) -> np.ndarray:
    """Section 3.2.2: each head attends with its own columns of the projections; query t sees `visible[t]` only."""
    weights = _below(block, name)
    query, key, value = (
        _dense(_below(weights, part), y) for part, y in (("query", x), ("key", memory), ("value", memory))
    )
    width = config.hidden_dim // config.num_heads
    result = np.zeros_like(query)
    for head in range(config.num_heads):
        columns = slice(head * width, (head + 1) * width)
        for t in range(len(x)):
            scores = np.array([query[t, columns] @ key[s, columns] for s in visible[t]]) / np.sqrt(width)
            share = np.exp(scores - scores.max())
            share /= share.sum()
            result[t, columns] = sum(p * value[s, columns] for p, s in zip(share, visible[t], strict=True))
    return _dense(_below(weights, "output"), result)


def _feed_forward(block: Mapping[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    weights = _below(block, "feed_forward")
    return _dense(_below(weights, "output"), np.maximum(_dense(_below(weights, "intermediate"), x), 0))


def _dense(weights: Mapping[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    return x @ weights["kernel"] + weights["bias"]


def _normalize(weights: Mapping[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    mean, deviation = x.mean(-1, keepdims=True), np.sqrt(x.var(-1, keepdims=True) + EPSILON)
    return (x - mean) / deviation * weights["gamma"] + weights["beta"]


def _below(weights: Mapping[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    return {path.removeprefix(name + "/"): value for path, value in weights.items() if path.startswith(name + "/")}
