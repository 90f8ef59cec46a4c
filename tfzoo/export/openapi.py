"""The OpenAPI description of a model's REST interface on TF Serving, from its signatures.

TF Serving knows two forms of a request: by column, `{"inputs": {name: [one value a row]}}`, answered by `outputs`; and
by row, `{"instances": [{name: value}]}`, answered by `predictions`. Where there is one input or output, rows carry its
value without the name.
"""

from __future__ import annotations

import re
from typing import Any

from tfzoo.export.served_model import Arrays, response_json, to_json
from tfzoo.runtime.predictor import BATCH_SIZE

_JSON_TYPES = {
    "string": {"type": "string"},
    "int32": {"type": "integer", "format": "int32"},
    "int64": {"type": "integer", "format": "int64"},
    "float32": {"type": "number", "format": "float"},
    "bool": {"type": "boolean"},
}
# How TF Serving writes bytes, and reads them in place of any text.
_BYTES = {
    "type": "object",
    "properties": {"b64": {"type": "string", "contentEncoding": "base64"}},
    "required": ["b64"],
    "additionalProperties": False,
}

Table = dict[str, dict[str, Any]]  # tensor name -> {"dtype", "shape"}


def openapi(
    name: str,
    version: str,
    signatures: dict[str, dict[str, Table]],
    meanings: dict[str, str],
    requests: dict[str, Arrays],
    answers: dict[str, Arrays],
) -> dict[str, Any]:
    """Describes status, metadata and predict of one model.

    Args:
        name: the model's on the server.
        version: of the description.
        signatures: the manifest's table.
        meanings: signature -> what it answers, in Markdown.
        requests: signature -> an example batch of inputs.
        answers: signature -> the true outputs.

    Returns: an OpenAPI 3.1 document.
    """
    schemas: dict[str, Any] = {
        "Error": {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]},
    }
    asked, answered = [], []
    examples: dict[str, Any] = {}
    example_answers: dict[str, Any] = {}
    predicted = {name: table for name, table in signatures.items() if name != "classify"}  # it has a path of its own
    for signature, table in predicted.items():
        title = "".join(part.capitalize() for part in re.split(r"\W|_", signature))
        schemas |= _schemas(signature, title, table, meanings[signature])
        asked += [f"{title}Columns", f"{title}Rows"]
        answered += [f"{title}ColumnsAnswer", f"{title}RowsAnswer"]
        inputs, outputs = requests[signature], answers[signature]
        columns = {key: to_json(key, value) for key, value in inputs.items()}
        examples[f"{signature} by column"] = {"value": {"signature_name": signature, "inputs": columns}}
        examples[f"{signature} by row"] = {"value": {"signature_name": signature, "instances": _rows(inputs)}}
        example_answers[f"{signature} by column"] = {"value": response_json(outputs)}
        example_answers[f"{signature} by row"] = {"value": {"predictions": _rows(outputs)}}
    base = f"/v1/models/{name}"
    return {
        "openapi": "3.1.0",
        "info": {"title": name, "version": version, "description": "A model on TF Serving."},
        "servers": [{"url": "http://localhost:8501"}],
        "paths": {
            base: {"get": _get("Which versions are loaded.", "status")},
            f"{base}/metadata": {"get": _get("The signatures, as the server knows them.", "metadata")},
            f"{base}:predict": {
                "post": {
                    "operationId": "predict",
                    "summary": "Runs one signature.",
                    "description": "\n\n".join(
                        [
                            *(f"**{key}**: {meanings[key]}" for key in predicted),
                            f"With serving/batching.config a request has at most {BATCH_SIZE} rows.",
                        ]
                    ),
                    "requestBody": {
                        "required": True,
                        "content": {"application/json": {"schema": _one_of(asked), "examples": examples}},
                    },
                    "responses": {
                        "200": {
                            "description": "One row for each row asked.",
                            "content": {"application/json": {"schema": _any_of(answered), "examples": example_answers}},
                        },
                        "400": _error("The request does not fit a signature."),
                        "404": _error("The server has no such model."),
                        "503": _error("The queue of a batching server is full."),
                    },
                }
            },
            **(_classify(base, requests, answers, meanings["classify"]) if "classify" in signatures else {}),
        },
        "components": {"schemas": schemas},
    }


