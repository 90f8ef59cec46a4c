"""The GRU encoder-decoder's forward in NumPy, from the papers alone.

Cho et al., 2014 (the unit, in its first version), Bahdanau et al., 2015 (appendix A), Luong et al., 2015 (section 3).
One sentence, one token, one gate at a time, in float64. A sentence ends at its padding, so that nothing is masked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

Weights = Mapping[str, np.ndarray]
GATES = ("update", "reset", "candidate")  # as the weights hold them, side by side


def logits(config: Any, weights: Weights, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
    """Scores every next token.

    Args:
        config: the model's sizes and options, as `GruSeq2SeqConfig` names them.
        weights: variable path below the model's name -> value.
        inputs: `encoder_token_ids` (B, S), `decoder_token_ids` (B, T).

    Returns: (B, T, V) float64.
    """
    return np.stack([scores for scores, _ in _sentences(config, weights, inputs)])


def attention(config: Any, weights: Weights, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
    """What each target token looks at: (B, T, S) float64, 0 at padding."""
    result = np.zeros((*np.shape(inputs["decoder_token_ids"]), np.shape(inputs["encoder_token_ids"])[1]))
    for row, (_, looks) in enumerate(_sentences(config, weights, inputs)):
        for t, shares in enumerate(looks):
            result[row, t, : len(shares)] = shares
    return result


def _sentences(config: Any, weights: Weights, inputs: Mapping[str, np.ndarray]) -> list[Any]:
    weights = {path: np.asarray(value, np.float64) for path, value in weights.items()}
    rows = zip(inputs["encoder_token_ids"], inputs["decoder_token_ids"], strict=True)
    return [_sentence(config, weights, source[source != config.pad_id], target) for source, target in rows]


def _sentence(config: Any, weights: Weights, source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, list[Any]]:
    table = weights["embedding/table"]
    source_table = table if config.source_vocabulary_size is None else weights["source_embedding/table"]
    memory, states = _encode(config, weights, [source_table[token] for token in source])
    summary, fed = states[-1], np.zeros(config.hidden_dim)
    scores, looks = [], []
    for token in target:
        word = table[token]
        if config.attention == "additive":
            shares = _softmax([_additive(weights, states[-1], annotation) for annotation in memory])
            context = sum(share * annotation for share, annotation in zip(shares, memory, strict=True))
            states = _stack(weights, np.concatenate([word, context]), states)
            top = _maxout(weights, states[-1], word, context)
        elif config.attention == "multiplicative":
            states = _stack(weights, np.concatenate([word, fed]) if config.input_feeding else word, states)
            shares = _softmax([states[-1] @ (h @ weights["source_attention/key/kernel"]) for h in memory])
            context = sum(share * annotation for share, annotation in zip(shares, memory, strict=True))
            top = fed = np.tanh(np.concatenate([context, states[-1]]) @ weights["attentional/kernel"])
        else:
            shares = []
            states = _stack(weights, np.concatenate([word, summary]) if config.input_feeding else word, states)
            top = _maxout(weights, states[-1], word, summary) if config.input_feeding else states[-1]
        looks.append(shares)
        scores.append(top @ weights["output/kernel"] + weights["output/bias"])
    return np.array(scores), looks


def _encode(config: Any, weights: Weights, x: list[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Annotations of the tokens, and the first state of each decoder layer."""
    states = []
    for i in range(config.num_layers):
        below = x
        x = gru(below, weights, f"encoder_gru_{i}/")
        last = x[-1] if x else np.zeros(config.hidden_dim)
        if config.bidirectional:
            backward = gru(below[::-1], weights, f"encoder_gru_{i}/backward_")[::-1]
            last = np.concatenate([last, backward[0] if backward else np.zeros(config.hidden_dim)])
            last = np.tanh(last @ weights[f"bridge_{i}/kernel"] + weights[f"bridge_{i}/bias"])
            x = [np.concatenate(pair) for pair in zip(x, backward, strict=True)]
        states.append(last)
    return x, states


def _stack(weights: Weights, x: np.ndarray, states: list[np.ndarray]) -> list[np.ndarray]:
    """One token through all decoder layers."""
    after = []
    for i, state in enumerate(states):
        (x,) = gru([x], weights, f"decoder_gru_{i}/", state)
        after.append(x)
    return after


def gru(x: list[np.ndarray], weights: Weights, prefix: str, hidden: np.ndarray | None = None) -> list[np.ndarray]:
    """One layer over one row: vectors of the tokens -> the state after each."""
    kernel, recurrent_kernel = weights[f"{prefix}kernel"], weights[f"{prefix}recurrent_kernel"]
    bias, recurrent_bias = weights[f"{prefix}bias"], weights[f"{prefix}recurrent_bias"]
    units = len(recurrent_kernel)
    hidden = np.zeros(units) if hidden is None else hidden
    states = []
    for vector in x:
        of_input, of_state = {}, {}
        for index, name in enumerate(GATES):
            columns = slice(index * units, (index + 1) * units)
            of_input[name] = vector @ kernel[:, columns] + bias[columns]
            of_state[name] = hidden @ recurrent_kernel[:, columns] + recurrent_bias[columns]
        update, reset = (1 / (1 + np.exp(-of_input[name] - of_state[name])) for name in ("update", "reset"))
        candidate = np.tanh(of_input["candidate"] + reset * of_state["candidate"])
        hidden = update * hidden + (1 - update) * candidate
        states.append(hidden)
    return states


def _additive(weights: Weights, state: np.ndarray, annotation: np.ndarray) -> float:
    inner = state @ weights["source_attention/query/kernel"] + annotation @ weights["source_attention/key/kernel"]
    return (np.tanh(inner + weights["source_attention/key/bias"]) @ weights["source_attention/score/kernel"]).item()


def _softmax(scores: list[float]) -> np.ndarray:
    shares = np.exp(np.array(scores) - max(scores))
    return shares / shares.sum()


def _maxout(weights: Weights, state: np.ndarray, word: np.ndarray, context: np.ndarray) -> np.ndarray:
    """Appendix A.2.2: of two units each the larger one; the partner of the first stands behind all first ones."""
    inner = np.concatenate([state, word, context]) @ weights["maxout/kernel"] + weights["maxout/bias"]
    half = len(inner) // 2
    return np.array([max(inner[j], inner[half + j]) for j in range(half)])
