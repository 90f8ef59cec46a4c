"""The LSTM language model's forward in NumPy, from the paper alone (Zaremba et al., 2014, section 3).

One row, one token, one gate at a time, in float64. A row ends at its padding, whose logits are left at 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

GATES = ("input", "forget", "candidate", "output")  # as the weights hold them, side by side


def logits(config: Any, weights: Mapping[str, np.ndarray], inputs: Mapping[str, np.ndarray]) -> np.ndarray:
    """Scores every next token.

    Args:
        config: the model's sizes and options, as `LstmLmConfig` names them.
        weights: variable path below the model's name -> value.
        inputs: `token_ids` (B, T), `padding_mask` (B, T), 1 = real token.

    Returns: (B, T, V) float64, 0 at padding.
    """
    weights = {path: np.asarray(value, np.float64) for path, value in weights.items()}
    result = np.zeros((*np.shape(inputs["token_ids"]), config.vocabulary_size))
    for row, (token_ids, mask) in enumerate(zip(inputs["token_ids"], inputs["padding_mask"], strict=True)):
        x = [weights["embedding/table"][token] for token, real in zip(token_ids, mask, strict=True) if real]
        for layer in range(config.num_layers):
            x = lstm(
                x,
                weights[f"lstm_{layer}/kernel"],
                weights[f"lstm_{layer}/recurrent_kernel"],
                weights[f"lstm_{layer}/bias"],
            )[0]
        for t, vector in enumerate(x):
            if config.tie_embeddings:
                result[row, t] = weights["embedding/table"] @ vector + weights["output_bias"]
            else:
                result[row, t] = vector @ weights["output/kernel"] + weights["output/bias"]
    return result


def lstm(
    x: list[np.ndarray],
    kernel: np.ndarray,
    recurrent_kernel: np.ndarray,
    bias: np.ndarray,
    hidden: np.ndarray | None = None,
    cell: np.ndarray | None = None,
) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """One layer over one row: vectors of the tokens -> hidden states, the last one, and the last cell."""
    units = len(recurrent_kernel)
    hidden = np.zeros(units) if hidden is None else hidden
    cell = np.zeros(units) if cell is None else cell
    states = []
    for vector in x:
        gate = {}
        for index, name in enumerate(GATES):
            columns = slice(index * units, (index + 1) * units)
            total = vector @ kernel[:, columns] + hidden @ recurrent_kernel[:, columns] + bias[columns]
            gate[name] = np.tanh(total) if name == "candidate" else 1 / (1 + np.exp(-total))
        cell = gate["forget"] * cell + gate["input"] * gate["candidate"]
        hidden = gate["output"] * np.tanh(cell)
        states.append(hidden)
    return states, hidden, cell