def _classify(
    base: str, requests: dict[str, Arrays], answers: dict[str, Arrays], meaning: str
) -> dict[str, dict[str, Any]]:
    """The path of the classification API: features of each example in, pairs of class and score out."""
    columns = {name: to_json(name, value) for name, value in requests["serving_default"].items()}
    examples = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    found = (to_json(name, answers["classify"][name]) for name in ("classes", "scores"))
    results = [[list(pair) for pair in zip(*row, strict=True)] for row in zip(*found, strict=True)]
    features = _object({name: {"anyOf": [_JSON_TYPES["string"], _BYTES]} for name in columns})
    asked = _object(
        {
            "signature_name": {"const": "classify"},
            "examples": {"type": "array", "items": features, "minItems": 1},
        }
    )
    pair = {"type": "array", "prefixItems": [_JSON_TYPES["string"], _JSON_TYPES["float32"]], "items": False}
    answered = _object({"results": {"type": "array", "items": {"type": "array", "items": pair}}})
    request = {"schema": asked, "example": {"signature_name": "classify", "examples": examples}}
    response = {"schema": answered, "example": {"results": results}}
    return {
        f"{base}:classify": {
            "post": {
                "operationId": "classify",
                "summary": "Classifies examples.",
                "description": meaning,
                "requestBody": {"required": True, "content": {"application/json": request}},
                "responses": {
                    "200": {
                        "description": "For each example its classes with their scores, best first.",
                        "content": {"application/json": response},
                    },
                    "400": _error("The request does not fit the signature."),
                    "404": _error("The server has no such model."),
                    "503": _error("The queue of a batching server is full."),
                },
            }
        }
    }


def _schemas(signature: str, title: str, table: dict[str, Table], meaning: str) -> dict[str, Any]:
    by_name = {"const": signature}
    # A request without a name goes to the default signature.
    named = [] if signature == "serving_default" else ["signature_name"]
    inputs = {key: _tensor(key, tensor, request=True) for key, tensor in table["inputs"].items()}
    outputs = {key: _tensor(key, tensor, request=False) for key, tensor in table["outputs"].items()}
    asked = _object(inputs) if len(inputs) > 1 else {"anyOf": [_object(inputs), *inputs.values()]}
    answer = _object(outputs) if len(outputs) > 1 else next(iter(outputs.values()))
    input_row, output_row = ({key: schema["items"] for key, schema in tensors.items()} for tensors in (inputs, outputs))
    asked_row = _object(input_row) if len(inputs) > 1 else {"anyOf": [_object(input_row), *input_row.values()]}
    answered_row = _object(output_row) if len(outputs) > 1 else next(iter(output_row.values()))
    return {
        f"{title}Columns": {
            "description": meaning,
            **_object({"signature_name": by_name, "inputs": asked}, required=[*named, "inputs"]),
        },
        f"{title}Rows": {
            "description": meaning,
            **_object(
                {"signature_name": by_name, "instances": {"type": "array", "items": asked_row, "minItems": 1}},
                required=[*named, "instances"],
            ),
        },
        f"{title}ColumnsAnswer": _object({"outputs": answer}),
        f"{title}RowsAnswer": _object({"predictions": {"type": "array", "items": answered_row}}),
    }


def _tensor(name: str, tensor: dict[str, Any], *, request: bool) -> dict[str, Any]:
    schema: dict[str, Any] = _JSON_TYPES[tensor["dtype"]]
    if tensor["dtype"] == "string":
        schema = _BYTES if name.endswith("_bytes") else {"anyOf": [schema, _BYTES]} if request else schema
    for size in reversed(tensor["shape"]):
        schema = {"type": "array", "items": schema} | ({"minItems": size, "maxItems": size} if size else {})
    return schema


def _rows(tensors: Arrays) -> list[Any]:
    columns = {key: to_json(key, value) for key, value in sorted(tensors.items())}
    if len(columns) == 1:
        return next(iter(columns.values()))
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _object(properties: dict[str, Any], required: list[str] | None = None) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": [*properties] if required is None else required,
        "additionalProperties": False,
    }


def _one_of(titles: list[str]) -> dict[str, Any]:
    return {"oneOf": [{"$ref": f"#/components/schemas/{title}"} for title in titles]}


def _any_of(titles: list[str]) -> dict[str, Any]:
    return {"anyOf": [{"$ref": f"#/components/schemas/{title}"} for title in titles]}


def _get(summary: str, operation: str) -> dict[str, Any]:
    return {
        "operationId": operation,
        "summary": summary,
        "responses": {
            "200": {"description": summary, "content": {"application/json": {"schema": {"type": "object"}}}},
            "404": _error("The server has no such model."),
        },
    }


def _error(description: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Error"}
    return {"description": description, "content": {"application/json": {"schema": schema}}}
