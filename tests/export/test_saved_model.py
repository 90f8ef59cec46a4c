"""The SavedModel promise: literal signatures, answered as Keras does, by a process that has never heard of tfzoo."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from tests.tolerances import tolerance
from tfzoo.decoding.config import ROW_OPTIONS
from tfzoo.errors import ArtifactError
from tfzoo.export import saved_model
from tfzoo.runtime.tasks import encode_sources

pytestmark = pytest.mark.xdist_group("artifacts")

# One column per text of `Exported.texts`: greedy, beams of several widths, samples, and lengths of their own.
MIXED = {
    "max_length": np.array([9, 5, 7, 9, 2, 1], np.int32),
    "min_length": np.array([0, 3, 0, 2, 0, 0], np.int32),
    "num_beams": np.array([1, 4, 2, 1, 3, 1], np.int32),
    "length_penalty": np.array([0.6, 0.0, 1.5, 0.6, 0.6, 1.0], np.float32),
    "repetition_penalty": np.array([1.0, 1.0, 1.5, 0.8, 1.0, 1.0], np.float32),
    "temperature": np.array([0.0, 0.0, 0.0, 1.3, 0.0, 0.7], np.float32),
    "top_k": np.array([0, 0, 3, 5, 0, 0], np.int32),
    "top_p": np.array([1.0, 1.0, 0.5, 0.9, 1.0, 0.8], np.float32),
    "seed": np.array([0, 0, 0, 7, 0, 2**31 - 1], np.int32),
}

CLIENT = """
import sys
sys.modules["tfzoo"] = None  # importing it now fails
import json
import numpy as np
import tensorflow as tf
import tensorflow_text

answers = {}
for directory, request in json.load(sys.stdin).items():
    model = tf.saved_model.load(directory + "/1")
    answers[directory] = {
        name: {
            key: np.char.decode(value.numpy().astype(bytes)).tolist() if value.dtype == tf.string
            else value.numpy().tolist()
            for key, value in model.signatures[name](
                **{key: tf.constant(values, dtype) for key, (values, dtype) in inputs.items()}
            ).items()
        }
        for name, inputs in request.items()
    }
