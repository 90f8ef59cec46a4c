"""GRU encoder-decoder with attention (Bahdanau et al., 2015, https://arxiv.org/abs/1409.0473).

Three ways to look at the source, by `config.attention`:

* "additive" (Bahdanau et al.): the state before a token asks the source for a context, which the decoder reads with the
  token; logits come from state, token and context by a layer of maxout (appendix A.2.2).
* "multiplicative" (Luong et al., 2015, https://arxiv.org/abs/1508.04025): the state after a token asks; state and
  context make the attentional vector, from which logits come, and which with input feeding is read with the next token.
* "none": the encoder's last state begins the decoder's (Sutskever et al., 2014), and with input feeding is read with
  every token and by the maxout too (Cho et al., 2014).

Where what the decoder reads does not depend on its own last step ("multiplicative" without input feeding, "none"),
each layer runs over all target tokens at once, and so does attention. Bahdanau's context and Luong's input feeding do
depend on it: there all layers and the attention advance together, a token at a time.

Differs from the papers: gates are those of `tfzoo.layers.gru`, in Luong's place of an LSTM too; the decoder's first
state is made of both directions' last ones (Bahdanau: of the backward one's); the maxout reads the state behind the
token as in Bahdanau's equation 4 (the appendix has the one before); layers may be stacked in all of them, and dropout
falls between layers. With one shared vocabulary both sides have one embedding; the output projection has its own.

There is one forward: `call` is `start` (encode the source) followed by `step` (decode tokens given a state).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from tfzoo.layers.dropout import Dropout
from tfzoo.layers.embeddings import TokenEmbedding, check_length
from tfzoo.layers.gru import GRU
from tfzoo.layers.scan import scan
from tfzoo.layers.scheduled_sampling import Ratio, ScheduledSampling
from tfzoo.layers.source_attention import AdditiveAttention, MultiplicativeAttention
from tfzoo.models.config import GruSeq2SeqConfig

State = dict[str, Any]


@keras.saving.register_keras_serializable("tfzoo")
class GruSeq2Seq(keras.Model):
    """The whole model: a plain `keras.Model`, built on construction.

    Args:
        config: a `GruSeq2SeqConfig`.
        teacher_forcing_ratio: probability that the decoder reads a true token in training, and not its own prediction;
            a number, or a Keras schedule, which gives it by the number of training batches before. At 1 it always does.

    Call arguments:
        inputs: `encoder_token_ids` (B, S) int32, the source with its end token, padded on the right with `pad_id`, and
            `decoder_token_ids` (B, T) int32, the start token and the target shifted right.

    Returns: (B, T, V) float32 logits; position t scores the token after `decoder_token_ids[:, t]`.

    Raises:
        ValueError: S or T exceeds `max_sequence_length`, or `teacher_forcing_ratio` is out of its range.
    """

    task = "seq2seq"

    def __init__(
        self, config: GruSeq2SeqConfig, teacher_forcing_ratio: Ratio = 1.0, name: str = "gru_seq2seq", **kwargs: Any
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.config = config
        self.teacher_forcing_ratio = teacher_forcing_ratio
        # Batches differ in length: compile(jit_compile="auto") would compile once for each.
        self.supports_jit = False
        # Not scaled: tanh and sigmoid want small inputs, and no position is added to an embedded token.
        self.embedding = self._embedding("embedding", config.vocabulary_size)
        if config.source_vocabulary_size is None:
            self.source_embedding = self.embedding
        else:
            self.source_embedding = self._embedding("source_embedding", config.source_vocabulary_size)
        layers, policy = range(config.num_layers), self.dtype_policy
        self.encoder_grus = [
            GRU(config.hidden_dim, config.bidirectional, dtype=policy, name=f"encoder_gru_{i}") for i in layers
        ]
        self.decoder_grus = [GRU(config.hidden_dim, dtype=policy, name=f"decoder_gru_{i}") for i in layers]
        # The first falls on the embedded tokens, each other on the output of a layer.
        self.encoder_dropouts = [self._dropout(f"encoder_dropout_{i}") for i in range(config.num_layers + 1)]
        self.decoder_dropouts = [self._dropout(f"decoder_dropout_{i}") for i in range(config.num_layers + 1)]
        self.memory_dim = config.hidden_dim * (2 if config.bidirectional else 1)
        self.bridges = [self._dense(f"bridge_{i}", activation="tanh") for i in layers] if config.bidirectional else []
        # What the decoder knows of the source besides its first state: an attention's context, or the summary.
        self.attends = config.attention != "none"
        self.reads_source = self.attends or config.input_feeding
        if self.attends:
            attention = AdditiveAttention if config.attention == "additive" else MultiplicativeAttention
            self.source_attention = attention(config.hidden_dim, dtype=policy, name="source_attention")
        if config.attention == "multiplicative":
            self.attentional_dense = self._dense("attentional", activation="tanh", use_bias=False)
        elif self.reads_source:
            self.maxout_dense = self._dense("maxout")
        if self.reads_source:
            self.output_dropout = self._dropout("output_dropout")
        self.output_dense = keras.layers.Dense(config.vocabulary_size, dtype=policy, name="output")
        self.scheduled_sampling = None
        if teacher_forcing_ratio != 1:
            self.scheduled_sampling = ScheduledSampling(teacher_forcing_ratio, dtype=policy, name="scheduled_sampling")
        self.build()

    def _embedding(self, name: str, vocabulary_size: int) -> TokenEmbedding:
        return TokenEmbedding(
            vocabulary_size, self.config.embedding_dim, scale=False, dtype=self.dtype_policy, name=name
        )

    def _dropout(self, name: str) -> Dropout:
        return Dropout(self.config.dropout, dtype=self.dtype_policy, name=name)

    def _dense(self, name: str, **options: Any) -> keras.layers.Dense:
        return keras.layers.Dense(self.config.hidden_dim, dtype=self.dtype_policy, name=name, **options)

    def build(self, input_shape: Any = None) -> None:
        config = self.config
        embedded, hidden, memory = config.embedding_dim, config.hidden_dim, self.memory_dim
        self.embedding.build()
        if self.source_embedding is not self.embedding:
            self.source_embedding.build()
        context = memory if self.attends else hidden if self.reads_source else 0
        fed = {"additive": context, "multiplicative": hidden, "none": hidden}[config.attention]
        for i in range(config.num_layers):
            self.encoder_grus[i].build((None, None, embedded if i == 0 else memory))
            first = embedded + (fed if config.input_feeding else 0)
            self.decoder_grus[i].build((None, None, first if i == 0 else hidden))
        for bridge in self.bridges:
            bridge.build((None, memory))
        width = hidden
        if self.attends:
            self.source_attention.build((None, None, hidden), (None, None, hidden), (None, None, memory))
        if config.attention == "multiplicative":
            self.attentional_dense.build((None, None, memory + hidden))
        elif self.reads_source:
            self.maxout_dense.build((None, None, hidden + embedded + context))
            width = hidden // 2
        self.output_dense.build((None, None, width))
        for layer in self.layers:
            if not layer.built:
                layer.build((None, None, None))

    def input_signature(self) -> dict[str, tf.TensorSpec]:
        """The model's inputs by name: dataset features, SavedModel `tokens` inputs and ONNX inputs alike."""
        return {
            name: tf.TensorSpec((None, None), tf.int32, name=name)
            for name in ("encoder_token_ids", "decoder_token_ids")
        }

    def call(self, inputs: dict[str, Any], training: bool = False) -> Any:
        state = self.start(inputs, training=training)
        token_ids = inputs["decoder_token_ids"]
        if training and self.scheduled_sampling is not None:
            token_ids = self.scheduled_sampling(token_ids, step=self.step, state=state)
        logits, _ = self.step(token_ids, state, training=training)
        return logits

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
            inputs: `encoder_token_ids` (B, S) int32, padded on the right; other keys are ignored.
            training: whether dropout is on.

        Returns: the state before the first target token, batch first: for every layer i `hidden_i` (B, D) float32. With
            attention also `memory_padding_mask` (B, S) int32, `memory_key_0` (B, S, D) and `memory_value_0` (B, S, M),
            where M is 2 D of a bidirectional encoder, else D. With input feeding also `attentional_0` (B, D) float32,
            or without attention `memory_summary_0` (B, D) float32. No step changes an entry named `memory_`.
        """
        token_ids = inputs["encoder_token_ids"]
        check_length(token_ids, self.config.max_sequence_length)
        padding_mask = ops.cast(ops.not_equal(token_ids, self.config.pad_id), "int32")
        x = self.encoder_dropouts[0](self.source_embedding(token_ids), training=training)
        zeros = tf.zeros([ops.shape(token_ids)[0], self.memory_dim])
        state = {}
        for i, (layer, dropout) in enumerate(zip(self.encoder_grus, self.encoder_dropouts[1:], strict=True)):
            x, last = layer(x, zeros, padding_mask)
            x = dropout(x, training=training)
            state[f"hidden_{i}"] = ops.cast(self.bridges[i](last), "float32") if self.bridges else last
        if self.attends:
            state["memory_padding_mask"] = padding_mask
            state["memory_key_0"], state["memory_value_0"] = self.source_attention.key(x), x
        if self.config.attention == "multiplicative" and self.config.input_feeding:
            state["attentional_0"] = tf.zeros([ops.shape(token_ids)[0], self.config.hidden_dim])
        if self.config.attention == "none" and self.config.input_feeding:
            state["memory_summary_0"] = state[f"hidden_{self.config.num_layers - 1}"]
        return state

    def step(self, token_ids: Any, state: State, training: bool = False) -> tuple[Any, State]:
        """Decodes T more tokens.

        Args:
            token_ids: (B, T) int32, the tokens after those that `state` has seen.
            state: from `start` or from the step before.
            training: whether dropout is on.

        Returns: (B, T, V) float32 logits, and the state after these tokens; its `memory_` entries are unchanged.
        """
        y, _, state = self._decode(token_ids, state, training)
        return ops.cast(self.output_dense(y), "float32"), state

    def attention(self, inputs: dict[str, Any]) -> Any:
        """What the decoder looks at while it reads a given target.

        Args:
            inputs: as for `call`.

        Returns: (B, 1, 1, T, S) float32, for the one layer and head: the share of each source token, with which the
            token after `decoder_token_ids[:, t]` is scored; the shares of a t add up to 1.

        Raises:
            ValueError: the model has no attention.
        """
        if not self.attends:
            raise ValueError(f"this model has no attention; received attention={self.config.attention!r}.")
        _, weights, _ = self._decode(inputs["decoder_token_ids"], self.start(inputs), training=False)
        return ops.expand_dims(ops.expand_dims(weights, 1), 1)

    def _decode(self, token_ids: Any, state: State, training: bool) -> tuple[Any, Any, State]:
        """(B, T) ids -> what the output projection reads (B, T, D or D / 2), attention (B, T, S) or None, the state."""
        check_length(token_ids, self.config.max_sequence_length)
        x = self.decoder_dropouts[0](self.embedding(token_ids), training=training)
        if not (self.attends and self.config.input_feeding):
            return self._read(x, state, training)
        memory = {name: value for name, value in state.items() if name.startswith("memory_")}
        changing = {name: value for name, value in state.items() if name not in memory}

        def advance(inputs: list[Any], changing: State) -> tuple[list[Any], State]:
            y, weights, state = self._read(tf.expand_dims(inputs[0], 1), memory | changing, training)
            return [y[:, 0], weights[:, 0]], {name: state[name] for name in changing}

        outputs = [
            tf.TensorSpec((x.shape[0], self.output_dense.kernel.shape[0]), self.compute_dtype),
            tf.TensorSpec(state["memory_padding_mask"].shape),
        ]
        found, changing = scan(advance, [ops.transpose(x, (1, 0, 2))], changing, outputs)
        y, weights = (ops.transpose(value, (1, 0, 2)) for value in found)
        return y, weights, memory | changing

    def _read(self, x: Any, state: State, training: bool) -> tuple[Any, Any, State]:
        """As `_decode`, of embedded tokens (B, T, E); with attention and input feeding T is 1."""
        config, state = self.config, dict(state)
        source = [state[f"memory_{name}"] for name in ("key_0", "value_0", "padding_mask")] if self.attends else []
        context = weights = None
        fed = [x]
        if config.attention == "additive":
            query = ops.cast(ops.expand_dims(state[f"hidden_{config.num_layers - 1}"], 1), self.compute_dtype)
            context, weights = self.source_attention(query, *source)
            fed.append(context)
        elif config.attention == "multiplicative" and config.input_feeding:
            fed.append(ops.cast(ops.expand_dims(state["attentional_0"], 1), self.compute_dtype))
        elif config.input_feeding:
            summary = ops.cast(ops.expand_dims(state["memory_summary_0"], 1), self.compute_dtype)
            context = tf.repeat(summary, tf.shape(x)[1], axis=1)
            fed.append(context)
        y = ops.concatenate(fed, axis=2)
        for i, (layer, dropout) in enumerate(zip(self.decoder_grus, self.decoder_dropouts[1:], strict=True)):
            y, state[f"hidden_{i}"] = layer(y, state[f"hidden_{i}"])
            y = dropout(y, training=training)
        if config.attention == "multiplicative":
            context, weights = self.source_attention(y, *source)
            y = self.output_dropout(self.attentional_dense(ops.concatenate([context, y], axis=2)), training=training)
            if config.input_feeding:
                state["attentional_0"] = ops.cast(y[:, 0], "float32")
        elif context is not None:
            y = ops.maximum(*ops.split(self.maxout_dense(ops.concatenate([y, x, context], axis=2)), 2, axis=2))
            y = self.output_dropout(y, training=training)
        return y, weights, state

    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "dtype": keras.saving.serialize_keras_object(self.dtype_policy),
            "config": dataclasses.asdict(self.config),
            "teacher_forcing_ratio": keras.saving.serialize_keras_object(self.teacher_forcing_ratio),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> GruSeq2Seq:
        return cls(
            GruSeq2SeqConfig(**config["config"]),
            teacher_forcing_ratio=keras.saving.deserialize_keras_object(config["teacher_forcing_ratio"]),
            name=config["name"],
            dtype=keras.saving.deserialize_keras_object(config["dtype"]),
        )
