"""Text in, text out, from whatever computes the search: Keras, SavedModel or ONNX Runtime."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from tfzoo.decoding.config import ROW_OPTIONS, DecodingConfig
from tfzoo.errors import UsageError, nearest
from tfzoo.text import TokenizerPair

BATCH_SIZE = 64  # texts that are decoded together


class Hypotheses(NamedTuple):
    """What a search found for B texts, best first; W is the most beams of any text.

    outputs: B lists of W strings; token_ids: (B, W, T) int32, padded after the end token; scores: (B, W) float32, nats.
    """

    outputs: list[list[str]]
    token_ids: np.ndarray
    scores: np.ndarray


class Prediction(NamedTuple):
    """One answer: its text, its log-probability (nats) divided by the length penalty, its token ids up to the end."""

    output: str
    score: float
    token_ids: list[int]


class Backend(Protocol):
    """What computes."""

    def generate(self, texts: Sequence[str], options: dict[str, np.ndarray]) -> Hypotheses:
        """Searches with options by row: name -> (B,), as `ROW_OPTIONS` lists them."""

    def logits(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        """Runs the model's forward on its `input_signature` names, (B, T) int32 each -> (B, T, V) float32."""


class Predictor:
    """A trained sequence-to-sequence model with its tokenizers, ready for text.

    Args:
        backend: what computes.
        tokenizer: of both sides.
        decoding: the options of a call that names none.
        max_length: longest source or target in tokens, the end token included; longer sources are cut.

    Call arguments:
        texts: strings.
        **options: fields of `DecodingConfig` that differ from `decoding`.

    Returns: a list with the best answer for each text.
    """

    def __init__(self, backend: Backend, tokenizer: TokenizerPair, decoding: DecodingConfig, max_length: int) -> None:
        self.backend = backend
        self.tokenizer = tokenizer
        self.decoding = decoding
        self.max_length = max_length

    def __call__(self, texts: Sequence[str], **options: Any) -> list[str]:
        """Answers each text with the best output."""
        return [predictions[0].output for predictions in self.generate(texts, **options)]

    def generate(
        self, texts: Iterable[str], *, batch_size: int = BATCH_SIZE, **options: Any
    ) -> Iterator[list[Prediction]]:
        """Returns for each text its `num_return_sequences` predictions, best first; reads `batch_size` texts at a time.

        Raises:
            UsageError: an option is unknown or out of its range; before any text is read. Later, a text is no string.
        """
        if isinstance(texts, str):
            raise UsageError("`texts` must be a list of strings; received one string. Put it into a list.")
        if batch_size < 1:
            raise UsageError(f"`batch_size` must be at least 1; received batch_size={batch_size}.")
        config = self._config(options)
        texts = iter(texts)
        batches = iter(lambda: list(itertools.islice(texts, batch_size)), [])
        return itertools.chain.from_iterable(self._generate_batch(batch, config) for batch in batches)

    def _config(self, options: dict[str, Any]) -> DecodingConfig:
        known = [field.name for field in dataclasses.fields(DecodingConfig)]
        for name in options:
            if name not in known:
                raise UsageError(f"no decoding option {name!r}.{nearest(name, known)} There are {', '.join(known)}.")
        config = dataclasses.replace(self.decoding, **options)
        if config.max_length > self.max_length:
            raise UsageError(
                f"`max_length` must not exceed the model's {self.max_length} positions; "
                f"received max_length={config.max_length}."
            )
        return config

    def _generate_batch(self, texts: list[str], config: DecodingConfig) -> Iterator[list[Prediction]]:
        # Beam search returns its best hypotheses; sampling draws one for each of a row of seeds.
        copies = config.num_return_sequences if config.temperature > 0 else 1
        for text in texts:
            if not isinstance(text, str):
                raise UsageError(f"`texts` must hold strings; received {text!r}.")
        repeated = [text for text in texts for _ in range(copies)]
        options = row_options(config, len(repeated))
        options["seed"] += np.tile(np.arange(copies, dtype=np.int32), len(texts))
        found = self.backend.generate(repeated, options)
        kept = config.num_return_sequences // copies
        rows = [
            Prediction(found.outputs[row][rank], float(found.scores[row, rank]), self._trim(found.token_ids[row, rank]))
            for row in range(len(repeated))
            for rank in range(kept)
        ]
        for first in range(0, len(rows), config.num_return_sequences):
            yield sorted(rows[first : first + config.num_return_sequences], key=lambda prediction: -prediction.score)

    def _trim(self, token_ids: np.ndarray) -> list[int]:
        ids: list[int] = token_ids.tolist()
        end_id = self.tokenizer.target.end_id
        return ids[: ids.index(end_id) + 1] if end_id in ids else ids


def row_options(config: DecodingConfig, num_rows: int) -> dict[str, np.ndarray]:
    """The same options for each row: name -> (num_rows,), as an exported `generate` takes them."""
    return {name: np.full(num_rows, getattr(config, name), dtype) for name, dtype in ROW_OPTIONS.items()}


def encode_batch(texts: Sequence[str], tokenizer: TokenizerPair, max_length: int) -> np.ndarray:
    """Texts -> (B, S) int32 source ids: at most `max_length` with the end token, padded; without TensorFlow."""
    source = tokenizer.source
    rows = [[*source.encode(text)[: max_length - 1], source.end_id] for text in texts]
    token_ids = np.full((len(rows), max(map(len, rows))), source.pad_id, np.int32)
    for row, ids in zip(token_ids, rows, strict=True):
        row[: len(ids)] = ids
    return token_ids


def decode_batch(token_ids: np.ndarray, scores: np.ndarray, tokenizer: TokenizerPair) -> Hypotheses:
    """(B, W, T) target ids and their (B, W) scores -> hypotheses with their text; without TensorFlow."""
    outputs = [[tokenizer.target.decode(ids.tolist()) for ids in row] for row in token_ids]
    return Hypotheses(outputs, token_ids, scores)
