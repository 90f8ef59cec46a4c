"""Consumers that load a version folder as TF Serving does: a C program, and a Python process without tfzoo."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf

from tests.artifact_groups import grouped
from tests.consumers import c_loader
from tests.export.serving_clients import assert_close, read_json
from tfzoo.export.outputs import TOLERANCE
from tfzoo.export.serving_rules import REQUEST, RESPONSE

THREADS, REQUESTS = 8, 25


def run(serving_client, artifact, work_dir, requests=REQUESTS):
    return c_loader.run(serving_client, artifact, work_dir, threads=THREADS, requests=requests)


def test_a_c_program_gets_the_golden_answers_from_eight_threads(any_exported, serving_client, tmp_path):
    found = run(serving_client, any_exported.directory, tmp_path)
    assert found.returncode == 0, found.stderr
    report = json.loads(found.stdout)
    texts = [[text] if isinstance(text, str) else text for text in any_exported.manifest["golden"]["texts"]]
    assert report["requests"] == THREADS * REQUESTS
    assert report["rows"] == sum(1 + (thread + i) % len(texts) for thread in range(THREADS) for i in range(REQUESTS))
    assert min(report["resident_bytes"]) > 1e6
    # Not `splitlines`: a text may hold what Unicode calls the end of a line.
    cases = (tmp_path / "cases.tsv").read_text(encoding="utf-8").removesuffix("\n").split("\n")
    assert [case.split("\t")[: len(text)] for case, text in zip(cases, texts, strict=True)] == texts


ANOTHER = {
    "a text": ("separate_vocabularies", "outputs", lambda text: "another"),
    "a score": ("separate_vocabularies", "scores", lambda score: score + 2 * TOLERANCE),
    "a place": ("answerer", "starts", lambda place: place + 1),
    "a word more": ("word_classifier", "words", lambda words: [*words[:-1], "more"]),
}


@pytest.mark.parametrize(("name", "output", "change"), [grouped(*parts, case=case) for case, parts in ANOTHER.items()])
def test_the_c_program_notices_another_answer(exported_by_name, serving_client, tmp_path, name, output, change):
    artifact = exported_by_name(name).copy(tmp_path / "model")
    response = json.loads((artifact / RESPONSE).read_text(encoding="utf-8"))
    response["outputs"][output][1] = change(response["outputs"][output][1])
    (artifact / RESPONSE).write_text(json.dumps(response), encoding="utf-8")
    found = run(serving_client, artifact, tmp_path, requests=1)
    assert found.returncode == 1
    assert "instead of" in found.stderr


def test_a_session_without_xla_and_without_tfzoo_gets_the_golden_answers(exported_group, tmp_path):
    """One process for all of a group. A function that insists on XLA fails in it: the switch is off indeed."""
    compiled = tf.Module()
    compiled.double = tf.function(
        lambda x: {"y": x + x}, input_signature=[tf.TensorSpec([None], tf.float32, "x")], jit_compile=True
    )
    tf.saved_model.save(compiled, os.fspath(tmp_path / "compiled"), signatures={"serving_default": compiled.double})
    requests = [
        [os.fspath(one.directory / "1"), json.loads((one.directory / REQUEST).read_text("utf-8"))["inputs"]]
        for one in exported_group.values()
    ]
    client = subprocess.run(
        [sys.executable, Path(__file__).with_name("session_client.py")],
        input=json.dumps([*requests, [os.fspath(tmp_path / "compiled"), {"x": [1.0]}]]),
        capture_output=True,
        text=True,
        cwd="/",
        env=os.environ | {"PYTHONPATH": ""},
        check=False,
    )
    assert client.returncode == 0, client.stderr[-2000:]
    *served, refused = map(json.loads, client.stdout.rstrip("\n").split("\n")[-1 - len(requests) :])
    for exported, answer in zip(exported_group.values(), served, strict=True):
        found = answer["outputs"] if len(answer["outputs"]) > 1 else next(iter(answer["outputs"].values()))
        assert_close({"outputs": found}, read_json(exported, "response.json"))
    assert "XLA compilation disabled" in refused["error"]
