"""Text to token ids and back: in a TensorFlow graph, in plain Python, and as files to ship with an artifact.

SentencePiece's unigram model (Kudo, 2018, https://arxiv.org/abs/1804.10959) and a vocabulary of whole symbols answer
the one `Tokenizer` protocol. TensorFlow is imported when an in-graph method is called first, never before.
"""

from __future__ import annotations

import collections
import functools
import hashlib
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import sentencepiece

from tfzoo.errors import ArtifactError, UsageError
from tfzoo.text import huggingface
from tfzoo.text.special_tokens import END_ID, PAD_ID, SPECIAL_TOKENS, START_ID, UNK_ID, UNK_SURFACE

if TYPE_CHECKING:
    import tensorflow as tf

SENTENCEPIECE_FILE = "spiece.model"
VOCABULARY_FILE = "vocab.json"

# Piece scores (nats) are rounded to this grid: their sums are then exact in float32 and float64 alike, so that every
# implementation of the Viterbi search sees the same ties ("ooo" = "oo"+"o" = "o"+"oo") and breaks them the same way.
_SCORE_STEPS_PER_NAT = 64


class Tokenizer(Protocol):
    """What the rest of tfzoo knows of a tokenizer.

    Ids 0 to 3 are padding, unknown, start and end, but for `BytePairTokenizer`, where one token is all of them, and
    `WordPieceTokenizer` and `MarianTokenizer`, where they stand anywhere; Marian's start is its padding.
    """

    vocabulary_size: int
    pad_id: int
    unk_id: int
    start_id: int
    end_id: int

    def tokenize(self, strings: tf.Tensor) -> tf.RaggedTensor:
        """Returns (B, None) int32 ids of (B,) UTF-8 strings, without special tokens; invalid bytes become U+FFFD."""

    def detokenize(self, ids: tf.Tensor | tf.RaggedTensor) -> tf.Tensor:
        """Returns (B,) strings of (B, T) int32 ids: padding, start and end dropped, an id out of range as unknown."""

    def encode(self, text: str) -> list[int]:
        """Returns what `tokenize` gives for this one string, without TensorFlow."""

    def decode(self, ids: Iterable[int]) -> str:
        """Returns what `detokenize` gives for this one sequence, without TensorFlow."""

    def trackable(self) -> Any:
        """Returns the TensorFlow object that a SavedModel with `tokenize` or `detokenize` in it must track."""

    def assets(self) -> dict[str, bytes]:
        """Returns file name -> content: enough to load it again, and Hugging Face's two files."""

    def save(self, directory: str | Path) -> None:
        """Writes the assets into a directory, which is made if missing."""


