"""manifest.json: what an artifact is, down to the digest of each file and each weight."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import tensorflow as tf

from tfzoo.errors import ArtifactMismatch
from tfzoo.export import onnx_passes, saved_model
from tfzoo.runtime.artifact import MANIFEST

# An initializer smaller than this is a shape or a scalar of the graph, not a weight.
_SMALLEST_WEIGHT = 16  # elements
_VARIABLES = f"{saved_model.VERSION_FOLDER}/variables/variables"
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
    """Compares the manifest with its own digest, and every file with the one that the manifest has.

    Files that the manifest does not know are left alone: a hosting service or a server may add its own.

    Raises:
        ArtifactMismatch: names the first file that is missing or differs, and the first weight in it that does.
    """
    if "sha256" not in manifest or manifest["sha256"] != _manifest_digest(manifest):
        raise ArtifactMismatch(f"{directory / MANIFEST} differs from what was proved; copy the artifact again.")
    present = file_digests(directory)
    for name, recorded in manifest["files"].items():
        if name not in present:
            raise ArtifactMismatch(f"{directory / name} is missing; copy the artifact again.")
        if present[name] != recorded:
            weight = _first_changed_weight(directory, name, manifest)
            raise ArtifactMismatch(
                f"{directory / name} differs from the file that was proved{weight}; copy the artifact again."
            )


def write_manifest(directory: Path, manifest: dict[str, Any]) -> None:
    """Writes manifest.json, and into it the digest of all that it says."""
    manifest["sha256"] = _manifest_digest(json.loads(json.dumps(manifest)))
    write_json(directory / MANIFEST, manifest)


def _manifest_digest(manifest: dict[str, Any]) -> str:
    content = {key: value for key, value in manifest.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def variable_digests(model: keras.Model) -> dict[str, str]:
    """Variable path -> sha256 of its value, by which a weight in a file gets the name that it has in the model."""
    return {variable.path: _array_digest(keras.ops.convert_to_numpy(variable)) for variable in model.variables}


def _array_digest(array: np.ndarray) -> str:
    return hashlib.sha256(array.tobytes()).hexdigest()


def weight_digests(directory: Path) -> dict[str, dict[str, str]]:
    """File -> weight name -> sha256, for each file that holds weights."""
    names = [path.relative_to(directory).as_posix() for path in sorted(directory.glob("onnx/*.onnx"))]
    if (directory / f"{_VARIABLES}.index").is_file():
        names.append(f"{_VARIABLES}.data-00000-of-00001")
    return {name: _weights(directory, name) for name in names}


def _weights(directory: Path, name: str) -> dict[str, str]:
    return _onnx_weights(directory / name) if name.endswith(".onnx") else _saved_model_weights(directory / _VARIABLES)


def _onnx_weights(path: Path) -> dict[str, str]:
    weights = {}
    for graph in onnx_passes.subgraphs(onnx.load(path).graph):
        for tensor in graph.initializer:
            if np.prod(tensor.dims) >= _SMALLEST_WEIGHT:
                weights[tensor.name] = _array_digest(onnx.numpy_helper.to_array(tensor))
    return weights


def _saved_model_weights(prefix: Path) -> dict[str, str]:
    reader = tf.train.load_checkpoint(os.fspath(prefix))
    weights = {}
    for name in sorted(reader.get_variable_to_shape_map()):
        try:
            value = np.asarray(reader.get_tensor(name))
        except (tf.errors.OpError, IndexError):  # the checkpoint's own checksum has found it, or the file is short
            weights[name] = "unreadable"
        else:
            if value.dtype.kind not in "OS":  # a string is the checkpoint's own table of objects
                weights[name] = _array_digest(value)
    return weights


def _first_changed_weight(directory: Path, name: str, manifest: dict[str, Any]) -> str:
    if name not in manifest["weights"]:
        return ""
    try:
        present = _weights(directory, name)
    except Exception:  # a damaged file shows as whatever its reader stumbles over
        return " and does not parse"
    for weight, digest in manifest["weights"][name].items():
        if weight not in present or present[weight] != digest:
            # Equal ones, such as biases that are still zero, cannot be told apart.
            paths = [path for path, other in manifest["variables"].items() if other == digest]
            return f" in weight {weight!r}" + (f", the model's {' or '.join(paths)}" if paths else "")
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
