"""Golden answers: what the model said at its export, recorded in the manifest, and asked of each format again."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfzoo.decoding.config import DecodingConfig
from tfzoo.errors import ArtifactMismatch
from tfzoo.export.outputs import TOLERANCE, compare_outputs
from tfzoo.runtime.encoder import ENCODER_TASKS, Encoder
from tfzoo.runtime.head import Text
from tfzoo.runtime.predictor import Backend, Predictor, SearchBackend, row_options

# Largest difference of a logit that float32 sums in another order explain, for logits of up to 1; in proportion above.
LOGITS_TOLERANCE = 1e-4
GOLDEN_LOGITS = 16  # of each probe's last row and position, recorded in the manifest
PROBE_LENGTH = 24  # tokens that are generated for the proof, at most


def record(
    reference: Predictor | Encoder, inputs: list[dict[str, np.ndarray]], texts: Sequence[Text]
) -> dict[str, Any]:
    """The reference's answers, for the manifest.

    Returns: `texts`; `logits`, a part of each probe's; `served`, what `serving_default` gives by output name; and of a
        model that generates `searches`, each with its options and what it found.
    """
    return {
        "texts": [text if isinstance(text, str) else list(text) for text in texts],
        "logits": [_part(reference.backend, probe).tolist() for probe in inputs],
        "served": reference.served(texts),  # type: ignore[arg-type]  # of the model's kind
        **({"searches": _searched(reference, texts)} if isinstance(reference, Predictor) else {}),
    }


def check_golden(
    name: str, candidate: Predictor | Encoder, inputs: list[dict[str, np.ndarray]], golden: dict[str, Any]
) -> dict[str, Any]:
    """Compares a format with the recorded answers.

    Returns: the largest difference of a recorded logit, and of a score.

    Raises:
        ArtifactMismatch: the first difference.
    """
    largest = 0.0
    for probe, recorded in zip(inputs, golden["logits"], strict=True):
        logits = _part(candidate.backend, probe)
        largest = max(largest, logits_difference(f"{name} against the recorded logits", logits, np.array(recorded)))
    if isinstance(candidate, Predictor):
        score_difference = _check_searches(name, candidate.backend, golden)
    else:
        score_difference = compare_outputs(
            name, golden["texts"], candidate.served(golden["texts"]), golden["served"], ranked_output(candidate.task)
        )
    return {"max_logit_difference": largest, "max_score_difference": score_difference}


def _part(backend: Backend, probe: dict[str, np.ndarray]) -> np.ndarray:
    logits = backend.logits(probe)[-1]
    return (logits if logits.ndim == 1 else logits[-1])[:GOLDEN_LOGITS]


def ranked_output(task: str) -> str | None:
    """The output of `serving_default` that holds names in the order of their scores."""
    return ENCODER_TASKS[task].ranked if task in ENCODER_TASKS else None


def searches(decoding: DecodingConfig) -> dict[str, DecodingConfig]:
    """The searches that a proof compares: greedy, beam and a seeded sample."""
    short = dataclasses.replace(
        decoding,
        max_length=min(decoding.max_length, PROBE_LENGTH),
        num_beams=1,
        temperature=0.0,
        num_return_sequences=1,
    )
    return {
        "greedy": short,
        "beam": dataclasses.replace(short, num_beams=max(4, decoding.num_beams)),
        "sample": dataclasses.replace(short, temperature=1.0, top_k=10, top_p=0.9, seed=1),
    }


def _searched(reference: Predictor, texts: Sequence[Any]) -> dict[str, Any]:
    answers = {}
    for name, config in searches(reference.decoding).items():
        found = reference.backend.generate(texts, row_options(config, len(texts)))
        answers[name] = {
            "options": {option: value.tolist()[0] for option, value in row_options(config, 1).items()},
            "outputs": [row[0] for row in found.outputs],
            "scores": [float(row[0]) for row in found.scores],
            "token_ids": found.token_ids[:, 0].tolist(),
        }
    return answers


def _check_searches(name: str, backend: SearchBackend, golden: dict[str, Any]) -> float:
    largest = 0.0
    for search, recorded in golden["searches"].items():
        options = {
            option: np.full(len(golden["texts"]), value, row.dtype)
            for (option, value), row in zip(
                recorded["options"].items(), row_options(DecodingConfig(), 1).values(), strict=True
            )
        }
        found = backend.generate(golden["texts"], options)
        rows = zip(golden["texts"], found.token_ids[:, 0], recorded["token_ids"], strict=True)
        for text, token_ids, expected in rows:
            _same_tokens(f"{name}, {search} search for {text!r}", token_ids.tolist(), expected)
        for text, row, expected in zip(golden["texts"], found.outputs, recorded["outputs"], strict=True):
            if row[0] != expected:
                raise ArtifactMismatch(f"{name}, {search} search for {text!r}: {row[0]!r} instead of {expected!r}.")
        difference = float(np.abs(found.scores[:, 0] - recorded["scores"]).max())
        if not difference <= TOLERANCE:
            raise ArtifactMismatch(
                f"{name}, {search} search: a score differs by {difference:.2g} nats, "
                f"more than the tolerance of {TOLERANCE:g}."
            )
        largest = max(largest, difference)
    return largest


def logits_difference(what: str, found: np.ndarray, expected: np.ndarray) -> float:
    """Returns the largest difference of a logit.

    Raises:
        ArtifactMismatch: it is above the tolerance, or the shapes differ.
    """
    if found.shape != expected.shape:
        raise ArtifactMismatch(f"{what}: logits of shape {found.shape} instead of {expected.shape}.")
    difference = float(np.abs(found - expected).max())
    allowed = LOGITS_TOLERANCE * max(1.0, float(np.abs(expected).max()))
    if not difference <= allowed:  # also when it is NaN
        raise ArtifactMismatch(
            f"{what}: a logit differs by {difference:.2g}, more than the tolerance of {allowed:.2g}."
        )
    return difference


def _same_tokens(what: str, found: list[int], expected: list[int]) -> None:
    if found != expected:
        where = next(
            (i for i, (a, b) in enumerate(zip(found, expected, strict=False)) if a != b), min(len(found), len(expected))
        )
        raise ArtifactMismatch(f"{what}: token ids {found} instead of {expected}, from position {where}.")
