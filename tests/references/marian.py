"""Marian's forward in NumPy, from a checkpoint's own tensors and config.json alone, as transformers names them.

Post-norm blocks (Vaswani et al., 2017), positions whose sines stand before all cosines, and a bias of the logits. One
sentence at a time, in float64; nothing here knows of `tfzoo`'s Transformer or of its variables.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

EPSILON = 1e-5  # of PyTorch's layer normalization

_ACTIVATIONS = {
    "relu": lambda x: np.where(x > 0, x, 0),
    "swish": lambda x: x / (1 + np.exp(-x)),
}


def logits(config: Mapping[str, Any], tensors: Mapping[str, np.ndarray], source: Any, target: Any) -> np.ndarray:
    """Scores every next token of one sentence.

    Args:
        config: the content of config.json.
        tensors: name -> value.
        source: (S,) ids without padding.
        target: (T,) ids, the decoder's start first.

    Returns: (T, V) float64.
    """
    model = _Model(config, {name: np.asarray(value, np.float64) for name, value in tensors.items()})
    return model.decode(np.asarray(target), model.encode(np.asarray(source)))


class _Model:
    def __init__(self, config: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> None:
        self.config = config
        self.tensors = tensors

    def encode(self, ids: np.ndarray) -> np.ndarray:
        x = self.embed("encoder", ids)
        for i in range(self.config["encoder_layers"]):
            layer = f"model.encoder.layers.{i}"
            x = self.normalize(f"{layer}.self_attn_layer_norm", x + self.attend(f"{layer}.self_attn", x, x))
            x = self.normalize(f"{layer}.final_layer_norm", x + self.feed_forward(layer, x))
        return x

    def decode(self, ids: np.ndarray, memory: np.ndarray) -> np.ndarray:
        x = self.embed("decoder", ids)
        for i in range(self.config["decoder_layers"]):
            layer = f"model.decoder.layers.{i}"
            x = self.normalize(f"{layer}.self_attn_layer_norm", x + self.attend(f"{layer}.self_attn", x, x, past=True))
            x = self.normalize(f"{layer}.encoder_attn_layer_norm", x + self.attend(f"{layer}.encoder_attn", x, memory))
            x = self.normalize(f"{layer}.final_layer_norm", x + self.feed_forward(layer, x))
        return x @ self.table("decoder").T + self.tensors["final_logits_bias"][0]

    def table(self, stack: str) -> np.ndarray:
        shared = self.config.get("share_encoder_decoder_embeddings", True)
        return self.tensors["model.shared.weight" if shared else f"model.{stack}.embed_tokens.weight"]

    def embed(self, stack: str, ids: np.ndarray) -> np.ndarray:
        dim = self.config["d_model"]
        scale = np.sqrt(dim) if self.config["scale_embedding"] else 1.0
        rows = []
        for position, one in enumerate(ids):
            angles = [position / 10000 ** (2 * i / dim) for i in range(dim // 2)]
            rows.append(self.table(stack)[one] * scale + np.concatenate([np.sin(angles), np.cos(angles)]))
        return np.array(rows)

    def dense(self, name: str, x: np.ndarray) -> np.ndarray:
        return x @ self.tensors[f"{name}.weight"].T + self.tensors[f"{name}.bias"]

    def attend(self, name: str, x: np.ndarray, memory: np.ndarray, past: bool = False) -> np.ndarray:
        heads = self.config["encoder_attention_heads"]
        query, key, value = (
            np.split(self.dense(f"{name}.{part}_proj", y), heads, axis=-1)
            for part, y in (("q", x), ("k", memory), ("v", memory))
        )
        found = []
        for q, k, v in zip(query, key, value, strict=True):
            scores = q @ k.T / np.sqrt(q.shape[-1])
            if past:
                scores[np.triu_indices(len(scores), 1)] = -np.inf
            shares = np.exp(scores - scores.max(-1, keepdims=True))
            found.append(shares / shares.sum(-1, keepdims=True) @ v)
        return self.dense(f"{name}.out_proj", np.concatenate(found, axis=-1))

    def feed_forward(self, layer: str, x: np.ndarray) -> np.ndarray:
        activation = _ACTIVATIONS[self.config["activation_function"]]
        return self.dense(f"{layer}.fc2", activation(self.dense(f"{layer}.fc1", x)))

    def normalize(self, name: str, x: np.ndarray) -> np.ndarray:
        deviation = np.sqrt(x.var(-1, keepdims=True) + EPSILON)
        normal = (x - x.mean(-1, keepdims=True)) / deviation
        return normal * self.tensors[f"{name}.weight"] + self.tensors[f"{name}.bias"]
