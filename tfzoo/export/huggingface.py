"""The configuration files by which Hugging Face's tools open an artifact's ONNX graphs.

optimum's `ORTModelForSeq2SeqLM` and transformers.js read the encoder and the decoder, and search by loops of their own.
Those differ from ours: theirs divide a score by length ** length_penalty where ours divides by
((5 + length) / 6) ** length_penalty; with a length penalty of 0 the two agree. transformers.js has no beam search, goes
on behind the end token until every row of a batch has ended, and cuts the end token off a source that is too long.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tfzoo.decoding.config import DecodingConfig
from tfzoo.models.config import TransformerConfig
from tfzoo.text.huggingface import CONFIG_FILE, to_bytes


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
            # The width of the logits, which is all that its readers take it for, whatever the source's vocabulary is.
            "vocab_size": config.vocabulary_size,
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
            # Marian's default forces an end at the length limit; our searches may stop there without one.
            "forced_eos_token_id": None,
            "use_cache": True,
            # In a browser it would look for quantized graphs.
            "transformers.js_config": {"dtype": "fp32"},
            **special,
        },
        "generation_config.json": {
            "max_new_tokens": decoding.max_length,
            "num_beams": decoding.num_beams,
            **_search(decoding),
            **special,
        },
    }


def _search(decoding: DecodingConfig) -> dict[str, Any]:
    if decoding.temperature > 0:
        return {
            "do_sample": True,
            "temperature": decoding.temperature,
            "top_k": decoding.top_k,
            "top_p": decoding.top_p,
        }
    if decoding.num_beams > 1:
        return {"early_stopping": True, "length_penalty": decoding.length_penalty}
    return {}


def limit_tokenizers(directory: Path, max_length: int) -> None:
    """Tells Hugging Face's tokenizers where the model cuts a text.

    Args:
        directory: an artifact under construction.
        max_length: longest sequence in tokens, the end token included.
    """
    for path in sorted(directory.rglob(CONFIG_FILE)):
        path.write_bytes(to_bytes({**json.loads(path.read_bytes()), "model_max_length": max_length}))
