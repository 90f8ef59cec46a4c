"""Names at the ONNX border, where Hugging Face's world has its own (optimum, transformers.js)."""

from __future__ import annotations

ENCODER, DECODER, GENERATE = "onnx/encoder_model.onnx", "onnx/decoder_model_merged.onnx", "onnx/generate.onnx"

# Kinds of state entry -> where each stands in `past_key_values.<layer>.` and `present.<layer>.`
_STATE_PARTS = {
    "self_key": "decoder.key",
    "self_value": "decoder.value",
    "memory_key": "encoder.key",
    "memory_value": "encoder.value",
}


def state_name(entry: str, prefix: str) -> str:
    """The ONNX name of a state entry.

    >>> state_name("self_key_3", "past_key_values")
    'past_key_values.3.decoder.key'
    """
    kind, layer = entry.rsplit("_", 1)
    return f"{prefix}.{layer}.{_STATE_PARTS[kind]}"
