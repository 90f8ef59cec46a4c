"""Each rule of a server, broken once by a SavedModel that was made for it."""

import os
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_text
from tensorflow.python.framework import op_def_registry
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from tfzoo.errors import ArtifactMismatch
from tfzoo.export import serving_rules, warm_up
from tfzoo.export.served_model import ServedModel, from_json, response_json, to_json

TEXT = tf.TensorSpec([None], tf.string, "source")
FLOATS = tf.TensorSpec([None, 3], tf.float32, "x")


def write(directory, function, *specs, jit_compile=None, **objects):
    """A version folder whose default signature is `function`; `objects` are what it needs kept alive."""
    module = tf.Module()
    for name, value in objects.items():
        setattr(module, name, value)
    module.served = tf.function(function, input_signature=specs, jit_compile=jit_compile, autograph=False)
    tf.saved_model.save(module, os.fspath(directory / "1"), signatures={"serving_default": module.served})
    return directory


# ---- the graph ----


def python_callback(source):
    return {"outputs": tf.ensure_shape(tf.numpy_function(lambda x: x, [source], tf.string), [None])}


def trimmed(source):
    trimmer = tensorflow_text.RoundRobinTrimmer(2)
    (words,) = trimmer.trim([tf.strings.split(source)])
    return {"outputs": tf.strings.reduce_join(words, axis=-1)}


FAULTY = {
    "a ragged output": (lambda source: {"outputs": tf.strings.split(source)}, [TEXT], "output 'outputs' is ragged"),
    "a scalar output": (lambda source: {"n": tf.size(source), "outputs": source}, [TEXT], "output 'n' is a scalar"),
    "a scalar input": (
        lambda source, top_k: {"outputs": tf.strings.substr(source, 0, top_k)},
        [TEXT, tf.TensorSpec([], tf.int32, "top_k")],
        "input 'top_k' is a scalar",
    ),
    "a fixed batch": (lambda x: {"y": x + 1}, [tf.TensorSpec([4, 3], tf.float32, "x")], "input 'x' has a batch of 4"),
    "an unknown rank": (lambda x: {"y": x + 1}, [tf.TensorSpec(None, tf.float32, "x")], "'x' has no known rank"),
    "a Python callback": (python_callback, [TEXT], "operator PyFunc calls back into Python"),
    "an operator of TensorFlow Text that servers lack": (trimmed, [TEXT], "operator TFText>RoundRobinTrim is not"),
}


@pytest.mark.parametrize("name", FAULTY)
def test_a_graph_that_a_server_cannot_serve_is_refused(tmp_path, name):
    function, specs, message = FAULTY[name]
    with pytest.raises(ArtifactMismatch, match=message):
        serving_rules.check_graph(write(tmp_path, function, *specs))


def test_a_function_that_insists_on_xla_is_refused(tmp_path):
    serving_rules.check_graph(write(tmp_path / "plain", lambda x: {"y": x + 1}, FLOATS))
    with pytest.raises(ArtifactMismatch, match="compiled with XLA"):
        serving_rules.check_graph(write(tmp_path / "compiled", lambda x: {"y": x + 1}, FLOATS, jit_compile=True))


def test_xla_inside_a_signature_is_found_too(tmp_path):
    inner = tf.function(lambda x: x + 1, jit_compile=True)
    with pytest.raises(ArtifactMismatch, match="compiled with XLA"):
        serving_rules.check_graph(write(tmp_path, lambda x: {"y": inner(x) * 2}, FLOATS))


def test_operators_by_name():
    serving_rules.check_operators({"MatMul": 3, "SentencepieceTokenizeOp": 1, "LookupTableFindV2": 1})
    for name in ("XlaLaunch", "XlaConcatND", "BrandNewOp", "EagerPyFunc"):
        with pytest.raises(ArtifactMismatch, match=f"operator {name} "):
            serving_rules.check_operators({"MatMul": 3, name: 1})


def test_the_allowed_operators_of_tensorflow_text_exist():
    for name in serving_rules.TEXT_OPERATORS:
        assert op_def_registry.get(name) is not None, name
        assert not hasattr(tf.raw_ops, name), name


def test_a_default_signature_is_asked_for(tmp_path):
    module = tf.Module()
    module.served = tf.function(lambda x: {"y": x}, input_signature=[FLOATS])
    tf.saved_model.save(module, os.fspath(tmp_path / "1"), signatures={"another": module.served})
    with pytest.raises(ArtifactMismatch, match="no signature 'serving_default'"):
        serving_rules.check_graph(tmp_path)


