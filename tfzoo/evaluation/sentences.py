"""Scores sentence by sentence: which outputs are worst, and how scores depend on the length of the source."""

from __future__ import annotations

import bisect
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sacrebleu.metrics import BLEU

from tfzoo.evaluation.text_metrics import Outputs, References, score

LENGTHS = (10, 20, 40, 80)
"""The greatest source of each bucket but the last, in tokens."""

_ENTRY = {"rouge": "rouge_l"}  # of a metric with several scores, the one that ranks
_ERRORS = ("ter", "token_error_rate", "word_error_rate")  # the higher the worse


def sentence_scores(metric: str, outputs: Outputs, references: References, *, tokenizer: str = "13a") -> list[float]:
    """Scores each output by itself.

    A sentence has few words in common with its references, so that BLEU counts only the orders of n-grams that it is
    long enough for (sacreBLEU's effective order); the mean of these is not the corpus's BLEU.

    Args:
        metric: a name out of `tfzoo.evaluation.config.METRICS`; "rouge" gives its `rouge_l`.
        outputs: one text per example.
        references: at least one text per example.
        tokenizer: see `tfzoo.evaluation.score`.

    Raises:
        DataError: as `tfzoo.evaluation.score`.
    """
    if metric == "bleu":
        bleu = BLEU(tokenize=tokenizer, effective_order=True)
        return [bleu.sentence_score(one, list(its)).score for one, its in zip(outputs, references, strict=True)]
    entry = _ENTRY.get(metric, metric)
    return [
        float(score([metric], [one], [its], tokenizer=tokenizer)[entry])
        for one, its in zip(outputs, references, strict=True)
    ]


def worst_first(
    metric: str, sources: Sequence[str], outputs: Outputs, references: References, *, tokenizer: str = "13a"
) -> list[dict[str, Any]]:
    """Returns `source`, `output`, `references`, `metric` and `score` of each example, the worst first.

    Args:
        metric: see `sentence_scores`; an error rate is worse the higher it is.
        sources: one text per example.
        outputs: the same.
        references: at least one text per example.
        tokenizer: see `tfzoo.evaluation.score`.
    """
    scores = sentence_scores(metric, outputs, references, tokenizer=tokenizer)
    rows = [
        {"source": source, "output": output, "references": list(its), "metric": metric, "score": value}
        for source, output, its, value in zip(sources, outputs, references, scores, strict=True)
    ]
    return sorted(rows, key=lambda row: row["score"], reverse=metric in _ERRORS)


def by_length(
    metrics: Sequence[str],
    lengths: Sequence[int],
    outputs: Outputs,
    references: References,
    *,
    tokenizer: str = "13a",
) -> dict[str, dict[str, float | int]]:
    """Scores the examples of each bucket of source lengths by themselves.

    With the buckets 1-10, 11-20, 21-40, 41-80 and 81-, two sources of 7 and 12 tokens, and the metric "exact_match":

        {"1-10": {"num_sources": 1, "exact_match": 0.0}, "11-20": {"num_sources": 1, "exact_match": 1.0}}

    Args:
        metrics: see `tfzoo.evaluation.score`.
        lengths: tokens of each source.
        outputs: one text per example.
        references: at least one text per example.
        tokenizer: see `tfzoo.evaluation.score`.

    Returns: bucket -> scores without signatures, for every bucket that has a source, the short ones first.
    """
    rows: dict[int, list[int]] = {}
    for index, length in enumerate(lengths):
        rows.setdefault(bisect.bisect_left(LENGTHS, length), []).append(index)
    found: dict[str, dict[str, float | int]] = {}
    for bucket, indices in sorted(rows.items()):
        scores = score(
            metrics, [outputs[one] for one in indices], [references[one] for one in indices], tokenizer=tokenizer
        )
        numbers = {name: value for name, value in scores.items() if not isinstance(value, str)}
        found[_name(bucket)] = {"num_sources": len(indices), **numbers}
    return found


def _name(bucket: int) -> str:
    first = LENGTHS[bucket - 1] + 1 if bucket else 1
    return f"{first}-{LENGTHS[bucket]}" if bucket < len(LENGTHS) else f"{first}-"


def write_jsonl(path: str | os.PathLike[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes an object a line, whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}")
    with aside.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    aside.replace(path)
