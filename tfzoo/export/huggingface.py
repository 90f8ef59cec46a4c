"""The configuration files by which Hugging Face's tools open an artifact's ONNX graphs."""

from __future__ import annotations

from typing import Any

from tfzoo.decoding.config import DecodingConfig
from tfzoo.models.config import TransformerConfig


def config_files(config: TransformerConfig, decoding: DecodingConfig) -> dict[str, dict[str, Any]]:
    """File name -> content of config.json and generation_config.json.

    `model_type` is "marian", the encoder-decoder there whose graphs have our inputs and outputs; the graphs are read,
    never the architecture rebuilt from these numbers.
    """
    special = {
        "pad_token_id": config.pad_id,
        "bos_token_id": config.start_id,
        "eos_token_id": config.end_id,
        "decoder_start_token_id": config.start_id,
    }
    return {
        "config.json": {
            "model_type": "marian",
            "architectures": ["MarianMTModel"],
            "is_encoder_decoder": True,
            "vocab_size": config.source_vocabulary_size or config.vocabulary_size,
            "decoder_vocab_size": config.vocabulary_size,
            "d_model": config.hidden_dim,
            "encoder_layers": config.num_layers,
            "decoder_layers": config.num_layers,
            "encoder_attention_heads": config.num_heads,
            "decoder_attention_heads": config.num_heads,
            "encoder_ffn_dim": config.intermediate_dim,
            "decoder_ffn_dim": config.intermediate_dim,
            "activation_function": "relu",
            "max_position_embeddings": config.max_sequence_length,
            "share_encoder_decoder_embeddings": config.source_vocabulary_size is None,
            "forced_eos_token_id": config.end_id,
            "use_cache": True,
            **special,
        },
        "generation_config.json": {
            "max_new_tokens": decoding.max_length,
            "num_beams": decoding.num_beams,
            **special,
        },
    }
