"""BERT, a Transformer encoder with a head for each task (Devlin et al., 2019, https://arxiv.org/abs/1810.04805).

Section 3: post-norm blocks with the exact GELU, learned positions, and a vector for each of two segments. The heads:
masked tokens and the next sentence (section 3.1), classes of a text, classes of its tokens, and the span that answers a
question (section 4). A vector for a whole text is the mean of its tokens' (Reimers & Gurevych, 2019, section 3,
https://arxiv.org/abs/1908.10084), divided by its length.

Differs from the authors' code: the first weights are drawn from a whole normal distribution, not from a truncated one.

Every task has the encoder's variables at the same paths, so that the weights of one start another. Padding is never
read from token ids.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from tfzoo.layers.activations import ACTIVATIONS
from tfzoo.layers.attention import MultiHeadAttention
from tfzoo.layers.dropout import Dropout
from tfzoo.layers.embeddings import PositionEmbedding, TokenEmbedding
from tfzoo.layers.initializers import kernel_initializer
from tfzoo.layers.masks import padding_mask_to_attention_mask
from tfzoo.layers.normalization import LayerNormalization
from tfzoo.layers.transformer import FeedForward, Residual
from tfzoo.models.config import BertConfig

# Standard deviation of the first weights, in the authors' code.
_STDDEV = 0.02
_NUM_SEGMENTS = 2


@keras.saving.register_keras_serializable("tfzoo")
class BertBlock(keras.layers.Layer):
    """Self-attention over the whole input, then feed-forward, both post-norm (Devlin et al., 2019, section 3).

    Args:
        hidden_dim: D.
        intermediate_dim: F.
        num_heads: H; must divide `hidden_dim`.
        dropout: probability in [0, 1), on the attention weights and on each sublayer's output.
        layer_norm_epsilon: added to the variance in each normalization.

    Call arguments:
        x: (B, T, D) float.
        mask: bool, broadcasts to (B, H, T, T), True = may look.

    Returns: (B, T, D) float.
    """

    def __init__(
        self,
        hidden_dim: int,
        intermediate_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        layer_norm_epsilon: float = 1e-12,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.hidden_dim = hidden_dim
        self.intermediate_dim = intermediate_dim
        self.num_heads = num_heads
        self.dropout = dropout
        self.layer_norm_epsilon = layer_norm_epsilon
        self.self_attention = MultiHeadAttention(
            num_heads, hidden_dim, dropout, kernel_stddev=_STDDEV, dtype=self.dtype_policy, name="self_attention"
        )
        self.self_residual = self._residual("self_residual")
        self.feed_forward = FeedForward(
            hidden_dim,
            intermediate_dim,
            activation="gelu",
            kernel_stddev=_STDDEV,
            dtype=self.dtype_policy,
            name="feed_forward",
        )
        self.feed_forward_residual = self._residual("feed_forward_residual")

    def _residual(self, name: str) -> Residual:
        return Residual(
            self.hidden_dim,
            normalize_first=False,
            dropout=self.dropout,
            epsilon=self.layer_norm_epsilon,
            dtype=self.dtype_policy,
            name=name,
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
            "layer_norm_epsilon": self.layer_norm_epsilon,
        }


@keras.saving.register_keras_serializable("tfzoo")
class Bert(keras.Model):
    """The whole model: a plain `keras.Model`, built on construction.

    Args:
        config: a `BertConfig`; its `task` decides the head, and L is the number of its labels, or 1 for a regression.

    Call arguments:
        inputs: `token_ids` (B, T) int32, padded on the right with any id, `padding_mask` (B, T) int32, 1 = real, and
            `segment_ids` (B, T) int32, 0 = first text, 1 = second. For "fill_mask" `mask_positions` (B, M) int32 may
            stand beside them: the places in [0, T) to score. Other keys are ignored.

    Returns: float32 logits, by task: "text_classification" (B, L); "token_classification" (B, T, L);
        "question_answering" (B, 2, T), of each token as the start and as the end of the answer; "fill_mask" (B, T, V),
        or (B, M, V) with `mask_positions`; "text_embedding" (B, D), vectors of length 1. With `next_sentence`, a dict:
        `logits`, and `next_sentence_logits` (B, 2), where 0 = the second text follows the first.

    Raises:
        ValueError: T exceeds `max_sequence_length`, or a classifier has no labels.
    """

    def __init__(self, config: BertConfig, name: str = "bert", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.config = config
        self.task = config.task
        # Batches differ in length: compile(jit_compile="auto") would compile once for each.
        self.supports_jit = False
        policy, dim = self.dtype_policy, config.hidden_dim
        self.embedding = TokenEmbedding(
            config.vocabulary_size, dim, scale=False, stddev=_STDDEV, dtype=policy, name="embedding"
        )
        self.segment_embedding = TokenEmbedding(
            _NUM_SEGMENTS, dim, scale=False, stddev=_STDDEV, dtype=policy, name="segment_embedding"
        )
        self.positions = PositionEmbedding(
            config.max_sequence_length, dim, learned=True, dtype=policy, name="positions"
        )
        self.embedding_normalization = self._normalization("embedding_normalization")
        self.embedding_dropout = Dropout(config.dropout, dtype=policy, name="embedding_dropout")
        self.blocks = [
            BertBlock(
                dim,
                config.intermediate_dim,
                config.num_heads,
                config.dropout,
                config.layer_norm_epsilon,
                dtype=policy,
                name=f"block_{i}",
            )
            for i in range(config.num_layers)
        ]
        if self.task == "text_classification" or config.next_sentence:
            self.pooler = self._dense(dim, "pooler", activation="tanh")
        if self.task == "fill_mask":
            self.masked_lm_dense = self._dense(dim, "masked_lm_dense", activation=ACTIVATIONS["gelu"])
            self.masked_lm_normalization = self._normalization("masked_lm_normalization")
        if config.next_sentence:
            self.next_sentence_dense = self._dense(2, "next_sentence")
        if self.task in ("text_classification", "token_classification"):
            self.classifier_dropout = Dropout(config.dropout, dtype=policy, name="classifier_dropout")
            self.classifier = self._dense(_num_outputs(config), self.task)
        if self.task == "question_answering":
            self.span_dense = self._dense(2, self.task)
        self.build()

    def _dense(self, dim: int, name: str, activation: Any = None) -> keras.layers.Dense:
        return keras.layers.Dense(
            dim,
            activation=activation,
            kernel_initializer=kernel_initializer(_STDDEV),
            dtype=self.dtype_policy,
            name=name,
        )

    def _normalization(self, name: str) -> LayerNormalization:
        return LayerNormalization(self.config.layer_norm_epsilon, dtype=self.dtype_policy, name=name)

    def build(self, input_shape: Any = None) -> None:
        for layer in self.layers:
            if not layer.built:
                layer.build((None, None, self.config.hidden_dim))
        if self.task == "fill_mask":
            self.masked_lm_bias = self.add_weight(
                name="masked_lm_bias", shape=(self.config.vocabulary_size,), initializer="zeros", autocast=False
            )

    def input_signature(self) -> dict[str, tf.TensorSpec]:
        """The model's inputs by name: dataset features, SavedModel `tokens` inputs and ONNX inputs alike."""
        return {
            name: tf.TensorSpec((None, None), tf.int32, name=name)
            for name in ("token_ids", "padding_mask", "segment_ids")
        }

    def call(self, inputs: dict[str, Any], training: bool = False) -> Any:
        x = self.encode(inputs, training=training)
        if self.task == "text_embedding":
            return mean_embedding(x, inputs["padding_mask"])
        if self.task == "question_answering":
            return ops.transpose(ops.cast(self.span_dense(x), "float32"), (0, 2, 1))  # (B, 2, T)
        if self.task == "fill_mask":
            logits = self._masked_lm_logits(x, inputs.get("mask_positions"))
            if not self.config.next_sentence:
                return logits
            next_sentence_logits = ops.cast(self.next_sentence_dense(self._pool(x)), "float32")
            return {"logits": logits, "next_sentence_logits": next_sentence_logits}
        if self.task == "text_classification":
            x = self._pool(x)
        return ops.cast(self.classifier(self.classifier_dropout(x, training=training)), "float32")

    def encode(self, inputs: dict[str, Any], training: bool = False) -> Any:
        """Returns the last hidden states, (B, T, D); `inputs` as `call` takes them."""
        x = self.embedding(inputs["token_ids"]) + self.segment_embedding(inputs["segment_ids"])
        x = self.embedding_normalization(self.positions(x))
        x = self.embedding_dropout(x, training=training)
        mask = padding_mask_to_attention_mask(inputs["padding_mask"])
        for block in self.blocks:
            x = block(x, mask, training=training)
        return x

    def _pool(self, x: Any) -> Any:
        """(B, T, D) hidden states -> (B, D), of the first token, which is [CLS]."""
        return self.pooler(x[:, 0])

    def _masked_lm_logits(self, x: Any, mask_positions: Any) -> Any:
        if mask_positions is not None:
            # Keras' `fit` under a tf.distribute strategy first calls the model with the mean over replicas, floats.
            x = tf.gather(x, ops.cast(mask_positions, "int32"), batch_dims=1)  # (B, M, D)
        x = self.masked_lm_normalization(self.masked_lm_dense(x))
        return self.embedding.logits(x) + ops.convert_to_tensor(self.masked_lm_bias)

    def get_config(self) -> dict[str, Any]:
        # Keras does not give a tuple inside back as one.
        config = dataclasses.asdict(self.config) | {"labels": list(self.config.labels)}
        return {
            "name": self.name,
            "dtype": keras.saving.serialize_keras_object(self.dtype_policy),
            "config": config,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Bert:
        dtype = keras.saving.deserialize_keras_object(config["dtype"])
        fields = config["config"] | {"labels": tuple(config["config"]["labels"])}
        return cls(BertConfig(**fields), name=config["name"], dtype=dtype)


def mean_embedding(hidden_states: Any, padding_mask: Any) -> Any:
    """Returns the mean of the real tokens' hidden states, divided by its length: (B, D) float32.

    Args:
        hidden_states: (B, T, D) float.
        padding_mask: (B, T) int, 1 = real; a row of padding alone gives zeros.
    """
    weights = ops.expand_dims(ops.cast(padding_mask, "float32"), -1)
    # The sum points where the mean does.
    total = ops.sum(ops.cast(hidden_states, "float32") * weights, axis=1)
    squares = ops.sum(ops.power(total, 2.0), axis=-1, keepdims=True)
    return total / ops.sqrt(ops.maximum(squares, 1e-24))


def _num_outputs(config: BertConfig) -> int:
    if not config.is_labelled:
        return 1  # the number that a regression gives
    if not config.labels:
        raise ValueError(
            f"`labels` must name the classes of a model for {config.task!r}; received labels=(). Training reads them "
            'off its data; without it, give them: labels=("negative", "positive").'
        )
    return len(config.labels)
