"""Encoder-decoder Transformer (Vaswani et al., 2017, https://arxiv.org/abs/1706.03762).

Differs from the paper: with one shared vocabulary the two embeddings and the output projection are one table
(section 3.4); with two vocabularies the source has a table of its own. Pre-norm, learned positions, other activations
and a bias of the logits are options: what Marian's models (Junczys-Dowmunt et al., 2018) have is among them.
Dropout also falls on attention weights and on the feed-forward's intermediate activations, as in the authors' code.

There is one forward: `call` is `start` (encode the source) followed by `step` (decode tokens given a state), and
decoding a token at a time is the same `step` with a state that has grown.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from tfzoo.layers.dropout import Dropout
from tfzoo.layers.embeddings import PositionEmbedding, TokenEmbedding
from tfzoo.layers.masks import causal_mask, padding_mask_to_attention_mask
from tfzoo.layers.normalization import LayerNormalization
from tfzoo.layers.transformer import DecoderBlock, EncoderBlock
from tfzoo.models.config import TransformerConfig

State = dict[str, Any]


@keras.saving.register_keras_serializable("tfzoo")
class Transformer(keras.Model):
    """The whole model: a plain `keras.Model`, built on construction.

    Args:
        config: a `TransformerConfig`.

    Call arguments:
        inputs: `encoder_token_ids` (B, S) int32, the source with its end token, padded with `pad_id`, and
            `decoder_token_ids` (B, T) int32, the start token and the target shifted right.

    Returns: (B, T, V) float32 logits; position t scores the token after `decoder_token_ids[:, t]`.

    Raises:
        ValueError: S or T exceeds `max_sequence_length`.
    """

    task = "seq2seq"

    def __init__(self, config: TransformerConfig, name: str = "transformer", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.config = config
        # Batches differ in length: compile(jit_compile="auto") would compile once for each.
        self.supports_jit = False
        policy = self.dtype_policy
        block = {
            "hidden_dim": config.hidden_dim,
            "intermediate_dim": config.intermediate_dim,
            "num_heads": config.num_heads,
            "dropout": config.dropout,
            "normalize_first": config.normalize_first,
            "activation": config.activation,
            "epsilon": config.layer_norm_epsilon,
            "dtype": policy,
        }
        self.embedding = self._embedding(config.vocabulary_size, "embedding")
        if config.source_vocabulary_size is None:
            self.source_embedding = self.embedding
        else:
            self.source_embedding = self._embedding(config.source_vocabulary_size, "source_embedding")
        self.encoder_positions = self._positions("encoder_positions")
        self.decoder_positions = self._positions("decoder_positions")
        self.encoder_dropout = Dropout(config.dropout, dtype=policy, name="encoder_dropout")
        self.decoder_dropout = Dropout(config.dropout, dtype=policy, name="decoder_dropout")
        self.encoder_blocks = [EncoderBlock(**block, name=f"encoder_block_{i}") for i in range(config.num_layers)]
        self.decoder_blocks = [DecoderBlock(**block, name=f"decoder_block_{i}") for i in range(config.num_layers)]
        if config.normalize_first:  # the residual stream of a pre-norm stack leaves it unnormalized
            epsilon = config.layer_norm_epsilon
            self.encoder_normalization = LayerNormalization(epsilon, dtype=policy, name="encoder_normalization")
            self.decoder_normalization = LayerNormalization(epsilon, dtype=policy, name="decoder_normalization")
        self.logits_bias = None
        if config.logits_bias:
            self.logits_bias = self.add_weight(
                name="logits_bias", shape=(config.vocabulary_size,), initializer="zeros", autocast=False
            )
        self.build()

    def _embedding(self, vocabulary_size: int, name: str) -> TokenEmbedding:
        # The table starts at 1 / sqrt(D) either way: a logit begins near unit variance.
        return TokenEmbedding(
            vocabulary_size,
            self.config.hidden_dim,
            scale=self.config.scale_embeddings,
            dtype=self.dtype_policy,
            name=name,
        )

    def _positions(self, name: str) -> PositionEmbedding:
        return PositionEmbedding(
            self.config.max_sequence_length,
            self.config.hidden_dim,
            learned=self.config.positions == "learned",
            halves=self.config.positions == "sinusoidal_halves",
            dtype=self.dtype_policy,
            name=name,
        )

    def build(self, input_shape: Any = None) -> None:
        for layer in self.layers:
            if not layer.built:
                layer.build((None, None, self.config.hidden_dim))

    def input_signature(self) -> dict[str, tf.TensorSpec]:
        """The model's inputs by name: dataset features, SavedModel `tokens` inputs and ONNX inputs alike."""
        return {
            name: tf.TensorSpec((None, None), tf.int32, name=name)
            for name in ("encoder_token_ids", "decoder_token_ids")
        }

    def call(self, inputs: dict[str, Any], training: bool = False) -> Any:
        state = self.start(inputs, training=training)
        logits, _ = self.step(inputs["decoder_token_ids"], state, training=training)
        return logits

    def encode(self, token_ids: Any, padding_mask: Any, training: bool = False) -> Any:
        """(B, S) source ids and their mask (1 = real) -> (B, S, D) memory."""
        mask = padding_mask_to_attention_mask(padding_mask)
        x = self.encoder_positions(self.source_embedding(token_ids))
        x = self.encoder_dropout(x, training=training)
        for block in self.encoder_blocks:
            x = block(x, mask, training=training)
        return self.encoder_normalization(x) if self.config.normalize_first else x

    def memory_state(self, memory: Any) -> State:
        """(B, S, D) memory -> `memory_key_i` and `memory_value_i`, each (B, H, S, K), for every layer i."""
        state = {}
        for i, block in enumerate(self.decoder_blocks):
            state[f"memory_key_{i}"], state[f"memory_value_{i}"] = block.memory_keys_and_values(memory)
        return state

    def prompt(self, inputs: dict[str, Any]) -> tuple[Any, Any]:
        """The tokens that stand before the first generated one: the start token.

        Args:
            inputs: `encoder_token_ids` (B, S) int32; other keys are ignored.

        Returns: token ids (B, 1) int32, and a mask of ones of the same shape.
        """
        shape = [ops.shape(inputs["encoder_token_ids"])[0], 1]
        return tf.fill(shape, self.config.start_id), tf.ones(shape, tf.int32)

    def start(self, inputs: dict[str, Any], training: bool = False) -> State:
        """Encodes the source.

        Args:
            inputs: `encoder_token_ids` (B, S) int32; other keys are ignored.
            training: whether dropout is on.

        Returns: the state before the first target token, batch first. `memory_padding_mask` (B, S) int32, and for
            every layer i `memory_key_i`, `memory_value_i` (B, H, S, K): no step changes an entry named `memory_`.
            `self_key_i`, `self_value_i` (B, H, P, K) with P = 0: a step appends to them.
        """
        token_ids = inputs["encoder_token_ids"]
        padding_mask = ops.cast(ops.not_equal(token_ids, self.config.pad_id), "int32")
        state = self.memory_state(self.encode(token_ids, padding_mask, training=training))
        state["memory_padding_mask"] = padding_mask
        heads, head_dim = self.config.num_heads, self.config.hidden_dim // self.config.num_heads
        empty = ops.zeros((ops.shape(token_ids)[0], heads, 0, head_dim), self.compute_dtype)
        for i in range(self.config.num_layers):
            state[f"self_key_{i}"] = state[f"self_value_{i}"] = empty
        return state

    def step(self, token_ids: Any, state: State, training: bool = False) -> tuple[Any, State]:
        """Decodes T more tokens.

        Args:
            token_ids: (B, T) int32, the tokens after the P that `state` has seen.
            state: from `start` or from the step before.
            training: whether dropout is on.

        Returns: (B, T, V) float32 logits, and the state with P + T tokens; its `memory_` entries are unchanged.
        """
        x, state, _ = self._decode(token_ids, state, training)
        logits = self.embedding.logits(x)
        return logits if self.logits_bias is None else logits + self.logits_bias, state

    def attention(self, inputs: dict[str, Any]) -> Any:
        """What the decoder looks at while it reads a given target.

        Args:
            inputs: as for `call`.

        Returns: (B, L, H, T, S) float32, for each layer and head: the share of each source token, with which the token
            after `decoder_token_ids[:, t]` is scored; the shares of a t add up to 1.
        """
        _, _, weights = self._decode(inputs["decoder_token_ids"], self.start(inputs), training=False)
        return ops.cast(ops.stack(weights, axis=1), "float32")

    def _decode(self, token_ids: Any, state: State, training: bool) -> tuple[Any, State, list[Any]]:
        """(B, T) ids -> what the output projection reads (B, T, D), the state, attention (B, H, T, S) of each layer."""
        num_past = ops.shape(state["self_key_0"])[2]
        self_mask = causal_mask(ops.shape(token_ids)[1], num_past)
        memory_mask = padding_mask_to_attention_mask(state["memory_padding_mask"])
        x = self.decoder_positions(self.embedding(token_ids), offset=num_past)
        x = self.decoder_dropout(x, training=training)
        state, weights = dict(state), []
        for i, block in enumerate(self.decoder_blocks):
            x, state[f"self_key_{i}"], state[f"self_value_{i}"], looks = block(
                x,
                (state[f"self_key_{i}"], state[f"self_value_{i}"]),
                (state[f"memory_key_{i}"], state[f"memory_value_{i}"]),
                self_mask,
                memory_mask,
                training=training,
            )
            weights.append(looks)
        if self.config.normalize_first:
            x = self.decoder_normalization(x)
        return x, state, weights

    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "dtype": keras.saving.serialize_keras_object(self.dtype_policy),
            "config": dataclasses.asdict(self.config),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Transformer:
        dtype = keras.saving.deserialize_keras_object(config["dtype"])
        return cls(TransformerConfig(**config["config"]), name=config["name"], dtype=dtype)
