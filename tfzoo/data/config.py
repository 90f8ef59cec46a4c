"""What a run trains and validates on, readable without TensorFlow."""

from __future__ import annotations

import dataclasses

from tfzoo.errors import RecipeError


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the text comes from and how it is cut into batches.

    Args:
        train: data specifications such as "tsv:train.tsv", "tfds:NAME:SPLIT" or "sample:cmudict"; "@0.3" behind one
            gives its weight in a mixture.
        validation: the same, for validation.
        batch_tokens: most tokens in a batch of sources or targets, padding included.
        batch_size: examples in a batch; wins over `batch_tokens` when given.
        max_source_length: longest source in tokens, the end token included; longer examples are left out.
        max_target_length: the same for the target.
        seed: the order of the examples is a function of this seed and the epoch.

    Raises:
        RecipeError: a number is out of its range, or `batch_tokens` cannot hold one example.
    """

    train: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    batch_tokens: int = 4096
    batch_size: int | None = None
    max_source_length: int = 256
    max_target_length: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        # An example needs one token of text besides the end token.
        for name, low in (("batch_tokens", 1), ("max_source_length", 2), ("max_target_length", 2), ("seed", 0)):
            if getattr(self, name) < low:
                raise RecipeError(f"`{name}` must be at least {low}; received {name}={getattr(self, name)}.")
        if self.batch_size is not None and self.batch_size < 1:
            raise RecipeError(f"`batch_size` must be at least 1, or null; received batch_size={self.batch_size}.")
        longest = max(self.max_source_length, self.max_target_length)
        if self.batch_size is None and self.batch_tokens < longest:
            raise RecipeError(
                "`batch_tokens` must hold one example of the greatest length; received "
                f"batch_tokens={self.batch_tokens}, max_source_length={self.max_source_length}, "
                f"max_target_length={self.max_target_length}."
            )
