"""A recipe: every number of a run, from tokenizer to evaluation, in one frozen object, readable without TensorFlow."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from typing import Any, NamedTuple, get_type_hints

from tfzoo.data.config import (
    AnyDataConfig,
    CausalLmDataConfig,
    ClassificationDataConfig,
    DataConfig,
    EncoderDataConfig,
    MaskedLmDataConfig,
    QuestionAnsweringDataConfig,
)
from tfzoo.decoding.config import AnswerConfig, DecodingConfig
from tfzoo.errors import RecipeError, nearest
from tfzoo.evaluation.config import EvaluationConfig
from tfzoo.models.config import BertConfig, GPT2Config, GruSeq2SeqConfig, LstmLmConfig, ModelConfig, TransformerConfig
from tfzoo.recipes.fields import from_plain, from_text
from tfzoo.text.config import TokenizerConfig
from tfzoo.training.config import TrainingConfig
from tfzoo.training.measures import check_monitor, check_smoothing, measures

# Family -> the type of its recipes' `model` section, which knows the task.
FAMILIES: dict[str, type] = {
    "transformer": TransformerConfig,
    "gru_seq2seq": GruSeq2SeqConfig,
    "lstm_lm": LstmLmConfig,
    "gpt2": GPT2Config,
    "bert": BertConfig,
}


class Task(NamedTuple):
    """The types of the two sections of a recipe that depend on its task."""

    data: type
    decoding: type


TASKS = {
    "seq2seq": Task(DataConfig, DecodingConfig),
    "causal_lm": Task(CausalLmDataConfig, DecodingConfig),
    "fill_mask": Task(MaskedLmDataConfig, type(None)),
    "text_classification": Task(ClassificationDataConfig, type(None)),
    "token_classification": Task(EncoderDataConfig, type(None)),
    "text_embedding": Task(EncoderDataConfig, type(None)),
    "question_answering": Task(QuestionAnsweringDataConfig, AnswerConfig),
}
SECTIONS = ("tokenizer", "data", "model", "training", "decoding", "evaluation")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a run is made of.

    Args:
        name: the zoo's name, or any other.
        family: which model the `model` section configures, see `FAMILIES`.
        tokenizer: which tokenizer each side gets.
        data: where the text comes from and how it is batched.
        model: the architecture's numbers.
        training: steps, learning rate, checkpoints.
        decoding: how outputs, or answers in a context, are searched; None for a task that searches nothing.
        evaluation: which scores are reported.

    Raises:
        RecipeError: an unknown family, or two sections contradict each other.
    """

    name: str
    family: str = "transformer"
    tokenizer: TokenizerConfig
    data: AnyDataConfig
    model: ModelConfig
    training: TrainingConfig
    decoding: DecodingConfig | AnswerConfig | None = None
    evaluation: EvaluationConfig

    def __post_init__(self) -> None:
        if type(self.model) is not _model_type(self.family):
            raise RecipeError(
                f"`model` of a recipe of the family {self.family!r} must be a {FAMILIES[self.family].__name__}; "
                f"received {self.model!r}."
            )
        for section, expected in _section_types(self.family, self.task).items():
            if type(getattr(self, section)) is not expected:
                raise RecipeError(
                    f"`{section}` of a recipe for the task {self.task!r} must be a {expected.__name__}; "
                    f"received {getattr(self, section)!r}."
                )
        if isinstance(self.decoding, DecodingConfig):
            self._check_lengths({"decoding.max_length": self.decoding.max_length})
        elif isinstance(self.decoding, AnswerConfig):
            self._check_lengths({"decoding.window_length": self.decoding.window_length})
        if isinstance(self.model, (TransformerConfig, GruSeq2SeqConfig)) and isinstance(self.data, DataConfig):
            self._check_seq2seq(self.model, self.data)
        elif not isinstance(self.data, DataConfig):
            self._check_one_vocabulary()
            if not isinstance(self.data, QuestionAnsweringDataConfig):
                self._check_lengths({"data.sequence_length": self.data.sequence_length})
        if isinstance(self.data, CausalLmDataConfig):
            self._check_causal_lm(self.data)
        if isinstance(self.model, BertConfig):
            self._check_encoder(self.model)
        self._check_training(self.training)
        if self.training.teacher_forcing_ratio < 1 and self.family != "gru_seq2seq":
            raise RecipeError(
                "`training.teacher_forcing_ratio` below 1 needs a model of the family 'gru_seq2seq'; received "
                f"family={self.family!r}, training.teacher_forcing_ratio={self.training.teacher_forcing_ratio}."
            )

    @property
    def task(self) -> str:
        """What the model is for, a name out of `TASKS`."""
        return self.model.task

    def _check_seq2seq(self, model: TransformerConfig | GruSeq2SeqConfig, data: DataConfig) -> None:
        if (self.tokenizer.target is None) != (model.source_vocabulary_size is None):
            raise RecipeError(
                "`tokenizer.target` and `model.source_vocabulary_size` go together: both none for one shared "
                f"vocabulary, both set for two; received tokenizer.target={self.tokenizer.target}, "
                f"model.source_vocabulary_size={model.source_vocabulary_size}."
            )
        self._check_lengths(
            {
                "data.max_source_length": data.max_source_length,
                "data.max_target_length": data.max_target_length,
            }
        )

    def _check_one_vocabulary(self) -> None:
        if self.tokenizer.target is not None:
            raise RecipeError(
                f"`tokenizer.target` must be null, a model for {self.task!r} has one vocabulary; received "
                f"tokenizer.target={self.tokenizer.target!r}."
            )

    def _check_causal_lm(self, data: CausalLmDataConfig) -> None:
        if data.examples == "contiguous" and self.family != "lstm_lm":
            raise RecipeError(
                "`data.examples` must not be 'contiguous' for a model that carries no state from batch to batch; "
                f"received family={self.family!r}. Use 'packed'."
            )

    def _check_encoder(self, model: BertConfig) -> None:
        if self.tokenizer.source != "word_piece":
            raise RecipeError(
                f"`tokenizer.source` must be 'word_piece' for the family {self.family!r}, whose inputs hold [CLS] and "
                f"[SEP]; received tokenizer.source={self.tokenizer.source!r}."
            )
        if isinstance(self.data, ClassificationDataConfig) and self.data.class_weights:
            if model.problem != "single_label":
                raise RecipeError(
                    "`data.class_weights` needs one label an example; received "
                    f"data.class_weights=True, model.problem={model.problem!r}."
                )

    def _check_training(self, training: TrainingConfig) -> None:
        problem = self.model.problem if isinstance(self.model, BertConfig) else "single_label"
        next_sentence = isinstance(self.model, BertConfig) and self.model.next_sentence
        check_monitor(training.monitor, measures(self.task, problem, next_sentence))
        check_smoothing(training.label_smoothing, self.task, problem)
        if training.frozen_layers > self.model.num_layers:
            raise RecipeError(
                "`training.frozen_layers` must not exceed `model.num_layers`; received "
                f"training.frozen_layers={training.frozen_layers}, model.num_layers={self.model.num_layers}."
            )
        if training.recompute and self.family in ("lstm_lm", "gru_seq2seq"):
            raise RecipeError(
                "`training.recompute` is for the blocks of a Transformer, GPT-2 or BERT, which a model of the family "
                f"{self.family!r} has not; received training.recompute=True. Set it to false; shorter sequences and "
                "smaller batches save memory too."
            )
        if training.lora_rank and self.family == "lstm_lm":
            raise RecipeError(
                "`training.lora_rank` adapts attention, which a model of the family 'lstm_lm' has not; received "
                f"training.lora_rank={training.lora_rank}. Set it to 0; frozen_layers and layer_decay suit it."
            )

    def _check_lengths(self, lengths: dict[str, int]) -> None:
        for name, length in lengths.items():
            if length > self.model.max_sequence_length:
                raise RecipeError(
                    f"`{name}` must not exceed `model.max_sequence_length`; received "
                    f"{name}={length}, model.max_sequence_length={self.model.max_sequence_length}."
                )