print(json.dumps({"modules": [name for name in sys.modules if name.startswith("tfzoo.")], "answers": answers}))
"""


def test_the_signatures_are_literally_these(exported):
    vocabulary_size = exported.tokenizer.target.vocabulary_size
    text, ids, one_each = ("string", [None]), ("int32", [None, None]), [None]
    expected = {
        "serving_default": ({"source": text}, {"outputs": text, "scores": ("float32", [None])}),
        "generate": (
            {
                "source": text,
                "max_length": ("int32", one_each),
                "min_length": ("int32", one_each),
                "num_beams": ("int32", one_each),
                "length_penalty": ("float32", one_each),
                "repetition_penalty": ("float32", one_each),
                "temperature": ("float32", one_each),
                "top_k": ("int32", one_each),
                "top_p": ("float32", one_each),
                "seed": ("int32", one_each),
            },
            {
                "outputs": ("string", [None, None]),
                "scores": ("float32", [None, None]),
                "token_ids": ("int32", [None, None, None]),
                "log_probs": ("float32", [None, None, None]),
            },
        ),
        "tokens": (
            {"encoder_token_ids": ids, "decoder_token_ids": ids},
            {"logits": ("float32", [None, None, vocabulary_size])},
        ),
        "tokenize": ({"source": text}, {"encoder_token_ids": ids}),
        "detokenize": ({"token_ids": ids}, {"outputs": text}),
    }
    table = saved_model.signature_table(exported.directory / "1")
    assert table == exported.manifest["saved_model"]["signatures"]
    assert {
        name: tuple(
            {key: (tensor["dtype"], tensor["shape"]) for key, tensor in signature[side].items()}
            for side in ("inputs", "outputs")
        )
        for name, signature in table.items()
    } == expected


def test_every_input_and_output_is_batch_first_and_dense(exported):
    """A server with batching joins requests along axis 0: no scalar, no fixed batch, nothing ragged or sparse."""
    signatures = read(exported.directory).signature_def
    for name, signature in signatures.items():
        if name.startswith("__"):
            continue
        for tensors in (signature.inputs, signature.outputs):
            for tensor in tensors.values():
                assert tensor.WhichOneof("encoding") == "name"
                assert tensor.tensor_shape.dim[0].size == -1


def test_no_function_asks_for_xla(exported):
    """A stock server refuses a compiled signature at the first request."""
    graph = read(exported.directory).graph_def
    attributes = {key for function in graph.library.function for key in function.attr}
    attributes |= {key for function in graph.library.function for node in function.node_def for key in node.attr}
    attributes |= {key for node in graph.node for key in node.attr}
    assert "_XlaMustCompile" not in attributes
    assert "T" in attributes  # it looks at attributes at all


def test_another_process_without_tfzoo_gets_the_answers_of_keras(shared_vocabulary, separate_vocabularies):
    requests, probes = {}, {}
    for exported in (shared_vocabulary, separate_vocabularies):
        length = exported.model.config.max_sequence_length
        (source,) = encode_sources(exported.texts, exported.tokenizer, length, np.array(length)).values()
        target = np.arange(24, dtype=np.int32).reshape(6, 4) % 20
        probes[exported] = {"encoder_token_ids": source, "decoder_token_ids": target}
        text = {"source": (exported.texts, "string")}
        requests[os.fspath(exported.directory)] = {
            "serving_default": text,
            "generate": text | {name: (values.tolist(), values.dtype.name) for name, values in MIXED.items()},
            "tokens": {name: (values.tolist(), "int32") for name, values in probes[exported].items()},
        }
    client = subprocess.run(
        [sys.executable, "-c", CLIENT],
        input=json.dumps(requests),
        capture_output=True,
        text=True,
        cwd="/",
        env=os.environ | {"PYTHONPATH": ""},
        check=False,
    )
    assert client.returncode == 0, client.stderr[-2000:]
    found = json.loads(client.stdout.splitlines()[-1])
    assert found["modules"] == []

    for exported, probe in probes.items():
        answers = found["answers"][os.fspath(exported.directory)]
        keras, texts = exported.runtimes["keras"], exported.texts
        best = [predictions[0] for predictions in keras.generate(texts)]
        assert answers["serving_default"]["outputs"] == [prediction.output for prediction in best]
        close(answers["serving_default"]["scores"], [prediction.score for prediction in best])
        expected = keras.backend.generate(texts, MIXED)
        assert answers["generate"]["token_ids"] == expected.token_ids.tolist()
        assert answers["generate"]["outputs"] == expected.outputs
        close(answers["generate"]["scores"], expected.scores)
        close(answers["tokens"]["logits"], keras.backend.logits(probe))


def close(found, expected):
    """Equal within the tolerance, which holds for numbers of order 1; IMPOSSIBLE scores are exact."""
    scale = max(1, np.abs(expected, where=np.asarray(expected) > -1e8, out=np.zeros_like(expected)).max())
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance("saved_model") * scale)


@pytest.mark.parametrize("runtime", ["keras", "saved_model", "onnx"])
def test_a_merged_batch_answers_each_row_as_alone(exported, runtime):
    backend = exported.runtimes[runtime].backend
    merged = backend.generate(exported.texts, MIXED)
    assert merged.token_ids.shape[:2] == (6, 4)  # the most beams of any row
    for row, text in enumerate(exported.texts):
        alone = backend.generate([text], {name: values[row : row + 1] for name, values in MIXED.items()})
        width = 1 if MIXED["temperature"][row] else MIXED["num_beams"][row]
        assert merged.outputs[row][:width] == alone.outputs[0][:width]
        length = alone.token_ids.shape[2]
        assert length <= MIXED["max_length"][row]
        np.testing.assert_array_equal(merged.token_ids[row, :width, :length], alone.token_ids[0, :width])
        assert not merged.token_ids[row, :width, length:].any()
        np.testing.assert_allclose(
            merged.scores[row, :width], alone.scores[0, :width], rtol=0, atol=tolerance("cached_step")
        )
        assert (merged.scores[row, width:] == np.float32(-1e9)).all()
        assert merged.outputs[row][width:] == [""] * (4 - width)


def test_the_options_of_a_signature_are_those_of_the_search(exported):
    inputs = exported.manifest["saved_model"]["signatures"]["generate"]["inputs"]
    assert {name: tensor["dtype"] for name, tensor in inputs.items() if name != "source"} == ROW_OPTIONS


def test_the_texts_make_the_answers_differ(exported):
    """What keeps the other tests honest: texts, beams and samples give answers of their own, some of them ended."""
    keras = exported.runtimes["keras"]
    greedy = keras(exported.texts, num_beams=1)
    assert len(set(greedy)) > 2
    assert greedy != keras(exported.texts, num_beams=4)
    assert greedy != keras(exported.texts, num_beams=1, temperature=1.0)


def test_operators_are_counted_inside_functions(exported):
    counts = saved_model.count_operators(exported.directory / "1")
    assert counts == exported.manifest["saved_model"]["operators"]
    tokenizer = "SentencepieceTokenizeOp" if exported.tokenizer.shared else "LookupTableFindV2"
    assert counts[tokenizer] > 0
    assert counts["While"] > 0


def test_every_weight_and_every_loop_is_stored_once(exported):
    reader = tf.train.load_checkpoint(os.fspath(exported.directory / "1/variables/variables"))
    sizes = [np.prod(shape, dtype=int) for shape in reader.get_variable_to_shape_map().values()]
    assert sum(sizes) == exported.model.count_params() + 1  # and the checkpoint's own table of objects
    assert saved_model.count_operators(exported.directory / "1")["While"] == 2  # serving_default and generate


@pytest.mark.parametrize("content", [b"", b"\xff\xff not a protocol buffer", None], ids=["empty", "garbage", "missing"])
def test_a_file_that_does_not_parse_is_named(tmp_path, content):
    if content is not None:
        (tmp_path / "saved_model.pb").write_bytes(content)
    for look in (saved_model.signature_table, saved_model.count_operators):
        with pytest.raises(ArtifactError, match=r"saved_model\.pb does not parse"):
            look(tmp_path)


def read(directory):
    return saved_model_pb2.SavedModel.FromString((directory / "1/saved_model.pb").read_bytes()).meta_graphs[0]


def test_two_texts_in_any_order_get_their_own_answers(exported):
    """The default signature, called as a server does after it has merged requests."""
    backend = exported.runtimes["saved_model"].backend
    forth, back = (backend.serve(texts)["outputs"] for texts in (exported.texts, exported.texts[::-1]))
    assert forth == back[::-1]
    assert forth == [backend.serve([text])["outputs"][0] for text in exported.texts]
