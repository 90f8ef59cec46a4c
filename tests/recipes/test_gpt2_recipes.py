"""The paper's numbers, stated a second time from the papers."""

import re

import pytest

from tfzoo.recipes import gpt2

# Radford et al. (2019), table 2: layers, width; Brown et al. (2020), table 2.1: learning rate.
TABLE_2 = {"small": (12, 768, 6e-4), "medium": (24, 1024, 3e-4), "large": (36, 1280, 2.5e-4), "xl": (48, 1600, 2e-4)}


@pytest.mark.parametrize("name", TABLE_2)
def test_sizes_are_those_of_table_2(name):
    recipe = getattr(gpt2, name)()
    model, training = recipe.model, recipe.training
    assert (model.num_layers, model.hidden_dim, training.learning_rate) == TABLE_2[name]
    assert (model.intermediate_dim, model.hidden_dim // model.num_heads) == (4 * model.hidden_dim, 64)
    assert (model.vocabulary_size, model.max_sequence_length, model.end_id) == (50_257, 1024, 50_256)
    assert (recipe.data.batch_size, recipe.data.sequence_length) == (512, 1024)
    assert training.num_steps * 512 * 1024 == pytest.approx(300e9, rel=1e-5)
    assert training.warmup_steps * 512 * 1024 == pytest.approx(375e6, rel=1e-2)
    assert (training.beta_2, training.epsilon, training.weight_decay, training.clip_norm) == (0.95, 1e-8, 0.1, 1.0)
    assert (training.schedule, training.label_smoothing) == ("cosine", 0.0)


@pytest.mark.parametrize("name", ["tiny", *TABLE_2])
def test_each_docstring_has_paper_command_and_score(name):
    documentation = getattr(gpt2, name).__doc__
    assert re.search(r"^    Paper: ", documentation, re.MULTILINE)
    assert re.search(rf"^    Command: tfzoo train --recipe=gpt2_{name} ", documentation, re.MULTILINE)
    assert re.search(r"^    Duration, score: ", documentation, re.MULTILINE)
