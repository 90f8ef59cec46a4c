"""What a run trains and validates on, readable without TensorFlow."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import Literal, get_args

from tfzoo.errors import RecipeError, nearest

NoiseKind = Literal["masking", "deletion", "infilling"]


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
        temperature: T of a mixture by size: a specification of n examples has the share n ** (1 / T) (Arivazhagan et
            al., 2019, section 4.2). 1 = as they come, 5 = small ones count for more, and beyond it all count alike.
            None = by the weights behind the specifications.
        reversed: True = from the target to the source.
        noise: denoising pretraining on data of one column (see `tfzoo.data.noise`): the text is the target, and the
            source is the text with "masking", "deletion" or "infilling", drawn anew in each epoch. None = pairs.
        noise_probability: share in (0, 1) of a text's tokens that the noise hits.
        cleaning: names of steps that the texts go through first, see `tfzoo.data.cleaning`.
        seed: order and noise of the examples are a function of this seed and the epoch.
        static_shapes: True = batches of few shapes, for XLA and TPU; see `tfzoo.data.seq2seq`.
        deterministic: False = batches may come in another order than the seed's, as soon as they are ready.

    Raises:
        RecipeError: a number is out of its range, an unknown name, two fields contradict each other, or `batch_tokens`
            cannot hold one example.
    """

    train: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    batch_tokens: int = 4096
    batch_size: int | None = None
    max_source_length: int = 256
    max_target_length: int = 256
    temperature: float | None = None
    reversed: bool = False
    noise: NoiseKind | None = None
    noise_probability: float = 0.3
    cleaning: tuple[str, ...] = ()
    seed: int = 0
    static_shapes: bool = False
    deterministic: bool = True

    def __post_init__(self) -> None:
        check_cleaning(self.cleaning)
        # An example needs one token of text besides the end token.
        for name, low in (("batch_tokens", 1), ("max_source_length", 2), ("max_target_length", 2), ("seed", 0)):
            if getattr(self, name) < low:
                raise RecipeError(f"`{name}` must be at least {low}; received {name}={getattr(self, name)}.")
        if self.batch_size is not None and self.batch_size < 1:
            raise RecipeError(f"`batch_size` must be at least 1, or null; received batch_size={self.batch_size}.")
        if self.temperature is not None and not 1 <= self.temperature < math.inf:
            raise RecipeError(f"`temperature` must be at least 1, or null; received temperature={self.temperature}.")
        if self.noise is not None and self.noise not in get_args(NoiseKind):
            known = get_args(NoiseKind)
            raise RecipeError(
                f"`noise` must be one of {', '.join(known)}, or null; received noise={self.noise!r}."
                f"{nearest(self.noise, known)}"
            )
        if not 0 < self.noise_probability < 1:
            raise RecipeError(
                f"`noise_probability` must be in (0, 1); received noise_probability={self.noise_probability}."
            )
        if self.noise is not None and self.reversed:
            raise RecipeError(
                f"`reversed` is for pairs, and `noise` makes its own; received noise={self.noise!r}, reversed=true."
            )
        longest = max(self.max_source_length, self.max_target_length)
        if self.batch_size is None and self.batch_tokens < longest:
            raise RecipeError(
                "`batch_tokens` must hold one example of the greatest length; received "
                f"batch_tokens={self.batch_tokens}, max_source_length={self.max_source_length}, "
                f"max_target_length={self.max_target_length}."
            )


Examples = Literal["packed", "contiguous", "prompt_answer"]
CLEANING = ("nfkc", "whitespace", "control_characters", "exact_duplicates", "near_duplicates")
"""Names of the steps of `tfzoo.data.cleaning`, which does without TensorFlow, but not without NumPy."""


