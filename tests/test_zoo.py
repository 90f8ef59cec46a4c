"""The zoo's table against what its recipes say."""

import pytest

from tfzoo import zoo
from tfzoo.errors import RecipeError
from tfzoo.recipes import override, to_json


def transformer_parameters(config):
    """Counts the weights of an encoder-decoder from its paper: sections 3.1 to 3.4, with biases."""
    attention = 4 * (config.hidden_dim**2 + config.hidden_dim)
    feed_forward = 2 * config.hidden_dim * config.intermediate_dim + config.intermediate_dim + config.hidden_dim
    normalization = 2 * config.hidden_dim
    encoder_block = attention + feed_forward + 2 * normalization
    decoder_block = 2 * attention + feed_forward + 3 * normalization
    embeddings = (config.vocabulary_size + (config.source_vocabulary_size or 0)) * config.hidden_dim
    final = 2 * normalization if config.normalize_first else 0
    return embeddings + config.num_layers * (encoder_block + decoder_block) + final


def gpt2_parameters(config):
    """Counts the weights of GPT-2 from its papers: biases everywhere but in the output projection, which is tied."""
    attention = 4 * (config.hidden_dim**2 + config.hidden_dim)
    feed_forward = 2 * config.hidden_dim * config.intermediate_dim + config.intermediate_dim + config.hidden_dim
    normalization = 2 * config.hidden_dim
    embeddings = (config.vocabulary_size + config.max_sequence_length) * config.hidden_dim
    return embeddings + config.num_layers * (attention + feed_forward + 2 * normalization) + normalization


def lstm_lm_parameters(config):
    """Counts the weights from Zaremba et al. (2014), section 3: four gates of each layer, and a bias in the output."""
    widths = [config.embedding_dim] + [config.hidden_dim] * config.num_layers
    if config.tie_embeddings:
        widths[-1] = config.embedding_dim
    gates = sum(4 * width * (dim + width + 1) for dim, width in zip(widths, widths[1:], strict=False))
    embedding = config.vocabulary_size * config.embedding_dim
    output = config.vocabulary_size * (1 if config.tie_embeddings else widths[-1] + 1)
    return embedding + gates + output


PARAMETERS = {"transformer": transformer_parameters, "gpt2": gpt2_parameters, "lstm_lm": lstm_lm_parameters}


@pytest.mark.parametrize("name", zoo.ZOO)
def test_each_entry_agrees_with_its_recipe(name):
    entry = zoo.ZOO[name]
    recipe = entry.recipe()
    assert recipe.name == name
    assert entry.task == recipe.task
    assert entry.parameters == PARAMETERS[recipe.family](recipe.model)
    assert zoo.recipe(name) == recipe


def test_the_count_by_hand_of_a_model_of_one():
    # D=2, F=3, V=5, one layer, post-norm: 10 + (24 + 17 + 8) + (48 + 17 + 12).
    config = override(
        zoo.recipe("transformer_tiny"),
        [
            "model.hidden_dim=2",
            "model.intermediate_dim=3",
            "model.vocabulary_size=5",
            "model.num_layers=1",
            "model.num_heads=1",
        ],
    ).model
    assert transformer_parameters(config) == 136


def test_unknown_recipe_names_the_nearest():
    with pytest.raises(RecipeError, match=r"unknown recipe 'transformer_tini'\. Did you mean 'transformer_tiny'\?"):
        zoo.recipe("transformer_tini")


def test_recipe_reads_json(tmp_path):
    recipe = override(zoo.recipe("transformer_tiny"), "training.num_steps=77")
    path = tmp_path / "mine.json"
    path.write_text(to_json(recipe), encoding="utf-8")
    assert zoo.recipe(path) == zoo.recipe(str(path)) == recipe


def test_a_recipe_file_that_is_missing_or_wrong_is_named(tmp_path):
    path = tmp_path / "mine.json"
    with pytest.raises(RecipeError, match=r"mine\.json' cannot be read: No such file"):
        zoo.recipe(path)
    path.write_bytes(b"\xff{}")
    with pytest.raises(RecipeError, match=r"mine\.json' cannot be read: 'utf-8' codec"):
        zoo.recipe(path)
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(RecipeError, match=r"mine\.json: `recipe` lacks its field 'name'"):
        zoo.recipe(path)
