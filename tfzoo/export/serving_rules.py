"""What a TF Serving server asks of an artifact: one check for each way to be READY and yet fail.

Each rule was seen in the server's own code or behaviour. `check_graph` reads the file alone; `check` also sends
requests, through the loader that servers use.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from tfzoo.errors import ArtifactMismatch
from tfzoo.export import warm_up
from tfzoo.export.outputs import compare_outputs
from tfzoo.export.saved_model import VERSION_FOLDER, count_operators, meta_graph
from tfzoo.export.served_model import Arrays, ServedModel, from_json, to_json

REQUEST, RESPONSE = "serving/request.json", "serving/response.json"

# Operators of TensorFlow Text that the servers have linked for years. What is newer (RoundRobinTrim, for one) or comes
# from another library is missing there, and the model does not load.
TEXT_OPERATORS = frozenset(
    """CaseFoldUTF8 ConstrainedSequence FastBertNormalize FastWordpieceTokenizeWithOffsets NormalizeUTF8
    RegexSplitWithOffsets SentenceFragments SentencepieceDetokenizeOp SentencepieceIdToStringOp SentencepieceOp
    SentencepieceStringToIdOp SentencepieceTokenizeOp SentencepieceTokenizeWithOffsetsOp SentencepieceVocabSizeOp
    TFText>FastWordpieceDetokenize TFText>NgramsStringJoin TFText>WhitespaceTokenizeWithOffsetsV2
    UnicodeScriptTokenizeWithOffsets WhitespaceTokenizeWithOffsets WordpieceTokenizeWithOffsets""".split()
)


def check_graph(directory: Path) -> None:
    """Holds version folder, signatures, operators and functions to the rules, from the files alone.

    Args:
        directory: an artifact, perhaps under construction.

    Raises:
        ArtifactMismatch: the first rule that is broken.
        ArtifactError: saved_model.pb does not parse.
    """
    check_version_folder(directory)
    graph = meta_graph(directory / VERSION_FOLDER)
    check_signatures(graph.signature_def)
    check_operators(count_operators(directory / VERSION_FOLDER))
    check_not_compiled(graph.graph_def)


def check_requests(directory: Path, server: ServedModel, ranked: str | None = None) -> dict[str, Any]:
    """Asks what an artifact says that a server was asked: the golden request, the warm-up requests.

    Args:
        directory: an artifact, perhaps under construction.
        server: its SavedModel.
        ranked: see `compare_outputs`.

    Returns: `max_difference` of a golden number, and `num_warm_up_requests`.

    Raises:
        ArtifactMismatch: a request fails, or is not answered as recorded.
    """
    return {
        "max_difference": check_golden(directory, server, ranked),
        "num_warm_up_requests": check_warm_up(directory / VERSION_FOLDER, server),
    }


def check_version_folder(directory: Path) -> None:
    """One version, and whole: a server polls, loads the highest number that it sees, and loads what is there by then.

    Raises:
        ArtifactMismatch: another version, or a folder without graph or weights.
    """
    versions = sorted(path.name for path in directory.iterdir() if path.name.isdecimal())
    if versions != [VERSION_FOLDER]:
        raise ArtifactMismatch(
            f"{directory} has the version folders {', '.join(versions) or '(none)'} instead of {VERSION_FOLDER} alone; "
            "a server loads the highest number."
        )
    for name in ("saved_model.pb", "variables/variables.index"):
        if not (directory / VERSION_FOLDER / name).is_file():
            raise ArtifactMismatch(
                f"{directory / VERSION_FOLDER} lacks {name}; a server that polls would load it in pieces. Write it "
                "aside and rename it."
            )


def check_signatures(signatures: Mapping[str, Any]) -> None:
    """Dense tensors with the batch as dimension 0, everywhere: servers merge requests along it and split answers there.

    Args:
        signatures: name -> SignatureDef.

    Raises:
        ArtifactMismatch: a ragged or sparse tensor, a scalar, an unknown rank, or a batch of fixed size.
    """
    if "serving_default" not in signatures:
        raise ArtifactMismatch("there is no signature 'serving_default', which a request without a name asks for.")
    for signature, definition in signatures.items():
        if signature.startswith("__"):  # TensorFlow's own, such as the initializer's
            continue
        for kind, tensors in (("input", definition.inputs), ("output", definition.outputs)):
            for name, tensor in tensors.items():
                fault = _tensor_fault(tensor)
                if fault:
                    raise ArtifactMismatch(f"signature {signature!r}: {kind} {name!r} {fault}")


def _tensor_fault(tensor: Any) -> str:
    if tensor.WhichOneof("encoding") != "name":
        return "is ragged or sparse, which a server does not serve; pad it to a dense tensor."
    if tensor.tensor_shape.unknown_rank:
        return "has no known rank; a server with batching needs the batch as dimension 0. Set its shape."
    if not tensor.tensor_shape.dim:
        return "is a scalar; a server with batching needs the batch as dimension 0. Give one value for each row."
    if tensor.tensor_shape.dim[0].size != -1:
        return f"has a batch of {tensor.tensor_shape.dim[0].size}; leave dimension 0 open."
    return ""


def check_operators(operators: Mapping[str, int]) -> None:
    """An allow-list: TensorFlow's own operators, those of TensorFlow Text that servers link, and nothing of Python's.

    Args:
        operators: name -> number of nodes.

    Raises:
        ArtifactMismatch: an operator that a stock server does not have.
    """
    for name in operators:
        if name in TEXT_OPERATORS:
            continue
        if "PyFunc" in name:
            raise ArtifactMismatch(f"operator {name} calls back into Python, which a server does not have.")
        if name.startswith("Xla") or not hasattr(tf.raw_ops, name):
            raise ArtifactMismatch(
                f"operator {name} is not among those of stock TF Serving; write the model without it, or link it into "
                "the server and add it to TEXT_OPERATORS in tfzoo/export/serving_rules.py."
            )


def check_not_compiled(graph: Any) -> None:
    """No function that insists on XLA: stock servers answer "XLA compilation disabled".

    Raises:
        ArtifactMismatch: names the function.
    """
    owners = [(function.signature.name, function.attr) for function in graph.library.function]
    owners += [(node.name, node.attr) for function in graph.library.function for node in function.node_def]
    owners += [(node.name, node.attr) for node in graph.node]
    for name, attributes in owners:
        if "_XlaMustCompile" in attributes and attributes["_XlaMustCompile"].b:
            raise ArtifactMismatch(
                f"{name!r} is compiled with XLA, which a stock server refuses; trace it without jit_compile."
            )


def check_golden(directory: Path, server: ServedModel, ranked: str | None = None) -> float:
    """Sends serving/request.json and compares with serving/response.json.

    Returns: the largest difference of a number.

    Raises:
        ArtifactMismatch: another answer, or one that `check_outputs` refuses.
    """
    request, response = (_read_json(directory / name) for name in (REQUEST, RESPONSE))
    signature = request["signature_name"]
    definition = server.signatures[signature]
    inputs = {
        name: from_json(value, tf.dtypes.as_dtype(definition.inputs[name].dtype).name)
        for name, value in request["inputs"].items()
    }
    outputs = server.run(signature, inputs)
    check_outputs(signature, inputs, outputs)
    columns = response["outputs"] if len(outputs) > 1 else {next(iter(outputs)): response["outputs"]}
    found = {name: to_json(name, value) for name, value in outputs.items()}
    texts = [*zip(*request["inputs"].values(), strict=True)]
    return compare_outputs(REQUEST, texts, found, columns, ranked)


def check_warm_up(version_folder: Path, server: ServedModel) -> int:
    """Answers each record of the warm-up file.

    Returns: their number.

    Raises:
        ArtifactMismatch: a record that does not parse, or fails; a server would not load the model.
    """
    count = 0
    for signature, inputs in warm_up.read_warm_up(version_folder):
        try:
            outputs = server.run(signature, inputs)
        except ArtifactMismatch as error:
            raise ArtifactMismatch(f"{version_folder / warm_up.PATH}: record {count}: {error}") from error
        check_outputs(signature, inputs, outputs)
        count += 1
    if not 0 < count <= warm_up.MAX_RECORDS:
        raise ArtifactMismatch(
            f"{version_folder / warm_up.PATH} holds {count} requests; a server takes 1 to {warm_up.MAX_RECORDS}."
        )
    return count


def check_outputs(signature: str, inputs: Arrays, outputs: Arrays) -> None:
    """One row of each output for each row of the inputs, and text that is UTF-8.

    Raises:
        ArtifactMismatch: names the output.
    """
    batches = {len(value) for value in inputs.values()}
    if len(batches) != 1:
        raise ArtifactMismatch(f"a request to signature {signature!r} has inputs of {sorted(batches)} rows.")
    (num_rows,) = batches
    for name, value in outputs.items():
        if value.ndim == 0 or len(value) != num_rows:
            raise ArtifactMismatch(
                f"signature {signature!r}: output {name!r} has shape {value.shape} for a batch of {num_rows}; "
                "dimension 0 must be the batch."
            )
        if value.dtype == object:
            to_json(name, value)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactMismatch(f"{path} is missing or damaged ({error}); export the model again.") from error