class SentencePieceTokenizer:
    """Subwords by a SentencePiece model whose ids 0 to 3 are `<pad> <unk> <s> </s>`.

    Text is normalized as the model says (`nmt_nfkc` when trained here), and runs of spaces become one space.

    Args:
        model: the serialized SentencePiece `ModelProto`, the content of `spiece.model`.

    Raises:
        ArtifactError: the bytes are not such a model, or its special ids are others.
    """

    pad_id, unk_id, start_id, end_id = PAD_ID, UNK_ID, START_ID, END_ID

    def __init__(self, model: bytes) -> None:
        self._model = model
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        except RuntimeError as error:
            raise ArtifactError(
                f"`model` is not a SentencePiece model: {len(model)} bytes that do not parse."
            ) from error
        processor = self._processor
        ids = (processor.pad_id(), processor.unk_id(), processor.bos_id(), processor.eos_id())
        if ids != (PAD_ID, UNK_ID, START_ID, END_ID):
            raise ArtifactError(
                f"`model` must have the ids pad=0, unk=1, bos=2, eos=3; received pad, unk, bos, eos = {ids}. "
                "Train it with pad_id=0, unk_id=1, bos_id=2, eos_id=3 (-1 means that it lacks the token)."
            )
        self.vocabulary_size: int = processor.get_piece_size()

    @classmethod
    def train(
        cls, sentences: Iterable[str], vocabulary_size: int, *, character_coverage: float = 1.0
    ) -> SentencePieceTokenizer:
        """Trains a unigram model; the same sentences give the same model.

        Args:
            sentences: the text, read once.
            vocabulary_size: pieces wanted, the four special tokens included. Text that is too small for so many
                gives a smaller vocabulary.
            character_coverage: share of the text's characters that the pieces must be able to spell.

        Returns: the tokenizer; its `vocabulary_size` is what it has.

        Raises:
            UsageError: no text, or `vocabulary_size` is too small to spell its characters.
        """
        _check_size(vocabulary_size)
        model = io.BytesIO()
        failures: list[Exception] = []
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=_watched(sentences, failures),
                model_writer=model,
                model_type="unigram",
                vocab_size=vocabulary_size,
                hard_vocab_limit=False,
                character_coverage=character_coverage,
                max_sentence_length=1 << 16,  # bytes; longer ones are left out of the training
                pad_id=PAD_ID,
                unk_id=UNK_ID,
                bos_id=START_ID,
                eos_id=END_ID,
                pad_piece=SPECIAL_TOKENS[PAD_ID],
                unk_piece=SPECIAL_TOKENS[UNK_ID],
                bos_piece=SPECIAL_TOKENS[START_ID],
                eos_piece=SPECIAL_TOKENS[END_ID],
                minloglevel=2,
            )
        except RuntimeError as error:
            if failures:
                raise failures[0] from None
            if too_small := re.search(r"smaller than required_chars\. \d+ vs (\d+)", str(error)):
                raise UsageError(
                    f"`vocabulary_size` must be at least {too_small[1]} to spell this text; received "
                    f"vocabulary_size={vocabulary_size}. Raise it, or set `character_coverage` below "
                    f"{character_coverage}."
                ) from error
            raise UsageError(
                f"`sentences` holds no text that SentencePiece can train on ({str(error).splitlines()[0]})."
            ) from error
        return cls(_rounded_scores(model.getvalue()))

    def tokenize(self, strings: tf.Tensor) -> tf.RaggedTensor:
        """Returns (B, None) int32 ids; see `Tokenizer`."""
        return self.trackable().tokenize(strings)

    def detokenize(self, ids: tf.Tensor | tf.RaggedTensor) -> tf.Tensor:
        """Returns (B,) strings; see `Tokenizer`."""
        return self.trackable().detokenize(_text_ids(ids, self.vocabulary_size))

    def encode(self, text: str) -> list[int]:
        """Returns the ids of one string; see `Tokenizer`."""
        return self._processor.encode(text)

    def decode(self, ids: Iterable[int]) -> str:
        """Returns the text of one sequence; see `Tokenizer`."""
        return self._processor.decode(_python_text_ids(ids, self.vocabulary_size))

    def trackable(self) -> Any:
        """Returns TensorFlow Text's SentencePiece tokenizer, made at the first call."""
        return self._operation

    def assets(self) -> dict[str, bytes]:
        """Returns `spiece.model` and Hugging Face's files; see `Tokenizer`."""
        return {
            SENTENCEPIECE_FILE: self._model,
            **huggingface.files(huggingface.sentencepiece(self._model), separator=None),
        }

    def save(self, directory: str | Path) -> None:
        """Writes the assets into a directory; see `Tokenizer`."""
        write_assets(self.assets(), directory)

    @functools.cached_property
    def _operation(self) -> Any:
        import tensorflow as tf

        with tf.init_scope():
            return sentencepiece_operation(self._model, tf.int32)


