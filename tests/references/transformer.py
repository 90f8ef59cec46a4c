"""The Transformer's forward in NumPy, from the paper alone (Vaswani et al., 2017, sections 3.1 to 3.5).

One sentence at a time, one head at a time, in float64. A masked position is left out of the softmax instead of being
given a low score, and there is no cache: nothing here could share a mistake with `tfzoo.models.transformer`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


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


def attention(config: Any, weights: Mapping[str, np.ndarray], inputs: Mapping[str, np.ndarray]) -> np.ndarray:
    """What each target token looks at: (B, L, H, T, S) float64, 0 at padding."""
    weights = {path: np.asarray(value, np.float64) for path, value in weights.items()}
    (rows, num_source), num_target = np.shape(inputs["encoder_token_ids"]), np.shape(inputs["decoder_token_ids"])[1]
    found = np.zeros((rows, config.num_layers, config.num_heads, num_target, num_source))
    for row in range(rows):
        source, target = (np.asarray(inputs[f"{side}_token_ids"][row]) for side in ("encoder", "decoder"))
        looks: list[np.ndarray] = []
        _sentence(config, weights, source, target, looks)
        found[row, ..., source != config.pad_id] = np.moveaxis(
            np.reshape(looks, (config.num_layers, config.num_heads, num_target, -1)), -1, 0
        )
    return found


def _sentence(
    config: Any,
    weights: Mapping[str, np.ndarray],
    source: np.ndarray,
    target: np.ndarray,
    looks: list[np.ndarray] | None = None,
) -> np.ndarray:
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
        x = _residual(config, block, "feed_forward_residual", x, lambda y, w=block: _feed_forward(config, w, y))
    memory = _normalize(config, _below(weights, "encoder_normalization"), x) if config.normalize_first else x

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
            lambda y, w=block: _attend(config, w, "cross_attention", y, memory, sees_source, looks),
        )
        x = _residual(config, block, "feed_forward_residual", x, lambda y, w=block: _feed_forward(config, w, y))
    if config.normalize_first:
        x = _normalize(config, _below(weights, "decoder_normalization"), x)
    return x @ target_table.T + weights.get("logits_bias", 0)


def _embed(
    config: Any, weights: Mapping[str, np.ndarray], positions: str, table: np.ndarray, ids: np.ndarray
) -> np.ndarray:
    dim = config.hidden_dim
    x = np.array([table[token] * (np.sqrt(dim) if config.scale_embeddings else 1) for token in ids])
    for position in range(len(ids)):
        if config.positions == "learned":
            x[position] += weights[f"{positions}/table"][position]
            continue
        for i in range(dim // 2):
            sine, cosine = (i, dim // 2 + i) if config.positions == "sinusoidal_halves" else (2 * i, 2 * i + 1)
            x[position, sine] += np.sin(position / 10000 ** (2 * i / dim))
            x[position, cosine] += np.cos(position / 10000 ** (2 * i / dim))
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
        return x + sublayer(_normalize(config, normalization, x))
    return _normalize(config, normalization, x + sublayer(x))


def _attend(
    config: Any,
    block: Mapping[str, np.ndarray],
    name: str,
    x: np.ndarray,
    memory: np.ndarray,
    visible: list[list[int]],
    looks: list[np.ndarray] | None = None,
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
            if looks is not None:
                looks.append(share)
            result[t, columns] = sum(p * value[s, columns] for p, s in zip(share, visible[t], strict=True))
    return _dense(_below(weights, "output"), result)


_ACTIVATIONS = {
    "relu": lambda x: max(x, 0.0),
    "gelu": lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2,
    "swish": lambda x: x / (1 + math.exp(-x)),
}


def _feed_forward(config: Any, block: Mapping[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    weights = _below(block, "feed_forward")
    activation = np.vectorize(_ACTIVATIONS[config.activation], otypes=[np.float64])
    return _dense(_below(weights, "output"), activation(_dense(_below(weights, "intermediate"), x)))


def _dense(weights: Mapping[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    return x @ weights["kernel"] + weights["bias"]


def _normalize(config: Any, weights: Mapping[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    mean, deviation = x.mean(-1, keepdims=True), np.sqrt(x.var(-1, keepdims=True) + config.layer_norm_epsilon)
    return (x - mean) / deviation * weights["gamma"] + weights["beta"]


def _below(weights: Mapping[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    return {path.removeprefix(name + "/"): value for path, value in weights.items() if path.startswith(name + "/")}
