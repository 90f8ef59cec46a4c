"""The proof: an artifact answers as the model that it was exported from.

At export the Keras model is the reference for each format. Later, anywhere, `verify` takes the answers recorded then,
and where there are two formats also compares one with the other on fresh inputs.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from tfzoo.errors import ArtifactError, ArtifactMismatch
from tfzoo.export import onnx_text, serving_rules
from tfzoo.export.golden import LOGITS_TOLERANCE, PROBE_LENGTH, check_golden, logits_difference, ranked_output
from tfzoo.export.huggingface import check_labels
from tfzoo.export.manifest import check_files
from tfzoo.export.outputs import TOLERANCE, compare_outputs
from tfzoo.export.saved_model import VERSION_FOLDER
from tfzoo.export.served_model import ServedModel
from tfzoo.export.tokenizer_vectors import check_vectors
from tfzoo.runtime import onnx_names
from tfzoo.runtime.artifact import decoding_config, head_of, open_backend, read_manifest
from tfzoo.runtime.encoder import Encoder
from tfzoo.runtime.head import text_columns
from tfzoo.runtime.loaded import predictor_of
from tfzoo.runtime.onnx import CausalLmBackend, Seq2SeqBackend
from tfzoo.runtime.predictor import Backend, Predictor
from tfzoo.runtime.saved_model import SavedModelBackend, plain
from tfzoo.text import TokenizerPair

# Axis of the logits that runs over the tokens of `padding_mask`, where there is one.
_TOKEN_AXES = {"causal_lm": 1, "token_classification": 1, "fill_mask": 1, "question_answering": 2}


def probes(sizes: dict[str, int], max_length: int, pad_id: int) -> list[dict[str, np.ndarray]]:
    """Random inputs in three shapes: B=1 with one token, an odd batch with padded rows, B=1 at full length.

    Args:
        sizes: input name -> number of ids. A model of `token_ids` takes a `padding_mask` besides; another reads
            padding from the ids.
        max_length: longest sequence, in tokens.
        pad_id: what rows are padded with.

    Returns: three times input name -> (B, T) int32; the token ids of a probe differ in length.
    """
    random = np.random.default_rng(0)
    made = []
    for batch, longest in ((1, 1), (3, min(7, max_length)), (1, max_length)):
        probe = {}
        token_inputs = [(name, size) for name, size in sizes.items() if name.endswith("token_ids")]
        for index, (name, size) in enumerate(token_inputs):
            length = longest if batch == 1 else max(1, longest - 2 * index)
            token_ids = random.integers(0, size, (batch, length), np.int32)
            token_ids[token_ids == pad_id] = size - 1 if pad_id < size - 1 else 0
            if index == 0 and batch > 1:
                token_ids[1, length // 2 + 1 :] = pad_id
            probe[name] = token_ids
        if "token_ids" in sizes:
            probe["padding_mask"] = (probe["token_ids"] != pad_id).astype(np.int32)
        if "segment_ids" in sizes:
            shape = probe["token_ids"].shape
            probe["segment_ids"] = random.integers(0, sizes["segment_ids"], shape, np.int32) * probe["padding_mask"]
        made.append(probe)
    return made


def compare(
    name: str, task: str, reference: Backend, candidate: Backend, inputs: list[dict[str, np.ndarray]]
) -> dict[str, Any]:
    """Compares every logit of two backends on the probes.

    Returns: for each probe its shapes and the largest difference.

    Raises:
        ArtifactMismatch: the first difference above the tolerance.
    """
    results = []
    for probe in inputs:
        shapes = {key: list(value.shape) for key, value in probe.items()}
        expected = _at_tokens(task, reference.logits(probe), probe)
        result: dict[str, Any] = {
            "shapes": shapes,
            "max_logit_difference": logits_difference(
                f"{name} at {shapes}", _at_tokens(task, candidate.logits(probe), probe), expected
            ),
        }
        if isinstance(candidate, Seq2SeqBackend | CausalLmBackend) and expected.shape[1] <= PROBE_LENGTH:
            stepwise = _at_tokens(task, candidate.stepwise_logits(probe), probe)
            result["max_stepwise_difference"] = logits_difference(
                f"{name}, step by step at {shapes}", stepwise, expected
            )
        results.append(result)
    return {"probes": results}


def check_serving(
    server: ServedModel, backend: SavedModelBackend, golden: dict[str, Any], ranked: str | None = None
) -> int:
    """Calls a SavedModel's default signature: as a Python program does, and in a session, as a server does.

    Args:
        server: the SavedModel in a session.
        backend: the same, loaded by `tf.saved_model.load`.
        golden: the manifest's; its texts are the requests.
        ranked: see `compare_outputs`.

    Returns: number of texts that both answered as recorded.

    Raises:
        ArtifactMismatch: a request fails or is answered otherwise. Variables that the loader of a server does not find
            fail here, while `tf.saved_model.load` is content.
    """
    texts = golden["texts"]
    answers = {"tf.saved_model.load": backend.serve(texts)}
    outputs = server.run("serving_default", text_columns(texts, backend.head))
    answers["a session"] = {name: plain(value) for name, value in outputs.items()}
    for loader, found in answers.items():
        compare_outputs(f"saved_model through {loader}, serving_default", texts, found, golden["served"], ranked)
    return len(texts)


def prove(
    directory: Path,
    manifest: dict[str, Any],
    reference: Predictor | Encoder,
    inputs: list[dict[str, np.ndarray]],
) -> dict[str, Any]:
    """Proves each format of an artifact under construction against the model.

    Args:
        directory: the artifact.
        manifest: with `formats` and `golden`, the reference's answers.
        reference: the Keras model.
        inputs: the probes.

    Returns: what was compared and how far it differed, by format.

    Raises:
        ArtifactMismatch: the first difference.
    """
    proof: dict[str, Any] = {"logits_tolerance": LOGITS_TOLERANCE, "score_tolerance": TOLERANCE}
    golden, task = manifest["golden"], manifest["task"]
    for name in manifest["formats"]:
        candidate = _open(directory, name, reference.tokenizer, manifest)
        backend = candidate.backend
        proof[name] = _check_server(directory, backend, manifest)
        proof[name] |= compare(name, task, reference.backend, backend, inputs)
        proof[name]["golden"] = check_golden(name, candidate, inputs, golden)
        if "searches" in golden:
            proof[name]["identical_tokens"] = [*golden["searches"]]
        proof[name]["tokenizer_vectors"] = check_vectors(directory, backend, manifest["max_length"])
    return proof | _check_onnx_text(directory, reference.tokenizer, manifest)


def verify(directory: str | os.PathLike[str]) -> dict[str, Any]:
    """Proves an artifact again, without the model: digests, golden answers, a server's rules, format against format.

    Returns: `directory`, `num_files` compared, and for each format and pair of formats how far it differed, with the
        number of `tokenizer_vectors` compared; for a SavedModel also `serving`, see `serving_rules.check_requests`, and
        the number of texts `served`; for the graph that takes a string, where there is one, what `check_onnx_text`
        returns.

    Raises:
        ArtifactMismatch: the first difference.
        ArtifactError: the folder is not an artifact.
    """
    directory = Path(directory)
    manifest = read_manifest(directory)
    check_files(directory, manifest)
    check_labels(directory, manifest)
    tokenizer = TokenizerPair.load(directory)
    task = manifest["task"]
    inputs = probes(manifest["token_id_counts"], manifest["max_length"], tokenizer.source.pad_id)
    report: dict[str, Any] = {"directory": os.fspath(directory), "num_files": len(manifest["files"])}
    candidates = {name: _open(directory, name, tokenizer, manifest) for name in manifest["formats"]}
    for name, candidate in candidates.items():
        backend = candidate.backend
        report[name] = _check_server(directory, backend, manifest)
        report[name] |= check_golden(name, candidate, inputs, manifest["golden"])
        report[name]["tokenizer_vectors"] = check_vectors(directory, backend, manifest["max_length"])
    if len(candidates) == 2:
        name = "onnx against saved_model"
        report[name] = compare(name, task, candidates["saved_model"].backend, candidates["onnx"].backend, inputs)
    return report | _check_onnx_text(directory, tokenizer, manifest)


def _open(directory: Path, name: str, tokenizer: TokenizerPair, manifest: dict[str, Any]) -> Predictor | Encoder:
    try:
        backend = open_backend(directory, name, tokenizer, manifest)
    except ArtifactError as error:
        raise ArtifactMismatch(str(error)) from error
    return predictor_of(backend, tokenizer, head_of(manifest), decoding_config(manifest))


def _check_onnx_text(directory: Path, tokenizer: TokenizerPair, manifest: dict[str, Any]) -> dict[str, Any]:
    if onnx_names.TEXT_MODEL not in manifest.get("onnx", ()):
        return {}
    encoder = _open(directory, "onnx", tokenizer, manifest)
    found = onnx_text.check_onnx_text(directory, encoder, manifest["golden"])  # type: ignore[arg-type]  # no other task
    return {onnx_text.FORMAT: found}


def _check_server(directory: Path, backend: Backend, manifest: dict[str, Any]) -> dict[str, Any]:
    """Of a SavedModel a server's rules and answers, from one session: to load it and to call it first takes seconds."""
    if not isinstance(backend, SavedModelBackend):
        return {}
    serving_rules.check_graph(directory)
    ranked = ranked_output(manifest["task"])
    with ServedModel(directory / VERSION_FOLDER) as server:
        return {
            "serving": serving_rules.check_requests(directory, server, ranked),
            "served": check_serving(server, backend, manifest["golden"], ranked),
        }


def _at_tokens(task: str, logits: np.ndarray, probe: dict[str, np.ndarray]) -> np.ndarray:
    """Logits, and 0 at what a mask says is padding: they mean nothing there, and runtimes differ."""
    if task not in _TOKEN_AXES:
        return logits
    shape = [len(logits), 1, 1]
    shape[_TOKEN_AXES[task]] = -1
    return logits * probe["padding_mask"].reshape(shape)
