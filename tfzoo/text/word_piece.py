"""WordPiece as BERT has it (Devlin et al., 2019, sec. 3, https://arxiv.org/abs/1810.04805; Wu et al., 2016, sec. 4.1).

Text is cleaned and cut into words, where each mark of punctuation and each Chinese character is one; a word is cut into
the longest pieces that fit, from its start, and a piece that goes on a word begins with "##". The ids are those of
Hugging Face's `BertTokenizerFast`, on any text, in Python and in a graph, but for this:

* Text cannot spell a special token: "[SEP]" is "[", "sep" and "]" here, and the token there.
* `decode` writes an unknown token as "⁇", and puts a space between all words, those of punctuation too.
"""

from __future__ import annotations

import collections
import functools
import itertools
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import tokenizers as hf

from tfzoo.errors import ArtifactError, UsageError
from tfzoo.text import huggingface
from tfzoo.text.special_tokens import BERT_END, BERT_MASK, BERT_PAD, BERT_START, BERT_TOKENS, BERT_UNK, UNK_SURFACE
from tfzoo.text.tokenizers import well_formed, write_assets

if TYPE_CHECKING:
    import tensorflow as tf

VOCABULARY_FILE = "vocab.txt"
"""One piece a line, by id."""

_CONTINUES = "##"
_MAX_WORD_LENGTH = 100  # characters; a longer word is unknown, as in BERT
_UNITS = re.compile("[\ud800-\udbff][\udc00-\udfff]|.", re.DOTALL)  # what `well_formed` makes one character of
_MAX_PIECE_BYTES = 256  # without "##"; TensorFlow Text's limit


