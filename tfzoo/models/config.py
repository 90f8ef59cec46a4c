"""Model configurations: the numbers that define each architecture, readable without TensorFlow."""

from __future__ import annotations

import dataclasses
from typing import Literal

from tfzoo.errors import RecipeError


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """The encoder-decoder Transformer (Vaswani et al., 2017, table 3 names the sizes).

    Args:
        vocabulary_size: V, target token ids; the output projection is tied to this embedding.
        source_vocabulary_size: source token ids; None shares one vocabulary and one embedding for both sides.
        hidden_dim: D, width of the residual stream.
        intermediate_dim: F, width of the feed-forward layer.
        num_layers: encoder blocks, and as many decoder blocks.
        num_heads: H; must divide `hidden_dim`.
        dropout: probability in [0, 1), on embeddings, attention weights and each sublayer's output.
        normalize_first: False = post-norm (the paper), True = pre-norm with a final normalization.
        positions: "sinusoidal" (the paper, section 3.5) or "learned".
        max_sequence_length: longest source or target, in tokens.
        pad_id: token id of padding; source padding is masked.
        start_id: token id that the decoder starts from.
        end_id: token id that ends a sequence.

    Raises:
        RecipeError: a number is out of its range.
    """

    vocabulary_size: int
    source_vocabulary_size: int | None = None
    hidden_dim: int
    intermediate_dim: int
    num_layers: int
    num_heads: int
    dropout: float = 0.1
    normalize_first: bool = False
    positions: Literal["sinusoidal", "learned"] = "sinusoidal"
    max_sequence_length: int = 512
    pad_id: int = 0
    start_id: int = 2
    end_id: int = 3

    def __post_init__(self) -> None:
        for name in (
            "vocabulary_size",
            "hidden_dim",
            "intermediate_dim",
            "num_layers",
            "num_heads",
            "max_sequence_length",
        ):
            if getattr(self, name) < 1:
                raise RecipeError(f"`{name}` must be at least 1; received {name}={getattr(self, name)}.")
        if self.source_vocabulary_size is not None and self.source_vocabulary_size < 1:
            raise RecipeError(
                "`source_vocabulary_size` must be at least 1 or None; received "
                f"source_vocabulary_size={self.source_vocabulary_size}."
            )
        if self.hidden_dim % self.num_heads:
            raise RecipeError(
                "`num_heads` must divide `hidden_dim`; received "
                f"num_heads={self.num_heads}, hidden_dim={self.hidden_dim}."
            )
        if self.hidden_dim % 2:
            raise RecipeError(f"`hidden_dim` must be even; received hidden_dim={self.hidden_dim}.")
        if not 0 <= self.dropout < 1:
            raise RecipeError(f"`dropout` must be in [0, 1); received dropout={self.dropout}.")
        if self.positions not in ("sinusoidal", "learned"):
            raise RecipeError(f"`positions` must be 'sinusoidal' or 'learned'; received positions={self.positions!r}.")
        for name in ("pad_id", "start_id", "end_id"):
            if not 0 <= getattr(self, name) < self.vocabulary_size:
                raise RecipeError(
                    f"`{name}` must be in [0, vocabulary_size); received {name}={getattr(self, name)}, "
                    f"vocabulary_size={self.vocabulary_size}."
                )
