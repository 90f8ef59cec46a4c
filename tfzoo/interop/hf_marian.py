"""Marian's translation models, such as OPUS-MT's, as Hugging Face's transformers keeps them.

    config.json, model.safetensors     see below
    source.spm, target.spm, vocab.json one SentencePiece model a side, and the ids of both sides' pieces
    target_vocab.json                  the target's own ids, where `vocab.json` is the source's alone

The model is a `Transformer`. A checkpoint has three dropouts, ours has one: further training takes `dropout` for all.
Transformers adds padding to Marian's vocabulary, and the decoder starts from it: it is never generated, as in Marian,
where it is no token at all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfzoo.data.config import DataConfig
from tfzoo.decoding.config import DecodingConfig
from tfzoo.errors import CheckpointError, RecipeError, UsageError
from tfzoo.evaluation.config import EvaluationConfig
from tfzoo.export.huggingface import MARIAN_FIELDS, MARIAN_FIXED
from tfzoo.interop.hf_tables import Tensor, check_fixed, read_fields
from tfzoo.models.config import TransformerConfig
from tfzoo.recipes.recipe import Recipe
from tfzoo.text import MarianTokenizer, TokenizerPair
from tfzoo.text.config import TokenizerConfig
from tfzoo.text.huggingface import CONFIG_FILE, to_bytes
from tfzoo.text.marian import MODEL_FILES, TARGET_VOCABULARY_FILE, special_token_names
from tfzoo.text.tokenizers import VOCABULARY_FILE, write_assets
from tfzoo.training.config import TrainingConfig

# Before the names of the base model.
PREFIX = "model."
HEADS = re.compile(r"lm_head\..*|final_logits_bias")
# Fixed sinusoids, not weights; older versions saved them.
IGNORED = re.compile(r"(encoder|decoder)\.embed_positions\.weight")
# Copies of other tensors, which may be there.
TIED = {
    "encoder.embed_tokens.weight": "shared.weight",
    "decoder.embed_tokens.weight": "shared.weight",
    "lm_head.weight": "decoder.embed_tokens.weight",
}
RENAMED: dict[str, str] = {}

_ACTIVATIONS = {"relu": "relu", "gelu": "gelu", "swish": "swish", "silu": "swish"}
# What both stacks have of their own there, and share here.
_BOTH_STACKS = ("layers", "attention_heads", "ffn_dim")
# What a run must have to be written: options of the Transformer that Marian has no other value of.
_WRITTEN = {
    "normalize_first": False,
    "positions": "sinusoidal_halves",
    "layer_norm_epsilon": 1e-5,  # PyTorch's
    "logits_bias": True,
}


def examples(config: TransformerConfig) -> tuple[str, ...]:
    """Returns a few sources for the proof of an export."""
    return (
        "A dog is running through the green field.",
        "Where is the station?",
        "Two men are talking in front of a small shop.",
        "The weather was better on 29 February 2024 than it is today!",
        "She opened the door and went in.",
    )


def tensors(config: TransformerConfig) -> dict[str, Tensor]:
    """Returns their name -> our variables."""
    d, f = config.hidden_dim, config.intermediate_dim
    table = {"final_logits_bias": Tensor(("logits_bias",), (1, config.vocabulary_size), row=True)}
    if config.source_vocabulary_size is None:
        table["shared.weight"] = Tensor(("embedding/table",), (config.vocabulary_size, d))
    else:
        table["encoder.embed_tokens.weight"] = Tensor(("source_embedding/table",), (config.source_vocabulary_size, d))
        table["decoder.embed_tokens.weight"] = Tensor(("embedding/table",), (config.vocabulary_size, d))
    attentions = {"encoder": {"self_attn": "self"}, "decoder": {"self_attn": "self", "encoder_attn": "cross"}}
    for stack, of_stack in attentions.items():
        for i in range(config.num_layers):
            theirs, ours = f"{stack}.layers.{i}", f"{stack}_block_{i}"
            for attention, kind in of_stack.items():
                for short, part in (("q", "query"), ("k", "key"), ("v", "value"), ("out", "output")):
                    table |= _dense(f"{theirs}.{attention}.{short}_proj", f"{ours}/{kind}_attention/{part}", d, d)
                table |= _norm(f"{theirs}.{attention}_layer_norm", f"{ours}/{kind}_residual", d)
            table |= _dense(f"{theirs}.fc1", f"{ours}/feed_forward/intermediate", d, f)
            table |= _dense(f"{theirs}.fc2", f"{ours}/feed_forward/output", f, d)
            table |= _norm(f"{theirs}.final_layer_norm", f"{ours}/feed_forward_residual", d)
    return table


def _dense(theirs: str, ours: str, input_dim: int, output_dim: int) -> dict[str, Tensor]:
    return {
        f"{theirs}.weight": Tensor((f"{ours}/kernel",), (output_dim, input_dim), transposed=True),
        f"{theirs}.bias": Tensor((f"{ours}/bias",), (output_dim,)),
    }


def _norm(theirs: str, ours: str, dim: int) -> dict[str, Tensor]:
    return {
        f"{theirs}.{kind}": Tensor((f"{ours}/normalization/{name}",), (dim,))
        for kind, name in (("weight", "gamma"), ("bias", "beta"))
    }


def read_config(plain: Mapping[str, Any], tokenizer: Any) -> TransformerConfig:
    """Returns our configuration.

    Args:
        plain: the content of config.json.
        tokenizer: the checkpoint's own pair; it names the special ids.

    Raises:
        CheckpointError: an option that our Transformer does not have, a number out of its range, or another tokenizer.
    """
    check_fixed(plain, MARIAN_FIXED, "Transformer")
    fields = read_fields(plain, MARIAN_FIELDS)
    for name in _BOTH_STACKS:
        encoder, decoder = (plain.get(f"{stack}_{name}", "its default") for stack in ("encoder", "decoder"))
        if encoder != decoder:
            raise CheckpointError(
                f"encoder_{name} is {encoder!r}, decoder_{name} is {decoder!r}, and this Transformer has one for both"
            )
    activation = plain.get("activation_function", "gelu")
    if activation not in _ACTIVATIONS:
        raise CheckpointError(
            f"activation_function is {activation!r}, and this Transformer has {', '.join(_ACTIVATIONS)}"
        )
    for name in ("scale_embedding", "share_encoder_decoder_embeddings"):
        if not isinstance(plain.get(name, True), bool):
            raise CheckpointError(f"{name} is {plain[name]!r}, and must be true or false")
    source, target = _sides(tokenizer)
    shared = plain.get("share_encoder_decoder_embeddings", True)
    if shared and not tokenizer.one_vocabulary:
        raise CheckpointError(
            f"share_encoder_decoder_embeddings is True, and {TARGET_VOCABULARY_FILE} differs from {VOCABULARY_FILE}"
        )
    num_source = fields.pop("source_vocabulary_size")
    num_target = plain.get("decoder_vocab_size") or num_source
    for name, size, side in (("vocab_size", num_source, source), ("decoder_vocab_size", num_target, target)):
        if size != side.vocabulary_size:
            raise CheckpointError(
                f"{name} is {size}, and the {side.side}'s tokenizer has {side.vocabulary_size} ids; they must agree"
            )
    if source.pad_id != target.pad_id or source.end_id != target.end_id:
        raise CheckpointError(
            f"padding and end have the ids {source.pad_id} and {source.end_id} in {VOCABULARY_FILE}, "
            f"{target.pad_id} and {target.end_id} in {TARGET_VOCABULARY_FILE}, and this Transformer has one for both"
        )
    for name, expected in (
        ("pad_token_id", target.pad_id),
        ("decoder_start_token_id", target.start_id),
        ("eos_token_id", target.end_id),
    ):
        if plain.get(name, expected) != expected:
            raise CheckpointError(f"{name} is {plain[name]!r}, and the tokenizer says {expected}")
    try:
        return TransformerConfig(
            **fields,
            vocabulary_size=target.vocabulary_size,
            source_vocabulary_size=None if shared else source.vocabulary_size,
            activation=_ACTIVATIONS[activation],  # type: ignore[arg-type]
            scale_embeddings=plain.get("scale_embedding", False),
            pad_id=target.pad_id,
            start_id=target.start_id,
            end_id=target.end_id,
            **_WRITTEN,  # type: ignore[arg-type]
        )
    except RecipeError as error:
        raise CheckpointError(str(error).removesuffix(".")) from error


def _sides(tokenizer: Any) -> tuple[MarianTokenizer, MarianTokenizer]:
    if isinstance(tokenizer, TokenizerPair):
        source, target = tokenizer.source, tokenizer.target
        if not tokenizer.shared and isinstance(source, MarianTokenizer) and isinstance(target, MarianTokenizer):
            return source, target
    raise CheckpointError(f"its tokenizer is none of Marian's: {' and '.join(MODEL_FILES.values())} are not there")


def recipe(name: str, config: TransformerConfig) -> Recipe:
    """Returns a recipe to train such a model further, with a small learning rate."""
    longest = min(256, config.max_sequence_length)
    return Recipe(
        name=name,
        family="transformer",
        tokenizer=TokenizerConfig(target=None if config.source_vocabulary_size is None else "sentencepiece"),
        data=DataConfig(batch_tokens=4096, max_source_length=longest, max_target_length=longest),
        model=config,
        training=TrainingConfig(
            num_steps=1000, checkpoint_steps=100, learning_rate=5e-5, warmup_steps=100, schedule="cosine"
        ),
        decoding=DecodingConfig(max_length=longest, num_beams=4, length_penalty=1.0),
        evaluation=EvaluationConfig(),
    )


def check_written(run_dir: Path, config: TransformerConfig, tokenizer: TokenizerPair) -> None:
    """Refuses a run that transformers has no architecture for.

    Raises:
        UsageError: its tokenizer is not Marian's, or the model has an option that Marian has not.
    """
    try:
        _sides(tokenizer)
    except CheckpointError as error:
        raise UsageError(
            f"{run_dir} cannot be written as a Marian checkpoint: {error}. Runs of checkpoints that `tfzoo convert` "
            "read can."
        ) from None
    for name, value in _WRITTEN.items():
        if getattr(config, name) != value:
            raise UsageError(
                f"{run_dir} cannot be written as a Marian checkpoint: {name}={getattr(config, name)!r}, and Marian has "
                f"{value!r} alone."
            )


def write_tokenizer(tokenizer: TokenizerPair, directory: Path) -> None:
    """Writes the files that transformers' `MarianTokenizer` reads."""
    sides = dict(zip(MODEL_FILES, _sides(tokenizer), strict=True))
    files = {MODEL_FILES[side]: one.model for side, one in sides.items()}
    files[VOCABULARY_FILE] = to_bytes(sides["source"].vocabulary)
    if not tokenizer.one_vocabulary:
        files[TARGET_VOCABULARY_FILE] = to_bytes(sides["target"].vocabulary)
    config = {
        "tokenizer_class": "MarianTokenizer",
        **special_token_names(),
        "separate_vocabs": not tokenizer.one_vocabulary,
        "clean_up_tokenization_spaces": False,
    }
    write_assets({**files, CONFIG_FILE: to_bytes(config)}, directory)


def vocabulary_sizes(config: TransformerConfig) -> dict[str, int]:
    """Returns what config.json says of the vocabularies, by which transformers makes the embeddings."""
    source = config.source_vocabulary_size
    return {
        "vocab_size": config.vocabulary_size if source is None else source,
        "decoder_vocab_size": config.vocabulary_size,
    }
