"""Text in, text out, from whatever computes the search: Keras, SavedModel or ONNX Runtime."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from tfzoo.decoding.config import ROW_OPTIONS, DecodingConfig, never_generated, positions_left
from tfzoo.decoding.next_token import next_token
from tfzoo.errors import UsageError, nearest
from tfzoo.text import TokenizerPair

BATCH_SIZE = 64  # texts that are decoded together


class Hypotheses(NamedTuple):
    """What a search found for B texts, best first; W is the most beams of any text.

    outputs: B lists of W strings; token_ids: (B, W, T) int32, padded after the end token; log_probs: (B, W, T) float32,
    of each token, nats; scores: (B, W) float32, nats.
    """

    outputs: list[list[str]]
    token_ids: np.ndarray
    log_probs: np.ndarray
    scores: np.ndarray


class Prediction(NamedTuple):
    """One answer.

    output: its text, cut before the first stop string. score: its log-probability (nats) divided by the length penalty.
    token_ids: up to the end token, with what follows a stop string. log_probs: of each token, nats.
    """

    output: str
    score: float
    token_ids: list[int]
    log_probs: list[float]


# Reads one more token and returns the (V,) logits of the next one.
Reader = Callable[[int], np.ndarray]


class Backend(Protocol):
    """What computes a model's forward."""

    def logits(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        """Runs it on the names of the model's `input_signature`, (B, T) int32 each -> float32, the batch first."""


class SearchBackend(Backend, Protocol):
    """What computes a model that generates."""

    def generate(self, texts: Sequence[str], options: dict[str, np.ndarray]) -> Hypotheses:
        """Searches with options by row: name -> (B,), as `ROW_OPTIONS` lists them."""

    def read(self, text: str, new_tokens: int) -> tuple[list[int], Reader]:
        """Reads one text but for the last token that stands before the answer.

        Returns: the ids before the answer, and what reads on from the last of them.
        """


class Predictor:
    """A trained model that generates, with its tokenizers, ready for text.

    Args:
        backend: what computes.
        tokenizer: of both sides; a language model has one for prompt and answer.
        decoding: the options of a call that names none.
        max_length: of a sequence-to-sequence model, longest source or target in tokens, the end token included, and
            longer sources are cut; of a language model, longest prompt with its answer, and longer prompts are refused
            or cut.
        task: "seq2seq" or "causal_lm".

    Call arguments:
        texts: strings.
        **options: fields of `DecodingConfig` that differ from `decoding`.

    Returns: a list with the best answer for each text.
    """

    def __init__(
        self,
        backend: SearchBackend,
        tokenizer: TokenizerPair,
        decoding: DecodingConfig,
        max_length: int,
        task: str = "seq2seq",
    ) -> None:
        self.backend = backend
        self.tokenizer = tokenizer
        self.decoding = decoding
        self.max_length = max_length
        self.task = task

    def __call__(self, texts: Iterable[str], **options: Any) -> list[str]:
        """Answers each text with the best output."""
        return [predictions[0].output for predictions in self.generate(texts, **options)]

    def generate(
        self, texts: Iterable[str], *, batch_size: int = BATCH_SIZE, **options: Any
    ) -> Iterator[list[Prediction]]:
        """Returns for each text its `num_return_sequences` predictions, best first; reads `batch_size` texts at a time.

        Raises:
            UsageError: an option is unknown or out of its range; before any text is read. Later, a text is no string,
                or a prompt leaves no room for `max_length` tokens.
        """
        read = batches(texts, batch_size)
        config = self._config(options)
        return itertools.chain.from_iterable(self._generate_batch(batch, config) for batch in read)

    def answer(
        self, texts: Iterable[str], *, batch_size: int = BATCH_SIZE, token_log_probs: bool = False, **options: Any
    ) -> Iterator[dict[str, Any]]:
        """Returns for each text what JSON can hold of its predictions; see `tfzoo.predict`.

        Raises:
            UsageError: as `generate`.
        """
        found = self.generate(texts, batch_size=batch_size, **options)
        return (self._described(predictions, token_log_probs) for predictions in found)

    def _described(self, predictions: list[Prediction], token_log_probs: bool) -> dict[str, Any]:
        def describe(prediction: Prediction) -> dict[str, Any]:
            described: dict[str, Any] = {"output": prediction.output, "score": prediction.score}
            if token_log_probs:
                decode = self.tokenizer.target.decode
                pairs = zip(prediction.token_ids, prediction.log_probs, strict=True)
                described["tokens"] = [{"token": decode([one]), "log_prob": log_prob} for one, log_prob in pairs]
            return described

        best, *others = predictions
        return {**describe(best), "alternatives": [describe(other) for other in others]}

    def served(self, texts: Sequence[str]) -> dict[str, list[Any]]:
        """Returns the `outputs` that the signature `serving_default` gives for texts."""
        found = self.backend.generate(texts, row_options(self.decoding, len(texts))).outputs
        return {"outputs": [cut_at_stop(row[0], self.decoding.stop) for row in found]}

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
        if self.task == "causal_lm" and not config.truncate_prompt:
            self._check_room(texts, config.max_length)
        repeated = [text for text in texts for _ in range(copies)]
        options = row_options(config, len(repeated))
        options["seed"] += np.tile(np.arange(copies, dtype=np.int32), len(texts))
        found = self.backend.generate(repeated, options)
        kept = config.num_return_sequences // copies
        rows = [self._prediction(found, row, rank, config.stop) for row in range(len(repeated)) for rank in range(kept)]
        for first in range(0, len(rows), config.num_return_sequences):
            yield sorted(rows[first : first + config.num_return_sequences], key=lambda prediction: -prediction.score)

    def stream(self, text: str, **options: Any) -> Iterator[str]:
        """Answers one text piece by piece, as it is generated; the pieces together are the best output.

        Raises:
            UsageError: an option is unknown or out of its range, it asks for more than one hypothesis, or the runtime
                answers in one piece only; before anything is generated.
        """
        config = self._config(options)
        if config.num_beams > 1 or config.num_return_sequences > 1:
            raise UsageError(
                "one hypothesis can be shown as it comes: set `num_beams=1` and `num_return_sequences=1`; received "
                f"num_beams={config.num_beams}, num_return_sequences={config.num_return_sequences}."
            )
        if self.task == "causal_lm" and not config.truncate_prompt:
            self._check_room([text], config.max_length)
        prompt, read = self.backend.read(text, config.max_length)
        return self._pieces(prompt, read, config)

    def _pieces(self, prompt: list[int], read: Reader, config: DecodingConfig) -> Iterator[str]:
        tokenizer = self.tokenizer.target
        room = positions_left(self.max_length, len(prompt))
        never = never_generated(tokenizer.pad_id, tokenizer.start_id, tokenizer.end_id)
        ids: list[int] = []
        text, shown = "", 0
        while len(ids) < min(config.max_length, room):
            logits = read(ids[-1] if ids else prompt[-1])
            ids.append(next_token(logits, config, {*prompt, *ids}, len(ids), tokenizer.end_id, never))
            if ids[-1] == tokenizer.end_id:
                break
            text = tokenizer.decode(ids)
            if any(stop in text for stop in config.stop):
                break
            certain = len(text) - _uncertain(text, config.stop)
            if certain > shown:
                yield text[shown:certain]
                shown = certain
        rest = cut_at_stop(tokenizer.decode(ids), config.stop)[shown:]
        if rest:
            yield rest

    def _check_room(self, texts: list[str], new_tokens: int) -> None:
        room = positions_left(self.max_length, new_tokens)
        for text in texts:
            length = len(self.tokenizer.source.encode(text + self.tokenizer.prompt_suffix))
            if length > room:
                raise UsageError(
                    f"a prompt of {length} tokens leaves no room for max_length={new_tokens} more within the model's "
                    f"{self.max_length} positions: {text[:40]!r}. Shorten it to {room} tokens, lower `max_length`, or "
                    "set `truncate_prompt` to drop its beginning."
                )

    def _prediction(self, found: Hypotheses, row: int, rank: int, stop: Sequence[str]) -> Prediction:
        ids: list[int] = found.token_ids[row, rank].tolist()
        end_id = self.tokenizer.target.end_id
        length = ids.index(end_id) + 1 if end_id in ids else len(ids)
        return Prediction(
            cut_at_stop(found.outputs[row][rank], stop),
            float(found.scores[row, rank]),
            ids[:length],
            found.log_probs[row, rank, :length].tolist(),
        )


def batches(texts: Iterable[Any], batch_size: int) -> Iterator[list[Any]]:
    """Returns lists of `batch_size` texts, read as they are asked for.

    Raises:
        UsageError: one string instead of many, or a size below 1; before any text is read.
    """
    if isinstance(texts, str):
        raise UsageError("`texts` must be a list of strings; received one string. Put it into a list.")
    if batch_size < 1:
        raise UsageError(f"`batch_size` must be at least 1; received batch_size={batch_size}.")
    texts = iter(texts)
    return iter(lambda: list(itertools.islice(texts, batch_size)), [])


def _uncertain(text: str, stop: Sequence[str]) -> int:
    """Characters at the end of a text that the next token may change: half a character, or what may begin a stop."""
    half = len(text) - len(text.rstrip("\ufffd"))
    return max([half, *(size for one in stop for size in range(1, len(one)) if text.endswith(one[:size]))])


def cut_at_stop(text: str, stop: Sequence[str]) -> str:
    """Returns the text before the first of the stop strings in it.

    >>> cut_at_stop("yes. no! maybe", ("!", "."))
    'yes'
    """
    return text[: min((text.index(one) for one in stop if one in text), default=len(text))]


def row_options(config: DecodingConfig, num_rows: int) -> dict[str, np.ndarray]:
    """The same options for each row: name -> (num_rows,), as an exported `generate` takes them."""
    return {name: np.full(num_rows, getattr(config, name), dtype) for name, dtype in ROW_OPTIONS.items()}


def decode_batch(found: dict[str, np.ndarray], tokenizer: TokenizerPair) -> Hypotheses:
    """What `tfzoo.decoding.generate.search` returns -> hypotheses with their text; without TensorFlow."""
    outputs = [[tokenizer.target.decode(ids.tolist()) for ids in row] for row in found["token_ids"]]
    return Hypotheses(outputs, found["token_ids"], found["log_probs"], found["scores"])
