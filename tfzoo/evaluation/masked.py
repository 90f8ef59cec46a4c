"""How well an encoder predicts tokens that it does not see."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from tfzoo.data import masked_lm
from tfzoo.evaluation.bootstrap import with_intervals
from tfzoo.evaluation.likelihood import BATCH_SIZE, Logits
from tfzoo.evaluation.perplexity import MAX_EXPONENT, MAX_LOGITS
from tfzoo.text.word_piece import WordPieceTokenizer

NUM_PSEUDO_ROWS = 64
"""Rows, from all over the data, whose tokens are masked one by one."""


def evaluate_fill_mask(
    logits: Logits, specs: Sequence[str], tokenizer: WordPieceTokenizer, head: object, data: Mapping[str, Any]
) -> dict[str, Any]:
    """Scores what a model finds of masked tokens, and of each token of a text when it alone is masked.

    Documents are cut and masked as for validation, without pairs; see `tfzoo.data.masked_lm`. The pseudo-perplexity
    (Salazar et al., 2020, section 2.3, https://arxiv.org/abs/1910.14659) is the exponential of the mean loss of the
    tokens of up to 64 rows from all over the data, each masked in turn; unknown tokens are not among them.

    Args:
        logits: model inputs, (B, T) int32 each -> (B, T, V) float32.
        specs: data specifications of documents.
        tokenizer: of the model.
        head: not used.
        data: fields of `MaskedLmDataConfig`.

    Returns: `num_rows`, `num_masked_tokens`, `loss` (nats per masked token), `accuracy` of the likeliest token;
        `num_pseudo_tokens` and `pseudo_perplexity`. Loss, accuracy and pseudo-perplexity have a 95 % interval, for
        which whole rows are drawn.

    Raises:
        UsageError: an unknown specification.
        DataError: missing or malformed data.
    """
    length = data["sequence_length"]
    batch_size = max(1, min(BATCH_SIZE, MAX_LOGITS // (length * tokenizer.vocabulary_size)))
    batches = masked_lm(
        specs,
        tokenizer,
        sequence_length=length,
        batch_size=batch_size,
        mask_probability=data["mask_probability"],
        whole_word=data["whole_word"],
        cleaning=data["cleaning"],
        shuffle=False,
    )
    rows: list[np.ndarray] = []
    sums = []
    for inputs, labels, weights in _progress(batches.as_numpy_iterator(), len(batches), "predicting masks"):
        positions = inputs.pop("mask_positions")
        scores = np.take_along_axis(logits(inputs), positions[..., np.newaxis], axis=1)
        sums.append(_sums(scores, labels, weights > 0))
        for ids, mask, places, hidden, weight in zip(
            inputs["token_ids"], inputs["padding_mask"], positions, labels, weights, strict=True
        ):
            row = ids.copy()
            row[places[weight > 0]] = hidden[weight > 0]
            rows.append(row[mask > 0])
    total = np.concatenate(sums)
    num_chosen = min(NUM_PSEUDO_ROWS, len(rows))
    chosen = [rows[len(rows) * place // num_chosen] for place in range(num_chosen)]
    alone = [
        _sums(*one).sum(axis=0)
        for one in _progress(_masked_in_turn(logits, chosen, tokenizer, batch_size), num_chosen, "masking in turn")
    ]
    return {
        "num_rows": len(rows),
        "num_masked_tokens": int(total[:, 2].sum()),
        **with_intervals(lambda draws: _means(total[draws].sum(axis=1)), len(total)),
        **_pseudo_perplexity(np.stack(alone)),
    }


def _pseudo_perplexity(sums: np.ndarray) -> dict[str, Any]:
    def statistic(draws: np.ndarray) -> dict[str, np.ndarray]:
        loss = _means(sums[draws].sum(axis=1))["loss"]
        return {"pseudo_perplexity": np.exp(np.minimum(loss, MAX_EXPONENT))}

    return {"num_pseudo_tokens": int(sums[:, 2].sum()), **with_intervals(statistic, len(sums))}


def _means(sums: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the (R,) loss and accuracy of (R, 3) sums; NaN where there is no token."""
    num_tokens = np.where(sums[:, 2] > 0, sums[:, 2], np.nan)
    return {"loss": sums[:, 0] / num_tokens, "accuracy": sums[:, 1] / num_tokens}


def _sums(scores: np.ndarray, labels: np.ndarray, is_scored: np.ndarray) -> np.ndarray:
    """Returns the (B, 3) nats, right predictions and tokens of each row of (B, M, V) scores."""
    scores = scores.astype(np.float64)
    highest = scores.max(axis=-1)
    normalizers = highest + np.log(np.exp(scores - highest[..., np.newaxis]).sum(axis=-1))
    losses = normalizers - np.take_along_axis(scores, labels[..., np.newaxis], axis=-1)[..., 0]
    is_right = scores.argmax(axis=-1) == labels
    return np.stack([(one * is_scored).sum(axis=1) for one in (losses, is_right, is_scored)], axis=1)


def _masked_in_turn(
    logits: Logits, rows: Sequence[np.ndarray], tokenizer: WordPieceTokenizer, batch_size: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yields for each row scores (N, 1, V), labels (N, 1) and True, of each of its N tokens that is no special one."""
    special = (tokenizer.pad_id, tokenizer.unk_id, tokenizer.start_id, tokenizer.end_id, tokenizer.mask_id)
    for row in rows:
        places = np.flatnonzero(~np.isin(row, special))
        scores = []
        for first in range(0, len(places), batch_size):
            chosen = places[first : first + batch_size]
            token_ids = np.tile(row, (len(chosen), 1))
            token_ids[np.arange(len(chosen)), chosen] = tokenizer.mask_id
            inputs = {
                "token_ids": token_ids,
                "padding_mask": np.ones_like(token_ids),
                "segment_ids": np.zeros_like(token_ids),
            }
            scores.append(logits(inputs)[np.arange(len(chosen)), chosen])
        found = np.concatenate(scores) if scores else np.zeros((0, tokenizer.vocabulary_size))
        yield found[:, np.newaxis], row[places, np.newaxis], np.ones((len(places), 1), bool)


def _progress(items: Iterable[Any], total: int, description: str) -> Iterable[Any]:
    return tqdm(items, description, total, unit=" batches", leave=False, disable=None)