class WordPieceTokenizer:
    """BERT's tokenizer, cased or uncased.

    Start, end, padding, unknown and mask are `[CLS]`, `[SEP]`, `[PAD]`, `[UNK]` and `[MASK]`, wherever the vocabulary
    has them. Control characters, U+FFFD, and with it bytes that are not UTF-8, are dropped before anything else.

    With the pieces [PAD] = 0, [UNK] = 1, [CLS] = 2, [SEP] = 3, [MASK] = 4, "the" = 5, "dog" = 6, "##s" = 7, "!" = 8:

        "The dogs!"  ->  [5, 6, 7, 8]  ->  "the dogs !"

    `decode` joins pieces: "##" goes, where there is a piece before it, and a space stands before every other piece;
    `[PAD]`, `[CLS]`, `[SEP]` and `[MASK]` are no text.

    Args:
        pieces: the vocabulary, by id.
        lowercase: True = uncased: letters are lowercased and lose their accents.

    Raises:
        ArtifactError: the pieces are no such vocabulary.
    """

    def __init__(self, pieces: Sequence[str], lowercase: bool = True) -> None:
        if problem := _problem(pieces):
            raise ArtifactError(f"`pieces` is no WordPiece vocabulary: {problem}.")
        self._ids = {piece: index for index, piece in enumerate(pieces)}
        self.lowercase = lowercase
        self.vocabulary_size = len(pieces)
        self.pad_id, self.unk_id, self.start_id, self.end_id, self.mask_id = (
            self._ids[token] for token in (BERT_PAD, BERT_UNK, BERT_START, BERT_END, BERT_MASK)
        )
        self._dropped = (self.pad_id, self.start_id, self.end_id, self.mask_id)
        # One more, for ids out of range.
        first = [UNK_SURFACE if piece == BERT_UNK else piece for piece in (*pieces, BERT_UNK)]
        later = [one.removeprefix(_CONTINUES) if one.startswith(_CONTINUES) else f" {one}" for one in first]
        self._surfaces = (first, later)

    @classmethod
    def train(
        cls,
        sentences: Iterable[str],
        vocabulary_size: int,
        lowercase: bool = True,
        *,
        character_coverage: float = 1.0,
    ) -> WordPieceTokenizer:
        """Learns pieces by joining the most frequent pair, again and again; the same sentences give the same pieces.

        Args:
            sentences: the text, read once; its distinct words are held in memory.
            vocabulary_size: pieces wanted, the five special tokens included. Text that is too small for so many gives a
                smaller vocabulary.
            lowercase: see the class.
            character_coverage: share in (0, 1] of the text's characters that the pieces must be able to spell, the most
                frequent ones; a word with another one is unknown.

        Raises:
            UsageError: no text, or `vocabulary_size` is too small to spell its characters.
        """
        words = _count_words(sentences, lowercase)
        if not words:
            raise UsageError("`sentences` holds no text; give the tokenizer text to train on.")
        alphabet = _alphabet(words, character_coverage)
        words = {word: count for word, count in words.items() if alphabet.issuperset(word)}
        # Given to the trainer as they are: its own order of them changes from run to run.
        inner = {f"{_CONTINUES}{character}" for word in words for character in word[1:]}
        given = [*BERT_TOKENS, *sorted(alphabet), *sorted(inner)]
        if vocabulary_size < len(given):
            raise UsageError(
                f"`vocabulary_size` must be at least {len(given)} to spell this text; received "
                f"vocabulary_size={vocabulary_size}. Raise it, or set `character_coverage` below {character_coverage}."
            )
        learner = hf.Tokenizer(hf.models.WordPiece(unk_token=BERT_UNK))
        learner.pre_tokenizer = hf.pre_tokenizers.WhitespaceSplit()
        trainer = hf.trainers.WordPieceTrainer(
            vocab_size=vocabulary_size,
            min_frequency=2,
            special_tokens=given,
            continuing_subword_prefix=_CONTINUES,
            show_progress=False,
        )
        learner.train_from_iterator(_repeated(words), trainer)
        vocabulary = json.loads(learner.to_str())["model"]["vocab"]
        return cls(sorted(vocabulary, key=vocabulary.__getitem__), lowercase)

    @classmethod
    def from_vocabulary(cls, vocab_txt: str | Path, lowercase: bool | None = None) -> WordPieceTokenizer:
        """Reads `vocab.txt`.

        Args:
            vocab_txt: one piece a line.
            lowercase: see the class; None = as `tokenizer_config.json` beside it says, and True without one, as in
                Hugging Face's BERT.

        Raises:
            ArtifactError: a missing or damaged file, or a configuration that asks for something that BERT has not.
        """
        lines = huggingface.read_text(vocab_txt).removesuffix("\n").split("\n")
        if lowercase is None:
            lowercase = _configured_lowercase(Path(vocab_txt).with_name(huggingface.CONFIG_FILE))
        return cls._checked([line.removesuffix("\r") for line in lines], lowercase, vocab_txt)

    @classmethod
    def from_tokenizer_json(cls, path: str | Path) -> WordPieceTokenizer:
        """Reads Hugging Face's `tokenizer.json` of a BERT tokenizer.

        Raises:
            ArtifactError: a missing or damaged file, or one that asks for something that BERT's tokenizer has not.
        """
        content = huggingface.read_json(path)
        try:
            if unlike := huggingface.unlike_bert(content):
                raise ArtifactError(
                    f"{path} is no tokenizer as BERT's: {', '.join(unlike)}. Give a WordPiece with BERT's words."
                )
            vocabulary = content["model"]["vocab"] | {one["content"]: one["id"] for one in content["added_tokens"]}
            pieces = sorted(vocabulary, key=vocabulary.__getitem__)
            if [vocabulary[piece] for piece in pieces] != list(range(len(pieces))):
                raise ValueError("ids must count up from 0 without gaps")
            lowercase = content["normalizer"]["lowercase"]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArtifactError(f"{path} is damaged ({error!r}); copy the file again.") from error
        return cls._checked(pieces, lowercase, path)

    def tokenize(self, strings: tf.Tensor) -> tf.RaggedTensor:
        """Returns (B, None) int32 ids; see `Tokenizer`. The fastest way for many texts: some thousands at once."""
        return self.trackable().tokenize(strings)

    def tokenize_with_offsets(self, strings: tf.Tensor) -> tuple[tf.RaggedTensor, tf.RaggedTensor, tf.RaggedTensor]:
        """Returns ids, starts and ends, (B, None) int32 each: what `encode_with_offsets` gives for each string."""
        return self.trackable().tokenize_with_offsets(strings)

    def detokenize(self, ids: tf.Tensor | tf.RaggedTensor) -> tf.Tensor:
        """Returns (B,) strings; see `Tokenizer`."""
        import tensorflow as tf

        ragged = ids if isinstance(ids, tf.RaggedTensor) else tf.RaggedTensor.from_tensor(ids)
        return self.trackable().detokenize(tf.cast(ragged, tf.int32).with_row_splits_dtype(tf.int64))

    def encode(self, text: str) -> list[int]:
        """Returns the ids of one string; see `Tokenizer`."""
        return self._encoder.encode(self._normalizer.normalize_str(well_formed(text))).ids

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        r"""Returns the ids of one string, and the (start, end) of what each was made of: `text[start:end]`.

        A piece goes from the first character that it has anything of to the last one and the accents that are stripped
        off it. Pieces of one character, such as a Hangul syllable, have the same place; starts and ends never
        decrease. With the pieces of the class, for "The", an accent, and "dogs" with a soft hyphen in it:

            "The\u0301 do\xadgs"  ->  [5, 6, 7], [(0, 4), (5, 9), (9, 10)]

        Hugging Face's offsets leave out the accents behind a piece, and a mark that changes places with one of them.
        """
        formed = well_formed(text)
        normalized = self._normalizer.normalize_str(formed)
        encoding = self._encoder.encode(normalized)
        if text.isascii() and len(normalized) == len(text):
            return encoding.ids, encoding.offsets
        made = [_made(character, self.lowercase) for character in formed]
        places = [place for place, one in enumerate(made) for _ in range(one.num_characters)]
        behind = [*range(1, len(formed) + 1)]
        for place in range(len(formed) - 2, -1, -1):
            if made[place + 1].is_accent:
                behind[place] = behind[place + 1]
        spans = [(places[start], behind[places[end - 1]]) for start, end in encoding.offsets]
        if len(formed) < len(text):  # two halves of a pair were joined
            at = [*itertools.accumulate(map(len, _UNITS.findall(text)), initial=0)]
            spans = [(at[start], at[end]) for start, end in spans]
        return encoding.ids, spans

    def decode(self, ids: Iterable[int]) -> str:
        """Returns the text of one sequence; see `Tokenizer`."""
        size = self.vocabulary_size
        kept = [one if 0 <= one < size else size for one in map(int, ids) if one not in self._dropped]
        first, later = self._surfaces
        return "".join([*(first[one] for one in kept[:1]), *(later[one] for one in kept[1:])])

    def continues(self) -> np.ndarray:
        """Returns (V,) bool, True for each piece that goes on a word."""
        return np.array([piece.startswith(_CONTINUES) for piece in self._ids])

    def trackable(self) -> Any:
        """Returns the `WordPieceGraph`, made at the first call, which takes seconds."""
        return self._graph

    def assets(self) -> dict[str, bytes]:
        """Returns `vocab.txt` and Hugging Face's files; see `Tokenizer`."""
        return {
            VOCABULARY_FILE: "".join(f"{piece}\n" for piece in self._ids).encode(),
            **huggingface.word_piece_files(self._ids, lowercase=self.lowercase, max_word_length=_MAX_WORD_LENGTH),
        }

    def save(self, directory: str | Path) -> None:
        """Writes the assets into a directory; see `Tokenizer`."""
        write_assets(self.assets(), directory)

    @classmethod
    def _checked(cls, pieces: Sequence[str], lowercase: bool, where: str | Path) -> WordPieceTokenizer:
        try:
            return cls(pieces, lowercase)
        except ArtifactError as error:
            raise ArtifactError(f"{where}: {error} Copy the file again.") from error

    @functools.cached_property
    def _encoder(self) -> hf.Tokenizer:
        # Without added tokens, so that text cannot spell a special one.
        model = hf.models.WordPiece(self._ids, unk_token=BERT_UNK, max_input_chars_per_word=_MAX_WORD_LENGTH)
        encoder = hf.Tokenizer(model)  # of normalized text
        encoder.pre_tokenizer = hf.pre_tokenizers.BertPreTokenizer()
        return encoder

    @functools.cached_property
    def _normalizer(self) -> hf.normalizers.Normalizer:
        return hf.normalizers.BertNormalizer(lowercase=self.lowercase)

    @functools.cached_property
    def _graph(self) -> Any:
        import tensorflow as tf

        from tfzoo.text.word_piece_graph import WordPieceGraph

        with tf.init_scope():
            return WordPieceGraph(
                list(self._ids),
                self._surfaces,
                self._dropped,
                lowercase=self.lowercase,
                max_word_length=_MAX_WORD_LENGTH,
            )


