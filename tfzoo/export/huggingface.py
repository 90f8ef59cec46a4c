"""The configuration files by which Hugging Face's tools open an artifact's ONNX graphs.

optimum's `ORTModelForSeq2SeqLM` and `ORTModelForCausalLM`, and transformers.js, read the graphs, but for generate.onnx,
and search by loops of their own. Those differ from ours: theirs divide a score by length ** length_penalty where ours
divides by ((5 + length) / 6) ** length_penalty; with a length penalty of 0 the two agree. transformers.js has no beam
search, goes on behind the end token until every row of a batch has ended, and cuts the end token off a source that is
too long.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tfzoo.decoding.config import DecodingConfig
from tfzoo.models.config import GPT2Config, ModelConfig, TransformerConfig
from tfzoo.text.huggingface import CONFIG_FILE, to_bytes

# Of GPT-2: our field -> theirs, and its value where config.json leaves it out.
GPT2_FIELDS = {
    "vocabulary_size": ("vocab_size", 50257),
    "hidden_dim": ("n_embd", 768),
    "num_layers": ("n_layer", 12),
    "num_heads": ("n_head", 12),
    "layer_norm_epsilon": ("layer_norm_epsilon", 1e-5),
    "max_sequence_length": ("n_positions", 1024),
}
GPT2_DROPOUTS = ("resid_pdrop", "embd_pdrop", "attn_pdrop")
# What our GPT-2 has no other value of.
GPT2_FIXED = {
    "model_type": "gpt2",
    "activation_function": "gelu_new",
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
    "tie_word_embeddings": True,
}


def config_files(config: ModelConfig, decoding: DecodingConfig) -> dict[str, dict[str, Any]]:
    """File name -> content of config.json and generation_config.json.

    Args:
        config: of the model.
        decoding: how the default signature searches.
    """
    special = {"pad_token_id": config.pad_id, "bos_token_id": config.start_id, "eos_token_id": config.end_id}
    if isinstance(config, TransformerConfig):
        special["decoder_start_token_id"] = config.start_id
        architecture = _marian(config)
    elif isinstance(config, GPT2Config):
        architecture = _gpt2(config)
    else:
        architecture = {"model_type": "lstm_lm", "vocab_size": config.vocabulary_size}
    # In a browser transformers.js would look for quantized graphs.
    browser = {"transformers.js_config": {"dtype": "fp32"}}
    return {
        "config.json": architecture | {"use_cache": True} | browser | special,
        "generation_config.json": {
            "max_new_tokens": decoding.max_length,
            "num_beams": decoding.num_beams,
            **_search(decoding),
            **special,
        },
    }


def _marian(config: TransformerConfig) -> dict[str, Any]:
    """The encoder-decoder there whose graphs have our inputs and outputs.

    The graphs are read, never the architecture rebuilt from these numbers.
    """
    return {
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
    }


def _gpt2(config: GPT2Config) -> dict[str, Any]:
    return {
        **GPT2_FIXED,
        "architectures": ["GPT2LMHeadModel"],
        **{theirs: getattr(config, ours) for ours, (theirs, _) in GPT2_FIELDS.items()},
        "n_inner": config.intermediate_dim,
        **dict.fromkeys(GPT2_DROPOUTS, config.dropout),
    }


def _search(decoding: DecodingConfig) -> dict[str, Any]:
    changed: dict[str, Any] = {}
    if decoding.min_length:
        changed["min_new_tokens"] = decoding.min_length
    if decoding.repetition_penalty != 1:
        changed["repetition_penalty"] = decoding.repetition_penalty
    return changed | _strategy(decoding)


def _strategy(decoding: DecodingConfig) -> dict[str, Any]:
    if decoding.temperature > 0:
        return {
            "do_sample": True,
            "temperature": decoding.temperature,
            "top_k": decoding.top_k,
            "top_p": decoding.top_p,
        }
    if decoding.num_beams > 1:
        return {"do_sample": False, "early_stopping": True, "length_penalty": decoding.length_penalty}
    return {"do_sample": False}


def fit_tokenizers(directory: Path, max_length: int, task: str) -> None:
    """Tells Hugging Face's tokenizers where the model cuts a text, and on which side.

    Their loops go on behind the last column of a batch: prompts must be padded in front, and lose their beginning.

    Args:
        directory: an artifact under construction.
        max_length: longest sequence in tokens, the end token included.
        task: of the model.
    """
    sides = {"padding_side": "left", "truncation_side": "left"} if task == "causal_lm" else {}
    for path in sorted(directory.rglob(CONFIG_FILE)):
        path.write_bytes(to_bytes({**json.loads(path.read_bytes()), "model_max_length": max_length, **sides}))
