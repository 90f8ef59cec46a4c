"""What `tfzoo.load` gives: a run or an artifact, ready for texts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from tfzoo.decoding.config import AnswerConfig, DecodingConfig
from tfzoo.errors import UsageError
from tfzoo.runtime.encoder import Encoder
from tfzoo.runtime.head import Head, Text
from tfzoo.runtime.predictor import BATCH_SIZE, Backend, Prediction, Predictor
from tfzoo.text import TokenizerPair


class Loaded:
    """A model with its tokenizers, answering texts by the predictor of its task.

    Args:
        predictor: of the task.

    Call arguments:
        texts: strings, or pairs of them where the model reads two texts.
        **options: decoding options that differ from the recipe's.

    Returns: the answer to each text, as the predictor gives it.
    """

    def __init__(self, predictor: Predictor | Encoder) -> None:
        self.predictor = predictor

    def __call__(self, texts: Iterable[Any], **options: Any) -> Any:
        """Answers each text."""
        return self.predictor(texts, **options)

    @property
    def backend(self) -> Backend:
        """What computes."""
        return self.predictor.backend

    @property
    def tokenizer(self) -> TokenizerPair:
        """Of both sides."""
        return self.predictor.tokenizer

    @property
    def task(self) -> str:
        """What the model is for."""
        return self.predictor.task

    @property
    def max_length(self) -> int:
        """Longest sequence, in tokens."""
        return self.predictor.max_length

    @property
    def decoding(self) -> DecodingConfig | AnswerConfig | None:
        """The options of a call that names none; None where there are no options."""
        return self.predictor.decoding

    def answer(
        self, texts: Iterable[Text], *, batch_size: int = BATCH_SIZE, **options: Any
    ) -> Iterator[dict[str, Any]]:
        """Returns for each text what JSON can hold of its answer; see `tfzoo.predict`."""
        return self.predictor.answer(texts, batch_size=batch_size, **options)  # type: ignore[arg-type]

    def generate(
        self, texts: Iterable[str], *, batch_size: int = BATCH_SIZE, **options: Any
    ) -> Iterator[list[Prediction]]:
        """See `Predictor.generate`.

        Raises:
            UsageError: the model does not generate.
        """
        return self._generator().generate(texts, batch_size=batch_size, **options)

    def stream(self, text: str, **options: Any) -> Iterator[str]:
        """See `Predictor.stream`.

        Raises:
            UsageError: the model does not generate.
        """
        return self._generator().stream(text, **options)

    def _generator(self) -> Predictor:
        if isinstance(self.predictor, Encoder):
            raise UsageError(f"a model for {self.task!r} generates no text; call it with a list of texts.")
        return self.predictor


def predictor_of(
    backend: Any, tokenizer: TokenizerPair, head: Head, decoding: DecodingConfig | AnswerConfig | None
) -> Predictor | Encoder:
    """Returns what answers texts by a backend.

    Args:
        backend: a `SearchBackend`, or a `Backend` of an encoder.
        tokenizer: of the model.
        head: of the model.
        decoding: the options of a call that names none.
    """
    if isinstance(decoding, DecodingConfig):
        return Predictor(backend, tokenizer, decoding, head.max_length, head.task)
    return Encoder(backend, tokenizer, head, decoding)
