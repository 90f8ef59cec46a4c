"""The forward of g2p-en's network in NumPy, by its own weights: PyTorch's gates, no vocabulary or layer of ours.

Words of one length at a time, greedily, in float32 as the package computes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

PAD, UNK, END_OF_WORD = 0, 1, 2
START, END = 2, 3
MOST_PHONEMES = 20


def pronounce(weights: Mapping[str, np.ndarray], words: Sequence[str], phonemes: Sequence[str]) -> list[list[str]]:
    """Returns the phonemes of each word.

    Args:
        weights: the arrays of checkpoint20.npz by name.
        words: any strings; what is no small letter is unknown.
        phonemes: the name of each id from 4 on.
    """
    names = ["<pad>", "<unk>", "<s>", "</s>", *phonemes]
    found: dict[str, list[str]] = {}
    for length in sorted({len(word) for word in words}):
        same = [word for word in dict.fromkeys(words) if len(word) == length]
        letters = [[3 + ord(c) - ord("a") if "a" <= c <= "z" else UNK for c in word] + [END_OF_WORD] for word in same]
        state = np.zeros((len(same), weights["enc_w_hh"].shape[1]), np.float32)
        for column in np.array(letters).T:
            state = _cell(weights, "enc", weights["enc_emb"][column], state)
        token, rows = np.full(len(same), START), []
        for _ in range(MOST_PHONEMES):
            state = _cell(weights, "dec", weights["dec_emb"][token], state)
            token = (state @ weights["fc_w"].T + weights["fc_b"]).argmax(axis=1)
            rows.append(token)
        for word, ids in zip(same, np.array(rows).T.tolist(), strict=True):
            found[word] = [names[i] for i in ids[: ids.index(END) if END in ids else None]]
    return [found[word] for word in words]


def _cell(weights: Mapping[str, np.ndarray], side: str, x: np.ndarray, h: np.ndarray) -> np.ndarray:
    """torch.nn.GRU's equations: weights stand as W_ir, W_iz, W_in one below the other."""
    w_ir, w_iz, w_in = np.split(weights[f"{side}_w_ih"], 3)
    w_hr, w_hz, w_hn = np.split(weights[f"{side}_w_hh"], 3)
    b_ir, b_iz, b_in = np.split(weights[f"{side}_b_ih"], 3)
    b_hr, b_hz, b_hn = np.split(weights[f"{side}_b_hh"], 3)
    r = 1 / (1 + np.exp(-(x @ w_ir.T + b_ir + h @ w_hr.T + b_hr)))
    z = 1 / (1 + np.exp(-(x @ w_iz.T + b_iz + h @ w_hz.T + b_hz)))
    n = np.tanh(x @ w_in.T + b_in + r * (h @ w_hn.T + b_hn))
    return (1 - z) * n + z * h
