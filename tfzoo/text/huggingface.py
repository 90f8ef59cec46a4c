"""`tokenizer.json` and `tokenizer_config.json` as Hugging Face's `tokenizers` (and transformers.js) read them.

Written as plain JSON, so that neither package is needed to write them. The end token is appended, so that the ids are
ready for the encoder; GPT-2's tokenizer appends none, and BERT's puts a start before the text too. The ids equal ours,
with these differences that lie in Hugging Face's code:

* Text that spells a special token, such as "</s>", gives that token's id there; here it is ordinary text.
* Its `Precompiled` normalizer goes by grapheme where SentencePiece goes by code point, and drops a combining mark that
  follows a compatibility character, such as a full-width letter or digit. The two NFC steps repair what real text
  has: decomposed accents (Vietnamese, Hangul) and half-width katakana. A mark that composes with nothing and several
  marks in another than the canonical order can still come out differently.
* An unknown token decodes to "<unk>" or "[UNK]" there, to "⁇" here.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfzoo.errors import ArtifactError, UsageError
from tfzoo.text.special_tokens import (
    BERT_END,
    BERT_START,
    BERT_TOKENS,
    BERT_UNK,
    END,
    END_ID,
    END_OF_TEXT,
    PAD,
    SPECIAL_TOKENS,
    START,
    UNK,
    UNK_ID,
)

TOKENIZER_FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"

SPECIAL = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
"""Fields of a special token in `added_tokens`."""


def files(tokenizer: Mapping[str, Any], *, separator: str | None) -> dict[str, bytes]:
    """Returns file name -> content of Hugging Face's two files.

    Args:
        tokenizer: the content of `tokenizer.json`.
        separator: kept in `tokenizer_config.json` for `tfzoo.text.load`; None = not a symbol tokenizer.
    """
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": PAD,
        "unk_token": UNK,
        "bos_token": START,
        "eos_token": END,
        "padding_side": "right",
        "clean_up_tokenization_spaces": False,
    }
    if separator is not None:
        config["separator"] = separator
    return {TOKENIZER_FILE: to_bytes(tokenizer), CONFIG_FILE: to_bytes(config)}


def sentencepiece(model: bytes) -> dict[str, Any]:
    """Returns `tokenizer.json` for a SentencePiece model.

    Args:
        model: the serialized `ModelProto`, of type unigram or BPE.

    Raises:
        UsageError: a model type that Hugging Face's format does not have.
    """
    # protobuf makes the classes when it is imported, out of mypy's sight.
    from sentencepiece.sentencepiece_model_pb2 import ModelProto, TrainerSpec  # type: ignore[attr-defined]

    proto = ModelProto.FromString(model)
    pieces = [(piece.piece, piece.score) for piece in proto.pieces]
    if proto.trainer_spec.model_type == TrainerSpec.UNIGRAM:
        hf_model = {
            "type": "Unigram",
            "unk_id": UNK_ID,
            "vocab": pieces,
            "byte_fallback": proto.trainer_spec.byte_fallback,
        }
    elif proto.trainer_spec.model_type == TrainerSpec.BPE:
        hf_model = {
            "type": "BPE",
            "unk_token": UNK,
            "fuse_unk": True,
            "byte_fallback": proto.trainer_spec.byte_fallback,
            "vocab": {piece: index for index, (piece, _) in enumerate(pieces)},
            "merges": _merges(dict(pieces[len(SPECIAL_TOKENS) :])),
        }
    else:
        raise UsageError(
            "`model` must be of type unigram or bpe; received "
            f"{TrainerSpec.ModelType.Name(proto.trainer_spec.model_type).lower()}, which Hugging Face's format lacks."
        )
    prepend = "always" if proto.normalizer_spec.add_dummy_prefix else "never"
    return _tokenizer(
        normalizer={"type": "Sequence", "normalizers": normalizers(proto.normalizer_spec)},
        # The model sees the whole text, as SentencePiece's does: a piece may span words, unknown runs are merged.
        pre_tokenizer=None,
        decoder={"type": "Metaspace", "replacement": "▁", "prepend_scheme": prepend, "split": False},
        model=hf_model,
    )


def symbols(vocabulary: Mapping[str, int], separator: str) -> dict[str, Any]:
    """Returns `tokenizer.json` for whole symbols.

    Args:
        vocabulary: symbol -> id, the special tokens included.
        separator: "" = characters, " " = symbols between ASCII white space.
    """
    # [\s\S] is any character, line ends included, in Rust's and in JavaScript's regular expressions.
    pattern, behavior = (r"[ \t\n\v\f\r]+", "Removed") if separator else (r"[\s\S]", "Isolated")
    return _tokenizer(
        normalizer=None,
        pre_tokenizer={"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": False},
        decoder=None if separator else {"type": "Fuse"},
        model={"type": "WordLevel", "vocab": dict(vocabulary), "unk_token": UNK},
    )


def byte_pair_files(vocabulary: Mapping[str, int], merges: Sequence[str]) -> dict[str, bytes]:
    """Returns Hugging Face's two files of a GPT-2 tokenizer; as GPT-2's own, it appends no end token.

    Args:
        vocabulary: piece -> id, the end token included.
        merges: "left right", by rank.
    """
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": vocabulary[END_OF_TEXT], "content": END_OF_TEXT, **SPECIAL}],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": {**byte_level, "trim_offsets": False},
        "decoder": byte_level,
        "model": {"type": "BPE", "vocab": dict(vocabulary), "merges": list(merges)},
    }
    config = {
        "tokenizer_class": "GPT2Tokenizer",
        **dict.fromkeys(("bos_token", "eos_token", "pad_token", "unk_token"), END_OF_TEXT),
        "add_prefix_space": False,
        "padding_side": "right",
        "clean_up_tokenization_spaces": False,
    }
    return {TOKENIZER_FILE: to_bytes(tokenizer), CONFIG_FILE: to_bytes(config)}


def unlike_gpt2(tokenizer: Mapping[str, Any]) -> list[str]:
    """Returns what in the content of a `tokenizer.json` gives other ids than GPT-2's words and merges would.

    Raises:
        KeyError, TypeError, AttributeError: the content is not that of a `tokenizer.json`.
    """
    model, words = tokenizer["model"], tokenizer["pre_tokenizer"] or {"type": None}
    if model["type"] != "BPE":
        return [f"model.type is {model['type']!r}"]
    if words["type"] != "ByteLevel":
        return [f"pre_tokenizer.type is {words['type']!r}"]
    found = {"normalizer": tokenizer["normalizer"], "pre_tokenizer.add_prefix_space": words["add_prefix_space"]}
    # Older files lack some of these.
    optional = ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback", "ignore_merges")
    found |= {f"model.{name}": model[name] for name in optional if name in model}
    unlike = [f"{name} is {value!r}" for name, value in found.items() if value]
    return unlike + (["pre_tokenizer.use_regex is False"] if words.get("use_regex") is False else [])


def word_piece_files(vocabulary: Mapping[str, int], *, lowercase: bool, max_word_length: int) -> dict[str, bytes]:
    """Returns Hugging Face's two files of a BERT tokenizer; as BERT's own, it puts a start before the text too.

    Args:
        vocabulary: piece -> id, the special tokens included.
        lowercase: whether text is lowercased and loses its accents.
        max_word_length: characters; a longer word is unknown.
    """
    start, end = ({"SpecialToken": {"id": token, "type_id": 0}} for token in (BERT_START, BERT_END))
    first = {"Sequence": {"id": "A", "type_id": 0}}
    second = [{"Sequence": {"id": "B", "type_id": 1}}, {"SpecialToken": {"id": BERT_END, "type_id": 1}}]
    added = sorted(BERT_TOKENS, key=vocabulary.__getitem__)
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": vocabulary[token], "content": token, **SPECIAL} for token in added],
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": lowercase,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [start, first, end],
            "pair": [start, first, end, *second],
            "special_tokens": {
                token: {"id": token, "ids": [vocabulary[token]], "tokens": [token]} for token in (BERT_START, BERT_END)
            },
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": False},
        "model": {
            "type": "WordPiece",
            "unk_token": BERT_UNK,
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": max_word_length,
            "vocab": dict(vocabulary),
        },
    }
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    config = {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": lowercase,
        "strip_accents": None,
        "tokenize_chinese_chars": True,
        **dict(zip(names, BERT_TOKENS, strict=True)),
        "padding_side": "right",
        "clean_up_tokenization_spaces": False,
    }
    return {TOKENIZER_FILE: to_bytes(tokenizer), CONFIG_FILE: to_bytes(config)}


def unlike_bert(tokenizer: Mapping[str, Any]) -> list[str]:
    """Returns what in the content of a `tokenizer.json` gives other ids than BERT's words and pieces would.

    Raises:
        KeyError, TypeError, AttributeError: the content is not that of a `tokenizer.json`.
    """
    model, normalizer, words = (tokenizer[name] or {"type": None} for name in ("model", "normalizer", "pre_tokenizer"))
    for name, part, wanted in (
        ("model", model, "WordPiece"),
        ("normalizer", normalizer, "BertNormalizer"),
        ("pre_tokenizer", words, "BertPreTokenizer"),
    ):
        if part["type"] != wanted:
            return [f"{name}.type is {part['type']!r}"]
    lowercase = normalizer["lowercase"]
    usual: list[tuple[str, Any, tuple[Any, ...]]] = [
        ("normalizer.clean_text", normalizer["clean_text"], (True,)),
        ("normalizer.handle_chinese_chars", normalizer["handle_chinese_chars"], (True,)),
        ("normalizer.strip_accents", normalizer["strip_accents"], (None, lowercase)),
        ("normalizer.lowercase", lowercase, (True, False)),
        ("model.unk_token", model["unk_token"], (BERT_UNK,)),
        ("model.continuing_subword_prefix", model["continuing_subword_prefix"], ("##",)),
        ("model.max_input_chars_per_word", model["max_input_chars_per_word"], (100,)),
    ]
    unlike = [f"{name} is {value!r}" for name, value, values in usual if value not in values]
    added = [token["content"] for token in tokenizer["added_tokens"] if token["content"] not in BERT_TOKENS]
    return unlike + [f"added_tokens holds {token!r}" for token in added]


def read_text(path: str | Path) -> str:
    """Returns the content of a UTF-8 file.

    Raises:
        ArtifactError: a missing or damaged file.
    """
    try:
        return Path(path).read_bytes().decode()
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read ({error.strerror}); copy the file there.") from error
    except UnicodeDecodeError as error:
        raise ArtifactError(f"{path} is damaged: not UTF-8 ({error}); copy the file again.") from error


def read_json(path: str | Path) -> Any:
    """Returns the content of a JSON file.

    Raises:
        ArtifactError: a missing or damaged file.
    """
    try:
        return json.loads(read_text(path))
    except ValueError as error:
        raise ArtifactError(f"{path} is damaged: not JSON ({error}); copy the file again.") from error


def to_bytes(value: Any) -> bytes:
    """Returns indented UTF-8 JSON."""
    return (json.dumps(value, ensure_ascii=False, indent=1) + "\n").encode()


def _tokenizer(*, normalizer: Any, pre_tokenizer: Any, decoder: Any, model: Mapping[str, Any]) -> dict[str, Any]:
    end = {"SpecialToken": {"id": END, "type_id": 0}}
    first, second = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": index, "content": token, **SPECIAL} for index, token in enumerate(SPECIAL_TOKENS)],
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [first, end],
            "pair": [first, end, second, end],
            "special_tokens": {END: {"id": END, "ids": [END_ID], "tokens": [END]}},
        },
        "decoder": decoder,
        "model": model,
    }


def normalizers(spec: Any) -> list[dict[str, Any]]:
    """Returns the steps of a SentencePiece model's `normalizer_spec`."""
    steps: list[dict[str, Any]] = []
    if spec.precompiled_charsmap:
        charsmap = base64.b64encode(spec.precompiled_charsmap).decode()
        steps += [{"type": "NFC"}, {"type": "Precompiled", "precompiled_charsmap": charsmap}, {"type": "NFC"}]
    if spec.remove_extra_whitespaces:
        # The lookarounds are the ends of the text: ^ and $ would be ends of lines for Rust's regular expressions.
        steps += [
            {"type": "Replace", "pattern": {"Regex": r"(?<![\s\S]) +| +(?![\s\S])"}, "content": ""},
            {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
        ]
    if spec.add_dummy_prefix:
        # Not {"type": "Prepend"}: transformers.js does that to an empty text too.
        steps += [{"type": "Replace", "pattern": {"Regex": r"(?<![\s\S])(?=[\s\S])"}, "content": "▁"}]
    return [*steps, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]


def _merges(scores: Mapping[str, float]) -> list[tuple[str, str]]:
    """Returns every way to join two pieces into a third, the best-scored result first."""
    merges = [
        (score, piece[:cut], piece[cut:])
        for piece, score in scores.items()
        for cut in range(1, len(piece))
        if piece[:cut] in scores and piece[cut:] in scores
    ]
    merges.sort(key=lambda merge: -merge[0])
    return [(left, right) for _, left, right in merges]
