"""Keras model -> SavedModel that TF Serving loads and answers from, text in and text out."""

from __future__ import annotations

import os
from typing import Any

import keras
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import saved_model_pb2

from tfzoo.decoding.config import AnswerConfig, DecodingConfig
from tfzoo.errors import ArtifactError
from tfzoo.export.quiet import only_errors
from tfzoo.export.signatures import Signature, signatures
from tfzoo.export.signatures_encoder import encoder_signatures
from tfzoo.text import TokenizerPair

# The folder TF Serving looks for: the version number below the model's name.
VERSION_FOLDER = "1"


def write_saved_model(
    model: keras.Model, tokenizer: TokenizerPair, decoding: DecodingConfig | AnswerConfig | None, directory: str
) -> None:
    """Writes `directory`/1, a TF Serving version folder.

    `keras.export.ExportArchive` and not `tf.saved_model.save`: with the latter, Keras' variables load in Python and
    fail each request on a server.

    Args:
        model: a zoo model.
        tokenizer: its tokenizers.
        decoding: how the default signature searches, of a model that does.
        directory: an artifact under construction.
    """
    archive = keras.export.ExportArchive()
    # The archive tracks the variables that the signatures use. Tracking the model too would store each a second time.
    for side in {id(one): one for one in (tokenizer.source, tokenizer.target)}.values():
        archive.track(side.trackable())
    if isinstance(decoding, DecodingConfig):
        made = signatures(model, tokenizer, decoding)
    else:
        made = encoder_signatures(model, tokenizer, decoding)
    for name, signature in made.items():
        archive.add_endpoint(name, _traced_once(signature))
    with only_errors("absl"):
        archive.write_out(os.path.join(directory, VERSION_FOLDER), verbose=False)


def _traced_once(signature: Signature) -> Any:
    """A tf.function that only calls a traced one: saving traces a tf.function a second time, and stores both graphs.

    Without jit_compile: stock servers refuse compiled signatures.
    """
    traced = tf.function(signature.function, input_signature=signature.inputs, autograph=False).get_concrete_function()
    return tf.function(lambda *inputs: traced(*inputs), input_signature=signature.inputs, autograph=False)


def signature_table(version_folder: str | os.PathLike[str]) -> dict[str, dict[str, dict[str, dict[str, object]]]]:
    """Signature name -> {"inputs" and "outputs"} -> tensor name -> {"dtype", "shape"}, read from the file.

    Raises:
        ArtifactError: saved_model.pb does not parse.
    """

    def describe(tensors: Any) -> dict[str, dict[str, object]]:
        return {
            name: {
                "dtype": tf.dtypes.as_dtype(tensor.dtype).name,
                "shape": [None if dim.size < 0 else dim.size for dim in tensor.tensor_shape.dim],
            }
            for name, tensor in sorted(tensors.items())
        }

    served = meta_graph(version_folder).signature_def
    return {
        name: {"inputs": describe(signature.inputs), "outputs": describe(signature.outputs)}
        for name, signature in sorted(served.items())
        if not name.startswith("__")  # TensorFlow's own, such as the initializer's
    }


def count_operators(version_folder: str | os.PathLike[str]) -> dict[str, int]:
    """TensorFlow operator -> number of nodes in the graph and its functions; what a server must know to load it."""
    graph = meta_graph(version_folder).graph_def
    counts: dict[str, int] = {}
    for nodes in (graph.node, *(function.node_def for function in graph.library.function)):
        for node in nodes:
            counts[node.op] = counts.get(node.op, 0) + 1
    return dict(sorted(counts.items()))


def meta_graph(version_folder: str | os.PathLike[str]) -> Any:
    """The MetaGraphDef of a version folder.

    Raises:
        ArtifactError: saved_model.pb does not parse.
    """
    path = os.path.join(version_folder, "saved_model.pb")
    try:
        with open(path, "rb") as file:
            return saved_model_pb2.SavedModel.FromString(file.read()).meta_graphs[0]
    except (OSError, DecodeError, IndexError) as error:
        raise ArtifactError(f"{path} does not parse ({error}); export the model again.") from error
