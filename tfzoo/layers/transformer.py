"""The blocks of a Transformer: feed-forward, encoder block, decoder block (Vaswani et al., 2017, section 3.1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from tfzoo.layers.activations import ACTIVATIONS
from tfzoo.layers.attention import MultiHeadAttention
from tfzoo.layers.dropout import Dropout
from tfzoo.layers.initializers import kernel_initializer
from tfzoo.layers.normalization import LayerNormalization


@keras.saving.register_keras_serializable("tfzoo")
class FeedForward(keras.layers.Layer):
    """Two dense layers with an activation between, position by position (section 3.3).

    Args:
        hidden_dim: D, width of input and result.
        intermediate_dim: F, width between.
        dropout: probability in [0, 1), on the intermediate activations.
        activation: a name out of `ACTIVATIONS`; the paper's is "relu".
        kernel_stddev: standard deviation that the kernels start at; None = Glorot's uniform distribution.
        output_stddev: the same for the second kernel; None = as the first.

    Call arguments:
        x: (B, T, D) float.

    Returns: (B, T, D) float.

    Raises:
        ValueError: an unknown activation.
    """

    def __init__(
        self,
        hidden_dim: int,
        intermediate_dim: int,
        dropout: float = 0.0,
        activation: str = "relu",
        kernel_stddev: float | None = None,
        output_stddev: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if activation not in ACTIVATIONS:
            raise ValueError(f"`activation` must be one of {', '.join(ACTIVATIONS)}; received {activation=}.")
        self.hidden_dim = hidden_dim
        self.intermediate_dim = intermediate_dim
        self.dropout = dropout
        self.activation = activation
        self.kernel_stddev = kernel_stddev
        self.output_stddev = output_stddev
        self.intermediate = keras.layers.Dense(
            intermediate_dim,
            activation=ACTIVATIONS[activation],
            kernel_initializer=kernel_initializer(kernel_stddev),
            dtype=self.dtype_policy,
            name="intermediate",
        )
        self.intermediate_dropout = Dropout(dropout, dtype=self.dtype_policy, name="dropout")
        self.output_dense = keras.layers.Dense(
            hidden_dim,
            kernel_initializer=kernel_initializer(kernel_stddev if output_stddev is None else output_stddev),
            dtype=self.dtype_policy,
            name="output",
        )

    def build(self, input_shape: Any = None) -> None:
        self.intermediate.build((None, None, self.hidden_dim))
        self.output_dense.build((None, None, self.intermediate_dim))

    def call(self, x: Any, training: bool = False) -> Any:
        return self.output_dense(self.intermediate_dropout(self.intermediate(x), training=training))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "hidden_dim": self.hidden_dim,
            "intermediate_dim": self.intermediate_dim,
            "dropout": self.dropout,
            "activation": self.activation,
            "kernel_stddev": self.kernel_stddev,
            "output_stddev": self.output_stddev,
        }


@keras.saving.register_keras_serializable("tfzoo")
class Residual(keras.layers.Layer):
    """Wraps a sublayer with normalization, dropout and the residual sum.

    Post-norm is `normalize(x + dropout(sublayer(x)))`, the paper's; pre-norm is `x + dropout(sublayer(normalize(x)))`
    (Xiong et al., 2020), which trains without a long warm-up.

    Args:
        hidden_dim: D.
        normalize_first: True = pre-norm.
        dropout: probability in [0, 1), on the sublayer's output.
        epsilon: added to the variance in the normalization.

    Call arguments:
        x: (B, T, D) float.
        sublayer: (B, T, D) -> (B, T, D).

    Returns: (B, T, D) float.
    """

    def __init__(
        self, hidden_dim: int, normalize_first: bool, dropout: float, epsilon: float = 1e-6, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.hidden_dim = hidden_dim
        self.normalize_first = normalize_first
        self.dropout = dropout
        self.epsilon = epsilon
        self.normalization = LayerNormalization(epsilon, dtype=self.dtype_policy, name="normalization")
        self.output_dropout = Dropout(dropout, dtype=self.dtype_policy, name="dropout")

    def build(self, input_shape: Any = None) -> None:
        self.normalization.build((None, None, self.hidden_dim))

    def call(self, x: Any, sublayer: Callable[[Any], Any], training: bool = False) -> Any:
        if self.normalize_first:
            return x + self.output_dropout(sublayer(self.normalization(x)), training=training)
        return self.normalization(x + self.output_dropout(sublayer(x), training=training))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "hidden_dim": self.hidden_dim,
            "normalize_first": self.normalize_first,
            "dropout": self.dropout,
            "epsilon": self.epsilon,
        }


@keras.saving.register_keras_serializable("tfzoo")
class EncoderBlock(keras.layers.Layer):
    """Self-attention over the whole source, then feed-forward.

    Args:
        hidden_dim: D.
        intermediate_dim: F.
        num_heads: H; must divide `hidden_dim`.
        dropout: probability in [0, 1).
        normalize_first: True = pre-norm.
        activation: of the feed-forward layer, a name out of `ACTIVATIONS`.
        epsilon: added to the variance in each normalization.

    Call arguments:
        x: (B, S, D) float.
        mask: bool, broadcasts to (B, H, S, S), True = may look.

    Returns: (B, S, D) float.
    """

    def __init__(
        self,
        hidden_dim: int,
        intermediate_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        normalize_first: bool = False,
        activation: str = "relu",
        epsilon: float = 1e-6,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.hidden_dim = hidden_dim
        self.intermediate_dim = intermediate_dim
        self.num_heads = num_heads
        self.dropout = dropout
        self.normalize_first = normalize_first
        self.activation = activation
        self.epsilon = epsilon
        policy = self.dtype_policy
        self.self_attention = MultiHeadAttention(num_heads, hidden_dim, dropout, dtype=policy, name="self_attention")
        self.self_residual = Residual(hidden_dim, normalize_first, dropout, epsilon, dtype=policy, name="self_residual")
        self.feed_forward = FeedForward(
            hidden_dim, intermediate_dim, dropout, activation, dtype=policy, name="feed_forward"
        )
        self.feed_forward_residual = Residual(
            hidden_dim, normalize_first, dropout, epsilon, dtype=policy, name="feed_forward_residual"
        )

    def build(self, *input_shapes: Any) -> None:
        for layer in (self.self_attention, self.self_residual, self.feed_forward, self.feed_forward_residual):
            layer.build((None, None, self.hidden_dim))

    def call(self, x: Any, mask: Any, training: bool = False) -> Any:
        def attend(x: Any) -> Any:
            return self.self_attention(x, *self.self_attention.keys_and_values(x), mask, training=training)

        x = self.self_residual(x, sublayer=attend, training=training)
        return self.feed_forward_residual(
            x, sublayer=lambda x: self.feed_forward(x, training=training), training=training
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "hidden_dim": self.hidden_dim,
            "intermediate_dim": self.intermediate_dim,
            "num_heads": self.num_heads,
            "dropout": self.dropout,
            "normalize_first": self.normalize_first,
            "activation": self.activation,
            "epsilon": self.epsilon,
        }


@keras.saving.register_keras_serializable("tfzoo")
class DecoderBlock(keras.layers.Layer):
    """Self-attention over past and present, attention to the memory, then feed-forward.

    Args:
        hidden_dim: D.
        intermediate_dim: F.
        num_heads: H; must divide `hidden_dim`.
        dropout: probability in [0, 1).
        normalize_first: True = pre-norm.
        activation: of the feed-forward layer, a name out of `ACTIVATIONS`.
        epsilon: added to the variance in each normalization.

    Call arguments:
        x: (B, T, D) float, the new tokens.
        past: key and value of the P tokens before, each (B, H, P, K); P may be 0.
        memory: key and value of the source, each (B, H, S, K), from `memory_keys_and_values`.
        self_mask: bool, broadcasts to (B, H, T, P + T).
        memory_mask: bool, broadcasts to (B, H, T, S).

    Returns: (B, T, D) float; key and value of all P + T tokens, each (B, H, P + T, K); and the weights (B, H, T, S) of
        the attention to the memory.
    """

    def __init__(
        self,
        hidden_dim: int,
        intermediate_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        normalize_first: bool = False,
        activation: str = "relu",
        epsilon: float = 1e-6,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.hidden_dim = hidden_dim
        self.intermediate_dim = intermediate_dim
        self.num_heads = num_heads
        self.dropout = dropout
        self.normalize_first = normalize_first
        self.activation = activation
        self.epsilon = epsilon
        policy = self.dtype_policy
        self.self_attention = MultiHeadAttention(num_heads, hidden_dim, dropout, dtype=policy, name="self_attention")
        self.self_residual = Residual(hidden_dim, normalize_first, dropout, epsilon, dtype=policy, name="self_residual")
        self.cross_attention = MultiHeadAttention(num_heads, hidden_dim, dropout, dtype=policy, name="cross_attention")
        self.cross_residual = Residual(
            hidden_dim, normalize_first, dropout, epsilon, dtype=policy, name="cross_residual"
        )
        self.feed_forward = FeedForward(
            hidden_dim, intermediate_dim, dropout, activation, dtype=policy, name="feed_forward"
        )
        self.feed_forward_residual = Residual(
            hidden_dim, normalize_first, dropout, epsilon, dtype=policy, name="feed_forward_residual"
        )

    def build(self, *input_shapes: Any) -> None:
        for layer in (
            self.self_attention,
            self.self_residual,
            self.cross_attention,
            self.cross_residual,
            self.feed_forward,
            self.feed_forward_residual,
        ):
            layer.build((None, None, self.hidden_dim))

    def memory_keys_and_values(self, memory: Any) -> tuple[Any, Any]:
        """(B, S, D) encoder output -> key and value for `memory`, each (B, H, S, K)."""
        return self.cross_attention.keys_and_values(memory)

    def call(
        self,
        x: Any,
        past: tuple[Any, Any],
        memory: tuple[Any, Any],
        self_mask: Any,
        memory_mask: Any,
        training: bool = False,
    ) -> tuple[Any, Any, Any, Any]:
        present: list[Any] = []
        weights: list[Any] = []

        def attend_to_self(x: Any) -> Any:
            new = self.self_attention.keys_and_values(x)
            present.extend(ops.concatenate(pair, axis=2) for pair in zip(past, new, strict=True))
            return self.self_attention(x, *present, self_mask, training=training)

        x = self.self_residual(x, sublayer=attend_to_self, training=training)

        def attend_to_memory(x: Any) -> Any:
            x, looks = self.cross_attention(x, *memory, memory_mask, training=training, return_attention_scores=True)
            weights.append(looks)
            return x

        x = self.cross_residual(x, sublayer=attend_to_memory, training=training)
        x = self.feed_forward_residual(x, sublayer=lambda x: self.feed_forward(x, training=training), training=training)
        return x, present[0], present[1], weights[0]

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "hidden_dim": self.hidden_dim,
            "intermediate_dim": self.intermediate_dim,
            "num_heads": self.num_heads,
            "dropout": self.dropout,
            "normalize_first": self.normalize_first,
            "activation": self.activation,
            "epsilon": self.epsilon,
        }
