"""Answers requests from version folders as TF Serving does, in a session and without tfzoo.

Request: a list of [version folder, inputs by name]. Prints a line of JSON for each: the `outputs` of the default
signature by name, or an `error`.
"""

import ctypes
import json
import os
import sys

import tensorflow as tf
import tensorflow_text  # noqa: F401  # its operators

library = os.path.join(os.path.dirname(tf.__file__), "libtensorflow_cc.so.2")
ctypes.CDLL(library)._ZN10tensorflow21DisableXlaCompilationEv()  # a stock server is built without XLA


def plain(value):
    if isinstance(value, list):
        return [plain(one) for one in value]
    return value.decode() if isinstance(value, bytes) else value


assert "tfzoo" not in sys.modules
for folder, inputs in json.load(sys.stdin):
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        signature = tf.compat.v1.saved_model.load(session, ["serve"], folder).signature_def["serving_default"]
        fetches = {name: tensor.name for name, tensor in signature.outputs.items()}
        try:
            outputs = session.run(fetches, {signature.inputs[name].name: value for name, value in inputs.items()})
        except tf.errors.OpError as error:
            print(json.dumps({"error": str(error)}))
        else:
            print(json.dumps({"outputs": {name: plain(value.tolist()) for name, value in outputs.items()}}))
