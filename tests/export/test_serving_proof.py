"""A server's rules within export and verify: on artifacts that were changed, and while one is being written."""

import json
import shutil
import threading
import time

import keras
import pytest
import tensorflow as tf

from tests.export.test_serving_rules import FAULTY, FLOATS, TEXT, write
from tfzoo.errors import ArtifactMismatch
from tfzoo.export import exporter, saved_model, serving_rules, warm_up
from tfzoo.export import manifest as manifests
from tfzoo.export.outputs import TOLERANCE
from tfzoo.export.served_model import ServedModel
from tfzoo.export.signatures import Signature
from tfzoo.export.verify import verify
from tfzoo.runtime.artifact import read_manifest

pytestmark = pytest.mark.xdist_group("artifacts")


def test_what_the_proof_says(exported):
    proof = exported.manifest["proof"]["saved_model"]["serving"]
    assert proof["num_warm_up_requests"] == 10  # one row and all rows, for each of five signatures
    assert proof["max_difference"] <= TOLERANCE
    assert proof["num_warm_up_requests"] == len(list(warm_up.read_warm_up(exported.directory / "1")))


def test_verify_looks_for_another_version(separate_vocabularies, tmp_path):
    artifact = separate_vocabularies.copy(tmp_path / "model")
    shutil.copytree(artifact / "1", artifact / "2")
    with pytest.raises(ArtifactMismatch, match="version folders 1, 2 instead of 1 alone"):
        verify(artifact)


def test_request_and_warm_up_are_replayed(separate_vocabularies, tmp_path):
    artifact = separate_vocabularies.copy(tmp_path / "model")
    response = artifact / serving_rules.RESPONSE
    recorded = response.read_text(encoding="utf-8")
    for name, index, value, message in [
        ("outputs", 1, "another answer", r"request\.json for .*instead of 'another answer'"),
        ("scores", 2, 7.5, r"request\.json for .*`scores` differs by"),
    ]:
        changed = json.loads(recorded)
        changed["outputs"][name][index] = value
        response.write_text(json.dumps(changed), encoding="utf-8")
        with ServedModel(artifact / "1") as server, pytest.raises(ArtifactMismatch, match=message):
            serving_rules.check_requests(artifact, server)
    response.write_text(recorded, encoding="utf-8")
    path = artifact / "1" / warm_up.PATH
    path.write_bytes(path.read_bytes()[:-1])
    seal(artifact)
    with pytest.raises(ArtifactMismatch, match="tf_serving_warmup_requests: record 9 is damaged .*truncated"):
        verify(artifact)


def unrestored(source):
    return {"outputs": source, "scores": LAYER(tf.ones([tf.shape(source)[0], 3]))[:, 0]}


def latin_1(source):
    return {"outputs": tf.strings.join([source, b"\xff"]), "scores": tf.ones([tf.shape(source)[0]])}


def compiled(x):
    return {"y": x + 1}


LAYER = keras.layers.Dense(1)
BROKEN = {
    "variables that do not restore": (unrestored, [TEXT], {"layer": LAYER}, "reads what is not restored"),
    "a compiled signature": (compiled, [FLOATS], {"jit_compile": True}, "compiled with XLA"),
    "output that is not UTF-8": (latin_1, [TEXT], {}, "'outputs' holds bytes that are not UTF-8"),
    **{name: (*FAULTY[name][:2], {}, FAULTY[name][2]) for name in FAULTY},
}


@pytest.mark.parametrize("name", BROKEN)
def test_verify_finds_a_saved_model_that_breaks_a_rule(separate_vocabularies, tmp_path, name):
    """Its digests are right, and Python loads it: the rule alone stands between it and a server."""
    function, specs, objects, message = BROKEN[name]
    if not LAYER.built:  # not where the module is imported: nothing may compute before the CPU is split
        LAYER.build((None, 3))
    artifact = separate_vocabularies.copy(tmp_path / "model")
    shutil.move(artifact / "1/assets.extra", tmp_path / "assets.extra")
    shutil.rmtree(artifact / "1")
    write(artifact, function, *specs, **objects)
    shutil.move(tmp_path / "assets.extra", artifact / "1/assets.extra")
    seal(artifact)
    with pytest.raises(ArtifactMismatch, match=message):
        verify(artifact)


def test_verify_finds_a_bad_warm_up_record_and_a_version_in_pieces(separate_vocabularies, tmp_path):
    artifact = separate_vocabularies.copy(tmp_path / "model")
    whole = (artifact / "1" / warm_up.PATH).read_bytes()
    with tf.io.TFRecordWriter(str(artifact / "1" / warm_up.PATH)) as writer:
        writer.write(b"\xff\xff\xff")
    seal(artifact)
    with pytest.raises(ArtifactMismatch, match="tf_serving_warmup_requests: record 0 is damaged"):
        verify(artifact)
    (artifact / "1" / warm_up.PATH).write_bytes(whole)
    (artifact / "1/variables/variables.index").unlink()
    seal(artifact)
    with pytest.raises(ArtifactMismatch, match="its SavedModel does not load"):
        verify(artifact)


def test_an_export_that_breaks_a_rule_leaves_nothing_behind(separate_vocabularies, tmp_path, monkeypatch):
    def signatures(model, tokenizer, decoding):
        return {
            "serving_default": Signature(
                lambda source: {"n": tf.size(source)}, [tf.TensorSpec([None], tf.string, "source")]
            )
        }

    monkeypatch.setattr(saved_model, "signatures", signatures)
    with pytest.raises(ArtifactMismatch, match="output 'n' is a scalar"):
        exporter.export(
            separate_vocabularies.model, separate_vocabularies.tokenizer, tmp_path / "model", ["saved_model"]
        )
    assert not list(tmp_path.iterdir())


def test_a_server_that_polls_never_sees_a_part(separate_vocabularies, tmp_path, monkeypatch):
    """The files are written one by one, slowly, while a thread looks as a server does: for a version folder."""
    source = separate_vocabularies.directory
    files = sorted(path.relative_to(source) for path in source.rglob("*") if path.is_file())

    def build(directory, *_):
        for path in files:
            (directory / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / path, directory / path)
            time.sleep(0.01)
        return separate_vocabularies.manifest

    monkeypatch.setattr(exporter, "_build", build)
    output = tmp_path / "models" / "model"
    output.mkdir(parents=True)
    seen, looks = [], 0
    done = threading.Event()

    def poll():
        nonlocal looks
        while not done.is_set():
            looks += 1
            if (output / "1").exists():
                seen.extend(path.relative_to(output) for path in output.rglob("*") if path.is_file())
                return

    poller = threading.Thread(target=poll)
    poller.start()
    exporter.export(separate_vocabularies.model, separate_vocabularies.tokenizer, output)
    done.wait(0.2)  # time for a last look
    done.set()
    poller.join()
    assert looks > 10
    assert sorted(seen) == files
    assert [path.name for path in output.parent.iterdir()] == ["model"]


def seal(artifact):
    """Gives changed files their digests, so that `verify` has nothing but their content to find fault with."""
    manifest = read_manifest(artifact)
    manifest["files"] = manifests.file_digests(artifact)
    manifests.write_manifest(artifact, manifest)
