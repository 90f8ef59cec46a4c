"""Compiles `serving_client.c` against the installed TensorFlow and runs an artifact through it."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("serving_client.c")


def build(directory: Path) -> Path:
    """Compiles the program into `directory`.

    Raises:
        FileNotFoundError: there is no gcc.
    """
    program = directory / "serving_client"
    tensorflow = _package("tensorflow")
    libraries = [tensorflow / "libtensorflow_cc.so.2", tensorflow / "libtensorflow_framework.so.2"]
    command: list[str | Path] = ["gcc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", SOURCE, "-o", program]
    command += [f"-I{tensorflow / 'include'}", *libraries, f"-Wl,-rpath,{tensorflow}", "-lpthread", "-ldl", "-lm"]
    subprocess.run(command, check=True)
    return program


def run(
    program: Path, artifact: Path, work_dir: Path, *, threads: int, requests: int
) -> subprocess.CompletedProcess[str]:
    """Sends the golden rows of an artifact's default signature; see the program for what it prints.

    Args:
        program: what `build` returned.
        artifact: its folder.
        work_dir: where the golden rows are written.
        threads: number of them.
        requests: sent by each thread.
    """
    # Imported here: a benchmark measures a process without TensorFlow, and it imports this module.
    from tfzoo.export.saved_model import meta_graph
    from tfzoo.export.serving_rules import REQUEST, RESPONSE, TEXT_OPERATORS

    signature = meta_graph(artifact / "1").signature_def["serving_default"]
    asked = json.loads((artifact / REQUEST).read_text(encoding="utf-8"))["inputs"]
    answered = json.loads((artifact / RESPONSE).read_text(encoding="utf-8"))["outputs"]
    if len(signature.outputs) == 1:
        answered = {name: answered for name in signature.outputs}
    (work_dir / "cases.tsv").write_text(_cases([*asked.values(), *answered.values()]), encoding="utf-8")
    arguments = [f"input={signature.inputs[name].name}" for name in asked]
    arguments += [f"output={signature.outputs[name].name}" for name in answered]
    operators = json.loads((artifact / "manifest.json").read_text(encoding="utf-8"))["saved_model"]["operators"]
    if TEXT_OPERATORS.intersection(operators):
        libraries = sorted((_package("tensorflow_text") / "python/ops").glob("*.so"))
        arguments = [*(f"library={library}" for library in libraries), *arguments]
    return subprocess.run(
        [program, artifact / "1", work_dir / "cases.tsv", str(threads), str(requests), *arguments],
        capture_output=True,
        text=True,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
        check=False,
    )


def _cases(columns: list[list[Any]]) -> str:
    """One row a line, tabs between; what would end a text, a cell or a line is escaped."""
    rows = [[_cell(value) for value in row] for row in zip(*columns, strict=True)]
    return "".join("\t".join(row) + "\n" for row in rows)


def _cell(value: Any) -> str:
    values = _flat(value)
    if not any(isinstance(one, str) for one in values):
        return " ".join(map(repr, values))
    return r"\0".join(one.replace("\\", r"\\").replace("\t", r"\t").replace("\n", r"\n") for one in values)


def _flat(value: Any) -> list[Any]:
    return [one for part in value for one in _flat(part)] if isinstance(value, list) else [value]


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"{name} is not installed")
    return Path(spec.submodule_search_locations[0])
