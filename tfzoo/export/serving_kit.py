"""The `serving/` folder of an artifact: everything between the SavedModel and its first answered request.

Configuration of the servers, clients that run as they are, the REST interface as OpenAPI, and a request with its true
answer. All of it follows from the manifest; the files' own text stands in `templates/`.
"""

from __future__ import annotations

import importlib.resources
import json
import re
from pathlib import Path
from typing import Any

from tfzoo.export import serving_rules, serving_tasks
from tfzoo.export.manifest import write_json
from tfzoo.export.openapi import openapi
from tfzoo.export.saved_model import VERSION_FOLDER
from tfzoo.export.served_model import ServedModel, response_json, to_json
from tfzoo.export.warm_up import write_warm_up
from tfzoo.runtime import onnx_names
from tfzoo.runtime.predictor import BATCH_SIZE

FOLDER = "serving"
# The newest tensorflow/serving image; it reads what TensorFlow 2.21 writes, and the manifest lists the operators.
SERVER_VERSION = "2.20.0"
MAX_ENQUEUED_BATCHES = 20
# What a server may be called: this name stands in URLs, shell commands and configuration files.
MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

_FILES = (
    "docker-compose.yml",
    "docker_run.sh",
    "models.config",
    "batching.config",
    "monitoring.config",
    "Dockerfile",
    "kubernetes.yaml",
    "kserve.yaml",
    "client_curl.sh",
    "client_rest.py",
    "client_grpc.py",
    "client_node.mjs",
)
_TRITON_FILE = "triton/config.pbtxt"
_TRITON_TYPES = {"int32": "TYPE_INT32", "int64": "TYPE_INT64", "float32": "TYPE_FP32"}
_SERVER_MEMORY = 512  # MiB, for the server itself


def write_serving_kit(directory: Path, manifest: dict[str, Any]) -> None:
    """Writes `directory`/serving and the version folder's warm-up requests.

    Args:
        directory: an artifact under construction, with a SavedModel.
        manifest: with `name`, `task`, `formats`, the formats' descriptions and the golden answers.

    Raises:
        ArtifactMismatch: a request fails, or its answer is not what a server can deliver.
    """
    folder = directory / FOLDER
    folder.mkdir()
    requests = serving_tasks.requests(manifest)
    with ServedModel(directory / VERSION_FOLDER) as server:
        answers = {signature: server.run(signature, inputs) for signature, inputs in requests.items()}
    for signature, outputs in answers.items():
        serving_rules.check_outputs(signature, requests[signature], outputs)

    default = requests["serving_default"]
    request = {
        "signature_name": "serving_default",
        "inputs": {name: to_json(name, value) for name, value in default.items()},
    }
    write_json(directory / serving_rules.REQUEST, request)
    write_json(directory / serving_rules.RESPONSE, response_json(answers["serving_default"]))
    write_json(
        folder / "openapi.json",
        openapi(
            manifest["name"],
            VERSION_FOLDER,
            manifest["saved_model"]["signatures"],
            serving_tasks.meanings(manifest),
            requests,
            answers,
        ),
    )
    values = _values(manifest, list(default))
    files = list(_FILES)
    if "onnx" in manifest["formats"]:
        graphs = manifest["onnx"]
        path = onnx_names.GENERATE if onnx_names.GENERATE in graphs else onnx_names.MODEL
        values["graph"] = path
        values["graph_outputs"] = "token ids" if path == onnx_names.GENERATE else "what the model computes"
        values["triton_tensors"] = _triton_tensors(graphs[path])
        files.append(_TRITON_FILE)
    for name in files:
        _write(folder, name, values)
    write_warm_up(directory / VERSION_FOLDER, manifest["name"], requests)


def _values(manifest: dict[str, Any], inputs: list[str]) -> dict[str, str]:
    return {
        "name": manifest["name"],
        "resource_name": _resource_name(manifest["name"]),
        "server_version": SERVER_VERSION,
        "inputs": json.dumps(inputs),
        "max_batch_size": str(BATCH_SIZE),
        "max_enqueued_batches": str(MAX_ENQUEUED_BATCHES),
        "memory": f"{_SERVER_MEMORY + 3 * 4 * manifest['num_parameters'] // 2**20}Mi",
    }


def _write(folder: Path, name: str, values: dict[str, str]) -> None:
    text = (importlib.resources.files("tfzoo.export") / "templates" / f"{name}.in").read_text(encoding="utf-8")
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(re.sub(r"\{\{(\w+)\}\}", lambda match: values[match[1]], text), encoding="utf-8")
    if path.suffix == ".sh":
        path.chmod(0o755)


def _resource_name(name: str) -> str:
    """A name that Kubernetes and Docker take: at most 50 lower-case letters, digits and dashes, a letter first.

    >>> _resource_name("G2P_small.v2")
    'g2p-small-v2'
    """
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower())
    return (plain if plain[0].isalpha() else f"model-{plain}")[:50].strip("-")


def _triton_tensors(graph: dict[str, Any]) -> str:
    """The `input` and `output` entries of Triton's configuration, which leaves the batch out of the dimensions."""
    entries = []
    for kind in ("input", "output"):
        for name, tensor in graph[f"{kind}s"].items():
            dims = [size if isinstance(size, int) else -1 for size in tensor["shape"][1:]]
            # Triton wants at least one dimension: one value a row is declared as [1] and reshaped away.
            shape = f"dims: {dims}" if dims else "dims: [1] reshape { shape: [] }"
            entries.append(f'{kind} {{ name: "{name}" data_type: {_TRITON_TYPES[tensor["dtype"]]} {shape} }}')
    return "\n".join(entries)
