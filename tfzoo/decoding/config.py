"""How to turn next-token scores into a sequence, readable without TensorFlow."""

from __future__ import annotations

import dataclasses
from typing import Any

from tfzoo.data.config import check_windows
from tfzoo.errors import RecipeError

# The options that an exported `generate` takes as inputs, one number for each row, and their types there.
ROW_OPTIONS = {
    "max_length": "int32",
    "min_length": "int32",
    "num_beams": "int32",
    "length_penalty": "float32",
    "repetition_penalty": "float32",
    "temperature": "float32",
    "top_k": "int32",
    "top_p": "float32",
    "seed": "int32",
}
# Of the random numbers, see `tfzoo.decoding.sampling`. Arithmetic is modulo a prime p with 5 not dividing p - 1, so
# that x -> x^5 is a permutation of 0 .. p - 1, and p^2 fits int64. The round constants are the decimals of pi in groups
# of nine.
PRIME = 2**31 - 1
ROUND_CONSTANTS = (141592653, 589793238, 462643383, 279502884, 197169399, 375105820)
_FLOAT32_MAX = 3.4e38


def positions_left(max_sequence_length: int, num_tokens: Any) -> Any:
    """How many tokens fit beside `num_tokens`: what a prompt leaves for new tokens, and they for the prompt.

    The last token generated is never read and needs no position.

    >>> positions_left(8, 4)
    5

    Args:
        max_sequence_length: positions of the model.
        num_tokens: a number, or an array or tensor of them.
    """
    return max_sequence_length - num_tokens + 1


def never_generated(pad_id: int, start_id: int, end_id: int) -> tuple[int, ...]:
    """Returns the ids that no search may choose: a start that is padding, as Marian's, which has no logit of its own.

    >>> never_generated(58100, 58100, 0)
    (58100,)
    """
    return (pad_id,) if start_id == pad_id != end_id else ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecodingConfig:
    """Greedy search, sampling or beam search.

    `temperature=0` searches: greedily with one beam, else by beam search. A temperature above 0 samples.

    Args:
        max_length: most tokens to generate, the end token included; a language model's prompt does not count.
        min_length: fewest tokens to generate before the end token may come.
        num_beams: hypotheses kept by beam search; 1 = greedy.
        length_penalty: alpha of ((5 + length) / 6) ** alpha, by which beam search divides a
            hypothesis' log-probability (Wu et al., 2016, equation 14); 0 = none.
        repetition_penalty: makes tokens that stand in the prompt or were generated before less likely: it divides
            their logits above 0 and multiplies those below (Keskar et al., 2019, section 4.1); 1 = none.
        temperature: divides the logits before sampling; 0 = do not sample.
        top_k: sample among the k likeliest tokens only; 0 = all.
        top_p: sample among the likeliest tokens that together hold this probability; 1 = all.
        seed: sampling is a function of the seed: the same tokens again, in each runtime.
        num_return_sequences: sequences per input, best first; at most `num_beams` when searching.
        stop: texts at which an output is cut; they are not part of it. Its score counts what was generated.
        truncate_prompt: True drops the beginning of a prompt that leaves no room for `max_length` tokens; False refuses
            it. An exported signature always truncates: a server that refuses one request fails all it merged with it.

    Raises:
        RecipeError: a number is out of its range, or two contradict each other.
    """

    max_length: int = 64
    min_length: int = 0
    num_beams: int = 1
    length_penalty: float = 0.6
    repetition_penalty: float = 1.0
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    num_return_sequences: int = 1
    stop: tuple[str, ...] = ()
    truncate_prompt: bool = False

    def __post_init__(self) -> None:
        for name, low in (
            ("max_length", 1),
            ("min_length", 0),
            ("num_beams", 1),
            ("num_return_sequences", 1),
            ("top_k", 0),
            ("seed", 0),
        ):
            if getattr(self, name) < low:
                raise RecipeError(f"`{name}` must be at least {low}; received {name}={getattr(self, name)}.")
            if getattr(self, name) >= 2**31:
                raise RecipeError(f"`{name}` must be below 2**31; received {name}={getattr(self, name)}.")
        for name in ("length_penalty", "temperature"):
            if not 0 <= getattr(self, name) < _FLOAT32_MAX:
                raise RecipeError(
                    f"`{name}` must be a finite number, at least 0; received {name}={getattr(self, name)}."
                )
        if not 0 < self.repetition_penalty < _FLOAT32_MAX:
            raise RecipeError(
                "`repetition_penalty` must be a finite number above 0; "
                f"received repetition_penalty={self.repetition_penalty}."
            )
        if self.min_length >= self.max_length:
            raise RecipeError(
                "`min_length` must be below `max_length`, which counts the end token; received "
                f"min_length={self.min_length}, max_length={self.max_length}."
            )
        if isinstance(self.stop, str) or not all(isinstance(text, str) and text for text in self.stop):
            raise RecipeError(f"`stop` must be a sequence of texts that are not empty; received stop={self.stop!r}.")
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class AnswerConfig:
    """How a span of a long context is found that answers a question (Devlin et al., 2019, sections 4.2 and 4.3).

    Args:
        window_length: tokens of a window: [CLS] question [SEP] part of the context [SEP].
        stride: tokens of the context by which a window is ahead of the one before.
        max_question_length: tokens of a question; a longer one loses its tail.
        max_answer_length: tokens of an answer, at most.
        no_answer_threshold: how much higher, in logits, the score of no answer must be than that of the best span for
            the answer to be empty; None = always a span.

    Raises:
        RecipeError: a number is out of its range, or a window has no room for a context.
    """

    window_length: int = 384
    stride: int = 128
    max_question_length: int = 64
    max_answer_length: int = 30
    no_answer_threshold: float | None = None

    def __post_init__(self) -> None:
        check_windows(
            window_length=self.window_length, stride=self.stride, max_question_length=self.max_question_length
        )
        if self.max_answer_length < 1:
            raise RecipeError(
                f"`max_answer_length` must be at least 1; received max_answer_length={self.max_answer_length}."
            )
