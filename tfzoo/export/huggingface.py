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

from tfzoo.decoding.config import AnswerConfig, DecodingConfig, never_generated
from tfzoo.errors import ArtifactMismatch
from tfzoo.models.config import BertConfig, GPT2Config, GruSeq2SeqConfig, ModelConfig, TransformerConfig
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

# Of BERT: the same.
BERT_FIELDS = {
    "vocabulary_size": ("vocab_size", 30522),
    "hidden_dim": ("hidden_size", 768),
    "intermediate_dim": ("intermediate_size", 3072),
    "num_layers": ("num_hidden_layers", 12),
    "num_heads": ("num_attention_heads", 12),
    "layer_norm_epsilon": ("layer_norm_eps", 1e-12),
    "max_sequence_length": ("max_position_embeddings", 512),
}
BERT_DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob")
BERT_FIXED = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "position_embedding_type": "absolute",
    "type_vocab_size": 2,
    "is_decoder": False,
    "add_cross_attention": False,
    "tie_word_embeddings": True,
}
BERT_ARCHITECTURES = {
    "fill_mask": "BertForMaskedLM",
    "text_classification": "BertForSequenceClassification",
    "token_classification": "BertForTokenClassification",
    "question_answering": "BertForQuestionAnswering",
    "text_embedding": "BertModel",
}
BERT_PROBLEMS = {
    "single_label": "single_label_classification",
    "multi_label": "multi_label_classification",
    "regression": "regression",
}

# Of Marian: the same. Its two stacks have numbers of their own, which must agree.
MARIAN_FIELDS = {
    "source_vocabulary_size": ("vocab_size", 58101),
    "hidden_dim": ("d_model", 1024),
    "intermediate_dim": ("encoder_ffn_dim", 4096),
    "num_layers": ("encoder_layers", 12),
    "num_heads": ("encoder_attention_heads", 16),
    "dropout": ("dropout", 0.1),
    "max_sequence_length": ("max_position_embeddings", 1024),
}
MARIAN_FIXED = {
    "model_type": "marian",
    "is_encoder_decoder": True,
    "static_position_embeddings": True,
    "normalize_before": False,
    "normalize_embedding": False,
    "add_final_layer_norm": False,
    "tie_word_embeddings": True,
}


def config_files(config: ModelConfig, decoding: DecodingConfig | AnswerConfig | None) -> dict[str, dict[str, Any]]:
    """File name -> content of config.json and, where outputs are searched, generation_config.json.

    Args:
        config: of the model.
        decoding: how the default signature searches.
    """
    # In a browser transformers.js would look for quantized graphs.
    browser = {"transformers.js_config": {"dtype": "fp32"}}
    if isinstance(config, BertConfig):
        return {"config.json": _bert(config) | browser}
    if not isinstance(decoding, DecodingConfig):
        raise TypeError(f"`decoding` of a model for {config.task!r} must be a DecodingConfig; received {decoding!r}.")
    special: dict[str, Any] = {
        "pad_token_id": config.pad_id,
        "bos_token_id": config.start_id,
        "eos_token_id": config.end_id,
    }
    if isinstance(config, TransformerConfig):
        special["decoder_start_token_id"] = config.start_id
        if never := never_generated(config.pad_id, config.start_id, config.end_id):
            special["bad_words_ids"] = [[one] for one in never]
        architecture = _marian(config)
    elif isinstance(config, GruSeq2SeqConfig):
        special["decoder_start_token_id"] = config.start_id
        architecture = {"model_type": "gru_seq2seq", "is_encoder_decoder": True, "vocab_size": config.vocabulary_size}
    elif isinstance(config, GPT2Config):
        architecture = _gpt2(config)
    else:
        architecture = {"model_type": "lstm_lm", "vocab_size": config.vocabulary_size}
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
        **MARIAN_FIXED,
        "architectures": ["MarianMTModel"],
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
        "activation_function": config.activation,
        **dict.fromkeys(("dropout", "attention_dropout", "activation_dropout"), config.dropout),
        "static_position_embeddings": config.positions != "learned",
        "normalize_before": config.normalize_first,
        "scale_embedding": config.scale_embeddings,
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


def _bert(config: BertConfig) -> dict[str, Any]:
    plain = {
        **BERT_FIXED,
        "architectures": ["BertForPreTraining" if config.next_sentence else BERT_ARCHITECTURES[config.task]],
        **{theirs: getattr(config, ours) for ours, (theirs, _) in BERT_FIELDS.items()},
        **dict.fromkeys(BERT_DROPOUTS, config.dropout),
        "pad_token_id": config.pad_id,
    }
    if config.task in ("text_classification", "token_classification"):
        labels = config.labels or ("LABEL_0",)  # what they call the one number of a regression
        plain["id2label"] = {str(i): label for i, label in enumerate(labels)}
        plain["label2id"] = {label: i for i, label in enumerate(labels)}
    if config.task == "text_classification":
        plain["problem_type"] = BERT_PROBLEMS[config.problem]
        plain["num_texts"] = config.num_texts  # no field of theirs: their tokenizers take one text or two
    return plain


def check_labels(directory: Path, manifest: dict[str, Any]) -> None:
    """Compares the labels that Hugging Face's tools read with those of the proof.

    Raises:
        ArtifactMismatch: config.json has others.
    """
    labels = manifest["head"]["labels"]
    if labels:
        config = json.loads((directory / "config.json").read_bytes())
        named = {str(index): label for index, label in enumerate(labels)}
        if config.get("id2label") != named or config.get("label2id") != {one: int(key) for key, one in named.items()}:
            raise ArtifactMismatch(
                f"{directory / 'config.json'} has other labels than were proved, {', '.join(labels)}; export the model "
                "again."
            )


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
