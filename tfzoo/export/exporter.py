"""Model and tokenizer -> one folder for TF Serving, ONNX Runtime and Hugging Face's tools, proved before it exists.

The artifact is written into a hidden folder beside its place and renamed when every format has been proved. What is
not proved leaves nothing behind.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from absl import logging

from tfzoo.decoding.config import DecodingConfig
from tfzoo.errors import UsageError, nearest
from tfzoo.export import manifest as manifests
from tfzoo.export import serving_rules
from tfzoo.export.huggingface import config_files, fit_tokenizers
from tfzoo.export.model_card import model_card
from tfzoo.export.onnx_graphs import write_onnx
from tfzoo.export.saved_model import write_saved_model
from tfzoo.export.serving_kit import MODEL_NAME, write_serving_kit
from tfzoo.export.tokenizer_vectors import write_vectors
from tfzoo.export.verify import probes, prove, record
from tfzoo.runtime.artifact import FORMAT_VERSION
from tfzoo.runtime.keras import KerasBackend
from tfzoo.text import Tokenizer, TokenizerPair, pair

FORMATS = ("saved_model", "onnx")
NUM_TEXTS = 5  # that the golden answers are recorded for, and an empty one


def export(
    model: keras.Model,
    tokenizer: Tokenizer | tuple[Tokenizer, Tokenizer] | TokenizerPair,
    output_dir: str | os.PathLike[str],
    formats: Sequence[str] = FORMATS,
    *,
    decoding: DecodingConfig | None = None,
    recipe: dict[str, Any] | None = None,
    metrics: dict[str, Any] | None = None,
    texts: Sequence[str] = (),
) -> dict[str, Any]:
    """Exports a model and proves each format equal to it.

    Args:
        model: a zoo model with trained weights.
        tokenizer: the shared tokenizer, (source, target), or a pair.
        output_dir: the artifact's folder; must be absent or empty. Its name is the model's name on a server.
        formats: some of `FORMATS`.
        decoding: how the default signature searches; None = `DecodingConfig()` within the model's length.
        recipe: recorded in the manifest.
        metrics: recorded in the manifest and on the model card.
        texts: inputs of the model's kind, for the proof; none = random ones.

    Returns: the manifest.

    Raises:
        UsageError: an unknown format, a folder that is not empty, or a tokenizer or decoding options that do not fit
            the model.
        ArtifactError: the model does not convert.
        ArtifactMismatch: a format answers otherwise than the model.
    """
    tokenizer = pair(tokenizer)
    output_dir = Path(output_dir)
    decoding = decoding or DecodingConfig(max_length=min(DecodingConfig().max_length, model.config.max_sequence_length))
    _check_arguments(model, tokenizer, output_dir, formats, decoding)
    _check_json(recipe=recipe, metrics=metrics)
    # A served default answers with one sequence.
    decoding = dataclasses.replace(decoding, num_return_sequences=1)
    model = _in_float32(model)

    output_dir.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{output_dir.name}-", dir=output_dir.parent))
    try:
        manifest = _build(aside, output_dir.name, model, tokenizer, formats, decoding, recipe, metrics, texts)
        os.chmod(aside, 0o755)  # mkdtemp's is private, and a server runs as another user
        os.rename(aside, output_dir)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return manifest


def _build(
    directory: Path,
    name: str,
    model: keras.Model,
    tokenizer: TokenizerPair,
    formats: Sequence[str],
    decoding: DecodingConfig,
    recipe: dict[str, Any] | None,
    metrics: dict[str, Any] | None,
    texts: Sequence[str],
) -> dict[str, Any]:
    tokenizer.save(directory)
    fit_tokenizers(directory, model.config.max_sequence_length, model.task)
    tokenizers = write_vectors(directory, tokenizer, texts[:NUM_TEXTS])
    for file_name, content in config_files(model.config, decoding).items():
        manifests.write_json(directory / file_name, content)
    if "saved_model" in formats:
        logging.info("writing the SavedModel")
        write_saved_model(model, tokenizer, decoding, os.fspath(directory))
        serving_rules.check_graph(directory)
    if "onnx" in formats:
        logging.info("writing the ONNX graphs")
        write_onnx(model, os.fspath(directory))

    logging.info("proving %s", ", ".join(formats))
    reference = KerasBackend(model, tokenizer)
    config = model.config
    counts = _token_id_counts(model)
    inputs = probes(counts, config.max_sequence_length, config.pad_id)
    texts = [*(texts[:NUM_TEXTS] or _random_texts(tokenizer, config.max_sequence_length)), ""]
    manifest: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "name": name,
        "task": model.task,
        "formats": list(formats),
        "num_parameters": model.count_params(),
        "token_id_counts": counts,
        "tokenizers": tokenizers,
        "max_length": config.max_sequence_length,
        "pad_id": config.pad_id,
        "end_id": config.end_id,
        "prompt_suffix": tokenizer.prompt_suffix,
        "decoding": {**dataclasses.asdict(decoding), "stop": list(decoding.stop)},  # as JSON gives it back
        "recipe": recipe,
        "metrics": metrics or {},
        "versions": manifests.package_versions(),
        **manifests.describe_formats(directory, tuple(formats)),
        "golden": record(reference, inputs, texts, decoding),
    }
    if "saved_model" in formats:
        write_serving_kit(directory, manifest)
    manifest["proof"] = prove(directory, manifest, reference, tokenizer, inputs)
    (directory / "README.md").write_text(model_card(manifest), encoding="utf-8")
    manifest["variables"] = manifests.variable_digests(model)
    manifest["weights"] = manifests.weight_digests(directory)
    manifest["files"] = manifests.file_digests(directory)
    manifests.write_manifest(directory, manifest)
    return manifest


def _check_arguments(
    model: keras.Model, tokenizer: TokenizerPair, output_dir: Path, formats: Sequence[str], decoding: DecodingConfig
) -> None:
    if isinstance(formats, str) or not formats:
        raise UsageError(f"`formats` must be a sequence of {', '.join(FORMATS)}; received formats={formats!r}.")
    for name in formats:
        if name not in FORMATS:
            raise UsageError(f"`formats` knows {', '.join(FORMATS)}; received {name!r}.{nearest(name, FORMATS)}")
    if output_dir.name in ("", ".."):
        raise UsageError(
            f"`output_dir` {output_dir} has no name, which would be the model's; name a new folder, such as "
            f"{output_dir / 'my_model'}."
        )
    if output_dir.exists() and (not output_dir.is_dir() or any(output_dir.iterdir())):
        raise UsageError(f"`output_dir` {output_dir} exists and is not empty; name another folder or remove it.")
    if "saved_model" in formats and not MODEL_NAME.fullmatch(output_dir.name):
        raise UsageError(
            f"`output_dir` names the model on a server, which takes letters, digits, '.', '_' and '-'; "
            f"received {output_dir.name!r}. Choose another folder name."
        )
    if decoding.max_length > model.config.max_sequence_length:
        raise UsageError(
            "`decoding` must not generate more tokens than the model has positions; received "
            f"max_length={decoding.max_length}, max_sequence_length={model.config.max_sequence_length}."
        )
    counts = [*_token_id_counts(model).values()]
    expected = {
        "source": (tokenizer.source.vocabulary_size, counts[0]),
        "target": (tokenizer.target.vocabulary_size, counts[-1]),
    }
    for side, (num_ids, num_embedded) in expected.items():
        if num_ids != num_embedded:
            raise UsageError(
                f"`tokenizer` does not fit the model: its {side} side has {num_ids} ids, "
                f"the model embeds {num_embedded}. Pass the tokenizer that the model was trained with."
            )
        for name in ("pad_id", "start_id", "end_id"):
            if getattr(getattr(tokenizer, side), name) != getattr(model.config, name):
                raise UsageError(
                    f"`tokenizer` does not fit the model: its {side} side has {name}="
                    f"{getattr(getattr(tokenizer, side), name)}, the model {name}={getattr(model.config, name)}."
                )


def _token_id_counts(model: keras.Model) -> dict[str, int]:
    """Input name -> number of token ids that it may hold."""
    counts = {name: model.config.vocabulary_size for name in model.input_signature() if name.endswith("token_ids")}
    if model.task == "seq2seq" and model.config.source_vocabulary_size is not None:
        counts["encoder_token_ids"] = model.config.source_vocabulary_size
    return counts


def _check_json(**arguments: Any) -> None:
    for name, value in arguments.items():
        try:
            json.dumps(value)
        except (TypeError, ValueError) as error:
            raise UsageError(f"`{name}` goes into the manifest as JSON, which cannot hold it: {error}.") from error


def _in_float32(model: keras.Model) -> keras.Model:
    """The same weights computed in float32: half precision is for training, and few runtimes have it on a CPU."""
    if model.compute_dtype == "float32":
        return model
    clone = type(model)(model.config, name=model.name, dtype="float32")
    clone.set_weights(model.get_weights())
    return clone


def _random_texts(tokenizer: TokenizerPair, max_length: int) -> list[str]:
    random = np.random.default_rng(0)
    lengths = np.linspace(1, min(max_length, 40), NUM_TEXTS, dtype=int)
    return [
        tokenizer.source.decode(random.integers(0, tokenizer.source.vocabulary_size, length).tolist())
        for length in lengths
    ]