class _Made(NamedTuple):
    """What comes of a character: how many characters, and whether it is an accent that is stripped."""

    num_characters: int
    is_accent: bool


@functools.cache
def _made(character: str, lowercase: bool) -> _Made:
    count = len(hf.normalizers.BertNormalizer(lowercase=lowercase).normalize_str(character))
    kept = hf.normalizers.BertNormalizer(lowercase=False, strip_accents=False).normalize_str(character)
    return _Made(count, not count and kept != "")


def _problem(pieces: Sequence[str]) -> str | None:
    """Returns what is wrong, so that neither a cut-off file nor another tokenizer's goes unseen."""
    seen: dict[str, int] = {}
    for index, piece in enumerate(pieces):
        if not isinstance(piece, str) or not piece:
            return f"id {index} is no piece but {piece!r}"
        if piece in seen:
            return f"{piece!r} has two ids, {seen[piece]} and {index}"
        if any(character in piece for character in "\0\n\r"):
            return f"id {index} has a control character in it, {piece!r}"
        if len(piece.removeprefix(_CONTINUES).encode("utf-8", "replace")) > _MAX_PIECE_BYTES:
            return f"id {index} is longer than {_MAX_PIECE_BYTES} bytes"
        seen[piece] = index
    if lacking := [token for token in BERT_TOKENS if token not in seen]:
        return f"it lacks {', '.join(lacking)}"
    return None


