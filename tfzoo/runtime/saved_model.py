"""An artifact's SavedModel, called as any TensorFlow program would: by signature, without tfzoo's models."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from tfzoo.runtime.predictor import Hypotheses


class SavedModelBackend:
    """Args: directory: the version folder, which holds saved_model.pb."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        import tensorflow as tf
        import tensorflow_text  # noqa: F401  registers the tokenizers' operators

        self._tf = tf
        self._loaded = tf.saved_model.load(os.fspath(directory))

    def generate(self, texts: Sequence[str], options: dict[str, np.ndarray]) -> Hypotheses:
        """See `Backend`."""
        found = self._loaded.signatures["generate"](
            source=self._tf.constant(list(texts), self._tf.string),
            **{name: self._tf.constant(value) for name, value in options.items()},
        )
        outputs = [[output.decode() for output in row] for row in found["outputs"].numpy()]
        return Hypotheses(outputs, found["token_ids"].numpy(), found["scores"].numpy())

    def logits(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        """See `Backend`."""
        tensors = {name: self._tf.constant(value) for name, value in inputs.items()}
        return self._loaded.signatures["tokens"](**tensors)["logits"].numpy()

    def serve(self, texts: Sequence[str]) -> list[str]:
        """Calls `serving_default`, the signature of a plain TF Serving request."""
        found = self._loaded.signatures["serving_default"](source=self._tf.constant(list(texts), self._tf.string))
        return [output.decode() for output in found["outputs"].numpy()]

    def tokenize(self, texts: Sequence[str]) -> np.ndarray:
        """Texts -> (B, S) int32 source ids with the end token, padded, by the tokenizer in the graph."""
        found = self._loaded.signatures["tokenize"](source=self._tf.constant(list(texts), self._tf.string))
        return found["encoder_token_ids"].numpy()

    def detokenize(self, token_ids: np.ndarray) -> list[str]:
        """(B, T) padded target ids -> texts, by the tokenizer in the graph."""
        found = self._loaded.signatures["detokenize"](token_ids=self._tf.constant(token_ids, self._tf.int32))
        return [output.decode() for output in found["outputs"].numpy()]
