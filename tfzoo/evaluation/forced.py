"""Forced decoding: how likely a model finds given targets, pair by pair."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from tfzoo.evaluation.likelihood import BATCH_SIZE, Batch, Logits, label_log_probs, seq2seq_batch
from tfzoo.runtime.tasks import padded
from tfzoo.text import TokenizerPair


def score_targets(
    logits: Logits, pairs: Iterable[tuple[str, str]], tokenizer: TokenizerPair, *, max_length: int, task: str
) -> Iterator[dict[str, Any]]:
    """Scores each target, its end token included, given its source.

    Args:
        logits: model inputs, (B, T) int32 each -> (B, T, V) float32.
        pairs: (source, target) texts, or (prompt, answer).
        tokenizer: of both sides.
        max_length: longest target in tokens, the end token included; of a language model, longest prompt with answer. A
            longer source loses its tail, as in a prediction.
        task: "seq2seq" or "causal_lm".

    Returns: for each pair, in order, `source`, `target`, `num_tokens`, `log_prob` (nats, of the whole target) and
        `perplexity` (per token); these two are None for a target that is too long.
    """
    pairs = list(pairs)
    encode = _seq2seq_rows if task == "seq2seq" else _causal_lm_rows
    rows = encode(pairs, tokenizer)
    limit = max_length if task == "seq2seq" else max_length + 1  # the last token is never read
    found: dict[int, float] = {}
    fitting = sorted((len(ids), index) for index, (ids, _) in enumerate(rows) if len(ids) <= limit)
    for first in range(0, len(fitting), BATCH_SIZE):
        indices = [index for _, index in fitting[first : first + BATCH_SIZE]]
        chosen = [(pairs[index][0], *rows[index]) for index in indices]
        make = _seq2seq_batch if task == "seq2seq" else _causal_lm_batch
        inputs, labels, weights = make(chosen, tokenizer, max_length)
        counts = weights > 0
        log_probs = np.zeros(labels.shape)
        log_probs[counts] = label_log_probs(logits(inputs)[counts], labels[counts])
        found |= zip(indices, log_probs.sum(axis=1).tolist(), strict=True)
    for index, ((source, target), (ids, num_given)) in enumerate(zip(pairs, rows, strict=True)):
        num_tokens = len(ids) - num_given
        log_prob = found.get(index)
        yield {
            "source": source,
            "target": target,
            "num_tokens": num_tokens,
            "log_prob": log_prob,
            "perplexity": None if log_prob is None else math.exp(min(-log_prob / num_tokens, 709.0)),
        }


# ids of a target, or of a prompt with its answer; and how many of them are given
_Row = tuple[list[int], int]


def _seq2seq_rows(pairs: Sequence[tuple[str, str]], tokenizer: TokenizerPair) -> list[_Row]:
    target = tokenizer.target
    return [([*target.encode(text), target.end_id], 0) for _, text in pairs]


def _causal_lm_rows(pairs: Sequence[tuple[str, str]], tokenizer: TokenizerPair) -> list[_Row]:
    one = tokenizer.target
    prompts = [one.encode(prompt + tokenizer.prompt_suffix) or [one.end_id] for prompt, _ in pairs]
    return [
        ([*prompt, *one.encode(answer), one.end_id], len(prompt))
        for prompt, (_, answer) in zip(prompts, pairs, strict=True)
    ]


def _seq2seq_batch(rows: Sequence[tuple[str, list[int], int]], tokenizer: TokenizerPair, max_length: int) -> Batch:
    return seq2seq_batch([source for source, _, _ in rows], [ids for _, ids, _ in rows], tokenizer, max_length)


def _causal_lm_batch(rows: Sequence[tuple[str, list[int], int]], tokenizer: TokenizerPair, max_length: int) -> Batch:
    ids = padded([row for _, row, _ in rows], tokenizer.target.pad_id)
    is_real = padded([[1] * len(row) for _, row, _ in rows], 0)
    is_answer = padded([[0] * num_given + [1] * (len(row) - num_given) for _, row, num_given in rows], 0)
    # The last token of the longest row alone is no input: where a shorter one ends, its end token is padding.
    mask = is_real[:, 1:]
    inputs = {"token_ids": np.where(mask > 0, ids[:, :-1], np.int32(tokenizer.target.pad_id)), "padding_mask": mask}
    return inputs, ids[:, 1:], is_answer[:, 1:]
