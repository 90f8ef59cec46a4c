"""A small stand-in for TF Serving: its REST and gRPC interfaces to predict, over a SavedModel in a session.

The rules of the JSON are those of the server's own json_tensor.cc, written down anew and apart from tfzoo, so that what
tfzoo writes is read by something that does not share its mistakes.
"""

import base64
import contextlib
import json
import os
import threading
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc


class BadRequest(Exception):
    """What the server answers with HTTP 400, or INVALID_ARGUMENT."""


class FakeServer:
    """Serves `version_folder` by the name `name`, below /v1/models."""

    def __init__(self, name, version_folder):
        self.name = name
        self.requests = []  # parsed JSON bodies
        self.session = tf.compat.v1.Session(graph=tf.Graph())
        with self.session.graph.as_default():
            self.signatures = tf.compat.v1.saved_model.load(
                self.session, ["serve"], os.fspath(version_folder)
            ).signature_def

    def run(self, signature, inputs):
        definition = self.signatures[signature]
        if inputs.keys() != definition.inputs.keys():
            raise BadRequest(f"input keys {sorted(inputs)} are not {sorted(definition.inputs)}")
        fetches = {name: tensor.name for name, tensor in definition.outputs.items()}
        return self.session.run(fetches, {definition.inputs[name].name: value for name, value in inputs.items()})

    def predict_json(self, body):
        self.requests.append(body)
        if not isinstance(body, dict):
            raise BadRequest("Is not object")
        signature = body["signature_name"] if "signature_name" in body else "serving_default"
        if signature not in self.signatures:
            raise BadRequest(f"Serving signature name: {signature!r} not found in signature def")
        types = {name: tensor.dtype for name, tensor in self.signatures[signature].inputs.items()}
        if ("instances" in body) == ("inputs" in body):
            raise BadRequest("Missing 'inputs' or 'instances' key, or both")
        if "inputs" in body:
            outputs = self.run(signature, columns_of(body["inputs"], types))
            written = {name: write(name, value) for name, value in outputs.items()}
            return {"outputs": written if len(written) > 1 else next(iter(written.values()))}
        outputs = self.run(signature, rows_of(body["instances"], types))
        if len({len(value) for value in outputs.values()}) > 1:
            raise BadRequest("inconsistent batch size")
        rows = [dict(zip(outputs, row, strict=True)) for row in zip(*outputs.values(), strict=True)]
        written = [{name: write(name, value) for name, value in row.items()} for row in rows]
        return {"predictions": written if len(outputs) > 1 else [next(iter(row.values())) for row in written]}

    def classify_json(self, body):
        """The classification API: each example's features go to the signature as a serialized `tf.train.Example`."""
        rows = []
        for features in body["examples"]:
            example = tf.train.Example()
            for name, value in features.items():
                text = base64.b64decode(value["b64"]) if is_base64(value) else value.encode()
                example.features.feature[name].bytes_list.value.append(text)
            rows.append(example.SerializeToString())
        outputs = self.run(body["signature_name"], {"inputs": np.array(rows, object)})
        classes, scores = (write(name, outputs[name]) for name in ("classes", "scores"))
        if not len(classes) == len(scores) == len(rows):
            raise BadRequest("Expected a row of classes and of scores for each example")
        return {
            "results": [[list(pair) for pair in zip(*row, strict=True)] for row in zip(classes, scores, strict=True)]
        }


def is_base64(value):
    return isinstance(value, dict) and value.keys() == {"b64"}


def columns_of(inputs, types):
    if not isinstance(inputs, dict) or is_base64(inputs):
        if len(types) > 1:
            raise BadRequest("inputs is a plain value/list, but expecting an object")
        inputs = {next(iter(types)): inputs}
    for name in types:
        if name not in inputs:
            raise BadRequest(f"Missing named input: {name} in 'inputs' object.")
    return {name: read(inputs[name], dtype) for name, dtype in types.items()}


def rows_of(instances, types):
    if not isinstance(instances, list) or not instances:
        raise BadRequest("Expecting 'instances' to be a list with values")
    named = isinstance(instances[0], dict) and not is_base64(instances[0])
    if not named and len(types) > 1:
        raise BadRequest("instances is a plain list, but expecting list of objects")
    if not named:
        instances = [{next(iter(types)): value} for value in instances]
    for row in instances:
        if row.keys() != types.keys():
            raise BadRequest(f"keys must be equal to: {','.join(types)}")
    return {name: read([row[name] for row in instances], dtype) for name, dtype in types.items()}


def read(value, dtype):
    def leaf(item):
        if isinstance(item, list):
            return [leaf(one) for one in item]
        if is_base64(item):
            return base64.b64decode(item["b64"], validate=True)
        expected = {tf.string.as_datatype_enum: str, tf.float32.as_datatype_enum: (int, float)}.get(dtype, int)
        if not isinstance(item, expected) or isinstance(item, bool):
            raise BadRequest(f"JSON Value: {item!r} is not of the expected type")
        return item.encode() if isinstance(item, str) else item

    try:
        return np.array(leaf(value), tf.dtypes.as_dtype(dtype).as_numpy_dtype)
    except ValueError as error:  # rows of unequal length
        raise BadRequest(str(error)) from error


def write(name, value):
    if isinstance(value, np.ndarray):
        return [write(name, one) for one in value]
    if isinstance(value, bytes):
        return {"b64": base64.b64encode(value).decode()} if name.endswith("_bytes") else value.decode()
    return value.item()


@contextlib.contextmanager
def rest(server):
    """The base URL of its REST interface, as long as the context lasts."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            if self.path != f"/v1/models/{server.name}:predict":
                return self.answer(404, {"error": f"Servable not found for request: {self.path}"})
            try:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                return self.answer(200, server.predict_json(body))
            except (BadRequest, ValueError, tf.errors.OpError) as error:
                return self.answer(400, {"error": str(error)})

        def answer(self, status, content):
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(content, ensure_ascii=False).encode())

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{http.server_port}"
        finally:
            http.shutdown()
            thread.join()


@contextlib.contextmanager
def grpc_address(server):
    """The address of its gRPC interface, as long as the context lasts."""

    class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
        def Predict(self, request, context):
            if request.model_spec.name != server.name:
                context.abort(grpc.StatusCode.NOT_FOUND, "Servable not found")
            response = predict_pb2.PredictResponse()
            signature = request.model_spec.signature_name or "serving_default"
            try:
                inputs = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
                outputs = server.run(signature, inputs)
            except (BadRequest, tf.errors.OpError) as error:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            for name, value in outputs.items():
                response.outputs[name].CopyFrom(tf.make_tensor_proto(value))
            return response

    service = grpc.server(futures.ThreadPoolExecutor(2))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Service(), service)
    port = service.add_insecure_port("127.0.0.1:0")
    service.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        service.stop(None).wait()
