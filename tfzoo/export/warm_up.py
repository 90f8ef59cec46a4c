"""Warm-up requests, which a server answers before it calls a model ready.

They stand in assets.extra of the version folder as TFRecords of PredictionLog, at most 1000. A bad record keeps the
whole model from loading: `tfzoo.export.serving_rules` replays the file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from tfzoo.errors import ArtifactMismatch, one_line
from tfzoo.export.served_model import Arrays

PATH = "assets.extra/tf_serving_warmup_requests"
MAX_RECORDS = 1000  # a server refuses more


def write_warm_up(version_folder: Path, name: str, requests: dict[str, Arrays]) -> None:
    """Writes two requests for each signature: one row, as a lone client sends, and all rows, as merging makes.

    Args:
        version_folder: the folder with saved_model.pb.
        name: the model's name on the server.
        requests: signature name -> a batch of inputs.
    """
    path = version_folder / PATH
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(os.fspath(path)) as writer:
        for signature, inputs in requests.items():
            for num_rows in (1, None):
                log = PredictionLog()
                request = log.predict_log.request
                request.model_spec.name = name
                request.model_spec.signature_name = signature
                for key, value in inputs.items():
                    request.inputs[key].CopyFrom(tf.make_tensor_proto(value[:num_rows]))
                writer.write(log.SerializeToString(deterministic=True))


def read_warm_up(version_folder: Path) -> Iterator[tuple[str, Arrays]]:
    """Yields signature name and inputs of each request in the file.

    Raises:
        ArtifactMismatch: a record is damaged, no PredictionLog, or no request to predict.
    """
    path = version_folder / PATH
    index = 0
    try:
        for record in tf.data.TFRecordDataset(os.fspath(path)).as_numpy_iterator():
            log = PredictionLog.FromString(record)
            if log.WhichOneof("log_type") != "predict_log":
                raise ArtifactMismatch(
                    f"{path}: record {index} holds no request to predict; a server cannot replay it."
                )
            request = log.predict_log.request
            signature = request.model_spec.signature_name or "serving_default"
            yield signature, {key: tf.make_ndarray(value) for key, value in request.inputs.items()}
            index += 1
    except (tf.errors.DataLossError, tf.errors.NotFoundError, DecodeError, ValueError, TypeError) as error:
        raise ArtifactMismatch(
            f"{path}: record {index} is damaged ({one_line(error)}), and a server would not load the model."
        ) from error
