"""manifest.json: what an artifact is, down to the digest of each file and each weight."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tensorflow as tf
from google.protobuf.message import DecodeError

from tfzoo.errors import ArtifactMismatch
from tfzoo.export import onnx_passes, saved_model
from tfzoo.runtime.artifact import MANIFEST

# An initializer smaller than this is a shape or a scalar of the graph, not a weight.
_SMALLEST_WEIGHT = 16  # elements
_VERSIONED = ("keras", "numpy", "onnx", "onnxruntime", "tensorflow", "tensorflow-text", "tf2onnx", "tfzoo")


def package_versions() -> dict[str, str]:
    """Versions of the packages that an export depends on."""
    return {name: importlib.metadata.version(name) for name in _VERSIONED}


def file_digests(directory: Path) -> dict[str, dict[str, Any]]:
    """Relative path -> sha256 and size in bytes, for each file but the manifest."""
    digests = {}
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory).as_posix()
        if path.is_file() and name != MANIFEST:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            digests[name] = {"sha256": digest, "bytes": path.stat().st_size}
    return digests


def check_files(directory: Path, manifest: dict[str, Any]) -> None:
    """Compares every file with its digest.

    Files that the manifest does not know are left alone: a hosting service or a server may add its own.

    Raises:
        ArtifactMismatch: names the first file that is missing or differs, and the first weight in it that does.
    """
    present = file_digests(directory)
    for name, recorded in manifest["files"].items():
        if name not in present:
            raise ArtifactMismatch(f"{directory / name} is missing; copy the artifact again.")
        if present[name] != recorded:
            weight = _first_changed_weight(directory, name, manifest["weights"])
            raise ArtifactMismatch(
                f"{directory / name} differs from the file that was proved{weight}; copy the artifact again."
            )


def weight_digests(directory: Path) -> dict[str, dict[str, str]]:
    """File -> weight name -> sha256, for each file that holds weights."""
    digests = {}
    for path in sorted(directory.glob("onnx/*.onnx")):
        digests[path.relative_to(directory).as_posix()] = _onnx_weights(path)
    variables = f"{saved_model.VERSION_FOLDER}/variables/variables"
    if (directory / f"{variables}.index").is_file():
        digests[f"{variables}.data-00000-of-00001"] = _saved_model_weights(directory / variables)
    return digests


def _onnx_weights(path: Path) -> dict[str, str]:
    weights = {}
    for graph in onnx_passes.subgraphs(onnx.load(path).graph):
        for tensor in graph.initializer:
            if np.prod(tensor.dims) >= _SMALLEST_WEIGHT:
                weights[tensor.name] = hashlib.sha256(onnx.numpy_helper.to_array(tensor).tobytes()).hexdigest()
    return weights


def _saved_model_weights(prefix: Path) -> dict[str, str]:
    reader = tf.train.load_checkpoint(os.fspath(prefix))
    weights = {}
    for name in sorted(reader.get_variable_to_shape_map()):
        try:
            value = np.asarray(reader.get_tensor(name))
        except tf.errors.DataLossError:  # the checkpoint's own checksum has found it first
            weights[name] = "unreadable"
        else:
            if value.dtype != object:
                weights[name] = hashlib.sha256(value.tobytes()).hexdigest()
    return weights


def _first_changed_weight(directory: Path, name: str, recorded: dict[str, dict[str, str]]) -> str:
    if name not in recorded:
        return ""
    try:
        present = weight_digests(directory)[name]
    except (DecodeError, tf.errors.OpError, OSError, ValueError):
        return " and does not parse"
    for weight, digest in recorded[name].items():
        if weight not in present or present[weight] != digest:
            return f" in weight {weight!r}"
    return ""


def describe_formats(directory: Path, formats: tuple[str, ...]) -> dict[str, Any]:
    """What a consumer of each format must know: signatures, operators, opset."""
    described: dict[str, Any] = {}
    if "saved_model" in formats:
        folder = os.fspath(directory / saved_model.VERSION_FOLDER)
        described["saved_model"] = {
            "signatures": saved_model.signature_table(folder),
            "operators": saved_model.count_operators(folder),
        }
    if "onnx" in formats:
        described["onnx"] = {
            path.relative_to(directory).as_posix(): _describe_graph(onnx.load(path))
            for path in sorted(directory.glob("onnx/*.onnx"))
        }
    return described


def _describe_graph(model: onnx.ModelProto) -> dict[str, Any]:
    def describe(values: Any) -> dict[str, dict[str, Any]]:
        return {
            value.name: {
                "dtype": onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name,
                "shape": [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim],
            }
            for value in values
        }

    return {
        "opset": max(entry.version for entry in model.opset_import if entry.domain == ""),
        "inputs": describe(model.graph.input),
        "outputs": describe(model.graph.output),
        "operators": onnx_passes.count_operators(model),
    }


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes readable JSON with a final newline."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
