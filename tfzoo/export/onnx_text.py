"""The ONNX graph that takes a string: BERT's tokenizer as an operator of onnxruntime-extensions, then the encoder.

The operator reads one text a call. It parts and spells words as BERT does, but not for every text; `is_read_alike` says
for which it gives the ids of the artifact's tokenizer. Those texts are what is proved.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from tfzoo.errors import ArtifactError, ArtifactMismatch, UsageError, one_line
from tfzoo.export.golden import ranked_output
from tfzoo.export.outputs import TOLERANCE, compare_outputs
from tfzoo.export.tokenizer_vectors import read_vectors
from tfzoo.runtime import onnx_names
from tfzoo.runtime.encoder import Encoder
from tfzoo.runtime.head import Head
from tfzoo.text.word_piece import VOCABULARY_FILE, WordPieceTokenizer

FORMAT = "onnx_text"
TASKS = ("text_classification", "text_embedding")
_DOMAIN = "ai.onnx.contrib"
_ACTIVATIONS = {"single_label": "Softmax", "multi_label": "Sigmoid", "regression": "Identity"}
# The operator strips no accent beyond Latin-1, splits at ASCII punctuation and some other, and drops not all that BERT
# drops; full-width punctuation is right between ideographs only. So: ASCII but NUL and DEL, ideographs, 、 and 。.
_ALIKE = re.compile(r"[\x01-\x7e\u3001\u3002\u4e00-\u9fff]*")


def is_read_alike(text: str, tokenizer: WordPieceTokenizer) -> bool:
    """Whether the operator is known to give a text the ids that the tokenizer gives.

    Of a word that the vocabulary cannot spell it keeps the first pieces, where BERT has one [UNK] for the whole.
    """
    return _ALIKE.fullmatch(text) is not None and tokenizer.unk_id not in tokenizer.encode(text)


def check_request(head: Head, formats: Sequence[str]) -> None:
    """Refuses a string graph that cannot be.

    Raises:
        UsageError: the model takes no single text or is for another task, `formats` lacks "onnx", or a package is
            missing.
    """
    if head.task not in TASKS or head.num_texts != 1:
        raise UsageError(
            f"`formats` has {FORMAT!r}, which is for models of one text for {' and '.join(TASKS)}; this one is for "
            f"{head.task!r} of {head.num_texts} text{'s' * (head.num_texts > 1)}. Leave it out."
        )
    if "onnx" not in formats:
        raise UsageError(f"`formats` has {FORMAT!r}, which is made of 'onnx'; add it, received {[*formats]}.")
    _library()


def write_onnx_text(directory: Path, head: Head, tokenizer: WordPieceTokenizer) -> None:
    """Writes the graph beside the one of ids, with all weights once more: a consumer takes this file alone.

    Args:
        directory: an artifact under construction, which has `onnx_names.MODEL`.
        head: of the model.
        tokenizer: of the artifact.

    Raises:
        ArtifactError: the graph is invalid.
    """
    model = onnx.load(directory / onnx_names.MODEL)
    graph = model.graph
    if head.task == "text_embedding":
        name, size, after = onnx_names.SENTENCE_EMBEDDING, _width(graph, onnx_names.SENTENCE_EMBEDDING), []
    else:
        name, size = onnx_names.SCORES, _width(graph, "logits")
        after = [helper.make_node(_ACTIVATIONS[head.problem], ["logits"], [name])]
    nodes = [*_tokenization(head, tokenizer), *graph.node, *after]
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend(nodes)
    graph.input.append(helper.make_tensor_value_info(onnx_names.TEXT, TensorProto.STRING, [1]))
    graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size]))
    model.opset_import.append(helper.make_opsetid(_DOMAIN, 1))
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ArtifactError(f"the ONNX graph of strings is invalid: {one_line(error)}") from error
    onnx.save(model, directory / onnx_names.TEXT_MODEL)


def check_onnx_text(directory: Path, encoder: Encoder, golden: dict[str, Any]) -> dict[str, Any]:
    """Asks the string graph for the golden texts and those of the tokenizer's vectors, as far as they are read alike.

    Args:
        directory: the artifact.
        encoder: its graph of ids, with the tokenizer beside it.
        golden: the manifest's.

    Returns: number of `golden_texts` and of `vectors` compared, of those left out, and the largest difference of a
        score.

    Raises:
        ArtifactMismatch: the first difference, or no golden text with a word in it is read alike, so that nothing would
            be proved.
        UsageError: onnxruntime-extensions is missing.
    """
    session, tokenizer, head = _session(directory / onnx_names.TEXT_MODEL), encoder.pieces, encoder.head
    asked = [number for number, text in enumerate(golden["texts"]) if is_read_alike(text, tokenizer)]
    if not any(tokenizer.encode(golden["texts"][number]) for number in asked):
        raise ArtifactMismatch(
            f"{FORMAT} cannot be proved: none of {golden['texts']!r:.200} is of ASCII letters and ideographs in words "
            "of the vocabulary, and other texts may be read otherwise. Export without it."
        )
    vectors = [vector["text"] for vector in read_vectors(directory)["tokenizer.json"]["encode"]]
    alike = [text for text in vectors if is_read_alike(text, tokenizer)]
    cases = [
        *((golden["texts"][i], {name: [rows[i]] for name, rows in golden["served"].items()}) for i in asked),
        *((text, encoder.served([text])) for text in alike),  # one at a time, so that no long one pads them all
    ]
    largest = 0.0
    for text, expected in cases:
        found = _served(session.run(None, {onnx_names.TEXT: np.array([text], object)})[0][0], head)
        difference = compare_outputs(FORMAT, [text], found, expected, ranked_output(head.task))
        largest = max(largest, difference)
    return {
        "golden_texts": len(asked),
        "vectors": len(alike),
        "left_out": len(golden["texts"]) - len(asked) + len(vectors) - len(alike),
        "score_tolerance": TOLERANCE,
        "max_score_difference": largest,
    }


def _tokenization(head: Head, tokenizer: WordPieceTokenizer) -> list[onnx.NodeProto]:
    """`text` (1,) -> the inputs of the graph of ids, (1, T) each; [T] is what the operator gives."""
    theirs = [onnx_names.ENCODER_INPUTS[name] for name in ("token_ids", "segment_ids", "padding_mask")]
    rows = [f"{onnx_names.TEXT}/{name}" for name in theirs]
    operator = helper.make_node(
        "BertTokenizer",
        [onnx_names.TEXT],
        rows,
        domain=_DOMAIN,
        vocab_file=tokenizer.assets()[VOCABULARY_FILE].decode(),
        do_lower_case=int(tokenizer.lowercase),
        strip_accents=int(tokenizer.lowercase),
        max_length=head.max_length,
    )
    axis = f"{onnx_names.TEXT}/axis"
    constant = helper.make_node("Constant", [], [axis], value_ints=[0])
    batches = [helper.make_node("Unsqueeze", [row, axis], [name]) for row, name in zip(rows, theirs, strict=True)]
    return [operator, constant, *batches]


def _width(graph: onnx.GraphProto, output: str) -> int:
    (value,) = (one for one in graph.output if one.name == output)
    return value.type.tensor_type.shape.dim[-1].dim_value


def _served(values: np.ndarray, head: Head) -> dict[str, list[Any]]:
    """(L,) scores or (D,) vector -> what `serving_default` gives for the text."""
    if head.task == "text_embedding":
        return {"embeddings": [values.tolist()]}
    if head.problem == "regression":
        return {"scores": [values.tolist()]}
    order = np.argsort(-values, kind="stable")
    return {"labels": [[head.labels[index] for index in order]], "scores": [values[order].tolist()]}


def _session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(_library())
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors have no class in common
        raise ArtifactMismatch(f"{path} does not load in ONNX Runtime: {one_line(error)}") from error


def _library() -> str:
    """Path of the operators."""
    try:
        from onnxruntime_extensions import get_library_path
    except ImportError as error:
        raise UsageError(
            f"{FORMAT!r} needs the package onnxruntime-extensions, which is not installed; "
            f"pip install 'tfzoo[{FORMAT}]', or export without it."
        ) from error
    return get_library_path()
