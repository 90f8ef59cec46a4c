"""GPT-2 as Hugging Face's transformers keeps it: its config.json and the names of its tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tfzoo.data.config import CausalLmDataConfig
from tfzoo.decoding.config import DecodingConfig
from tfzoo.errors import CheckpointError, RecipeError
from tfzoo.evaluation.config import EvaluationConfig
from tfzoo.export.huggingface import GPT2_DROPOUTS, GPT2_FIELDS, GPT2_FIXED
from tfzoo.interop.hf_tables import Tensor, check_fixed, check_vocabulary, read_dropout, read_fields
from tfzoo.models.config import GPT2Config
from tfzoo.recipes.recipe import Recipe
from tfzoo.text import BytePairTokenizer
from tfzoo.text.config import TokenizerConfig
from tfzoo.training.config import TrainingConfig

# Before the names of the base model; left out where it alone was saved.
PREFIX = "transformer."
HEADS = re.compile(r"lm_head\..*")
# Masks, not weights; older versions saved them.
IGNORED = re.compile(r"h\.\d+\.attn\.(bias|masked_bias)")
# A copy of another tensor, which may be there.
TIED = {"lm_head.weight": "wte.weight"}
RENAMED: dict[str, str] = {}


def examples(config: GPT2Config) -> tuple[str, ...]:
    """Returns a few prompts for the proof of an export."""
    return (
        "The weather today is",
        "In a small village by the sea,",
        "Question: How many days are there in a week?\nAnswer:",
        "The most important thing about a good book is that",
        "She opened the door and",
    )


def tensors(config: GPT2Config) -> dict[str, Tensor]:
    """Returns their name -> our variables. Their kernels are (input, output), as ours are."""
    d, f = config.hidden_dim, config.intermediate_dim
    table = {
        "wte.weight": Tensor(("embedding/table",), (config.vocabulary_size, d)),
        "wpe.weight": Tensor(("positions/table",), (config.max_sequence_length, d)),
        "ln_f.weight": Tensor(("normalization/gamma",), (d,)),
        "ln_f.bias": Tensor(("normalization/beta",), (d,)),
    }
    for i in range(config.num_layers):
        attention, feed_forward = f"block_{i}/self_attention", f"block_{i}/feed_forward"
        for theirs, ours in (("ln_1", "self_residual"), ("ln_2", "feed_forward_residual")):
            for kind, name in (("weight", "gamma"), ("bias", "beta")):
                table[f"h.{i}.{theirs}.{kind}"] = Tensor((f"block_{i}/{ours}/normalization/{name}",), (d,))
        for theirs, dense, sizes in (
            ("attn.c_attn", [f"{attention}/{part}" for part in ("query", "key", "value")], (d, 3 * d)),
            ("attn.c_proj", [f"{attention}/output"], (d, d)),
            ("mlp.c_fc", [f"{feed_forward}/intermediate"], (d, f)),
            ("mlp.c_proj", [f"{feed_forward}/output"], (f, d)),
        ):
            table[f"h.{i}.{theirs}.weight"] = Tensor(tuple(f"{one}/kernel" for one in dense), sizes)
            table[f"h.{i}.{theirs}.bias"] = Tensor(tuple(f"{one}/bias" for one in dense), sizes[1:])
    return table


def read_config(plain: Mapping[str, Any], tokenizer: Any) -> GPT2Config:
    """Returns our configuration.

    Args:
        plain: the content of config.json.
        tokenizer: the checkpoint's own; it names the special ids.

    Raises:
        CheckpointError: an option that our GPT-2 does not have, a number out of its range, or another tokenizer.
    """
    check_fixed(plain, GPT2_FIXED, "GPT-2")
    dropout = read_dropout(plain, GPT2_DROPOUTS, "GPT-2")
    fields = read_fields(plain, GPT2_FIELDS)
    if not isinstance(tokenizer, BytePairTokenizer):
        raise CheckpointError("its tokenizer is no byte-level BPE as GPT-2's")
    check_vocabulary(fields, tokenizer)
    end_id = plain.get("eos_token_id", tokenizer.end_id)
    # Configurations of small vocabularies often keep the default, which is no id of theirs.
    if end_id != tokenizer.end_id and end_id in range(tokenizer.vocabulary_size):
        raise CheckpointError(f"eos_token_id is {end_id}, and the tokenizer's <|endoftext|> is {tokenizer.end_id}")
    intermediate_dim = plain.get("n_inner") or 4 * fields["hidden_dim"]
    if type(intermediate_dim) is not int:
        raise CheckpointError(f"n_inner is {intermediate_dim!r}, and must be a whole number or null")
    try:
        return GPT2Config(
            **fields,
            intermediate_dim=intermediate_dim,
            dropout=dropout,
            pad_id=tokenizer.pad_id,
            start_id=tokenizer.start_id,
            end_id=tokenizer.end_id,
        )
    except RecipeError as error:
        raise CheckpointError(str(error).removesuffix(".")) from error


def recipe(name: str, config: GPT2Config) -> Recipe:
    """Returns a recipe to train such a model further; its numbers are those of Radford et al. (2018), section 4.1."""
    return Recipe(
        name=name,
        family="gpt2",
        tokenizer=TokenizerConfig(source="byte_pair"),
        data=CausalLmDataConfig(sequence_length=min(256, config.max_sequence_length), batch_size=32),
        model=config,
        training=TrainingConfig(
            num_steps=1000,
            checkpoint_steps=100,
            learning_rate=6.25e-5,
            warmup_steps=20,
            schedule="cosine",
            label_smoothing=0.0,
            beta_2=0.999,
            epsilon=1e-8,
            weight_decay=0.01,
        ),
        decoding=DecodingConfig(max_length=min(64, config.max_sequence_length)),
        evaluation=EvaluationConfig(metrics=()),
    )
