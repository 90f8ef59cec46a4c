"""The tokenizers of Marian's translation models (OPUS-MT): SentencePiece cuts, a vocabulary of its own numbers.

Each side has a SentencePiece model, whose own ids mean nothing; `vocab.json` says which id a piece has, and both sides
may share it. A source may begin with a code such as ">>fra<<", one piece, which tells a model of several target
languages which one to write. The ids equal those of Hugging Face's `MarianTokenizer`, with two differences:

* Text that spells a special token, such as "</s>", is that token there and ordinary text here; a code that the
  vocabulary lacks is the unknown token there and ordinary text here.
* Scores are rounded to 1/256 nat, far below what tells two segmentations apart. Where two tie ("ooo" = "oo"+"o" =
  "o"+"oo"), the order of float32 sums would decide, which each implementation has its own of.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import sentencepiece

from tfzoo.errors import ArtifactError
from tfzoo.text import huggingface
from tfzoo.text.special_tokens import END, PAD, UNK, UNK_SURFACE
from tfzoo.text.tokenizers import VOCABULARY_FILE, sentencepiece_operation, well_formed, write_assets

if TYPE_CHECKING:
    import tensorflow as tf

Side = Literal["source", "target"]

MODEL_FILES: dict[Side, str] = {"source": "source.spm", "target": "target.spm"}
TARGET_VOCABULARY_FILE = "target_vocab.json"
"""Of a checkpoint whose sides have a vocabulary each, that of the target; `vocab.json` is the source's then."""

_SPACE = "▁"  # as SentencePiece writes it inside a piece
_CODE = r">>[^<> \t\n\v\f\r]+<<"
_SCORE_STEPS_PER_NAT = 256