@pytest.mark.parametrize("versions", [[], ["1", "2"], ["1", "00003"]])
def test_one_version_alone(tmp_path, versions):
    for version in versions:
        write(tmp_path / "made", lambda x: {"y": x}, FLOATS)
        shutil.move(tmp_path / "made/1", tmp_path / version)
    with pytest.raises(ArtifactMismatch, match="instead of 1 alone"):
        serving_rules.check_version_folder(tmp_path)


@pytest.mark.parametrize("missing", ["saved_model.pb", "variables/variables.index"])
def test_a_version_in_pieces_is_refused(tmp_path, missing):
    write(tmp_path, lambda x: {"y": x}, FLOATS)
    serving_rules.check_version_folder(tmp_path)
    (tmp_path / "1" / missing).unlink()
    with pytest.raises(ArtifactMismatch, match=f"lacks {missing}"):
        serving_rules.check_version_folder(tmp_path)


# ---- the answers ----


def test_variables_that_only_python_restores_are_found(tmp_path):
    """Keras' variables below `tf.saved_model.save`: `tf.saved_model.load` is content, and so is the graph."""
    layer = keras.layers.Dense(2)
    layer.build((None, 3))
    write(tmp_path, lambda x: {"y": layer(x)}, FLOATS, keras_layer=layer)
    serving_rules.check_graph(tmp_path)
    x = np.ones((5, 3), np.float32)
    assert tf.saved_model.load(os.fspath(tmp_path / "1")).signatures["serving_default"](x=x)["y"].shape == (5, 2)
    with (
        ServedModel(tmp_path / "1") as server,
        pytest.raises(ArtifactMismatch, match="reads what is not restored .*Could not find variable"),
    ):
        server.run("serving_default", {"x": x})


def test_bytes_that_are_not_utf8_are_found_unless_they_go_as_base64(tmp_path):
    write(tmp_path, lambda source: {"outputs": source, "raw_bytes": source}, TEXT)
    texts = np.array(["Ä".encode(), "Ä".encode("latin-1")], object)
    with ServedModel(tmp_path / "1") as server:
        outputs = server.run("serving_default", {"source": texts})
    serving_rules.check_outputs("serving_default", {"source": texts}, {"raw_bytes": outputs["raw_bytes"]})
    with pytest.raises(ArtifactMismatch, match=r"'outputs' holds bytes that are not UTF-8 \(b'\\xc4'\)"):
        serving_rules.check_outputs("serving_default", {"source": texts}, outputs)


def test_rows_must_match_the_batch(tmp_path):
    write(tmp_path, lambda x: {"y": tf.reshape(x, [-1])}, FLOATS)
    serving_rules.check_graph(tmp_path)
    x = np.ones((5, 3), np.float32)
    with ServedModel(tmp_path / "1") as server:
        outputs = server.run("serving_default", {"x": x})
    with pytest.raises(ArtifactMismatch, match=r"output 'y' has shape \(15,\) for a batch of 5"):
        serving_rules.check_outputs("serving_default", {"x": x}, outputs)
    with pytest.raises(ArtifactMismatch, match=r"inputs of \[1, 5\] rows"):
        serving_rules.check_outputs("serving_default", {"x": x, "more": x[:1]}, outputs)


@pytest.fixture(scope="module")
def doubling(tmp_path_factory):
    """A version folder for which any float row is a request."""
    return write(tmp_path_factory.mktemp("doubling"), lambda x: {"y": x + x}, FLOATS)


def test_a_request_that_does_not_fit_is_named(doubling):
    x = np.ones((2, 3), np.float32)
    with ServedModel(doubling / "1") as server:
        np.testing.assert_array_equal(server.run("serving_default", {"x": x})["y"], x + x)
        for signature, inputs, message in [
            ("another", {"x": x}, "no signature 'another'"),
            ("serving_default", {"z": x}, "takes x; the request has z"),
            ("serving_default", {"x": x.astype(np.int32)}, "takes 'x' as float32; the request has int32"),
            ("serving_default", {"x": x[:, :2]}, "fails a server's request to 'serving_default'"),
        ]:
            with pytest.raises(ArtifactMismatch, match=message):
                server.run(signature, inputs)


