"""Byte-level byte-pair encoding (Radford et al., 2019, sec. 2.2; Sennrich et al., 2016, https://arxiv.org/abs/1508.07909).

Text is cut into words, each word's UTF-8 bytes are joined pair by pair, the pair of the lowest rank first: GPT-2's ids,
id for id. Vocabulary files spell a byte by one printable character ("Ġ" is a space).

Differs from GPT-2: a merge list in which two merges make the same piece is followed as Hugging Face's `tokenizers`
follows it, one merge at a time (GPT-2's own list has none).
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tokenizers as hf

from tfzoo.errors import ArtifactError, UsageError
from tfzoo.text import huggingface
from tfzoo.text.special_tokens import END_OF_TEXT
from tfzoo.text.tokenizers import well_formed, write_assets

if TYPE_CHECKING:
    import tensorflow as tf

FILE_PAIRS = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))
"""Names of the vocabulary's and the merges' file: Hugging Face's, which are written here too, and OpenAI's."""

_HEADER = "#version: 0.2"
_REPLACEMENT = "\ufffd".encode()


def _byte_characters() -> list[str]:
    """Returns the character that spells each byte: itself where it is printable, else one from U+0100 on."""
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    others = iter(range(256, 512))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]


_CHARACTERS = _byte_characters()
_BYTES = {character: byte for byte, character in enumerate(_CHARACTERS)}


class BytePairTokenizer:
    """GPT-2's byte-level BPE: any text has ids, and its ids give the text back.

    `<|endoftext|>` is start, end, padding and the unknown token at once. Text that spells it is ordinary text. What is
    not Unicode (bytes that are not UTF-8, a lone surrogate) is read as U+FFFD, and ids that are no text, or bytes that
    are not UTF-8 when joined, are written as U+FFFD.

    With the vocabulary of the 256 bytes ("!" = 0, ..., space = 220), " a" = 256, "ab" = 257, <|endoftext|> = 258 and
    the merges [("Ġ", "a"), ("a", "b")]:

        "ab ab"  ->  [257, 256, 65]

    A word of n bytes takes O(n log n) steps in Python, and at most O(n^2) in a graph; a word ends where letters,
    numbers, other characters and white space meet.

    Args:
        vocabulary: piece -> id, from 0 without gaps: the 256 bytes, what the merges make, and `<|endoftext|>`.
        merges: pairs of pieces, the first merged first.

    Raises:
        ArtifactError: the vocabulary and the merges do not fit each other.
    """

    def __init__(self, vocabulary: Mapping[str, int], merges: Sequence[tuple[str, str]]) -> None:
        if problem := _problem(vocabulary, merges):
            raise ArtifactError(f"`vocabulary` and `merges` are no byte-level BPE: {problem}.")
        self._vocabulary = dict(sorted(vocabulary.items(), key=lambda item: item[1]))
        self._merges = list(merges)
        self.vocabulary_size = len(self._vocabulary)
        self.pad_id = self.unk_id = self.start_id = self.end_id = self._vocabulary[END_OF_TEXT]
        self._pieces = [
            b"" if piece == END_OF_TEXT else bytes(_BYTES[character] for character in piece)
            for piece in self._vocabulary
        ]

    @classmethod
    def train(cls, sentences: Iterable[str], vocabulary_size: int) -> BytePairTokenizer:
        """Learns merges of pairs that occur at least twice; the same sentences give the same merges.

        Args:
            sentences: the text, read once.
            vocabulary_size: ids wanted, the 256 bytes and the end token included. Text that is too small for so many
                gives a smaller vocabulary.

        Raises:
            UsageError: no text, or `vocabulary_size` is too small for the bytes.
        """
        if vocabulary_size <= len(_CHARACTERS):
            raise UsageError(
                f"`vocabulary_size` must be above {len(_CHARACTERS)}, the number of bytes; "
                f"received vocabulary_size={vocabulary_size}."
            )
        num_characters = 0

        def texts() -> Iterable[str]:
            nonlocal num_characters
            for sentence in sentences:
                num_characters += len(sentence)
                yield well_formed(sentence)

        learner = hf.Tokenizer(hf.models.BPE())
        learner.pre_tokenizer = hf.pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = hf.trainers.BpeTrainer(
            vocab_size=vocabulary_size - 1,
            min_frequency=2,
            initial_alphabet=hf.pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        learner.train_from_iterator(texts(), trainer)
        if not num_characters:
            raise UsageError("`sentences` holds no text; give the tokenizer text to train on.")
        merges = [(left, right) for left, right in json.loads(learner.to_str())["model"]["merges"]]
        # Ids as in GPT-2's files; two merges may make one piece.
        pieces = dict.fromkeys([*sorted(_CHARACTERS), *(left + right for left, right in merges), END_OF_TEXT])
        return cls({piece: index for index, piece in enumerate(pieces)}, merges)

    @classmethod
    def from_files(cls, vocab_json: str | Path, merges_txt: str | Path) -> BytePairTokenizer:
        """Reads `vocab.json` and `merges.txt`, which OpenAI calls `encoder.json` and `vocab.bpe`.

        Raises:
            ArtifactError: a missing or damaged file, or two that do not fit each other.
        """
        vocabulary = huggingface.read_json(vocab_json)
        lines = huggingface.read_text(merges_txt).removesuffix("\n").split("\n")
        merges: list[tuple[str, str]] = []
        for number, line in enumerate(lines, start=1):
            if number == 1 and (line.startswith("#version") or not line):
                continue
            pieces = line.removesuffix("\r").split(" ")
            if len(pieces) != 2 or not all(pieces):
                raise ArtifactError(
                    f"{merges_txt}:{number}: a line is two pieces with one space between; received {line!r}. "
                    "Copy the file again."
                )
            merges.append((pieces[0], pieces[1]))
        return cls._checked(vocabulary, merges, f"{vocab_json} and {merges_txt}")

    @classmethod
    def from_tokenizer_json(cls, path: str | Path) -> BytePairTokenizer:
        """Reads Hugging Face's `tokenizer.json` of a GPT-2 tokenizer.

        Raises:
            ArtifactError: a missing or damaged file, or one that asks for something that GPT-2's tokenizer has not.
        """
        content = huggingface.read_json(path)
        try:
            if unlike := huggingface.unlike_gpt2(content):
                raise ArtifactError(
                    f"{path} is no tokenizer as GPT-2's: {', '.join(unlike)}. Give a byte-level BPE with GPT-2's words."
                )
            vocabulary = content["model"]["vocab"] | {one["content"]: one["id"] for one in content["added_tokens"]}
            pairs = [one.split(" ") if isinstance(one, str) else one for one in content["model"]["merges"]]
            merges = [(left, right) for left, right in pairs]
            "".join(piece for merge in merges for piece in merge)  # raises where one is no string
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArtifactError(f"{path} is damaged ({error!r}); copy the file again.") from error
        return cls._checked(vocabulary, merges, str(path))

    def tokenize(self, strings: tf.Tensor) -> tf.RaggedTensor:
        """Returns (B, None) int32 ids; see `Tokenizer`. The fastest way for many texts: some thousands at once."""
        return self.trackable().tokenize(strings)

    def detokenize(self, ids: tf.Tensor | tf.RaggedTensor) -> tf.Tensor:
        """Returns (B,) strings; see `Tokenizer`."""
        import tensorflow as tf

        ragged = ids if isinstance(ids, tf.RaggedTensor) else tf.RaggedTensor.from_tensor(ids)
        return self.trackable().detokenize(tf.cast(ragged, tf.int32).with_row_splits_dtype(tf.int64))

    def encode(self, text: str) -> list[int]:
        """Returns the ids of one string; see `Tokenizer`."""
        return self._encoder.encode(well_formed(text)).ids

    def decode(self, ids: Iterable[int]) -> str:
        """Returns the text of one sequence; see `Tokenizer`."""
        pieces = (self._pieces[one] if 0 <= one < self.vocabulary_size else _REPLACEMENT for one in map(int, ids))
        return b"".join(pieces).decode("utf-8", "replace")

    def trackable(self) -> Any:
        """Returns the `BytePairGraph`, made at the first call."""
        return self._graph

    def assets(self) -> dict[str, bytes]:
        """Returns `vocab.json`, `merges.txt` and Hugging Face's files; see `Tokenizer`."""
        vocabulary_file, merges_file = FILE_PAIRS[0]
        lines = [f"{left} {right}" for left, right in self._merges]
        return {
            vocabulary_file: huggingface.to_bytes(self._vocabulary),
            merges_file: "".join(f"{line}\n" for line in (_HEADER, *lines)).encode(),
            **huggingface.byte_pair_files(self._vocabulary, lines),
        }

    def save(self, directory: str | Path) -> None:
        """Writes the assets into a directory; see `Tokenizer`."""
        write_assets(self.assets(), directory)

    @classmethod
    def _checked(cls, vocabulary: Any, merges: list[tuple[str, str]], where: str) -> BytePairTokenizer:
        try:
            return cls(vocabulary, merges)
        except ArtifactError as error:
            raise ArtifactError(f"{where}: {error}") from error

    @functools.cached_property
    def _encoder(self) -> hf.Tokenizer:
        # Without added tokens, so that text cannot spell the end token.
        encoder = hf.Tokenizer(hf.models.BPE(self._vocabulary, self._merges))
        encoder.pre_tokenizer = hf.pre_tokenizers.ByteLevel(add_prefix_space=False)
        return encoder

    @functools.cached_property
    def _graph(self) -> Any:
        import tensorflow as tf

        from tfzoo.text.byte_pair_graph import BytePairGraph

        ids = self._vocabulary
        with tf.init_scope():
            return BytePairGraph(
                self._pieces,
                [ids[character] for character in _CHARACTERS],
                [(ids[left], ids[right], ids[left + right]) for left, right in self._merges],
                self.end_id,
            )


def _problem(vocabulary: Any, merges: Sequence[tuple[str, str]]) -> str | None:
    """Returns what is wrong, so that neither a cut-off file nor another tokenizer's goes unseen."""
    if not isinstance(vocabulary, Mapping) or not all(type(index) is int for index in vocabulary.values()):
        return "the vocabulary is no mapping of piece -> id"
    if sorted(vocabulary.values()) != list(range(len(vocabulary))):
        return "ids must count up from 0 without gaps"
    if len(set(merges)) < len(merges):
        return "a merge stands twice"
    given = {*_CHARACTERS, END_OF_TEXT}
    parts = {piece for merge in merges for piece in merge}
    made = {left + right for left, right in merges}
    if END_OF_TEXT in parts | made:
        return f"a merge takes or makes {END_OF_TEXT!r}"
    if lacking := (given | parts | made) - vocabulary.keys():
        return f"the vocabulary lacks {_some(lacking)}"
    if unmade := vocabulary.keys() - given - made:
        return f"no merge makes {_some(unmade)}"
    return None


def _some(pieces: set[str]) -> str:
    first = min(map(repr, pieces))
    return first if len(pieces) == 1 else f"{first} and {len(pieces) - 1} more pieces"
