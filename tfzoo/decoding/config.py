"""How to turn next-token scores into a sequence, readable without TensorFlow."""

from __future__ import annotations

import dataclasses

from tfzoo.errors import RecipeError

# The options that an exported `generate` takes as inputs, one number for each row, and their types there.
ROW_OPTIONS = {
    "max_length": "int32",
    "num_beams": "int32",
    "length_penalty": "float32",
    "temperature": "float32",
    "top_k": "int32",
    "top_p": "float32",
    "seed": "int32",
}
_FLOAT32_MAX = 3.4e38


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecodingConfig:
    """Greedy search, sampling or beam search.

    `temperature=0` searches: greedily with one beam, else by beam search. A temperature above 0 samples.

    Args:
        max_length: most tokens to generate, the end token included.
        num_beams: hypotheses kept by beam search; 1 = greedy.
        length_penalty: alpha of ((5 + length) / 6) ** alpha, by which beam search divides a
            hypothesis' log-probability (Wu et al., 2016, equation 14); 0 = none.
        temperature: divides the logits before sampling; 0 = do not sample.
        top_k: sample among the k likeliest tokens only; 0 = all.
        top_p: sample among the likeliest tokens that together hold this probability; 1 = all.
        seed: sampling is a function of the seed: the same tokens again, in each runtime.
        num_return_sequences: sequences per input, best first; at most `num_beams` when searching.

    Raises:
        RecipeError: a number is out of its range, or two contradict each other.
    """

    max_length: int = 64
    num_beams: int = 1
    length_penalty: float = 0.6
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    num_return_sequences: int = 1

    def __post_init__(self) -> None:
        for name, low in (("max_length", 1), ("num_beams", 1), ("num_return_sequences", 1), ("top_k", 0), ("seed", 0)):
            if getattr(self, name) < low:
                raise RecipeError(f"`{name}` must be at least {low}; received {name}={getattr(self, name)}.")
            if getattr(self, name) >= 2**31:
                raise RecipeError(f"`{name}` must be below 2**31; received {name}={getattr(self, name)}.")
        for name in ("length_penalty", "temperature"):
            if not 0 <= getattr(self, name) < _FLOAT32_MAX:
                raise RecipeError(
                    f"`{name}` must be a finite number, at least 0; received {name}={getattr(self, name)}."
                )
        if not 0 < self.top_p <= 1:
            raise RecipeError(f"`top_p` must be in (0, 1]; received top_p={self.top_p}.")
        if self.temperature > 0 and self.num_beams > 1:
            raise RecipeError(
                "sampling keeps one hypothesis: set `temperature=0` for beam search or `num_beams=1` to sample; "
                f"received temperature={self.temperature}, num_beams={self.num_beams}."
            )
        if self.temperature == 0 and self.num_return_sequences > self.num_beams:
            raise RecipeError(
                "`num_return_sequences` must not exceed `num_beams` when searching; received "
                f"num_return_sequences={self.num_return_sequences}, num_beams={self.num_beams}."
            )
