"""Opening an artifact folder."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any, Literal, get_args

from tfzoo.decoding.config import AnswerConfig, DecodingConfig
from tfzoo.errors import ArtifactError, RecipeError, UsageError, nearest, one_line
from tfzoo.runtime.encoder import ENCODER_TASKS
from tfzoo.runtime.head import Head
from tfzoo.runtime.loaded import Loaded, predictor_of
from tfzoo.runtime.predictor import Backend
from tfzoo.text import TokenizerPair
from tfzoo.text.byte_pair import FILE_PAIRS
from tfzoo.text.huggingface import CONFIG_FILE
from tfzoo.text.tokenizers import SENTENCEPIECE_FILE, VOCABULARY_FILE
from tfzoo.text.word_piece import VOCABULARY_FILE as WORD_PIECE_FILE

MANIFEST = "manifest.json"
FORMAT_VERSION = 1  # of the manifest and the layout; an artifact of another one is refused

Runtime = Literal["onnx", "saved_model"]

_FOLDERS = {"onnx": "onnx/", "saved_model": "1/"}
_VOCABULARIES = {SENTENCEPIECE_FILE, VOCABULARY_FILE, WORD_PIECE_FILE, CONFIG_FILE, *FILE_PAIRS[0]}
_FIELDS = ("formats", "task", "max_length", "head", "decoding", "files")  # of the manifest, that answering needs


class Artifact(Loaded):
    """An exported model, answered by the artifact's own files alone.

    Args:
        directory: the folder with manifest.json.
        runtime: "onnx" (imports no TensorFlow) or "saved_model"; None takes the first that the artifact has.

    Raises:
        ArtifactError: the folder is not an artifact, or a damaged one.
        UsageError: the artifact lacks the runtime.
    """

    def __init__(self, directory: str | os.PathLike[str], runtime: Runtime | None = None) -> None:
        self.directory = Path(directory)
        self.manifest = read_manifest(self.directory)
        formats = self.manifest["formats"]
        chosen: str = runtime or next(name for name in get_args(Runtime) if name in formats)
        if chosen not in formats:
            raise UsageError(
                f"`runtime` must be one of {', '.join(formats)}, the formats of {self.directory}; "
                f"received runtime={chosen!r}.{nearest(chosen, formats)}"
            )
        try:
            decoding, head = decoding_config(self.manifest), head_of(self.manifest)
        except (TypeError, RecipeError) as error:
            raise ArtifactError(f"{self.directory / MANIFEST} is damaged ({error}); export the model again.") from error
        _check_files(self.directory, self.manifest, chosen)
        tokenizer = TokenizerPair.load(self.directory)
        backend = open_backend(self.directory, chosen, tokenizer, self.manifest)
        super().__init__(predictor_of(backend, tokenizer, head, decoding))


def decoding_config(manifest: dict[str, Any]) -> DecodingConfig | AnswerConfig | None:
    """The options as the manifest holds them."""
    if manifest["decoding"] is None:
        return None
    values = _with_tuples(manifest["decoding"])
    return AnswerConfig(**values) if manifest["task"] in ENCODER_TASKS else DecodingConfig(**values)


def head_of(manifest: dict[str, Any]) -> Head:
    """The head as the manifest holds it."""
    return Head(task=manifest["task"], max_length=manifest["max_length"], **_with_tuples(manifest["head"]))


def _with_tuples(plain: dict[str, Any]) -> dict[str, Any]:
    """What JSON has made lists of."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in plain.items()}


def _check_files(directory: Path, manifest: dict[str, Any], runtime: str) -> None:
    """Compares the files that answers are computed from: a flipped bit in a weight is no error to any runtime."""
    for name, recorded in manifest["files"].items():
        path = directory / name
        if name.startswith(_FOLDERS[runtime]) or path.name in _VOCABULARIES:
            if not path.is_file():
                raise ArtifactError(f"{path} is missing; copy the artifact again.")
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != recorded["sha256"]:
                    raise ArtifactError(f"{path} differs from the file that was proved; copy the artifact again.")


def open_backend(directory: Path, runtime: str, tokenizer: TokenizerPair, manifest: dict[str, Any]) -> Backend:
    """Returns what computes one format of an artifact.

    Raises:
        ArtifactError: its files do not load.
    """
    if runtime == "saved_model":
        from tfzoo.runtime.saved_model import SavedModelBackend

        try:
            return SavedModelBackend(directory / "1", head_of(manifest))
        except Exception as error:  # a damaged file shows as whatever TensorFlow stumbles over
            raise ArtifactError(
                f"{directory}: its SavedModel does not load ({one_line(error)}); export it again."
            ) from error
    from tfzoo.runtime.onnx import BACKENDS

    return BACKENDS[manifest["task"]](directory, tokenizer, manifest["max_length"])


def read_manifest(directory: Path) -> dict[str, Any]:
    """Reads manifest.json.

    Raises:
        ArtifactError: it is missing, damaged, or of another format version.
    """
    path = directory / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        version = manifest["format_version"]
        for name in _FIELDS:
            manifest[name]
    except FileNotFoundError:
        raise ArtifactError(
            f"{directory} is not an artifact: {MANIFEST} is missing. Name a folder that `tfzoo export` wrote."
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path} is damaged ({error}); export the model again.") from error
    if version != FORMAT_VERSION:
        raise ArtifactError(f"{path} has format_version {version}; this tfzoo reads {FORMAT_VERSION}. Export it again.")
    return manifest


def load(directory: str | os.PathLike[str], runtime: Runtime | None = None) -> Artifact:
    """Opens an artifact; see `Artifact`."""
    return Artifact(directory, runtime)
