"""Names at the ONNX border, where Hugging Face's world has its own (optimum, transformers.js)."""

from __future__ import annotations

MODEL, GENERATE = "onnx/model.onnx", "onnx/generate.onnx"
ENCODER, DECODER = "onnx/encoder_model.onnx", "onnx/decoder_model_merged.onnx"
TEXT_MODEL = "onnx/model_text.onnx"  # of an encoder, with its tokenizer

# Of an encoder: our name -> theirs.
ENCODER_INPUTS = {"token_ids": "input_ids", "padding_mask": "attention_mask", "segment_ids": "token_type_ids"}
HIDDEN_STATE, SENTENCE_EMBEDDING = "last_hidden_state", "sentence_embedding"
TEXT, SCORES = "text", "scores"  # of `TEXT_MODEL`

# Task -> kind of state entry -> (prefix of the input, what follows the layer). A recurrent state has no name there.
_STATE_PARTS = {
    "seq2seq": {
        "self_key": ("past_key_values", "decoder.key"),
        "self_value": ("past_key_values", "decoder.value"),
        "memory_key": ("past_key_values", "encoder.key"),
        "memory_value": ("past_key_values", "encoder.value"),
        "memory_summary": ("past_states", "encoder.summary"),
        "hidden": ("past_states", "decoder.hidden"),
        "attentional": ("past_states", "decoder.attentional"),
    },
    "causal_lm": {
        "self_key": ("past_key_values", "key"),
        "self_value": ("past_key_values", "value"),
        "hidden": ("past_states", "hidden"),
        "cell": ("past_states", "cell"),
    },
}


def past_name(task: str, entry: str) -> str:
    """The ONNX input that a state entry comes from.

    >>> past_name("seq2seq", "self_key_3")
    'past_key_values.3.decoder.key'
    """
    kind, layer = entry.rsplit("_", 1)
    prefix, part = _STATE_PARTS[task][kind]
    return f"{prefix}.{layer}.{part}"


def present_name(task: str, entry: str) -> str:
    """The ONNX output that a state entry goes to.

    >>> present_name("seq2seq", "self_key_3")
    'present.3.decoder.key'
    """
    _, _, rest = past_name(task, entry).partition(".")
    return f"present.{rest}"
