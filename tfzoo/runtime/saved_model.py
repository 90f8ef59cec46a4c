"""An artifact's SavedModel, called as any TensorFlow program would: by signature, without tfzoo's models."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfzoo.errors import UsageError
from tfzoo.runtime.encoder import joined
from tfzoo.runtime.head import Head, Text, text_columns
from tfzoo.runtime.predictor import Hypotheses, Reader


class SavedModelBackend:
    """A SavedModel in memory; `generate`, `read` and `detokenize` are for models that generate.

    Args:
        directory: the version folder, which holds saved_model.pb.
        head: of the model.
    """

    def __init__(self, directory: str | os.PathLike[str], head: Head) -> None:
        import tensorflow as tf
        import tensorflow_text  # noqa: F401  registers the tokenizers' operators

        self._tf = tf
        self.head = head
        self._loaded = tf.saved_model.load(os.fspath(directory))

    def generate(self, texts: Sequence[str], options: dict[str, np.ndarray]) -> Hypotheses:
        """See `SearchBackend`."""
        rows = {name: self._tf.constant(value) for name, value in options.items()}
        found = self._loaded.signatures["generate"](**self._texts(texts), **rows)
        outputs = [[output.decode() for output in row] for row in found["outputs"].numpy()]
        return Hypotheses(outputs, found["token_ids"].numpy(), found["log_probs"].numpy(), found["scores"].numpy())

    def logits(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        """See `Backend`."""
        tensors = {name: self._tf.constant(value) for name, value in inputs.items()}
        return joined({name: value.numpy() for name, value in self._loaded.signatures["tokens"](**tensors).items()})

    def read(self, text: str, new_tokens: int) -> tuple[list[int], Reader]:
        """See `SearchBackend`.

        Raises:
            UsageError: always; a SavedModel answers in one piece.
        """
        raise UsageError("a SavedModel answers in one piece; use the runtime onnx, or the run, to see tokens come.")

    def serve(self, texts: Sequence[Text]) -> dict[str, list[Any]]:
        """Calls `serving_default`, the signature of a plain TF Serving request; returns its outputs as nested lists."""
        found = self._loaded.signatures["serving_default"](**self._texts(texts))
        return {name: plain(value.numpy()) for name, value in found.items()}

    def tokenize(self, texts: Sequence[Text]) -> dict[str, np.ndarray]:
        """Texts -> the inputs of the model, or of a search, (B, S) int32 each, by the tokenizer in the graph."""
        found = self._loaded.signatures["tokenize"](**self._texts(texts))
        return {name: value.numpy() for name, value in found.items()}

    def detokenize(self, token_ids: np.ndarray) -> list[str]:
        """(B, T) padded ids -> texts, by the tokenizer in the graph."""
        found = self._loaded.signatures["detokenize"](token_ids=self._tf.constant(token_ids, self._tf.int32))
        return [output.decode() for output in found["outputs"].numpy()]

    def _texts(self, texts: Sequence[Text]) -> dict[str, Any]:
        return {name: self._tf.constant(column) for name, column in text_columns(texts, self.head).items()}


def plain(array: np.ndarray) -> list[Any]:
    """An array -> nested lists, of text where it holds UTF-8 bytes."""

    def decoded(value: Any) -> Any:
        return [decoded(one) for one in value] if isinstance(value, list) else value.decode()

    return decoded(array.tolist()) if array.dtype == object else array.tolist()