class MarianTokenizer:
    """One side of a Marian model.

    With a model that knows the pieces "▁", "a" and "b", and the vocabulary {"</s>": 0, "<unk>": 1, "▁": 2, "b": 3,
    "a": 4, ">>de<<": 5, "<pad>": 6}:

        ">>de<< ab c"  ->  [5, 2, 4, 3, 2, 1]

    The decoder starts from padding, so that `start_id` is `pad_id`.

    Args:
        model: the serialized SentencePiece `ModelProto`, of type unigram; the content of `source.spm` or `target.spm`.
        vocabulary: piece -> id, from 0 without gaps, with "</s>", "<unk>" and "<pad>" among them.
        side: of the model; names its file.

    Raises:
        ArtifactError: the bytes are not such a model, it asks for something that is not computed here, or the
            vocabulary is none.
    """

    def __init__(self, model: bytes, vocabulary: Mapping[str, int], side: Side) -> None:
        if problem := _problem(vocabulary):
            raise ArtifactError(f"`vocabulary` is no vocabulary of a Marian model: {problem}.")
        self.side = side
        self._model = model
        self._rounded, normal_pieces = _read(model)
        self._vocabulary = dict(sorted(vocabulary.items(), key=lambda item: item[1]))
        self._scores = normal_pieces
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=self._rounded)
        self.vocabulary_size = len(self._vocabulary)
        self.end_id, self.unk_id, self.pad_id = (self._vocabulary[token] for token in (END, UNK, PAD))
        self.start_id = self.pad_id
        # SentencePiece may cut off what is spelt like a special token; that is text.
        self._ids = {piece: one for piece, one in self._vocabulary.items() if piece not in (END, UNK, PAD)}
        self._codes = {piece: one for piece, one in self._ids.items() if re.fullmatch(_CODE, piece)}
        self._surfaces = [piece.replace(_SPACE, " ") for piece in self._vocabulary]
        self._surfaces[self.unk_id] = f" {UNK_SURFACE} "  # SentencePiece's

    @classmethod
    def from_files(cls, model: str | Path, vocab_json: str | Path, side: Side) -> MarianTokenizer:
        """Reads a SentencePiece model and its `vocab.json`.

        Raises:
            ArtifactError: a missing or damaged file.
        """
        vocabulary = huggingface.read_json(vocab_json)
        try:
            content = Path(model).read_bytes()
        except OSError as error:
            raise ArtifactError(f"{model} cannot be read ({error.strerror}); copy the file there.") from error
        try:
            return cls(content, vocabulary, side)
        except ArtifactError as error:
            raise ArtifactError(f"{model} and {vocab_json}: {error}") from error

    @property
    def model(self) -> bytes:
        """The SentencePiece model as it was given."""
        return self._model

    @property
    def vocabulary(self) -> dict[str, int]:
        """Piece -> id, in the order of the ids."""
        return dict(self._vocabulary)

    @property
    def codes(self) -> list[str]:
        """The codes of target languages that the vocabulary has."""
        return [*self._codes]

    def tokenize(self, strings: tf.Tensor) -> tf.RaggedTensor:
        """Returns (B, None) int32 ids; see `Tokenizer`."""
        return self.trackable().tokenize(strings)

    def detokenize(self, ids: tf.Tensor | tf.RaggedTensor) -> tf.Tensor:
        """Returns (B,) strings; see `Tokenizer`."""
        return self.trackable().detokenize(ids)

    def encode(self, text: str) -> list[int]:
        """Returns the ids of one string; see `Tokenizer`."""
        code, pieces = self._cut(text)
        return code + [self._ids[piece] if piece in self._ids else self.unk_id for piece in pieces]

    def decode(self, ids: Iterable[int]) -> str:
        """Returns the text of one sequence; see `Tokenizer`."""
        known = (one if 0 <= one < self.vocabulary_size else self.unk_id for one in map(int, ids))
        return "".join(self._surfaces[one] for one in known if one not in (self.pad_id, self.end_id)).strip(" ")

    def is_cut_by_vocabulary(self, text: str) -> bool:
        """Whether each piece of a text is either in both the model and the vocabulary, or in neither of them.

        A reader of `tokenizer.json` has one list of pieces, and so gives other ids where it is not.
        """
        return all((piece in self._scores) == (piece in self._ids) for piece in self._cut(text)[1])

    def trackable(self) -> Any:
        """Returns the `MarianGraph`, made at the first call."""
        return self._graph

    def assets(self) -> dict[str, bytes]:
        """Returns `source.spm` or `target.spm`, `vocab.json` and Hugging Face's files; see `Tokenizer`."""
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            **special_token_names(),
            "padding_side": "right",
            "clean_up_tokenization_spaces": False,
        }
        return {
            MODEL_FILES[self.side]: self._model,
            VOCABULARY_FILE: huggingface.to_bytes(self._vocabulary),
            huggingface.TOKENIZER_FILE: huggingface.to_bytes(self._hugging_face()),
            huggingface.CONFIG_FILE: huggingface.to_bytes(config),
        }

    def save(self, directory: str | Path) -> None:
        """Writes the assets into a directory; see `Tokenizer`."""
        write_assets(self.assets(), directory)

    def _cut(self, text: str) -> tuple[list[int], list[str]]:
        """Returns the id of the code that the text begins with, if it does, and the pieces of the rest."""
        text = well_formed(text)
        code = re.match(_CODE, text)
        if code is None or code[0] not in self._codes:
            return [], self._processor.encode(text, out_type=str)
        return [self._codes[code[0]]], self._processor.encode(text[code.end() :], out_type=str)

    def _hugging_face(self) -> dict[str, Any]:
        """The content of `tokenizer.json`.

        Ids are places in its list of pieces. A piece that this side's model lacks keeps its place behind a space, which
        no normalized text holds, and which the decoder takes away again.
        """
        from sentencepiece.sentencepiece_model_pb2 import ModelProto  # type: ignore[attr-defined]

        lowest = min(self._scores.values())
        own = {*self._codes, END, UNK, PAD}
        pieces = [
            (piece, self._scores[piece])
            if piece in self._scores and piece not in own
            else (piece if piece in own else f" {piece}", lowest)
            for piece in self._vocabulary
        ]
        # The lookarounds are the ends of the text: ^ and $ would be ends of lines for Rust's regular expressions.
        ends = {"type": "Replace", "pattern": {"Regex": r"(?<![\s\S]) +| +(?![\s\S])"}, "content": ""}
        added = [
            {
                "id": self._vocabulary[piece],
                "content": piece,
                **huggingface.SPECIAL,
                "special": piece not in self._codes,
            }
            for piece in sorted(own, key=self._vocabulary.__getitem__)
        ]
        end = {"SpecialToken": {"id": END, "type_id": 0}}
        first, second = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
        return {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": added,
            "normalizer": {
                "type": "Sequence",
                "normalizers": huggingface.normalizers(ModelProto.FromString(self._model).normalizer_spec),
            },
            "pre_tokenizer": None,
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [first, end],
                "pair": [first, end, second, end],
                "special_tokens": {END: {"id": END, "ids": [self.end_id], "tokens": [END]}},
            },
            "decoder": {
                "type": "Sequence",
                "decoders": [
                    {"type": "Replace", "pattern": {"String": " "}, "content": ""},
                    {"type": "Replace", "pattern": {"String": _SPACE}, "content": " "},
                    {"type": "Fuse"},
                    ends,
                ],
            },
            "model": {"type": "Unigram", "unk_id": self.unk_id, "vocab": pieces, "byte_fallback": False},
        }

    @functools.cached_property
    def _graph(self) -> Any:
        import tensorflow as tf

        from tfzoo.text.marian_graph import MarianGraph

        with tf.init_scope():
            return MarianGraph(
                sentencepiece_operation(self._rounded, tf.string),
                self._ids,
                self._surfaces,
                {"unk_id": self.unk_id, "pad_id": self.pad_id, "end_id": self.end_id},
                code_pattern=_CODE if self._codes else None,
            )


