"""Consumers that load a version folder as TF Serving does: a C program, and a Python process without tfzoo."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tests.consumers import c_loader
from tfzoo.export.outputs import TOLERANCE
from tfzoo.export.serving_rules import REQUEST, RESPONSE

pytestmark = pytest.mark.xdist_group("artifacts")

THREADS, REQUESTS = 8, 25

SESSION_CLIENT = """
import sys
sys.modules["tfzoo"] = None  # importing it now fails
import ctypes, json, os
import tensorflow as tf
import tensorflow_text

library = os.path.join(os.path.dirname(tf.__file__), "libtensorflow_cc.so.2")
ctypes.CDLL(library)._ZN10tensorflow21DisableXlaCompilationEv()  # a stock server is built without XLA
for folder, request in json.load(sys.stdin):
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        signature = tf.compat.v1.saved_model.load(session, ["serve"], folder).signature_def["serving_default"]
        fetches = {name: tensor.name for name, tensor in signature.outputs.items()}
        try:
            answer = session.run(fetches, {signature.inputs[name].name: value for name, value in request.items()})
        except tf.errors.OpError as error:
            print(json.dumps({"error": str(error)}))
            continue
    print(json.dumps({"outputs": {
        name: [one.decode() if isinstance(one, bytes) else float(one) for one in value]
        for name, value in answer.items()
    }}))
"""


def run(serving_client, artifact, work_dir):
    return c_loader.run(serving_client, artifact, work_dir, threads=THREADS, requests=REQUESTS)


def test_a_c_program_gets_the_golden_answers_from_eight_threads(exported, serving_client, tmp_path):
    found = run(serving_client, exported.directory, tmp_path)
    assert found.returncode == 0, found.stderr
    report = json.loads(found.stdout)
    num_texts = len(exported.manifest["golden"]["texts"])
    assert report["requests"] == THREADS * REQUESTS
    assert report["rows"] == sum(1 + (thread + i) % num_texts for thread in range(THREADS) for i in range(REQUESTS))
    assert min(report["resident_bytes"]) > 1e6
    cases = (tmp_path / "cases.tsv").read_text(encoding="utf-8").splitlines()
    assert len(cases) == num_texts
    assert [case.split("\t")[0] for case in cases] == exported.manifest["golden"]["texts"]


@pytest.mark.parametrize("name", ["outputs", "scores"])
def test_the_c_program_notices_another_answer(separate_vocabularies, serving_client, tmp_path, name):
    artifact = separate_vocabularies.copy(tmp_path / "model")
    response = json.loads((artifact / RESPONSE).read_text(encoding="utf-8"))
    response["outputs"][name][1] = "another" if name == "outputs" else response["outputs"][name][1] + 2 * TOLERANCE
    (artifact / RESPONSE).write_text(json.dumps(response), encoding="utf-8")
    found = run(serving_client, artifact, tmp_path)
    assert found.returncode == 1
    assert "instead of" in found.stderr


def test_a_session_without_xla_and_without_tfzoo_gets_the_golden_answers(
    shared_vocabulary, separate_vocabularies, tmp_path
):
    """One process for all. A function that insists on XLA fails in it: the switch is off indeed."""
    compiled = tf.Module()
    compiled.double = tf.function(
        lambda x: {"y": x + x}, input_signature=[tf.TensorSpec([None], tf.float32, "x")], jit_compile=True
    )
    tf.saved_model.save(compiled, os.fspath(tmp_path / "compiled"), signatures={"serving_default": compiled.double})
    artifacts = [shared_vocabulary.directory, separate_vocabularies.directory]
    asked = [[os.fspath(one / "1"), json.loads((one / REQUEST).read_text("utf-8"))["inputs"]] for one in artifacts]
    client = subprocess.run(
        [sys.executable, "-c", SESSION_CLIENT],
        input=json.dumps([*asked, [os.fspath(tmp_path / "compiled"), {"x": [1.0]}]]),
        capture_output=True,
        text=True,
        cwd="/",
        env=os.environ | {"PYTHONPATH": ""},
        check=False,
    )
    assert client.returncode == 0, client.stderr[-2000:]
    *served, refused = map(json.loads, client.stdout.splitlines()[-3:])
    for artifact, answer in zip(artifacts, served, strict=True):
        expected = json.loads((artifact / RESPONSE).read_text(encoding="utf-8"))["outputs"]
        assert answer["outputs"]["outputs"] == expected["outputs"]
        np.testing.assert_allclose(answer["outputs"]["scores"], expected["scores"], rtol=0, atol=TOLERANCE)
    assert "XLA compilation disabled" in refused["error"]