def check_cleaning(steps: Iterable[str]) -> None:
    """Raises RecipeError when one of the steps has no such name."""
    for step in steps:
        if step not in CLEANING:
            raise RecipeError(f"`cleaning` holds {step!r}; there are {', '.join(CLEANING)}.{nearest(step, CLEANING)}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CausalLmDataConfig:
    """Where the documents come from and how they are cut into batches for a language model.

    Args:
        train: data specifications such as "text:books/*.txt", "jsonl:docs.jsonl" or "sample:python_docs"; for
            `examples="prompt_answer"` those of pairs, such as "tsv:dialogue.tsv".
        validation: the same, for validation.
        examples: "packed" (windows of the shuffled documents), "contiguous" (each row goes on where it ended in the
            batch before, for a model that carries its state) or "prompt_answer" (pairs; the loss falls on the answer).
        sequence_length: T, tokens that a row predicts; the longest prompt with its answer for "prompt_answer".
        stride: tokens that a validation window is ahead of the one before; the others are its context. None = T // 2.
        batch_size: rows in a batch.
        separator: text between prompt and answer.
        cleaning: names of steps that documents go through first, see `tfzoo.data.cleaning`.
        seed: the order of the documents is a function of this seed and the epoch.
        static_shapes: True = batches of few shapes, for XLA and TPU: of documents, the last batch of an epoch has as
            many rows as the others, some of which weigh nothing; for pairs see `tfzoo.data.few_shapes`.
        deterministic: False = batches may come in another order than the seed's, as soon as they are ready.

    Raises:
        RecipeError: a number is out of its range, or an unknown name.
    """

    train: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    examples: Examples = "packed"
    sequence_length: int = 256
    stride: int | None = None
    batch_size: int = 32
    separator: str = "\n"
    cleaning: tuple[str, ...] = ()
    seed: int = 0
    static_shapes: bool = False
    deterministic: bool = True

    def __post_init__(self) -> None:
        for name, low in (("sequence_length", 2), ("batch_size", 1), ("seed", 0)):
            if getattr(self, name) < low:
                raise RecipeError(f"`{name}` must be at least {low}; received {name}={getattr(self, name)}.")
        if self.examples not in get_args(Examples):
            raise RecipeError(
                f"`examples` must be one of {', '.join(get_args(Examples))}; received examples={self.examples!r}."
            )
        check_cleaning(self.cleaning)
        if self.examples == "contiguous" and not self.deterministic:
            raise RecipeError(
                "`deterministic` must be true where rows go on in the next batch; received examples='contiguous', "
                "deterministic=false."
            )
        if self.stride is not None and not 1 <= self.stride <= self.sequence_length:
            raise RecipeError(
                "`stride` must be in [1, sequence_length], or null; received "
                f"stride={self.stride}, sequence_length={self.sequence_length}."
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskedLmDataConfig:
    """Where the documents come from that an encoder is pretrained on (Devlin et al., 2019, section 3.1).

    Args:
        train: data specifications of documents, such as "text:books/*.txt" or "sample:python_docs".
        validation: the same, for validation.
        sequence_length: T, tokens in a row, [CLS] and [SEP] included.
        batch_size: rows in a batch.
        mask_probability: share in (0, 1) of the tokens that are to be predicted; drawn anew in each epoch.
        whole_word: whether all pieces of a word are chosen together.
        cleaning: names of steps that documents go through first, see `tfzoo.data.cleaning`.
        seed: order, pairs and masks are a function of this seed and the epoch.
        static_shapes: True = batches of few shapes, for XLA and TPU; see `tfzoo.data.few_shapes`.

    Raises:
        RecipeError: a number is out of its range, or an unknown name.
    """

    train: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    sequence_length: int = 128
    batch_size: int = 32
    mask_probability: float = 0.15
    whole_word: bool = False
    cleaning: tuple[str, ...] = ()
    seed: int = 0
    static_shapes: bool = False

    def __post_init__(self) -> None:
        _check_batches(self, sequence_length=8)
        if not 0 < self.mask_probability < 1:
            raise RecipeError(
                f"`mask_probability` must be in (0, 1); received mask_probability={self.mask_probability}."
            )
        check_cleaning(self.cleaning)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassificationDataConfig:
    """Where texts with labels come from, and how they are batched.

    Args:
        train: data specifications such as "tsv:train.tsv" (text<TAB>label, or text_a<TAB>text_b<TAB>label).
        validation: the same, for validation.
        sequence_length: most tokens of an input, [CLS] and [SEP] included; longer texts are cut.
        batch_size: inputs in a batch.
        label_separator: text between the labels of a "multi_label" input.
        class_weights: True = each class weighs as much as every other, however rare.
        seed: the order of the examples is a function of this seed and the epoch.
        static_shapes: True = batches of few shapes, for XLA and TPU; see `tfzoo.data.few_shapes`.

    Raises:
        RecipeError: a number is out of its range.
    """

    train: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    sequence_length: int = 128
    batch_size: int = 32
    label_separator: str = ","
    class_weights: bool = False
    seed: int = 0
    static_shapes: bool = False

    def __post_init__(self) -> None:
        _check_batches(self, sequence_length=3)
        if not self.label_separator:
            raise RecipeError("`label_separator` must not be empty; received label_separator=''.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncoderDataConfig:
    """Where labelled words ("token_classification") or pairs of like texts ("text_embedding") come from.

    Args:
        train: data specifications such as "conll:train.conll" or, for pairs, "tsv:pairs.tsv".
        validation: the same, for validation.
        sequence_length: most tokens of an input, [CLS] and [SEP] included; longer ones are cut.
        batch_size: inputs, or pairs, in a batch.
        seed: the order of the examples is a function of this seed and the epoch.
        static_shapes: True = batches of few shapes, for XLA and TPU; see `tfzoo.data.few_shapes`.

    Raises:
        RecipeError: a number is out of its range.
    """

    train: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    sequence_length: int = 128
    batch_size: int = 32
    seed: int = 0
    static_shapes: bool = False

    def __post_init__(self) -> None:
        _check_batches(self, sequence_length=3)


def check_windows(*, window_length: int, stride: int, max_question_length: int) -> None:
    """Raises RecipeError when tokens of a context would be in no window."""
    numbers = {"window_length": window_length, "stride": stride, "max_question_length": max_question_length}
    for name, value in numbers.items():
        if value < 1:
            raise RecipeError(f"`{name}` must be at least 1; received {name}={value}.")
    room = window_length - max_question_length - 3  # [CLS], [SEP] and [SEP]
    if stride > room:
        raise RecipeError(
            "`stride` must not exceed what the longest question leaves of a window, window_length - "
            f"max_question_length - 3 = {room}, or tokens would be left out; received stride={stride}."
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class QuestionAnsweringDataConfig:
    """Where questions with contexts and answers come from; `decoding` says how contexts are cut into windows.

    Args:
        train: data specifications such as "squad:train-v2.0.json".
        validation: the same, for validation.
        batch_size: windows in a batch.
        seed: the order of the windows is a function of this seed and the epoch.
        static_shapes: True = batches of few shapes, for XLA and TPU; see `tfzoo.data.few_shapes`.

    Raises:
        RecipeError: a number is out of its range.
    """

    train: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    batch_size: int = 16
    seed: int = 0
    static_shapes: bool = False

    def __post_init__(self) -> None:
        _check_batches(self)


def _check_batches(config: object, **lows: int) -> None:
    for name, low in {"batch_size": 1, "seed": 0, **lows}.items():
        value = getattr(config, name)
        if value < low:
            raise RecipeError(f"`{name}` must be at least {low}; received {name}={value}.")


AnyDataConfig = (
    DataConfig
    | CausalLmDataConfig
    | MaskedLmDataConfig
    | ClassificationDataConfig
    | EncoderDataConfig
    | QuestionAnsweringDataConfig
)