def special_token_names() -> dict[str, str]:
    """Returns what `tokenizer_config.json` says of the special tokens; there is none for the start."""
    return {"pad_token": PAD, "unk_token": UNK, "eos_token": END}


def _read(model: bytes) -> tuple[bytes, dict[str, float]]:
    """Returns the model with rounded scores, and the score of each piece that it may cut off."""
    from google.protobuf.message import DecodeError
    from sentencepiece.sentencepiece_model_pb2 import ModelProto, TrainerSpec  # type: ignore[attr-defined]

    try:
        proto = ModelProto.FromString(model)
    except DecodeError:
        proto = ModelProto()
    if not proto.pieces:
        raise ArtifactError(f"`model` is not a SentencePiece model: {len(model)} bytes that do not parse.")
    kinds = ModelProto.SentencePiece
    asks_for = {
        "another type than unigram": proto.trainer_spec.model_type != TrainerSpec.UNIGRAM,
        "a fallback to bytes": proto.trainer_spec.byte_fallback,
        "white space behind the word": proto.trainer_spec.treat_whitespace_as_suffix,
        "spaces that are not escaped": not proto.normalizer_spec.escape_whitespaces,
        "a denormalizer": bool(proto.denormalizer_spec.precompiled_charsmap),
        "user-defined pieces": any(
            piece.type not in (kinds.NORMAL, kinds.UNKNOWN, kinds.CONTROL) for piece in proto.pieces
        ),
    }
    if asked := [what for what, is_asked in asks_for.items() if is_asked]:
        raise ArtifactError(f"`model` asks for {asked[0]}, and the model of a Marian tokenizer has that not.")
    for piece in proto.pieces:
        piece.score = math.floor(piece.score * _SCORE_STEPS_PER_NAT + 0.5) / _SCORE_STEPS_PER_NAT
    scores = {piece.piece: piece.score for piece in proto.pieces if piece.type == kinds.NORMAL}
    return proto.SerializeToString(deterministic=True), scores


def _problem(vocabulary: Any) -> str | None:
    if not isinstance(vocabulary, Mapping) or not all(type(index) is int for index in vocabulary.values()):
        return "it is no mapping of piece -> id"
    if sorted(vocabulary.values()) != list(range(len(vocabulary))):
        return "ids must count up from 0 without gaps"
    lacking = [token for token in (END, UNK, PAD) if token not in vocabulary]
    return f"it lacks {lacking[0]!r}" if lacking else None
