"""Shows a recipe: what it needs, its fields as JSON, and the model's layers.

    tfzoo show transformer_tiny_g2p
    tfzoo show bert_mini --task=question_answering
    tfzoo show transformer_small --json > mine.json

The last command writes a file to edit, for `tfzoo train --recipe=mine.json`.
"""

from __future__ import annotations

import dataclasses
import inspect

from absl import flags

from tfzoo import zoo
from tfzoo.cli.flags import require
from tfzoo.cli.quiet import import_tensorflow
from tfzoo.models.config import BertConfig
from tfzoo.recipes import to_json


def define_flags(flag_values: flags.FlagValues) -> None:
    """Defines the command's flags."""
    flags.DEFINE_string("recipe", None, "a name out of `tfzoo list`, or a recipe's JSON file", flag_values=flag_values)
    flags.DEFINE_string(
        "task", None, "what the model is to be for, where the recipe knows several tasks", flag_values=flag_values
    )
    flags.DEFINE_bool("json", False, "print the recipe's JSON only", flag_values=flag_values)


def run(flag_values: flags.FlagValues) -> None:
    """Prints a recipe."""
    require(flag_values, "recipe")
    recipe = zoo.recipe(flag_values.recipe, flag_values.task)
    if flag_values.json:
        print(to_json(recipe), end="")
        return
    if flag_values.recipe in zoo.ZOO:
        print(inspect.getdoc(zoo.ZOO[flag_values.recipe].recipe), end="\n\n")
    print(to_json(recipe))
    import_tensorflow()
    import tensorflow as tf

    from tfzoo.run_folder import build_model

    if isinstance(recipe.model, BertConfig) and recipe.model.is_labelled and not recipe.model.labels:
        print("Training reads the labels off its data; these are the layers of a model with two.")
        recipe = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, labels=("0", "1")))
    with tf.Graph().as_default():  # where weights have shapes and take no memory
        build_model(recipe).summary(print_fn=print)
