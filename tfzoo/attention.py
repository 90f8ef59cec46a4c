"""What a sequence-to-sequence model looks at in the source while it answers.

The weights are those of the forward that scores the answer, not of a second one: the answer is found by the run's
search, and then read as a given target.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from tfzoo.errors import UsageError
from tfzoo.models.config import GruSeq2SeqConfig
from tfzoo.run_folder import Run
from tfzoo.runtime.loaded import Loaded
from tfzoo.runtime.predictor import BATCH_SIZE, Prediction
from tfzoo.runtime.tasks import encode_sources, padded
from tfzoo.text import Tokenizer
from tfzoo.text.special_tokens import END

DIGITS = 4  # behind the point; what a person or a picture can use


def attention(
    run: Loaded, texts: Iterable[str], *, batch_size: int = BATCH_SIZE, **options: Any
) -> Iterator[dict[str, Any]]:
    """Answers texts, and says for each answer where the model looked.

    Args:
        run: a run of a model with attention to a source.
        texts: inputs; read as the answers are asked for.
        batch_size: texts that are read and answered together.
        **options: decoding options that differ from the recipe's.

    Returns: for each text `input`, the best answer's `output` and `score`, and `attention`: the tokens of the `source`
        and of the `target` as text, each with the end token, and `weights`. These hold for each layer of the decoder
        (a GRU has one attention, a Transformer one a layer), and there for each target token, the share of each source
        token with which it was scored; the shares of a target token add up to 1, up to rounding. Of several heads they
        are the mean.

    Raises:
        UsageError: `run` is an artifact, or its model has no attention to a source; or an option is unknown.
    """
    if not isinstance(run, Run):
        raise UsageError(
            "attention is read from the Keras model of a run; an artifact has none. Give the run's folder."
        )
    if run.task != "seq2seq":
        raise UsageError(f"only a model with a source looks at one; {run.directory} is for the task {run.task!r}.")
    if isinstance(run.recipe.model, GruSeq2SeqConfig) and run.recipe.model.attention == "none":
        raise UsageError(f"{run.directory} holds a model without attention; received model.attention='none'.")
    for_answers, for_inputs = itertools.tee(texts)
    answers = (found[0] for found in run.generate(for_answers, batch_size=batch_size, **options))
    return _described(run, zip(for_inputs, answers, strict=True), batch_size)


def _described(run: Run, answered: Iterator[tuple[str, Prediction]], batch_size: int) -> Iterator[dict[str, Any]]:
    while batch := list(itertools.islice(answered, batch_size)):
        sources, targets, weights = weights_of(
            run, [text for text, _ in batch], [prediction.token_ids for _, prediction in batch]
        )
        for (text, prediction), source, target, looks in zip(batch, sources, targets, weights, strict=True):
            yield {
                "input": text,
                "output": prediction.output,
                "score": prediction.score,
                "attention": {
                    "source": _as_text(run.tokenizer.source, source),
                    "target": _as_text(run.tokenizer.target, target),
                    "weights": np.round(looks.astype(np.float64), DIGITS).tolist(),
                },
            }


def weights_of(
    run: Run, texts: Sequence[str], targets: Sequence[Sequence[int]]
) -> tuple[list[list[int]], list[list[int]], list[np.ndarray]]:
    """Returns what the model looks at while it scores given targets.

    Args:
        run: a run of a model with attention to a source.
        texts: N sources.
        targets: N targets as ids, without the start token.

    Returns: by text, the ids of the source, those of the target, and (layers, T, S) float32, the mean of all heads.
    """
    side = run.tokenizer.target
    encoded = encode_sources(texts, run.tokenizer, run.max_length, np.zeros(len(texts), np.int32))
    before = padded([[side.start_id, *ids[:-1]] for ids in targets], side.pad_id)
    found = run.model.attention(encoded | {"decoder_token_ids": before}).numpy().mean(axis=2)
    rows = encoded["encoder_token_ids"].tolist()
    sources = [row[: row.index(run.tokenizer.source.end_id) + 1] for row in rows]
    weights = [
        looks[:, : len(target), : len(source)] for looks, target, source in zip(found, targets, sources, strict=True)
    ]
    return sources, [list(ids) for ids in targets], weights


def _as_text(tokenizer: Tokenizer, ids: Iterable[int]) -> list[str]:
    return [END if one == tokenizer.end_id else tokenizer.decode([one]) for one in ids]
