"""The zoo: the only list of what exists, as a literal dict from a recipe's name to its entry."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Callable

from tfzoo.errors import RecipeError, nearest
from tfzoo.recipes import gpt2, lstm_lm, transformer
from tfzoo.recipes.recipe import Recipe, from_json


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of the zoo.

    Args:
        recipe: makes the recipe; its docstring has the command, the duration and the score.
        task: "seq2seq" or "causal_lm".
        parameters: weights of the model with the recipe's vocabulary sizes.
        paper: where the architecture is described.
        pretrained: the package that carries trained weights, or None.
        artifact: the folder under exports/ that ships with the zoo, or None.
    """

    recipe: Callable[[], Recipe]
    task: str
    parameters: int
    paper: str
    pretrained: str | None = None
    artifact: str | None = None


VASWANI_2017 = "https://arxiv.org/abs/1706.03762"
RADFORD_2019 = "https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf"
ZAREMBA_2014 = "https://arxiv.org/abs/1409.2329"
MERITY_2017 = "https://arxiv.org/abs/1708.02182"

ZOO: dict[str, Entry] = {
    "transformer_tiny": Entry(
        recipe=transformer.tiny,
        task="seq2seq",
        parameters=33_320,
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
}


def recipe(name: str | os.PathLike[str]) -> Recipe:
    """Returns a recipe of the zoo by its name, or reads one from a JSON file.

    >>> recipe("transformer_base").model.hidden_dim
    512

    Args:
        name: a name out of `ZOO`, or the path of a file that ends in `.json`.

    Raises:
        RecipeError: an unknown name, a file that cannot be read, or a file that holds no recipe.
    """
    if str(name).endswith(".json"):
        try:
            text = pathlib.Path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise RecipeError(f"the recipe file {str(name)!r} cannot be read: {reason}.") from error
        try:
            return from_json(text)
        except RecipeError as error:
            raise RecipeError(f"{name}: {error}") from error
    if name not in ZOO:
        hint = nearest(str(name), ZOO)
        raise RecipeError(f"unknown recipe {str(name)!r}.{hint} `tfzoo list` shows all; a file's name ends in .json.")
    return ZOO[str(name)].recipe()
