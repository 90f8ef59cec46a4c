"""An artifact's SavedModel, called as any TensorFlow program would: by signature, without tfzoo's models."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfzoo.errors import UsageError
from tfzoo.runtime.predictor import Hypotheses, Reader
from tfzoo.runtime.tasks import TASKS


class SavedModelBackend:
    """A SavedModel in memory.

    Args:
        directory: the version folder, which holds saved_model.pb.
        task: of the model, see `TASKS`.
    """

    def __init__(self, directory: str | os.PathLike[str], task: str) -> None:
        import tensorflow as tf
        import tensorflow_text  # noqa: F401  registers the tokenizers' operators

        self._tf = tf
        self._task = TASKS[task]
        self._loaded = tf.saved_model.load(os.fspath(directory))

    def generate(self, texts: Sequence[str], options: dict[str, np.ndarray]) -> Hypotheses:
        """See `Backend`."""
        rows = {name: self._tf.constant(value) for name, value in options.items()}
        found = self._loaded.signatures["generate"](**self._text(texts), **rows)
        outputs = [[output.decode() for output in row] for row in found["outputs"].numpy()]
        return Hypotheses(outputs, found["token_ids"].numpy(), found["log_probs"].numpy(), found["scores"].numpy())

    def logits(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        """See `Backend`."""
        tensors = {name: self._tf.constant(value) for name, value in inputs.items()}
        return self._loaded.signatures["tokens"](**tensors)["logits"].numpy()

    def read(self, text: str, new_tokens: int) -> tuple[list[int], Reader]:
        """See `Backend`.

        Raises:
            UsageError: always; a SavedModel answers in one piece.
        """
        raise UsageError("a SavedModel answers in one piece; use the runtime onnx, or the run, to see tokens come.")

    def serve(self, texts: Sequence[str]) -> list[str]:
        """Calls `serving_default`, the signature of a plain TF Serving request."""
        found = self._loaded.signatures["serving_default"](**self._text(texts))
        return [output.decode() for output in found["outputs"].numpy()]

    def tokenize(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """Texts -> the inputs of a search, (B, S) int32 each, by the tokenizer in the graph."""
        found = self._loaded.signatures["tokenize"](**self._text(texts))
        return {name: value.numpy() for name, value in found.items()}

    def detokenize(self, token_ids: np.ndarray) -> list[str]:
        """(B, T) padded ids -> texts, by the tokenizer in the graph."""
        found = self._loaded.signatures["detokenize"](token_ids=self._tf.constant(token_ids, self._tf.int32))
        return [output.decode() for output in found["outputs"].numpy()]

    def _text(self, texts: Sequence[str]) -> dict[str, Any]:
        return {self._task.text_input: self._tf.constant(list(texts), self._tf.string)}