def _count_words(sentences: Iterable[str], lowercase: bool) -> dict[str, int]:
    normalizer = hf.normalizers.BertNormalizer(lowercase=lowercase)
    splitter = hf.pre_tokenizers.BertPreTokenizer()
    words: collections.Counter[str] = collections.Counter()
    for sentence in sentences:
        words.update(word for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(well_formed(sentence))))
    # A word becomes a piece where it is frequent, and a character takes up to 4 bytes.
    return {word: count for word, count in words.items() if len(word) <= _MAX_PIECE_BYTES // 4}


def _alphabet(words: dict[str, int], coverage: float) -> set[str]:
    counts: collections.Counter[str] = collections.Counter()
    for word, count in words.items():
        for character in word:
            counts[character] += count
    alphabet: set[str] = set()
    missing = counts.total() * coverage
    for character in sorted(counts, key=lambda one: (-counts[one], one)):
        if missing <= 0:
            break
        alphabet.add(character)
        missing -= counts[character]
    return alphabet


def _repeated(words: dict[str, int]) -> Iterable[str]:
    for word, count in words.items():
        for start in range(0, count, 1000):
            yield f"{word} " * min(1000, count - start)


def _configured_lowercase(path: Path) -> bool:
    if not path.is_file():
        return True
    content = huggingface.read_json(path)
    try:
        lowercase = content.get("do_lower_case", True)
        unlike = {
            name: content[name]
            for name, usual in (("strip_accents", (None, lowercase)), ("tokenize_chinese_chars", (True,)))
            if name in content and content[name] not in usual
        }
    except AttributeError as error:
        raise ArtifactError(f"{path} is damaged ({error!r}); copy the file again.") from error
    if type(lowercase) is not bool:
        raise ArtifactError(f"{path} is damaged (do_lower_case is {lowercase!r}); copy the file again.")
    if unlike:
        found = ", ".join(f"{name} is {value!r}" for name, value in unlike.items())
        raise ArtifactError(f"{path} is of no tokenizer as BERT's: {found}. Give a tokenizer with BERT's words.")
    return lowercase
