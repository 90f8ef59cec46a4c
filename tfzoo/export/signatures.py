"""What a served model answers to, by task: named functions of named tensors, batch first on every input and output.

A TF Serving server may merge requests along axis 0 and pad with a tensor's own first element. So the signatures for
text take strings of shape (B,), options come one for each row, nothing is scalar or ragged, and only `tokens` takes
ids: rows of unequal length are padded there with `pad_id`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import keras
import tensorflow as tf

from tfzoo.data.examples import encode_source
from tfzoo.decoding.config import ROW_OPTIONS, DecodingConfig
from tfzoo.decoding.generate import generate, search
from tfzoo.text import TokenizerPair


class Signature(NamedTuple):
    """A function of tensors, and the name, shape and type of each of its inputs."""

    function: Callable[..., dict[str, tf.Tensor]]
    inputs: list[tf.TensorSpec]


def seq2seq_signatures(model: keras.Model, tokenizer: TokenizerPair, decoding: DecodingConfig) -> dict[str, Signature]:
    """The signatures of a text-to-text model.

    Args:
        model: a zoo model with `task = "seq2seq"`.
        tokenizer: its tokenizers.
        decoding: how `serving_default` searches; it answers one sequence per text.

    Returns: signature name -> signature.
        `serving_default`: `source` (B,) string -> `outputs` (B,) string, `scores` (B,) float32.
        `generate`: `source` and each of `ROW_OPTIONS` (B,) -> `outputs` (B, W) string, `scores` (B, W) float32 and
        `token_ids` (B, W, T) int32, best first; W is the most beams of any row, and a row with fewer has
        "" with a score of -1e9 in the rest.
        `tokens`: the model's `input_signature` -> `logits` (B, T, V) float32.
        `tokenize`: `source` (B,) string -> `encoder_token_ids` (B, S) int32 with the end token, padded, for `tokens`.
        `detokenize`: `token_ids` (B, T) int32 of the target, padded -> `outputs` (B,) string.
    """

    def source_inputs(source: tf.Tensor) -> dict[str, tf.Tensor]:
        token_ids = encode_source(source, tokenizer.source, model.config.max_sequence_length)
        return {"encoder_token_ids": token_ids.to_tensor(model.config.pad_id)}

    def serve(source: tf.Tensor) -> dict[str, tf.Tensor]:
        found = generate(model, source_inputs(source), decoding)
        return {"outputs": tokenizer.target.detokenize(found["token_ids"]), "scores": found["scores"]}

    def generate_with_options(source: tf.Tensor, *options: tf.Tensor) -> dict[str, tf.Tensor]:
        found = search(model, source_inputs(source), **dict(zip(ROW_OPTIONS, options, strict=True)))
        shape = tf.shape(found["token_ids"])
        outputs = tokenizer.target.detokenize(tf.reshape(found["token_ids"], [shape[0] * shape[1], shape[2]]))
        return {
            "outputs": tf.reshape(outputs, shape[:2]),
            "scores": found["scores"],
            "token_ids": found["token_ids"],
        }

    def score_tokens(*inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"logits": model(dict(zip(model.input_signature(), inputs, strict=True)), training=False)}

    def detokenize(token_ids: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"outputs": tokenizer.target.detokenize(token_ids)}

    source_spec = tf.TensorSpec((None,), tf.string, name="source")
    option_specs = [tf.TensorSpec((None,), dtype, name=name) for name, dtype in ROW_OPTIONS.items()]
    return {
        "serving_default": Signature(serve, [source_spec]),
        "generate": Signature(generate_with_options, [source_spec, *option_specs]),
        "tokens": Signature(score_tokens, list(model.input_signature().values())),
        "tokenize": Signature(source_inputs, [source_spec]),
        "detokenize": Signature(detokenize, [tf.TensorSpec((None, None), tf.int32, name="token_ids")]),
    }
