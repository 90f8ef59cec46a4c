"""benchmarks/serve.py: what it calls flat, and its process for ONNX Runtime."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import serve

pytestmark = pytest.mark.xdist_group("artifacts")


def ask_onnx(artifact):
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.serve", "--onnx_only", f"--artifact={artifact}", "--requests=24"],
        capture_output=True,
        text=True,
        cwd=Path(serve.__file__).parents[1],
        check=False,
    )


def test_onnx_runtime_is_asked_without_tensorflow_and_every_answer_is_compared(separate_vocabularies, tmp_path):
    found = ask_onnx(separate_vocabularies.directory)
    assert found.returncode == 0, found.stderr
    report = json.loads(found.stdout)
    assert report["requests"] == 24
    # Six texts: thread t asks for 1 + (t + i) % 6 of them in its i-th request.
    assert report["rows"] == sum(1 + (thread + i) % 6 for thread in range(8) for i in range(3))
    artifact = separate_vocabularies.copy(tmp_path / "model")
    response = artifact / "serving/response.json"
    answers = json.loads(response.read_text(encoding="utf-8"))
    answers["outputs"]["outputs"][4] = "another"
    response.write_text(json.dumps(answers), encoding="utf-8")
    found = ask_onnx(artifact)
    assert found.returncode != 0
    assert "another answer for the texts" in found.stderr


def test_growth_is_from_behind_the_warm_up_to_the_end():
    warm_up, flat = [10, 40, 70, 90, 100], [100] * 45
    assert serve.growth(warm_up + flat) == 0
    assert serve.growth(warm_up + [100 + 2 * i for i in range(45)]) == 2 * 40
    assert serve.growth([*warm_up, *flat[1:], 10_000]) == 0  # one peak is no leak


def test_memory_is_read_in_bytes():
    before = serve.resident_bytes()
    held = os.urandom(50_000_000)
    assert 45e6 < serve.resident_bytes() - before < 60e6
    assert len(held) == 50_000_000
