"""LSTM language model (Zaremba et al., 2014, https://arxiv.org/abs/1409.2329).

Options are those of Merity et al., 2017 (https://arxiv.org/abs/1708.02182): one dropout mask for all tokens, dropped
words, dropped recurrent weights, an output projection tied to the embedding. Differs from both: one probability stands
for all dropout of activations, and weights start as Keras starts them. The output has a bias, tied or not.

There is one forward: `call` is `step` from a state of zeros, and decoding a token at a time is the same `step`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from tfzoo.layers.dropout import Dropout
from tfzoo.layers.embeddings import TokenEmbedding, check_length
from tfzoo.layers.recurrent import LSTM, CarriedState
from tfzoo.models.config import LstmLmConfig

State = dict[str, Any]


@keras.saving.register_keras_serializable("tfzoo")
class LstmLanguageModel(keras.Model):
    """The whole model: a plain `keras.Model`, built on construction.

    Args:
        config: an `LstmLmConfig`.
        carried_batch_size: rows of a training batch whose state is carried to the next batch (truncated
            backpropagation through time); None = every call starts from zeros.

    Call arguments:
        inputs: `token_ids` (B, T) int32 and `padding_mask` (B, T) int32, 1 = real token, padded on the right. With
            `carried_batch_size`, in training, also `continues` (B,) int32: 1 = the row goes on where this row of the
            batch before ended, 0 = it starts from zeros.

    Returns: (B, T, V) float32 logits; position t scores the token after `token_ids[:, t]`.

    Raises:
        ValueError: T exceeds `max_sequence_length`, or state is to be carried on several devices.
    """

    task = "causal_lm"

    def __init__(
        self,
        config: LstmLmConfig,
        carried_batch_size: int | None = None,
        name: str = "lstm_lm",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.config = config
        self.carried_batch_size = carried_batch_size
        # Batches differ in length: compile(jit_compile="auto") would compile once for each.
        self.supports_jit = False
        policy = self.dtype_policy
        self.widths = [config.hidden_dim] * config.num_layers
        if config.tie_embeddings:
            self.widths[-1] = config.embedding_dim
        # Not scaled: tanh and sigmoid want small inputs, and no position is added to an embedded token.
        self.embedding = TokenEmbedding(
            config.vocabulary_size, config.embedding_dim, scale=False, dtype=policy, name="embedding"
        )
        self.word_dropout = Dropout(config.embedding_dropout, dtype=policy, name="word_dropout")
        self.lstms = [
            LSTM(width, weight_drop=config.weight_drop, dtype=policy, name=f"lstm_{i}")
            for i, width in enumerate(self.widths)
        ]
        # The first falls on the embedded tokens, each other on the output of a layer.
        self.dropouts = [
            Dropout(
                config.dropout,
                noise_shape=(None, 1, None) if config.locked_dropout else None,
                dtype=policy,
                name=f"dropout_{i}",
            )
            for i in range(config.num_layers + 1)
        ]
        if not config.tie_embeddings:
            self.output_dense = keras.layers.Dense(config.vocabulary_size, dtype=policy, name="output")
        if carried_batch_size is not None:
            self.carried = CarriedState(carried_batch_size, self.widths, name="carried")
        self.build()

    def build(self, input_shape: Any = None) -> None:
        self.embedding.build()
        for layer, dim in zip(self.lstms, [self.config.embedding_dim, *self.widths], strict=False):
            layer.build((None, None, dim))
        if self.config.tie_embeddings:
            self.output_bias = self.add_weight(
                name="output_bias", shape=(self.config.vocabulary_size,), initializer="zeros", autocast=False
            )
        else:
            self.output_dense.build((None, None, self.widths[-1]))
        for layer in (self.word_dropout, *self.dropouts):
            layer.build((None, None, None))
        if self.carried_batch_size is not None:
            self.carried.build()

    def input_signature(self) -> dict[str, tf.TensorSpec]:
        """The model's inputs by name: dataset features, SavedModel `tokens` inputs and ONNX inputs alike."""
        return {name: tf.TensorSpec((None, None), tf.int32, name=name) for name in ("token_ids", "padding_mask")}

    def call(self, inputs: dict[str, Any], training: bool = False) -> Any:
        carries = training and self.carried_batch_size is not None and "continues" in inputs
        if carries:
            state = self.carried.read(inputs["continues"])
        else:
            state = self.empty_state(ops.shape(inputs["token_ids"])[0])
        x, state = self._advance(inputs["token_ids"], state, inputs["padding_mask"], training)
        if carries:
            self.carried.write(state)
        return self._logits(x)

    def empty_state(self, num_rows: Any) -> State:
        """The state before the first token: for every layer i zeros as `hidden_i` and `cell_i`, each (B, D_i)."""
        return {
            f"{kind}_{i}": tf.zeros([num_rows, width])
            for i, width in enumerate(self.widths)
            for kind in ("hidden", "cell")
        }

    def prompt(self, inputs: dict[str, Any]) -> tuple[Any, Any]:
        """The tokens that stand before the first generated one: `token_ids` and `padding_mask` themselves."""
        return ops.cast(inputs["token_ids"], "int32"), ops.cast(inputs["padding_mask"], "int32")

    def start(self, inputs: dict[str, Any], training: bool = False) -> State:
        """Reads the prompt but its last token, which is for the first `step`.

        Args:
            inputs: `token_ids` (B, P) int32 and `padding_mask` (B, P) int32, padded on the right, at least one real
                token a row; other keys are ignored.
            training: whether dropout is on.

        Returns: for every layer i `hidden_i` and `cell_i`, each (B, D_i) float32.
        """
        token_ids, mask = self.prompt(inputs)
        num_before = ops.sum(mask, axis=1, keepdims=True) - 1
        before = ops.cast(ops.expand_dims(ops.arange(ops.shape(mask)[1]), 0) < num_before, "int32")
        return self._advance(token_ids, self.empty_state(ops.shape(token_ids)[0]), before, training)[1]

    def step(self, token_ids: Any, state: State, training: bool = False, padding_mask: Any = None) -> tuple[Any, State]:
        """Reads T more tokens.

        Args:
            token_ids: (B, T) int32, the tokens after those that `state` has seen.
            state: from `start`, `empty_state` or the step before.
            training: whether dropout is on.
            padding_mask: (B, T) int32, 1 = real token, padded on the right; None = all real.

        Returns: (B, T, V) float32 logits, and the state after each row's last real token.
        """
        x, state = self._advance(token_ids, state, padding_mask, training)
        return self._logits(x), state

    def _advance(self, token_ids: Any, state: State, padding_mask: Any, training: bool) -> tuple[Any, State]:
        check_length(token_ids, self.config.max_sequence_length)
        token_ids = ops.cast(token_ids, "int32")
        x = self.embedding(token_ids)
        if training and self.config.embedding_dropout:
            kept = self.word_dropout(ops.ones((self.config.vocabulary_size, 1), self.compute_dtype), training=True)
            x = x * tf.gather(kept, token_ids)
        x = self.dropouts[0](x, training=training)
        state = dict(state)
        for i, (layer, dropout) in enumerate(zip(self.lstms, self.dropouts[1:], strict=True)):
            x, state[f"hidden_{i}"], state[f"cell_{i}"] = layer(
                x, state[f"hidden_{i}"], state[f"cell_{i}"], padding_mask, training=training
            )
            x = dropout(x, training=training)
        return x, state

    def _logits(self, x: Any) -> Any:
        if self.config.tie_embeddings:
            return self.embedding.logits(x) + ops.convert_to_tensor(self.output_bias)
        return ops.cast(self.output_dense(x), "float32")

    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "dtype": keras.saving.serialize_keras_object(self.dtype_policy),
            "config": dataclasses.asdict(self.config),
            "carried_batch_size": self.carried_batch_size,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> LstmLanguageModel:
        dtype = keras.saving.deserialize_keras_object(config["dtype"])
        return cls(
            LstmLmConfig(**config["config"]),
            carried_batch_size=config["carried_batch_size"],
            name=config["name"],
            dtype=dtype,
        )