def _model_type(family: str) -> type:
    if family not in FAMILIES:
        hint = nearest(family, FAMILIES)
        raise RecipeError(f"`family` knows {', '.join(FAMILIES)}; received family={family!r}.{hint}")
    return FAMILIES[family]


def _section_types(family: str, task: str) -> dict[str, type]:
    """Section -> its type in a recipe of a known family and task."""
    return {
        "tokenizer": TokenizerConfig,
        "data": TASKS[task].data,
        "model": FAMILIES[family],
        "training": TrainingConfig,
        "decoding": TASKS[task].decoding,
        "evaluation": EvaluationConfig,
    }


def to_json(recipe: Recipe) -> str:
    """Returns the recipe as indented JSON, from which `from_json` makes an equal one."""
    return json.dumps(dataclasses.asdict(recipe), indent=2, ensure_ascii=False) + "\n"


def from_json(text: str) -> Recipe:
    """Reads a recipe that `to_json` wrote, or that was written by hand; fields with a default may be left out.

    Raises:
        RecipeError: not JSON, an unknown or missing field, a value of the wrong type, or a contradiction.
    """
    try:
        plain = json.loads(text)
    except json.JSONDecodeError as error:
        raise RecipeError(f"a recipe is JSON: {error.msg} at line {error.lineno}, column {error.colno}.") from error
    _check_names("recipe", plain, Recipe)
    names = {name: from_plain(name, value, str) for name, value in plain.items() if name not in SECTIONS}
    family = names.get("family", Recipe.family)
    model = _section("model", plain["model"], _model_type(family))
    sections: dict[str, Any] = {
        name: None if plain[name] is None and config is type(None) else _section(name, plain[name], config)
        for name, config in _section_types(family, model.task).items()
        if name in plain
    }
    return Recipe(**names, **sections)


