"""tokenizer_vectors.json: what an artifact's tokenizers make of a few hundred texts, and that each reader agrees.

A consumer with a tokenizer of their own holds it against this file. Here the readers are the vocabulary files in plain
Python, and the SavedModel, whose `tokenize` and `detokenize` signatures run in the graph.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfzoo.errors import ArtifactError, ArtifactMismatch
from tfzoo.runtime.encoder import ENCODER_TASKS
from tfzoo.runtime.predictor import Backend
from tfzoo.runtime.saved_model import SavedModelBackend
from tfzoo.runtime.tasks import padded
from tfzoo.text import Tokenizer, TokenizerPair
from tfzoo.text.conformance import known_differences, vectors
from tfzoo.text.special_tokens import BERT_MASK

FILE = "tokenizer_vectors.json"

# Texts that a task does not read as they are: a mask is no text, and a word ends at white space that BERT drops.
_NOTHING = re.compile(r"(?!)")
_READ_OTHERWISE = {"fill_mask": re.compile(re.escape(BERT_MASK)), "token_classification": re.compile(r"[\v\f]")}

Vector = dict[str, Any]  # see `tfzoo.text.conformance.Vectors`


def write_vectors(directory: Path, tokenizer: TokenizerPair, texts: Sequence[str]) -> list[str]:
    """Writes the file: for each tokenizer `encode` and `decode` vectors, one a line.

    Args:
        directory: an artifact under construction.
        tokenizer: its tokenizers.
        texts: of the source's kind, which join the general ones.

    Returns: the path of each `tokenizer.json` in the artifact; one when source and target share it.
    """
    sides = _sides(tokenizer)
    known = {group: one for side in sides.values() for group, one in known_differences(side).items()}
    lines = ["{", f'"known_differences": {json.dumps(known)},', '"tokenizers": [']
    for number, (path, one) in enumerate(sides.items(), start=1):
        made = vectors(one, texts if one is tokenizer.source else ())
        header = {"path": path, "end_id": one.end_id, "vocabulary_size": one.vocabulary_size}
        lines += [json.dumps(header)[:-1] + ",", '"encode": [', *_rows(made.encode), '], "decode": [']
        lines += [*_rows(made.decode), "]}" + ("," if number < len(sides) else "")]
    (directory / FILE).write_text("\n".join([*lines, "]}"]) + "\n", encoding="ascii")
    return [*sides]


def read_vectors(directory: Path) -> dict[str, dict[str, Any]]:
    """Returns for each `tokenizer.json`, by its path in the artifact, what `write_vectors` recorded.

    Raises:
        ArtifactError: the file is missing or damaged.
    """
    path = directory / FILE
    try:
        return {one["path"]: one for one in json.loads(path.read_text(encoding="ascii"))["tokenizers"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path} is missing or damaged ({error}); export the model again.") from error


def check_vectors(directory: Path, backend: Backend, max_length: int) -> int:
    """Compares the tokenizers of one format of an artifact with the recorded vectors.

    Args:
        directory: the artifact.
        backend: the format; the SavedModel has the tokenizers in its graph, ONNX in the files beside it.
        max_length: where the model cuts a text, in tokens.

    Returns: number of vectors compared.

    Raises:
        ArtifactMismatch: the first text or sequence that comes out otherwise.
    """
    tokenizer = TokenizerPair.load(directory)
    recorded = read_vectors(directory)
    missing = _sides(tokenizer).keys() - recorded.keys()
    if missing:
        raise ArtifactMismatch(f"{directory / FILE} has no vectors for {sorted(missing)[0]}; export the model again.")
    if isinstance(backend, SavedModelBackend):
        source, target = (recorded[_path(tokenizer, side)] for side in ("source", "target"))
        if backend.head.task in ENCODER_TASKS:
            return _check_segments(backend, source["encode"], tokenizer.source)
        num_encoded = _check_tokenize(backend, source["encode"], tokenizer, max_length)
        return num_encoded + _check_detokenize(backend, target["decode"], tokenizer.target)
    for path, one in _sides(tokenizer).items():
        encode, decode = recorded[path]["encode"], recorded[path]["decode"]
        _compare(path, "text", encode, (one.encode(vector["text"]) for vector in encode))
        _compare(path, "ids", decode, (one.decode(vector["ids"]) for vector in decode))
    return sum(len(one["encode"]) + len(one["decode"]) for one in recorded.values())


def _check_tokenize(backend: SavedModelBackend, encode: list[Vector], tokenizer: TokenizerPair, max_length: int) -> int:
    """The graph pads, and cuts at the model's length: sources behind, before an end token; prompts in front."""
    source, suffix = tokenizer.source, tokenizer.prompt_suffix
    texts = [vector["text"] for vector in encode]
    found = backend.tokenize(texts)
    if "padding_mask" in found:
        prompts = [source.encode(text + suffix) for text in texts] if suffix else [vector["ids"] for vector in encode]
        rows = [prompt[-max_length:] or [source.end_id] for prompt in prompts]
        mask = padded([[1] * len(row) for row in rows], 0)
        _compare("the signature `tokenize`", "text", _with_ids(encode, mask), found["padding_mask"].tolist())
        token_ids = found["token_ids"]
    else:
        rows = [[*vector["ids"][: max_length - 1], source.end_id] for vector in encode]
        token_ids = found["encoder_token_ids"]
    expected = padded(rows, source.pad_id)
    _compare("the signature `tokenize`", "text", _with_ids(encode, expected), token_ids.tolist())
    return len(encode)


