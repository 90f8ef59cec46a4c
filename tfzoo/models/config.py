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
        _check_counts(self)
        if self.source_vocabulary_size is not None and self.source_vocabulary_size < 1:
            raise RecipeError(
                "`source_vocabulary_size` must be at least 1 or None; received "
                f"source_vocabulary_size={self.source_vocabulary_size}."
            )
        _check_heads(self)
        if self.hidden_dim % 2:
            raise RecipeError(f"`hidden_dim` must be even; received hidden_dim={self.hidden_dim}.")
        _check_probabilities(self, "dropout")
        if self.positions not in ("sinusoidal", "learned"):
            raise RecipeError(f"`positions` must be 'sinusoidal' or 'learned'; received positions={self.positions!r}.")
        _check_special_ids(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LstmLmConfig:
    """The LSTM language model (Zaremba et al., 2014; Merity et al., 2017).

    Args:
        vocabulary_size: V, token ids.
        embedding_dim: E, width of the token embedding.
        hidden_dim: D, width of each LSTM layer; with `tie_embeddings` the last layer is E wide.
        num_layers: LSTM layers.
        dropout: probability in [0, 1), on the embedded tokens and on each layer's output, never on what is carried
            from token to token (Zaremba et al., 2014, section 3.1).
        locked_dropout: True = one dropout mask for all tokens of a sequence (Merity et al., 2017, section 4.2).
        embedding_dropout: probability in [0, 1) that a word's whole embedding is 0 (section 4.3).
        weight_drop: probability in [0, 1) that a recurrent weight is 0, the same for all tokens (section 2).
        tie_embeddings: True = the output projection is the transposed embedding (section 4.5).
        max_sequence_length: longest sequence in one call, in tokens; carried state goes on beyond it.
        pad_id: token id of padding.
        start_id: token id before the first token of a text.
        end_id: token id behind the last token of a text.

    Raises:
        RecipeError: a number is out of its range.
    """

    vocabulary_size: int
    embedding_dim: int
    hidden_dim: int
    num_layers: int
    dropout: float = 0.0
    locked_dropout: bool = False
    embedding_dropout: float = 0.0
    weight_drop: float = 0.0
    tie_embeddings: bool = True
    max_sequence_length: int = 1024
    pad_id: int = 0
    start_id: int = 0
    end_id: int = 0

    def __post_init__(self) -> None:
        _check_counts(self)
        _check_probabilities(self, "dropout", "embedding_dropout", "weight_drop")
        _check_special_ids(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GPT2Config:
    """GPT-2 (Radford et al., 2019, table 2 names the sizes).

    Args:
        vocabulary_size: V, token ids; the output projection is tied to the embedding.
        hidden_dim: D, width of the residual stream.
        intermediate_dim: F, width of the feed-forward layer; 4 D in the paper.
        num_layers: blocks.
        num_heads: H; must divide `hidden_dim`.
        dropout: probability in [0, 1), on the embeddings, attention weights and each sublayer's output.
        layer_norm_epsilon: added to the variance in each normalization.
        max_sequence_length: positions, in tokens.
        pad_id: token id of padding.
        start_id: token id before the first token of a text.
        end_id: token id behind the last token of a text.

    Raises:
        RecipeError: a number is out of its range.
    """

    vocabulary_size: int = 50257
    hidden_dim: int
    intermediate_dim: int
    num_layers: int
    num_heads: int
    dropout: float = 0.1
    layer_norm_epsilon: float = 1e-5
    max_sequence_length: int = 1024
    pad_id: int = 50256
    start_id: int = 50256
    end_id: int = 50256

    def __post_init__(self) -> None:
        _check_counts(self)
        _check_heads(self)
        _check_probabilities(self, "dropout")
        if not 0 < self.layer_norm_epsilon < 1:
            raise RecipeError(
                f"`layer_norm_epsilon` must be in (0, 1); received layer_norm_epsilon={self.layer_norm_epsilon}."
            )
        _check_special_ids(self)


ModelConfig = TransformerConfig | LstmLmConfig | GPT2Config


def _check_counts(config: ModelConfig) -> None:
    """Every whole number that has no other meaning, such as a token id or an option, counts something."""
    for name in (
        "vocabulary_size",
        "embedding_dim",
        "hidden_dim",
        "intermediate_dim",
        "num_layers",
        "num_heads",
        "max_sequence_length",
    ):
        if hasattr(config, name) and getattr(config, name) < 1:
            raise RecipeError(f"`{name}` must be at least 1; received {name}={getattr(config, name)}.")


def _check_heads(config: TransformerConfig | GPT2Config) -> None:
    if config.hidden_dim % config.num_heads:
        raise RecipeError(
            "`num_heads` must divide `hidden_dim`; received "
            f"num_heads={config.num_heads}, hidden_dim={config.hidden_dim}."
        )


def _check_probabilities(config: ModelConfig, *names: str) -> None:
    for name in names:
        if not 0 <= getattr(config, name) < 1:
            raise RecipeError(f"`{name}` must be in [0, 1); received {name}={getattr(config, name)}.")


def _check_special_ids(config: ModelConfig) -> None:
    for name in ("pad_id", "start_id", "end_id"):
        if not 0 <= getattr(config, name) < config.vocabulary_size:
            raise RecipeError(
                f"`{name}` must be in [0, vocabulary_size); received {name}={getattr(config, name)}, "
                f"vocabulary_size={config.vocabulary_size}."
            )