class SymbolTokenizer:
    """One id for each symbol: a character, or a word between white space such as a phoneme.

    A symbol that the vocabulary lacks becomes the unknown id, and that reads "⁇". Special tokens spelt out in the text
    are unknown symbols too: text cannot end a sequence.

    Args:
        symbols: the vocabulary without special tokens; the first one gets id 4.
        separator: "" = each Unicode code point is a symbol, spaces included; " " = symbols stand between ASCII white
            space.

    Raises:
        UsageError: another separator, or symbols that are repeated or that the separator can never give.
    """

    pad_id, unk_id, start_id, end_id = PAD_ID, UNK_ID, START_ID, END_ID

    def __init__(self, symbols: Sequence[str], separator: str) -> None:
        if separator not in ("", " "):
            raise UsageError(
                f"`separator` must be '' (characters) or ' ' (white space); received separator={separator!r}."
            )
        self._symbols = tuple(symbols)
        self._separator = separator
        for symbol in self._symbols:
            if _split(symbol, separator) != [symbol] or symbol in SPECIAL_TOKENS:
                raise UsageError(
                    f"`symbols` holds {symbol!r}, which is no symbol for separator={separator!r}; drop it."
                )
        self._ids = {symbol: index for index, symbol in enumerate(self._symbols, start=len(SPECIAL_TOKENS))}
        if len(self._ids) < len(self._symbols):
            ((repeated, count),) = collections.Counter(self._symbols).most_common(1)
            raise UsageError(f"`symbols` must be unique; received {repeated!r} {count} times.")
        self._surfaces = ("", UNK_SURFACE, "", "", *self._symbols)
        self.vocabulary_size = len(self._surfaces)

    @classmethod
    def train(cls, sentences: Iterable[str], *, separator: str, vocabulary_size: int | None = None) -> SymbolTokenizer:
        """Collects the symbols of the sentences, the most frequent first, equally frequent ones by code point.

        >>> SymbolTokenizer.train(["B AH1 N", "AH1"], separator=" ").encode("N AH1 B")
        [6, 4, 5]

        Args:
            sentences: the text, read once.
            separator: see the class.
            vocabulary_size: most ids, the four special tokens included; None = every symbol gets one.

        Returns: the tokenizer; its `vocabulary_size` is what it has.

        Raises:
            UsageError: no text, or `vocabulary_size` leaves no room for a symbol.
        """
        if vocabulary_size is not None:
            _check_size(vocabulary_size)
        counts = collections.Counter(symbol for sentence in sentences for symbol in _split(sentence, separator))
        for token in SPECIAL_TOKENS:
            del counts[token]
        if not counts:
            raise UsageError("`sentences` holds no symbol; give the tokenizer text to train on.")
        ranked = sorted(counts, key=lambda symbol: (-counts[symbol], symbol))
        return cls(ranked if vocabulary_size is None else ranked[: vocabulary_size - len(SPECIAL_TOKENS)], separator)

    def tokenize(self, strings: tf.Tensor) -> tf.RaggedTensor:
        """Returns (B, None) int32 ids; see `Tokenizer`."""
        import tensorflow as tf

        symbols = tf.strings.split(strings) if self._separator else tf.strings.unicode_split(strings, "UTF-8")
        return tf.ragged.map_flat_values(self.trackable().lookup, symbols)

    def detokenize(self, ids: tf.Tensor | tf.RaggedTensor) -> tf.Tensor:
        """Returns (B,) strings; see `Tokenizer`."""
        import tensorflow as tf

        symbols = tf.gather(tf.constant(self._surfaces), _text_ids(ids, self.vocabulary_size))
        return tf.strings.reduce_join(symbols, axis=-1, separator=self._separator)

    def encode(self, text: str) -> list[int]:
        """Returns the ids of one string; see `Tokenizer`."""
        return [self._ids[symbol] if symbol in self._ids else UNK_ID for symbol in _split(text, self._separator)]

    def decode(self, ids: Iterable[int]) -> str:
        """Returns the text of one sequence; see `Tokenizer`."""
        return self._separator.join(self._surfaces[index] for index in _python_text_ids(ids, self.vocabulary_size))

    def trackable(self) -> Any:
        """Returns the lookup table symbol -> id, made at the first call."""
        return self._table

    def assets(self) -> dict[str, bytes]:
        """Returns `vocab.json` and Hugging Face's files; see `Tokenizer`."""
        vocabulary = {token: index for index, token in enumerate((*SPECIAL_TOKENS, *self._symbols))}
        return {
            VOCABULARY_FILE: huggingface.to_bytes(vocabulary),
            **huggingface.files(huggingface.symbols(vocabulary, self._separator), separator=self._separator),
        }

    def save(self, directory: str | Path) -> None:
        """Writes the assets into a directory; see `Tokenizer`."""
        write_assets(self.assets(), directory)

    @functools.cached_property
    def _table(self) -> Any:
        import tensorflow as tf

        with tf.init_scope():
            initializer = tf.lookup.KeyValueTensorInitializer(
                tf.constant(self._symbols, tf.string),
                tf.range(len(SPECIAL_TOKENS), self.vocabulary_size, dtype=tf.int32),
            )
            return tf.lookup.StaticHashTable(initializer, default_value=UNK_ID)


