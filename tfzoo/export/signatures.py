"""What a served model answers to: named functions of named tensors, batch first on every input and output.

A TF Serving server may merge requests along axis 0 and pad with a tensor's own first element. So the signatures for
text take strings of shape (B,), options come one for each row, nothing is scalar or ragged, and only `tokens` takes
ids: rows of unequal length are padded there with `pad_id`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

import keras
import tensorflow as tf

from tfzoo.data.examples import encode_prompt, encode_source
from tfzoo.decoding.config import ROW_OPTIONS, DecodingConfig, positions_left
from tfzoo.decoding.generate import generate, search
from tfzoo.runtime.head import Head
from tfzoo.text import TokenizerPair


class Signature(NamedTuple):
    """A function of tensors, and the name, shape and type of each of its inputs."""

    function: Callable[..., dict[str, tf.Tensor]]
    inputs: list[tf.TensorSpec]


def signatures(model: keras.Model, tokenizer: TokenizerPair, decoding: DecodingConfig) -> dict[str, Signature]:
    """The signatures of a model that generates text.

    Args:
        model: a zoo model. TEXT below is `source` for `task = "seq2seq"` and `text` for `task = "causal_lm"`; INPUTS is
            `encoder_token_ids`, or `token_ids` and `padding_mask`.
        tokenizer: its tokenizers.
        decoding: how `serving_default` searches; it answers one sequence per text.

    Returns: signature name -> signature.
        `serving_default`: TEXT (B,) string -> `outputs` (B,) string, cut before the first stop string, and `scores`
        (B,) float32.
        `generate`: TEXT and each of `ROW_OPTIONS` (B,) -> `outputs` (B, W) string, `scores` (B, W) float32, `token_ids`
        (B, W, T) int32 and `log_probs` (B, W, T) float32, best first; W is the most beams of any row, and a row with
        fewer has "" with a score of -1e9 in the rest.
        `tokens`: the model's `input_signature` -> `logits` (B, T, V) float32.
        `tokenize`: TEXT (B,) string -> INPUTS (B, S) int32, padded: sources with the end token, or prompts.
        `detokenize`: `token_ids` (B, T) int32 of the answer's side, padded -> `outputs` (B,) string.
    """
    encode = {"seq2seq": _sources, "causal_lm": _prompts}[model.task]

    def serve(text: tf.Tensor) -> dict[str, tf.Tensor]:
        inputs = encode(model, tokenizer, text, decoding.max_length)
        found = generate(model, inputs, decoding)
        outputs = tokenizer.target.detokenize(found["token_ids"])
        return {"outputs": _cut_at_stop(outputs, decoding.stop), "scores": found["scores"]}

    def generate_with_options(text: tf.Tensor, *options: tf.Tensor) -> dict[str, tf.Tensor]:
        by_name = dict(zip(ROW_OPTIONS, options, strict=True))
        found = search(model, encode(model, tokenizer, text, by_name["max_length"]), **by_name)
        shape = tf.shape(found["token_ids"])
        outputs = tokenizer.target.detokenize(tf.reshape(found["token_ids"], [shape[0] * shape[1], shape[2]]))
        return {"outputs": tf.reshape(outputs, shape[:2]), **found}

    def score_tokens(*inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"logits": model(dict(zip(model.input_signature(), inputs, strict=True)), training=False)}

    def tokenize(text: tf.Tensor) -> dict[str, tf.Tensor]:
        return encode(model, tokenizer, text, 1)

    def detokenize(token_ids: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"outputs": tokenizer.target.detokenize(token_ids)}

    (text_input,) = Head.of(model.config).text_inputs
    text_spec = tf.TensorSpec((None,), tf.string, name=text_input)
    option_specs = [tf.TensorSpec((None,), dtype, name=name) for name, dtype in ROW_OPTIONS.items()]
    return {
        "serving_default": Signature(serve, [text_spec]),
        "generate": Signature(generate_with_options, [text_spec, *option_specs]),
        "tokens": Signature(score_tokens, list(model.input_signature().values())),
        "tokenize": Signature(tokenize, [text_spec]),
        "detokenize": Signature(detokenize, [tf.TensorSpec((None, None), tf.int32, name="token_ids")]),
    }


def _sources(
    model: keras.Model, tokenizer: TokenizerPair, text: tf.Tensor, new_tokens: int | tf.Tensor
) -> dict[str, tf.Tensor]:
    """As `tfzoo.runtime.tasks.encode_sources`: a target has positions of its own."""
    token_ids = encode_source(text, tokenizer.source, model.config.max_sequence_length)
    return {"encoder_token_ids": token_ids.to_tensor(model.config.pad_id)}


def _prompts(
    model: keras.Model, tokenizer: TokenizerPair, text: tf.Tensor, new_tokens: int | tf.Tensor
) -> dict[str, tf.Tensor]:
    """As `tfzoo.runtime.tasks.encode_prompts`."""
    if tokenizer.prompt_suffix:
        text = tf.strings.join([text, tokenizer.prompt_suffix])
    kept = tf.maximum(positions_left(model.config.max_sequence_length, new_tokens), 1)
    return encode_prompt(text, tokenizer.source, kept)


def _cut_at_stop(outputs: tf.Tensor, stop: tuple[str, ...]) -> tf.Tensor:
    """As `tfzoo.runtime.predictor.cut_at_stop`."""
    if not stop:
        return outputs
    return tf.strings.regex_replace(outputs, f"(?s)(?:{'|'.join(map(re.escape, stop))}).*", "", replace_global=False)
