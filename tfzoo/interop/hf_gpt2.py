"""GPT-2 as Hugging Face's transformers keeps it: its config.json and the names of its tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from tfzoo.data.config import CausalLmDataConfig
from tfzoo.decoding.config import DecodingConfig
from tfzoo.errors import CheckpointError, RecipeError
from tfzoo.evaluation.config import EvaluationConfig
from tfzoo.export.huggingface import GPT2_DROPOUTS, GPT2_FIELDS, GPT2_FIXED
from tfzoo.models.config import GPT2Config
from tfzoo.recipes.recipe import Recipe
from tfzoo.text import BytePairTokenizer
from tfzoo.text.config import TokenizerConfig
from tfzoo.training.config import TrainingConfig

EXAMPLES = (
    "The weather today is",
    "In a small village by the sea,",
    "Question: How many days are there in a week?\nAnswer:",
    "The most important thing about a good book is that",
    "She opened the door and",
)

# Before every name but the output projection's; left out where the base model alone was saved.
PREFIX = "transformer."
# Masks, not weights; older versions saved them.
IGNORED = re.compile(r"h\.\d+\.attn\.(bias|masked_bias)")
# A copy of another tensor, which may be there.
TIED = {"lm_head.weight": "wte.weight"}


class Tensor(NamedTuple):
    """One tensor of theirs.

    parts: variables of ours that stand in it side by side, on its last axis; shape: its own.
    """

    parts: tuple[str, ...]
    shape: tuple[int, ...]


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
    for name, value in GPT2_FIXED.items():
        if plain.get(name, value) != value:
            raise CheckpointError(f"{name} is {plain[name]!r}, and this GPT-2 has {value!r} alone")
    dropouts = {name: plain.get(name, 0.1) for name in GPT2_DROPOUTS}
    if len(set(dropouts.values())) > 1:
        found = ", ".join(f"{name} is {value!r}" for name, value in dropouts.items())
        raise CheckpointError(f"{found}, and this GPT-2 has one dropout; set them alike, the weights stay the same")
    fields = {ours: plain.get(theirs, default) for ours, (theirs, default) in GPT2_FIELDS.items()}
    for ours, (theirs, default) in GPT2_FIELDS.items():
        if isinstance(fields[ours], bool) or not isinstance(fields[ours], type(default)):
            raise CheckpointError(f"{theirs} is {fields[ours]!r}, and must be like {default!r}")
    if not isinstance(tokenizer, BytePairTokenizer):
        raise CheckpointError("its tokenizer is no byte-level BPE as GPT-2's")
    if tokenizer.vocabulary_size != fields["vocabulary_size"]:
        raise CheckpointError(
            f"vocab_size is {fields['vocabulary_size']}, and the tokenizer has {tokenizer.vocabulary_size} ids; "
            "they must agree"
        )
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
            dropout=dropouts["resid_pdrop"],
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