def write_assets(assets: dict[str, bytes], directory: str | Path) -> None:
    """Writes file name -> content below a directory; folders are made where missing."""
    for name, content in assets.items():
        path = Path(directory) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def well_formed(text: str) -> str:
    """Returns the text with U+FFFD for each lone surrogate, which no UTF-8 can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _split(text: str, separator: str) -> list[str]:
    """Splits as the graph does: at ASCII white space alone, so bytes and not str (`str.split` knows more of it)."""
    return [symbol.decode() for symbol in text.encode().split()] if separator else list(text)


def _python_text_ids(ids: Iterable[int], vocabulary_size: int) -> list[int]:
    dropped = (PAD_ID, START_ID, END_ID)
    return [index if 0 <= index < vocabulary_size else UNK_ID for index in map(int, ids) if index not in dropped]


def _text_ids(ids: tf.Tensor | tf.RaggedTensor, vocabulary_size: int) -> tf.RaggedTensor:
    import tensorflow as tf

    from tfzoo.text.ragged import kept

    ragged = ids if isinstance(ids, tf.RaggedTensor) else tf.RaggedTensor.from_tensor(ids)
    values = tf.cast(ragged.flat_values, tf.int32)
    known = tf.where((values >= 0) & (values < vocabulary_size), values, UNK_ID)
    is_text = (values != PAD_ID) & (values != START_ID) & (values != END_ID)
    return kept(ragged.with_flat_values(known), is_text)


def _check_size(vocabulary_size: int) -> None:
    if vocabulary_size <= len(SPECIAL_TOKENS):
        raise UsageError(
            f"`vocabulary_size` must be above {len(SPECIAL_TOKENS)}, the number of special tokens; "
            f"received vocabulary_size={vocabulary_size}."
        )


def _watched(sentences: Iterable[str], failures: list[Exception]) -> Iterator[str]:
    """Keeps an error of the sentences' own, which SentencePiece would turn into a RuntimeError."""
    try:
        yield from sentences
    except Exception as error:
        failures.append(error)
        raise


def sentencepiece_operation(model: bytes, out_type: tf.DType) -> Any:
    """Returns TensorFlow Text's tokenizer of a SentencePiece model; called where no graph is built.

    Args:
        model: the serialized `ModelProto`.
        out_type: int32 = the model's ids, string = pieces.
    """
    import tensorflow_text

    operation = tensorflow_text.SentencepieceTokenizer(model, out_type=out_type)
    operation._model_resource = _named_resource(model)
    return operation


def _named_resource(model: bytes) -> Any:
    """TensorFlow's copy of the model. TensorFlow Text's own dies when eager kernels go, as at `tf.random.set_seed`."""
    import tensorflow as tf
    from tensorflow_text.python.ops.sentencepiece_tokenizer import gen_sentencepiece_tokenizer

    class NamedResource(tf.saved_model.experimental.TrackableResource):
        def _create_resource(self) -> tf.Tensor:
            return gen_sentencepiece_tokenizer.sentencepiece_op(
                model=model, shared_name=hashlib.sha256(model).hexdigest()
            )

    resource = NamedResource()
    _ = resource.resource_handle  # made at the first access, which must be here and not within a graph
    return resource


def _rounded_scores(model: bytes) -> bytes:
    from sentencepiece.sentencepiece_model_pb2 import ModelProto  # type: ignore[attr-defined]

    proto = ModelProto.FromString(model)
    for piece in proto.pieces:
        piece.score = round(piece.score * _SCORE_STEPS_PER_NAT) / _SCORE_STEPS_PER_NAT
    return proto.SerializeToString(deterministic=True)