def _check_segments(backend: SavedModelBackend, encode: list[Vector], tokenizer: Tokenizer) -> int:
    """The graph puts [CLS] before a text and [SEP] behind it, and cuts it between them; a second text is empty here."""
    head = backend.head
    encode = [vector for vector in encode if not _READ_OTHERWISE.get(head.task, _NOTHING).search(vector["text"])]
    num_ends = head.num_texts
    ends = [tokenizer.end_id] * num_ends
    rows = [[tokenizer.start_id, *vector["ids"][: head.max_length - 1 - num_ends], *ends] for vector in encode]
    found = backend.tokenize([vector["text"] if num_ends == 1 else (vector["text"], "") for vector in encode])
    expected = {
        "token_ids": padded(rows, tokenizer.pad_id),
        "padding_mask": padded([[1] * len(row) for row in rows], 0),
        "segment_ids": padded([[0] * (len(row) - 1) + [num_ends - 1] for row in rows], 0),
    }
    for name, values in expected.items():
        _compare(f"the signature `tokenize`, {name},", "text", _with_ids(encode, values), found[name].tolist())
    return len(encode)


def _with_ids(vectors: list[Vector], ids: np.ndarray) -> list[Vector]:
    return [vector | {"ids": row} for vector, row in zip(vectors, ids.tolist(), strict=True)]


def _check_detokenize(backend: SavedModelBackend, decode: list[Vector], target: Tokenizer) -> int:
    token_ids = padded([vector["ids"] for vector in decode], target.pad_id)
    _compare("the signature `detokenize`", "ids", decode, backend.detokenize(token_ids))
    return len(decode)


def _sides(tokenizer: TokenizerPair) -> dict[str, Tokenizer]:
    return {_path(tokenizer, side): getattr(tokenizer, side) for side in ("source", "target")}


def _path(tokenizer: TokenizerPair, side: str) -> str:
    return "tokenizer.json" if tokenizer.shared else f"{side}/tokenizer.json"


def _rows(made: list[Vector]) -> list[str]:
    return [json.dumps(vector) + ("," if number < len(made) else "") for number, vector in enumerate(made, start=1)]


def _compare(who: str, given: str, recorded: list[Vector], found: Iterable[Any]) -> None:
    answer = "ids" if given == "text" else "text"
    for vector, value in zip(recorded, found, strict=True):
        if value != vector[answer]:
            raise ArtifactMismatch(
                f"{who} gives {value!r:.200} instead of {vector[answer]!r:.200} for the {given} {vector[given]!r:.200}."
            )
