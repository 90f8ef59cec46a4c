"""Which ONNX graphs a model of each task has."""

from __future__ import annotations

import os
from collections.abc import Callable

import keras
import onnx

from tfzoo.export import onnx_causal_lm, onnx_seq2seq
from tfzoo.runtime import onnx_names

GRAPHS: dict[str, dict[str, Callable[[keras.Model], onnx.ModelProto]]] = {
    "seq2seq": {
        onnx_names.ENCODER: onnx_seq2seq.encoder,
        onnx_names.DECODER: onnx_seq2seq.decoder,
        onnx_names.GENERATE: onnx_seq2seq.generator,
    },
    "causal_lm": {
        onnx_names.MODEL: onnx_causal_lm.decoder,
        onnx_names.GENERATE: onnx_causal_lm.generator,
    },
}


def write_onnx(model: keras.Model, directory: str) -> None:
    """Writes the graphs of a model's task under `directory`/onnx.

    Args:
        model: a zoo model.
        directory: an artifact under construction.

    Raises:
        ArtifactError: a graph does not convert.
    """
    os.makedirs(os.path.join(directory, "onnx"))
    for path, build in GRAPHS[model.task].items():
        onnx.save(build(model), os.path.join(directory, path))
