"""The two tokenizers of a sequence-to-sequence model, which may be one."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path

from tfzoo.errors import ArtifactError, UsageError
from tfzoo.text import huggingface
from tfzoo.text.byte_pair import BytePairTokenizer
from tfzoo.text.config import Kind, TokenizerConfig
from tfzoo.text.loading import load
from tfzoo.text.marian import MODEL_FILES, TARGET_VOCABULARY_FILE, MarianTokenizer
from tfzoo.text.tokenizers import (
    VOCABULARY_FILE,
    SentencePieceTokenizer,
    SymbolTokenizer,
    Tokenizer,
    write_assets,
)
from tfzoo.text.word_piece import WordPieceTokenizer


@dataclasses.dataclass(frozen=True)
class TokenizerPair:
    """Source and target tokenizer of one model; the same object twice when they share a vocabulary.

    Args:
        source: tokenizes what the encoder reads, or a prompt.
        target: detokenizes what the decoder writes.
        prompt_suffix: what a language model learnt to see between prompt and answer, and so stands behind each prompt.
    """

    source: Tokenizer
    target: Tokenizer
    prompt_suffix: str = ""

    @property
    def shared(self) -> bool:
        """True when both sides are one tokenizer."""
        return self.source is self.target

    @property
    def one_vocabulary(self) -> bool:
        """True when an id means the same on both sides, so that one embedding serves both."""
        return self.shared or (
            isinstance(self.source, MarianTokenizer)
            and isinstance(self.target, MarianTokenizer)
            and self.source.vocabulary == self.target.vocabulary
        )

    def assets(self) -> dict[str, bytes]:
        """Returns relative path -> content: at the top when shared, else below `source/` and `target/`."""
        if self.shared:
            assets = self.source.assets()
            if self.prompt_suffix:
                config = json.loads(assets[huggingface.CONFIG_FILE]) | {"prompt_suffix": self.prompt_suffix}
                assets[huggingface.CONFIG_FILE] = huggingface.to_bytes(config)
            return assets
        sides = {"source": self.source, "target": self.target}
        return {f"{side}/{name}": content for side, one in sides.items() for name, content in one.assets().items()}

    def save(self, directory: str | Path) -> None:
        """Writes the assets into a directory, which is made if missing."""
        write_assets(self.assets(), directory)

    @classmethod
    def load(cls, directory: str | Path) -> TokenizerPair:
        """Returns the pair that `save` wrote, or that of a checkpoint folder, without TensorFlow.

        Raises:
            ArtifactError: the directory holds no tokenizer, or a damaged one.
        """
        directory = Path(directory)
        if (directory / "source").is_dir() and (directory / "target").is_dir():
            return cls(load(directory / "source"), load(directory / "target"))
        if all((directory / name).is_file() for name in MODEL_FILES.values()):
            separate = (directory / TARGET_VOCABULARY_FILE).is_file()
            vocabularies = {
                "source": VOCABULARY_FILE,
                "target": TARGET_VOCABULARY_FILE if separate else VOCABULARY_FILE,
            }
            source, target = (
                MarianTokenizer.from_files(directory / MODEL_FILES[side], directory / vocabularies[side], side)
                for side in MODEL_FILES
            )
            return cls(source, target)
        shared = load(directory)
        return cls(shared, shared, _prompt_suffix(directory))


def _prompt_suffix(directory: Path) -> str:
    path = directory / huggingface.CONFIG_FILE
    try:
        return json.loads(path.read_bytes()).get("prompt_suffix", "") if path.is_file() else ""
    except (ValueError, AttributeError) as error:
        raise ArtifactError(f"{path} is damaged ({error}); export or train the model again.") from error


def pair(tokenizer: Tokenizer | tuple[Tokenizer, Tokenizer] | TokenizerPair) -> TokenizerPair:
    """Returns a pair from one shared tokenizer, a (source, target) tuple, or a pair.

    Raises:
        UsageError: a tuple that does not hold two tokenizers.
    """
    if isinstance(tokenizer, TokenizerPair):
        return tokenizer
    if isinstance(tokenizer, tuple):
        if len(tokenizer) != 2:
            raise UsageError(
                f"`tokenizer` must be one tokenizer or (source, target); received {len(tokenizer)} of them."
            )
        return TokenizerPair(*tokenizer)
    return TokenizerPair(tokenizer, tokenizer)


def train_pair(config: TokenizerConfig, records: Iterable[tuple[str, ...]], vocabulary_size: int) -> TokenizerPair:
    """Trains the tokenizers that a configuration asks for.

    Args:
        config: the kinds; without `target` one tokenizer learns from both sides.
        records: (source, target) texts; read into memory only when two tokenizers need them.
        vocabulary_size: most ids of each tokenizer, the special tokens included.

    Raises:
        UsageError: no text, or `vocabulary_size` is too small for it.
    """
    if config.target is None:
        shared = _train(config.source, (text for record in records for text in record), config, vocabulary_size)
        return TokenizerPair(shared, shared)
    records = list(records)
    source = _train(config.source, (source for source, _ in records), config, vocabulary_size)
    target = _train(config.target, (target for _, target in records), config, vocabulary_size)
    return TokenizerPair(source, target)


def _train(kind: Kind, sentences: Iterable[str], config: TokenizerConfig, vocabulary_size: int) -> Tokenizer:
    if kind == "sentencepiece":
        return SentencePieceTokenizer.train(sentences, vocabulary_size, character_coverage=config.character_coverage)
    if kind == "byte_pair":
        return BytePairTokenizer.train(sentences, vocabulary_size)
    if kind == "word_piece":
        return WordPieceTokenizer.train(
            sentences, vocabulary_size, config.lowercase, character_coverage=config.character_coverage
        )
    separator = {"characters": "", "symbols": " "}[kind]
    return SymbolTokenizer.train(sentences, separator=separator, vocabulary_size=vocabulary_size)
