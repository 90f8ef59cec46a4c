"""GPT-2, a decoder-only Transformer (Radford et al., 2019, "Language Models are Unsupervised Multitask Learners").

Section 2.3: pre-norm blocks with a normalization behind the last, learned positions, and projections onto the residual
stream that start smaller, by 1 / sqrt(number of such projections). The output projection is the transposed embedding,
without a bias. As in the authors' code, GELU is the tanh approximation.

Differs from the authors' code: query, key and value are three projections, not one; the position vectors start at
standard deviation 0.02 like all other weights, not at 0.01.

There is one forward: `call` is `step` from an empty state, and decoding a token at a time is the same `step` with a
state that has grown. Padding is never read from token ids, since GPT-2 has one id for start, end and padding.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from tfzoo.layers.attention import MultiHeadAttention
from tfzoo.layers.dropout import Dropout
from tfzoo.layers.embeddings import PositionEmbedding, TokenEmbedding
from tfzoo.layers.masks import causal_mask, padding_mask_to_attention_mask
from tfzoo.layers.normalization import LayerNormalization
from tfzoo.layers.transformer import FeedForward, Residual
from tfzoo.models.config import GPT2Config

State = dict[str, Any]

# Standard deviation of the first weights, in the authors' code.
_STDDEV = 0.02


@keras.saving.register_keras_serializable("tfzoo")
class GPT2Block(keras.layers.Layer):
    """Causal self-attention over past and present, then feed-forward, both pre-norm (Radford et al., 2019, sec. 2.3).

    Args:
        hidden_dim: D.
        intermediate_dim: F.
        num_heads: H; must divide `hidden_dim`.
        dropout: probability in [0, 1), on the attention weights and on each sublayer's output.
        layer_norm_epsilon: added to the variance in each normalization.
        residual_stddev: standard deviation that the projections onto the residual stream start at.

    Call arguments:
        x: (B, T, D) float, the new tokens.
        past: key and value of the P tokens before, each (B, H, P, K); P may be 0.
        mask: bool, broadcasts to (B, H, T, P + T), True = may look.

    Returns: (B, T, D) float, and key and value of all P + T tokens, each (B, H, P + T, K).
    """

    def __init__(
        self,
        hidden_dim: int,
        intermediate_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        layer_norm_epsilon: float = 1e-5,
        residual_stddev: float = _STDDEV,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.hidden_dim = hidden_dim
        self.intermediate_dim = intermediate_dim
        self.num_heads = num_heads
        self.dropout = dropout
        self.layer_norm_epsilon = layer_norm_epsilon
        self.residual_stddev = residual_stddev
        stddevs = {"kernel_stddev": _STDDEV, "output_stddev": residual_stddev}
        self.self_attention = MultiHeadAttention(
            num_heads, hidden_dim, dropout, **stddevs, dtype=self.dtype_policy, name="self_attention"
        )
        self.self_residual = self._residual("self_residual")
        self.feed_forward = FeedForward(
            hidden_dim,
            intermediate_dim,
            activation="gelu_tanh",
            **stddevs,
            dtype=self.dtype_policy,
            name="feed_forward",
        )
        self.feed_forward_residual = self._residual("feed_forward_residual")

    def _residual(self, name: str) -> Residual:
        return Residual(
            self.hidden_dim,
            normalize_first=True,
            dropout=self.dropout,
            epsilon=self.layer_norm_epsilon,
            dtype=self.dtype_policy,
            name=name,
        )

    def build(self, *input_shapes: Any) -> None:
        for layer in (self.self_attention, self.self_residual, self.feed_forward, self.feed_forward_residual):
            layer.build((None, None, self.hidden_dim))

    def call(self, x: Any, past: tuple[Any, Any], mask: Any, training: bool = False) -> tuple[Any, Any, Any]:
        present: list[Any] = []

        def attend(x: Any) -> Any:
            new = self.self_attention.keys_and_values(x)
            present.extend(ops.concatenate(pair, axis=2) for pair in zip(past, new, strict=True))
            return self.self_attention(x, *present, mask, training=training)

        x = self.self_residual(x, sublayer=attend, training=training)
        x = self.feed_forward_residual(x, sublayer=lambda x: self.feed_forward(x, training=training), training=training)
        return x, present[0], present[1]

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "hidden_dim": self.hidden_dim,
            "intermediate_dim": self.intermediate_dim,
            "num_heads": self.num_heads,
            "dropout": self.dropout,
            "layer_norm_epsilon": self.layer_norm_epsilon,
            "residual_stddev": self.residual_stddev,
        }


@keras.saving.register_keras_serializable("tfzoo")
class GPT2(keras.Model):
    """The whole model: a plain `keras.Model`, built on construction.

    Args:
        config: a `GPT2Config`.

    Call arguments:
        inputs: `token_ids` (B, T) int32, padded on the right with any id, and `padding_mask` (B, T) int32, 1 = real.
            Other keys are ignored.

    Returns: (B, T, V) float32 logits; position t scores the token after `token_ids[:, t]`.

    Raises:
        ValueError: T exceeds `max_sequence_length`.
    """

    task = "causal_lm"

    def __init__(self, config: GPT2Config, name: str = "gpt2", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.config = config
        # Batches differ in length: compile(jit_compile="auto") would compile once for each.
        self.supports_jit = False
        policy = self.dtype_policy
        self.embedding = TokenEmbedding(
            config.vocabulary_size, config.hidden_dim, scale=False, stddev=_STDDEV, dtype=policy, name="embedding"
        )
        self.positions = PositionEmbedding(
            config.max_sequence_length, config.hidden_dim, learned=True, dtype=policy, name="positions"
        )
        self.embedding_dropout = Dropout(config.dropout, dtype=policy, name="embedding_dropout")
        self.blocks = [
            GPT2Block(
                config.hidden_dim,
                config.intermediate_dim,
                config.num_heads,
                config.dropout,
                config.layer_norm_epsilon,
                residual_stddev=_STDDEV / math.sqrt(2 * config.num_layers),
                dtype=policy,
                name=f"block_{i}",
            )
            for i in range(config.num_layers)
        ]
        self.normalization = LayerNormalization(config.layer_norm_epsilon, dtype=policy, name="normalization")
        self.build()

    def build(self, input_shape: Any = None) -> None:
        for layer in self.layers:
            if not layer.built:
                layer.build((None, None, self.config.hidden_dim))

    def input_signature(self) -> dict[str, tf.TensorSpec]:
        """The model's inputs by name: dataset features, SavedModel `tokens` inputs and ONNX inputs alike."""
        return {name: tf.TensorSpec((None, None), tf.int32, name=name) for name in ("token_ids", "padding_mask")}

    def call(self, inputs: dict[str, Any], training: bool = False) -> Any:
        token_ids = inputs["token_ids"]
        logits, _ = self.step(token_ids, self._empty(token_ids), training, inputs["padding_mask"])
        return logits

    def prompt(self, inputs: dict[str, Any]) -> tuple[Any, Any]:
        """Returns the tokens that stand before the first generated one, and their padding mask: the two inputs."""
        return inputs["token_ids"], inputs["padding_mask"]

    def start(self, inputs: dict[str, Any], training: bool = False) -> State:
        """Reads all real tokens of a prompt but the last, which is the first that `step` takes.

        Args:
            inputs: `token_ids` (B, P) int32 and `padding_mask` (B, P) int32, at least one real token a row.
            training: whether dropout is on.

        Returns: the state before the prompt's last token, batch first. `cache_mask` (B, P) int32, 1 = a token that
            was read; for every layer i `self_key_i`, `self_value_i` (B, H, P, K): a step appends to all of them.
        """
        token_ids, padding_mask = self.prompt(inputs)
        padding_mask = ops.cast(padding_mask, "int32")
        num_real = ops.sum(padding_mask, axis=1, keepdims=True)
        is_before_last = ops.cast(tf.cumsum(padding_mask, axis=1) < num_real, "int32")
        _, state = self._read(token_ids, self._empty(token_ids), padding_mask * is_before_last, training)
        return state

    def step(self, token_ids: Any, state: State, training: bool = False, padding_mask: Any = None) -> tuple[Any, State]:
        """Reads T more tokens.

        Args:
            token_ids: (B, T) int32, the tokens after those that `state` has seen.
            state: from `start` or from the step before.
            training: whether dropout is on.
            padding_mask: (B, T) int32, 1 = real; None = all are.

        Returns: (B, T, V) float32 logits, and a state with T more tokens.
        """
        if padding_mask is None:
            padding_mask = tf.ones_like(token_ids)
        x, state = self._read(token_ids, state, padding_mask, training)
        return self.embedding.logits(x), state

    def _empty(self, token_ids: Any) -> State:
        batch = ops.shape(token_ids)[0]
        head_dim = self.config.hidden_dim // self.config.num_heads
        state = {"cache_mask": ops.zeros((batch, 0), "int32")}
        empty = ops.zeros((batch, self.config.num_heads, 0, head_dim), self.compute_dtype)
        for i in range(self.config.num_layers):
            state[f"self_key_{i}"] = state[f"self_value_{i}"] = empty
        return state

    def _read(self, token_ids: Any, state: State, padding_mask: Any, training: bool) -> tuple[Any, State]:
        """(B, T) tokens and their mask -> (B, T, D) normalized hidden states, and the state with T more tokens."""
        # Keras' `fit` under a tf.distribute strategy first calls the model with the mean over replicas, floats.
        padding_mask = ops.cast(padding_mask, "int32")
        cache_mask = ops.concatenate([state["cache_mask"], padding_mask], axis=1)
        num_past = ops.shape(state["cache_mask"])[1]
        mask = tf.logical_and(
            causal_mask(ops.shape(token_ids)[1], num_past), padding_mask_to_attention_mask(cache_mask)
        )
        num_real = ops.sum(state["cache_mask"], axis=1, keepdims=True)
        # The real tokens before each one. Padding takes position 0: behind a full cache its count has no vector.
        positions = (num_real + tf.cumsum(padding_mask, axis=1) - 1) * padding_mask
        x = self.positions(self.embedding(token_ids), positions=positions)
        x = self.embedding_dropout(x, training=training)
        state = {**state, "cache_mask": cache_mask}
        for i, block in enumerate(self.blocks):
            past = (state[f"self_key_{i}"], state[f"self_value_{i}"])
            x, state[f"self_key_{i}"], state[f"self_value_{i}"] = block(x, past, mask, training=training)
        return self.normalization(x), state

    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "dtype": keras.saving.serialize_keras_object(self.dtype_policy),
            "config": dataclasses.asdict(self.config),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> GPT2:
        dtype = keras.saving.deserialize_keras_object(config["dtype"])
        return cls(GPT2Config(**config["config"]), name=config["name"], dtype=dtype)
