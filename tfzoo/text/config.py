"""Which tokenizer each side of a pair gets, readable without TensorFlow."""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args

from tfzoo.errors import RecipeError

Kind = Literal["sentencepiece", "byte_pair", "word_piece", "characters", "symbols"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenizerConfig:
    """How text becomes token ids. The size of the vocabulary is the model's `vocabulary_size`.

    Args:
        source: "sentencepiece" (subwords), "byte_pair" (GPT-2's byte-level BPE, for language models), "word_piece"
            (BERT's), "characters" (Unicode code points) or "symbols" (split at white space).
        target: the same for the target side; None = one vocabulary for both sides.
        character_coverage: share in (0, 1] of the characters of the training text that a SentencePiece or WordPiece
            vocabulary must be able to spell; 0.9995 suits scripts with thousands of characters.
        lowercase: whether a WordPiece vocabulary is uncased: letters are lowercased and lose their accents.

    Raises:
        RecipeError: an unknown kind, or a coverage out of its range.
    """

    source: Kind = "sentencepiece"
    target: Kind | None = None
    character_coverage: float = 1.0
    lowercase: bool = True

    def __post_init__(self) -> None:
        kinds = get_args(Kind)
        if self.source not in kinds:
            raise RecipeError(f"`source` must be one of {', '.join(kinds)}; received source={self.source!r}.")
        if self.target is not None and self.target not in kinds:
            raise RecipeError(
                f"`target` must be one of {', '.join(kinds)}, or null to share the source's vocabulary; "
                f"received target={self.target!r}."
            )
        if not 0 < self.character_coverage <= 1:
            raise RecipeError(
                f"`character_coverage` must be in (0, 1]; received character_coverage={self.character_coverage}."
            )