def test_a_folder_that_does_not_load_is_named(tmp_path):
    with pytest.raises(ArtifactMismatch, match="does not load on a server"):
        ServedModel(tmp_path)


# ---- warm-up ----


def record(signature, **inputs):
    log = PredictionLog()
    log.predict_log.request.model_spec.signature_name = signature
    for name, value in inputs.items():
        log.predict_log.request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return log.SerializeToString()


GOOD = record("serving_default", x=np.ones((2, 3), np.float32))
classification = PredictionLog()
classification.classify_log.request.model_spec.name = "m"
BAD_RECORDS = {
    "no protocol buffer": ([GOOD, b"\xff\xff\xff"], "record 1 is damaged"),
    "another kind of request": ([classification.SerializeToString()], "record 0 holds no request to predict"),
    "another signature": ([GOOD, GOOD, record("old", x=np.ones((1, 3), np.float32))], "record 2: no signature 'old'"),
    "another input": ([record("", z=np.ones((1, 3), np.float32))], "record 0: .* takes x; the request has z"),
    "another type": ([record("", x=np.ones((1, 3), np.int32))], "record 0: .* the request has int32"),
    "another shape": ([GOOD, record("", x=np.ones((1, 4), np.float32))], "record 1: .* fails a server's request"),
    "none": ([], "holds 0 requests"),
    "too many": ([GOOD] * 1001, "holds 1001 requests"),
}


def write_records(directory, records):
    path = directory / "1" / warm_up.PATH
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(os.fspath(path)) as writer:
        for one in records:
            writer.write(one)
    return path


@pytest.mark.parametrize("name", BAD_RECORDS)
def test_a_bad_warm_up_record_is_found(doubling, name):
    records, message = BAD_RECORDS[name]
    with ServedModel(doubling / "1") as server:
        write_records(doubling, [GOOD, GOOD])
        assert serving_rules.check_warm_up(doubling / "1", server) == 2
        write_records(doubling, records)
        with pytest.raises(ArtifactMismatch, match=message):
            serving_rules.check_warm_up(doubling / "1", server)


def test_a_cut_or_missing_warm_up_file_is_found(doubling):
    path = write_records(doubling, [GOOD, GOOD])
    path.write_bytes(path.read_bytes()[:-5])
    with ServedModel(doubling / "1") as server:
        with pytest.raises(ArtifactMismatch, match="record 1 is damaged .*truncated record"):
            serving_rules.check_warm_up(doubling / "1", server)
        path.unlink()
        with pytest.raises(ArtifactMismatch, match="record 0 is damaged .*No such file"):
            serving_rules.check_warm_up(doubling / "1", server)


def test_the_warm_up_that_is_written_is_read_back(tmp_path):
    requests = {"a": {"source": np.array([b"x", b"y"], object)}, "b": {"ids": np.array([[1, 2], [3, 4]], np.int32)}}
    warm_up.write_warm_up(tmp_path, "name", requests)
    found = list(warm_up.read_warm_up(tmp_path))
    assert [signature for signature, _ in found] == ["a", "a", "b", "b"]
    assert [len(next(iter(inputs.values()))) for _, inputs in found] == [1, 2, 1, 2]
    np.testing.assert_array_equal(found[1][1]["source"], requests["a"]["source"])
    np.testing.assert_array_equal(found[3][1]["ids"], requests["b"]["ids"])


# ---- JSON, by the numbers ----


def test_values_as_a_server_writes_them():
    assert to_json("x", np.array([0.1, -7.5], np.float32)) == [0.1, -7.5]  # and not 0.10000000149011612
    assert to_json("ids", np.array([[1], [2]], np.int32)) == [[1], [2]]
    assert to_json("outputs", np.array(["ä".encode()], object)) == ["ä"]
    assert to_json("raw_bytes", np.array([b"\xff"], object)) == [{"b64": "/w=="}]
    assert response_json({"b": np.array([1], np.int32), "a": np.array([2], np.int32)}) == {
        "outputs": {"a": [2], "b": [1]}
    }
    assert response_json({"labels": np.array([b"x"], object)}) == {"outputs": ["x"]}


def test_values_as_a_server_reads_them():
    np.testing.assert_array_equal(
        from_json(["ä", {"b64": "/w=="}], "string"), np.array(["ä".encode(), b"\xff"], object)
    )
    found = from_json([[1, 2], [3, 4]], "int32")
    assert (found.dtype, found.shape) == (np.int32, (2, 2))