def override(recipe: Recipe, assignments: str | Iterable[str]) -> Recipe:
    """Changes single fields, each given as `section.field=value`.

    All assignments are applied before the result is checked, so that fields that depend on each other can change
    together.

    >>> override(transformer.tiny(), "training.num_steps=100").training.num_steps
    100

    Args:
        recipe: the recipe to start from; it stays as it is.
        assignments: one assignment or several; of two to the same field the last one wins. `none` empties an optional
            field; a field with several values takes them separated by commas.

    Raises:
        RecipeError: an unknown field, a value of the wrong type, or a contradiction.
    """
    changes: dict[str, dict[str, Any]] = {}
    for assignment in [assignments] if isinstance(assignments, str) else assignments:
        path, equals, text = assignment.partition("=")
        section, dot, field = path.strip().partition(".")
        if not equals or not dot:
            raise RecipeError(f"an override reads section.field=value; received {assignment!r}.")
        if section not in SECTIONS:
            raise RecipeError(
                f"a recipe's sections are {', '.join(SECTIONS)}; received {assignment!r}.{nearest(section, SECTIONS)}"
            )
        config = type(getattr(recipe, section))
        if config is type(None):
            raise RecipeError(f"a recipe for the task {recipe.task!r} has no section {section!r}.")
        hints = get_type_hints(config)
        names = [inner.name for inner in dataclasses.fields(config)]
        if field not in names:
            raise RecipeError(f"`{section}` has no field {field!r}.{nearest(field, names)}")
        changes.setdefault(section, {})[field] = from_text(f"{section}.{field}", text.strip(), hints[field])
    return dataclasses.replace(
        recipe,
        **{section: dataclasses.replace(getattr(recipe, section), **values) for section, values in changes.items()},
    )


def differences(one: Recipe, other: Recipe) -> list[str]:
    """Returns the fields in which two recipes differ, as `section.field`, in the recipe's order.

    >>> differences(transformer.tiny(), override(transformer.tiny(), "data.seed=1"))
    ['data.seed']
    """
    found = []
    for field in dataclasses.fields(Recipe):
        ours, theirs = getattr(one, field.name), getattr(other, field.name)
        if ours == theirs:
            continue
        if type(ours) is not type(theirs) or field.name not in SECTIONS:
            found.append(field.name)
        else:
            names = (inner.name for inner in dataclasses.fields(ours))
            found += [f"{field.name}.{name}" for name in names if getattr(ours, name) != getattr(theirs, name)]
    return found


def _section(name: str, plain: Any, config: type) -> Any:
    _check_names(name, plain, config)
    hints = get_type_hints(config)
    return config(**{field: from_plain(f"{name}.{field}", value, hints[field]) for field, value in plain.items()})


def _check_names(where: str, plain: Any, config: type) -> None:
    if not isinstance(plain, dict):
        raise RecipeError(f"`{where}` must be a JSON object; received {plain!r}.")
    fields = {field.name: field for field in dataclasses.fields(config)}
    for name in plain:
        if name not in fields:
            raise RecipeError(f"`{where}` has no field {name!r}.{nearest(name, fields)}")
    for name, field in fields.items():
        if name not in plain and field.default is dataclasses.MISSING:
            raise RecipeError(f"`{where}` lacks its field {name!r}; add it.")
