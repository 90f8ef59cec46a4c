"""A tokenizer from the files of its directory: tfzoo's own, or those of a GPT-2, BERT or Marian checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

from tfzoo.errors import ArtifactError
from tfzoo.text import huggingface, word_piece
from tfzoo.text.byte_pair import FILE_PAIRS, BytePairTokenizer
from tfzoo.text.marian import MODEL_FILES, MarianTokenizer
from tfzoo.text.special_tokens import SPECIAL_TOKENS
from tfzoo.text.tokenizers import (
    SENTENCEPIECE_FILE,
    VOCABULARY_FILE,
    SentencePieceTokenizer,
    SymbolTokenizer,
    Tokenizer,
)
from tfzoo.text.word_piece import WordPieceTokenizer


def load(directory: str | Path) -> Tokenizer:
    """Returns the tokenizer of a directory, without TensorFlow.

    Read are, in this order: `spiece.model`; BERT's `vocab.txt`, cased or not as `tokenizer_config.json` says; GPT-2's
    `vocab.json` and `merges.txt`, or `encoder.json` and `vocab.bpe`; one side of a Marian model, `source.spm` or
    `target.spm` and `vocab.json`; `vocab.json` alone (symbols); `tokenizer.json` alone (WordPiece or byte-level BPE).

    Args:
        directory: what a tokenizer was saved to, or a folder of GPT-2's or BERT's files. A Marian checkpoint holds two
            tokenizers: `TokenizerPair.load` reads it.

    Raises:
        ArtifactError: the directory holds no tokenizer, or a damaged one.
    """
    directory = Path(directory)

    def holds(name: str) -> bool:
        return (directory / name).is_file()

    if holds(SENTENCEPIECE_FILE):
        return SentencePieceTokenizer((directory / SENTENCEPIECE_FILE).read_bytes())
    if holds(word_piece.VOCABULARY_FILE):
        return WordPieceTokenizer.from_vocabulary(directory / word_piece.VOCABULARY_FILE)
    for vocabulary_file, merges_file in FILE_PAIRS:
        if holds(merges_file):
            return BytePairTokenizer.from_files(directory / vocabulary_file, directory / merges_file)
    for side, model_file in MODEL_FILES.items():
        if holds(model_file):
            return MarianTokenizer.from_files(directory / model_file, directory / VOCABULARY_FILE, side)
    if holds(VOCABULARY_FILE):
        return _load_symbols(directory)
    if holds(huggingface.TOKENIZER_FILE):
        path = directory / huggingface.TOKENIZER_FILE
        kind = WordPieceTokenizer if _is_word_piece(path) else BytePairTokenizer
        return kind.from_tokenizer_json(path)
    raise ArtifactError(
        f"{directory} holds no tokenizer: none of {SENTENCEPIECE_FILE}, {word_piece.VOCABULARY_FILE}, "
        f"{VOCABULARY_FILE}, {', '.join(merges_file for _, merges_file in FILE_PAIRS)}, "
        f"{', '.join(MODEL_FILES.values())} and {huggingface.TOKENIZER_FILE} is there. "
        "Name the folder that a tokenizer was saved to."
    )


def _is_word_piece(path: Path) -> bool:
    content = huggingface.read_json(path)
    model = content.get("model") if isinstance(content, dict) else None
    return isinstance(model, dict) and model.get("type") == "WordPiece"


def _load_symbols(directory: Path) -> SymbolTokenizer:
    try:
        vocabulary = json.loads((directory / VOCABULARY_FILE).read_bytes())
        separator = json.loads((directory / huggingface.CONFIG_FILE).read_bytes())["separator"]
        if list(vocabulary.values()) != list(range(len(vocabulary))) or [*vocabulary][:4] != [*SPECIAL_TOKENS]:
            raise ValueError("ids must count up from 0, the special tokens first")
        return SymbolTokenizer([*vocabulary][len(SPECIAL_TOKENS) :], separator)
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ArtifactError(
            f"{directory}: {VOCABULARY_FILE} or {huggingface.CONFIG_FILE} is damaged ({error}); "
            "export or train the model again."
        ) from error
