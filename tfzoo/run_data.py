"""The batches that a recipe trains and validates on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tfzoo.data.config import CausalLmDataConfig, DataConfig
from tfzoo.recipes.recipe import Recipe
from tfzoo.text import TokenizerPair

if TYPE_CHECKING:
    import tensorflow as tf


def training_batches(recipe: Recipe, tokenizer: TokenizerPair, start_step: int = 0) -> tf.data.Dataset:
    """Endless batches, each epoch in an order of its own.

    Args:
        recipe: with its data.
        tokenizer: of the run.
        start_step: batches to skip.
    """
    data = recipe.data
    options = {"seed": data.seed, "repeat": True, "start_step": start_step}
    if isinstance(data, DataConfig):
        return _seq2seq(data, data.train, tokenizer, **options)
    if data.examples == "prompt_answer":
        return _prompt_answer(data, data.train, tokenizer, **options)
    from tfzoo.data import causal_lm

    return causal_lm(
        data.train,
        tokenizer.target,
        sequence_length=data.sequence_length,
        batch_size=data.batch_size,
        examples=data.examples,
        cleaning=data.cleaning,
        **options,
    )


def validation_batches(recipe: Recipe, tokenizer: TokenizerPair) -> tf.data.Dataset:
    """One epoch in a fixed order; of documents, windows that score every token once."""
    data = recipe.data
    if isinstance(data, DataConfig):
        return _seq2seq(data, data.validation, tokenizer, seed=data.seed, shuffle=False)
    if data.examples == "prompt_answer":
        return _prompt_answer(data, data.validation, tokenizer, seed=data.seed, shuffle=False)
    from tfzoo.data import causal_lm_windows

    return causal_lm_windows(
        data.validation,
        tokenizer.target,
        sequence_length=data.sequence_length,
        stride=data.stride or data.sequence_length // 2,
        batch_size=data.batch_size,
        cleaning=data.cleaning,
    )


def _seq2seq(data: DataConfig, specs: tuple[str, ...], tokenizer: TokenizerPair, **options: Any) -> tf.data.Dataset:
    from tfzoo.data import seq2seq

    return seq2seq(
        specs,
        tokenizer,
        batch_tokens=data.batch_tokens,
        batch_size=data.batch_size,
        max_source_length=data.max_source_length,
        max_target_length=data.max_target_length,
        **options,
    )


def _prompt_answer(
    data: CausalLmDataConfig, specs: tuple[str, ...], tokenizer: TokenizerPair, **options: Any
) -> tf.data.Dataset:
    from tfzoo.data import prompt_answer

    return prompt_answer(
        specs,
        tokenizer.target,
        sequence_length=data.sequence_length,
        batch_size=data.batch_size,
        separator=data.separator,
        **options,
    )
