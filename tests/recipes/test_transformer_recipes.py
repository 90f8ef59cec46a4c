"""The paper's numbers, stated a second time from the paper."""

import re

import pytest

from tfzoo.recipes import transformer


def test_base_is_row_base_of_table_3():
    recipe = transformer.base()
    model, training = recipe.model, recipe.training
    assert (model.num_layers, model.hidden_dim, model.intermediate_dim, model.num_heads) == (6, 512, 2048, 8)
    assert (model.dropout, training.label_smoothing, training.num_steps) == (0.1, 0.1, 100_000)
    # Equation 3: d^-0.5 * min(step^-0.5, step * warmup^-1.5) peaks at step 4000.
    assert training.learning_rate == pytest.approx(512**-0.5 * 4000**-0.5, rel=1e-12)
    assert training.learning_rate == pytest.approx(6.9877e-4, rel=1e-4)


def test_big_is_row_big_of_table_3():
    recipe = transformer.big()
    model, training = recipe.model, recipe.training
    assert (model.num_layers, model.hidden_dim, model.intermediate_dim, model.num_heads) == (6, 1024, 4096, 16)
    assert (model.dropout, training.label_smoothing, training.num_steps) == (0.3, 0.1, 300_000)
    assert training.learning_rate == pytest.approx(4.9411e-4, rel=1e-4)


@pytest.mark.parametrize("recipe", [transformer.base(), transformer.big()], ids=["base", "big"])
def test_base_and_big_share_sections_5_and_6(recipe):
    assert (recipe.model.vocabulary_size, recipe.model.source_vocabulary_size) == (37_000, None)
    assert (recipe.model.normalize_first, recipe.model.positions) == (False, "sinusoidal")
    assert (recipe.training.warmup_steps, recipe.training.schedule) == (4000, "inverse_sqrt")
    assert (recipe.training.beta_2, recipe.training.epsilon) == (0.98, 1e-9)
    assert (recipe.training.clip_norm, recipe.training.weight_decay) == (0.0, 0.0)
    assert (recipe.decoding.num_beams, recipe.decoding.length_penalty) == (4, 0.6)
    assert recipe.data.batch_tokens == 25_000


@pytest.mark.parametrize("recipe", [transformer.tiny_g2p(), transformer.small_g2p()], ids=["tiny", "small"])
def test_pronunciation_recipes_fit_cmudict(recipe):
    assert (recipe.tokenizer.source, recipe.tokenizer.target) == ("characters", "symbols")
    assert recipe.model.vocabulary_size == 39 + 4
    assert recipe.model.source_vocabulary_size == len("abcdefghijklmnopqrstuvwxyz'-.") + 4
    assert (recipe.data.train, recipe.data.validation) == (("sample:cmudict",), ("sample:cmudict:validation",))
    assert recipe.evaluation.metrics == ("token_error_rate", "word_error_rate")


@pytest.mark.parametrize("name", ["tiny", "mini", "small", "base", "big", "tiny_g2p", "small_g2p"])
def test_each_docstring_has_paper_command_and_score(name):
    documentation = getattr(transformer, name).__doc__
    assert re.search(r"^    Paper: ", documentation, re.MULTILINE)
    assert re.search(rf"^    Command: tfzoo train --recipe=transformer_{name} ", documentation, re.MULTILINE)
    assert re.search(r"^    Duration, score: ", documentation, re.MULTILINE)
