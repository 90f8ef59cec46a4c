"""The proof: an artifact answers as the model that it was exported from.

At export the Keras model is the reference for each format. Later, anywhere, `verify` takes the answers recorded then,
and where there are two formats also compares one with the other on fresh inputs.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfzoo.decoding.config import DecodingConfig
from tfzoo.errors import ArtifactError, ArtifactMismatch
from tfzoo.export import serving_rules
from tfzoo.export.manifest import check_files
from tfzoo.export.saved_model import VERSION_FOLDER
from tfzoo.export.served_model import ServedModel
from tfzoo.export.tokenizer_vectors import check_vectors
from tfzoo.runtime.artifact import open_backend, read_manifest
from tfzoo.runtime.onnx import CausalLmBackend, Seq2SeqBackend
from tfzoo.runtime.predictor import Backend, cut_at_stop, row_options
from tfzoo.runtime.saved_model import SavedModelBackend
from tfzoo.text import TokenizerPair

# Largest difference of a logit that float32 sums in another order explain, for logits of up to 1; in proportion above.
LOGITS_TOLERANCE = 1e-4
# Log-probabilities are sums over a whole sequence.
SCORE_TOLERANCE = 1e-3
GOLDEN_LOGITS = 16  # of each probe's last row and position, recorded in the manifest
PROBE_LENGTH = 24  # tokens that are generated for the proof, at most


def probes(sizes: dict[str, int], max_length: int, pad_id: int) -> list[dict[str, np.ndarray]]:
    """Random inputs in three shapes: B=1 with one token, an odd batch with padded rows, B=1 at full length.

    Args:
        sizes: input name -> number of token ids. Where the only input is `token_ids`, the model takes a `padding_mask`
            besides; else padding is read from the ids.
        max_length: longest sequence, in tokens.
        pad_id: what rows are padded with.

    Returns: three times input name -> (B, T) int32; the token ids of a probe differ in length.
    """
    random = np.random.default_rng(0)
    made = []
    for batch, longest in ((1, 1), (3, min(7, max_length)), (1, max_length)):
        probe = {}
        for index, (name, size) in enumerate(sizes.items()):
            length = longest if batch == 1 else max(1, longest - 2 * index)
            token_ids = random.integers(0, size, (batch, length), np.int32)
            token_ids[token_ids == pad_id] = size - 1 if pad_id < size - 1 else 0
            if index == 0 and batch > 1:
                token_ids[1, length // 2 + 1 :] = pad_id
            probe[name] = token_ids
        if [*sizes] == ["token_ids"]:
            probe["padding_mask"] = (probe["token_ids"] != pad_id).astype(np.int32)
        made.append(probe)
    return made


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


def record(
    reference: Backend, inputs: list[dict[str, np.ndarray]], texts: Sequence[str], decoding: DecodingConfig
) -> dict[str, Any]:
    """The reference's answers, for the manifest: part of each probe's logits, every search, and what is served.

    Served are the outputs by the artifact's own options, cut at a stop text.
    """
    answers = {}
    for name, config in searches(decoding).items():
        found = reference.generate(texts, row_options(config, len(texts)))
        answers[name] = {
            "options": {option: value.tolist()[0] for option, value in row_options(config, 1).items()},
            "outputs": [row[0] for row in found.outputs],
            "scores": [float(row[0]) for row in found.scores],
            "token_ids": found.token_ids[:, 0].tolist(),
        }
    return {
        "texts": list(texts),
        "searches": answers,
        "served": [
            cut_at_stop(row[0], decoding.stop)
            for row in reference.generate(texts, row_options(decoding, len(texts))).outputs
        ],
        "logits": [reference.logits(probe)[-1, -1, :GOLDEN_LOGITS].tolist() for probe in inputs],
    }


def check_golden(
    name: str, backend: Backend, inputs: list[dict[str, np.ndarray]], golden: dict[str, Any]
) -> dict[str, Any]:
    """Compares a format with the recorded answers.

    Returns: the largest difference of a recorded logit, and of a score in nats.

    Raises:
        ArtifactMismatch: the first difference.
    """
    largest = 0.0
    for probe, recorded in zip(inputs, golden["logits"], strict=True):
        logits = backend.logits(probe)[-1, -1, :GOLDEN_LOGITS]
        largest = max(largest, _logits_difference(f"{name} against the recorded logits", logits, np.array(recorded)))
    score_difference = 0.0
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
        if not difference <= SCORE_TOLERANCE:
            raise ArtifactMismatch(
                f"{name}, {search} search: a score differs by {difference:.2g} nats, "
                f"more than the tolerance of {SCORE_TOLERANCE:g}."
            )
        score_difference = max(score_difference, difference)
    return {"max_logit_difference": largest, "max_score_difference": score_difference}


def compare(name: str, reference: Backend, candidate: Backend, inputs: list[dict[str, np.ndarray]]) -> dict[str, Any]:
    """Compares every logit of two backends on the probes.

    Returns: for each probe its shapes and the largest difference.

    Raises:
        ArtifactMismatch: the first difference above the tolerance.
    """
    results = []
    for probe in inputs:
        shapes = {key: list(value.shape) for key, value in probe.items()}
        expected = _at_tokens(reference.logits(probe), probe)
        result: dict[str, Any] = {
            "shapes": shapes,
            "max_logit_difference": _logits_difference(
                f"{name} at {shapes}", _at_tokens(candidate.logits(probe), probe), expected
            ),
        }
        length = expected.shape[1]
        if isinstance(candidate, Seq2SeqBackend | CausalLmBackend) and length <= PROBE_LENGTH:
            stepwise = _at_tokens(candidate.stepwise_logits(probe), probe)
            result["max_stepwise_difference"] = _logits_difference(
                f"{name}, step by step at {shapes}", stepwise, expected
            )
        results.append(result)
    return {"probes": results}


def check_serving(version_folder: Path, backend: SavedModelBackend, golden: dict[str, Any]) -> int:
    """Calls a SavedModel's default signature: as a Python program does, and in a session, as a server does.

    Args:
        version_folder: holds saved_model.pb.
        backend: the same SavedModel, loaded.
        golden: the manifest's; its texts are the requests.

    Returns: number of texts that both answered as recorded.

    Raises:
        ArtifactMismatch: a request fails or is answered otherwise. Variables that the loader of a server does not find
            fail here, while `tf.saved_model.load` is content.
    """
    texts, expected = golden["texts"], golden["served"]
    answers = {"tf.saved_model.load": backend.serve(texts)}
    with ServedModel(version_folder) as server:
        (text_input,) = server.signatures["serving_default"].inputs
        requests = np.array([text.encode() for text in texts], object)
        outputs = server.run("serving_default", {text_input: requests})["outputs"]
    answers["a session"] = [output.decode() for output in outputs]
    for loader, found in answers.items():
        for text, output, reference in zip(texts, found, expected, strict=True):
            if output != reference:
                raise ArtifactMismatch(
                    f"saved_model through {loader}, serving_default for {text!r}: {output!r} instead of {reference!r}."
                )
    return len(texts)


def prove(
    directory: Path,
    manifest: dict[str, Any],
    reference: Backend,
    tokenizer: TokenizerPair,
    inputs: list[dict[str, np.ndarray]],
) -> dict[str, Any]:
    """Proves each format of an artifact under construction against the model.

    Args:
        directory: the artifact.
        manifest: with `formats` and `golden`, the reference's answers.
        reference: the Keras model.
        tokenizer: its tokenizers.
        inputs: the probes.

    Returns: what was compared and how far it differed, by format.

    Raises:
        ArtifactMismatch: the first difference.
    """
    proof: dict[str, Any] = {"logits_tolerance": LOGITS_TOLERANCE, "score_tolerance": SCORE_TOLERANCE}
    for name in manifest["formats"]:
        candidate = _open(directory, name, tokenizer, manifest)
        proof[name] = _check_rules(directory, name) | compare(name, reference, candidate, inputs)
        proof[name]["golden"] = check_golden(name, candidate, inputs, manifest["golden"])
        proof[name]["identical_tokens"] = [*manifest["golden"]["searches"]]
        proof[name]["tokenizer_vectors"] = check_vectors(directory, candidate, manifest["max_length"])
        if isinstance(candidate, SavedModelBackend):
            check_serving(directory / VERSION_FOLDER, candidate, manifest["golden"])
    return proof


def verify(directory: str | os.PathLike[str]) -> dict[str, Any]:
    """Proves an artifact again, without the model: digests, golden answers, a server's rules, format against format.

    Returns: `directory`, `num_files` compared, and for each format and pair of formats how far it differed, with the
        number of `tokenizer_vectors` compared; for a SavedModel also `serving`, see `serving_rules.check`, and the
        number of texts `served`.

    Raises:
        ArtifactMismatch: the first difference.
        ArtifactError: the folder is not an artifact.
    """
    directory = Path(directory)
    manifest = read_manifest(directory)
    check_files(directory, manifest)
    tokenizer = TokenizerPair.load(directory)
    inputs = probes(manifest["token_id_counts"], manifest["max_length"], tokenizer.source.pad_id)
    report: dict[str, Any] = {"directory": os.fspath(directory), "num_files": len(manifest["files"])}
    backends = {name: _open(directory, name, tokenizer, manifest) for name in manifest["formats"]}
    for name, backend in backends.items():
        report[name] = _check_rules(directory, name) | check_golden(name, backend, inputs, manifest["golden"])
        report[name]["tokenizer_vectors"] = check_vectors(directory, backend, manifest["max_length"])
        if isinstance(backend, SavedModelBackend):
            report[name]["served"] = check_serving(directory / VERSION_FOLDER, backend, manifest["golden"])
    if len(backends) == 2:
        report["onnx against saved_model"] = compare(
            "onnx against saved_model", backends["saved_model"], backends["onnx"], inputs
        )
    return report


def _open(directory: Path, name: str, tokenizer: TokenizerPair, manifest: dict[str, Any]) -> Backend:
    try:
        return open_backend(directory, name, tokenizer, manifest)
    except ArtifactError as error:
        raise ArtifactMismatch(str(error)) from error


def _check_rules(directory: Path, name: str) -> dict[str, Any]:
    return {"serving": serving_rules.check(directory)} if name == "saved_model" else {}


def _at_tokens(logits: np.ndarray, probe: dict[str, np.ndarray]) -> np.ndarray:
    """(B, T, V) logits, and 0 at what a mask says is padding: they mean nothing there, and runtimes differ."""
    return logits * probe["padding_mask"][:, :, np.newaxis] if "padding_mask" in probe else logits


def _logits_difference(what: str, found: np.ndarray, expected: np.ndarray) -> float:
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
