"""Scores of a model that writes text, on pairs of a source and a target: of what it writes, and of the target."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from tqdm import tqdm

from tfzoo.data.corpus import read_pairs
from tfzoo.errors import UsageError
from tfzoo.evaluation import sentences
from tfzoo.evaluation.config import EvaluationConfig
from tfzoo.evaluation.forced import score_targets
from tfzoo.evaluation.likelihood import likelihood
from tfzoo.evaluation.text_metrics import score
from tfzoo.runtime.loaded import Loaded


def evaluate_pairs(
    model: Loaded,
    specs: Sequence[str],
    evaluation: Mapping[str, Any],
    options: Mapping[str, Any],
    *,
    is_reversed: bool = False,
    tokenizer: str | None = None,
    by_length: bool = False,
    worst: str | os.PathLike[str] | None = None,
    forced: str | os.PathLike[str] | None = None,
) -> dict[str, Any]:
    """Decodes every source and scores it, and scores every target as it is given; see `tfzoo.evaluate`.

    Args:
        model: answers prompts or sources.
        specs: data specifications of pairs; those with the same source are references of each other.
        evaluation: the section of a recipe, as JSON has it.
        options: decoding options that differ from the recipe's.
        is_reversed: whether the model reads the second column and writes the first.
        tokenizer: what counts as a word; None = as the recipe says.
        by_length: whether each bucket of source lengths is scored too.
        worst: a JSONL file to write, see `tfzoo.evaluation.sentences.worst_first`.
        forced: a JSONL file to write, see `tfzoo.evaluation.forced.score_targets`.

    Raises:
        UsageError: an option is unknown or out of its range, or there is no metric to find the worst by.
        RecipeError: an unknown tokenizer.
        DataError: the data is missing or malformed.
    """
    metrics = tuple(evaluation["metrics"])
    # A recipe that was stored before there was a choice has none.
    tokenizer = tokenizer or evaluation.get("tokenizer", EvaluationConfig.tokenizer)
    EvaluationConfig(metrics=metrics, tokenizer=tokenizer)  # type: ignore[arg-type]  # checked before decoding begins
    if worst and not metrics:
        raise UsageError("`worst` needs a metric to sort by, and the recipe's `evaluation.metrics` is empty.")
    records = [pair for spec in specs for pair in read_pairs(spec, is_reversed=is_reversed)]
    references: dict[str, list[str]] = {}
    for source, target in records:
        references.setdefault(source, []).append(target)
    sources = sorted(references, key=len)  # texts of similar length are decoded together
    predictions = tqdm(
        model.generate(sources, **options), "decoding", len(sources), unit=" texts", leave=False, disable=None
    )
    outputs = [found[0].output for found in predictions]
    expected = [references[source] for source in sources]
    scores: dict[str, Any] = {"num_sources": len(sources), **score(metrics, outputs, expected, tokenizer=tokenizer)}
    if by_length:
        lengths = [len(model.tokenizer.source.encode(source)) for source in sources]
        scores["by_source_length"] = sentences.by_length(metrics, lengths, outputs, expected, tokenizer=tokenizer)
    if worst:
        rows = sentences.worst_first(metrics[0], sources, outputs, expected, tokenizer=tokenizer)
        sentences.write_jsonl(worst, rows)
    if forced:
        sentences.write_jsonl(forced, score_pairs(model, records))
    if model.task == "seq2seq":
        return scores | likelihood(model.backend.logits, records, model.tokenizer, model.max_length)
    from tfzoo.evaluation.perplexity import answer_likelihood

    return scores | answer_likelihood(
        model.backend.logits,
        specs,
        model.tokenizer.target,
        sequence_length=model.max_length,
        separator=model.tokenizer.prompt_suffix,
    )


def score_pairs(model: Loaded, pairs: Iterable[tuple[str, str]]) -> Iterator[dict[str, Any]]:
    """Tells how likely a model finds given targets; see `tfzoo.score_pairs`.

    Raises:
        UsageError: the model does not write text.
    """
    if model.task not in ("seq2seq", "causal_lm"):
        raise UsageError(f"a model for {model.task!r} writes no target that could be scored.")
    return score_targets(model.backend.logits, pairs, model.tokenizer, max_length=model.max_length, task=model.task)
