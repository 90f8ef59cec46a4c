"""Which ONNX graphs a model of each task has."""

from __future__ import annotations

import os
from collections.abc import Callable

import keras
import onnx

from tfzoo.export import onnx_causal_lm, onnx_encoder, onnx_gru_seq2seq, onnx_seq2seq
from tfzoo.models import GruSeq2Seq
from tfzoo.runtime import onnx_names
from tfzoo.runtime.encoder import ENCODER_TASKS

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
    **{task: {onnx_names.MODEL: onnx_encoder.encoder} for task in ENCODER_TASKS},
}

# A model whose past is no keys and values has an encoder and a decoder of its own.
_GRU_SEQ2SEQ = GRAPHS["seq2seq"] | {
    onnx_names.ENCODER: onnx_gru_seq2seq.encoder,
    onnx_names.DECODER: onnx_gru_seq2seq.decoder,
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
    graphs = _GRU_SEQ2SEQ if isinstance(model, GruSeq2Seq) else GRAPHS[model.task]
    for path, build in graphs.items():
        onnx.save(build(model), os.path.join(directory, path))
