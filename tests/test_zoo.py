"""The zoo's table against what its recipes say."""

import dataclasses

import pytest

from tfzoo import zoo
from tfzoo.errors import RecipeError
from tfzoo.models import Bert, BertConfig
from tfzoo.recipes import from_json, override, to_json


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


def bert_parameters(config):
    """Counts the weights from Devlin et al. (2019): section 3, and the head; two labels where training reads them."""
    width = config.hidden_dim
    square, normalization = width**2 + width, 2 * width
    feed_forward = 2 * width * config.intermediate_dim + config.intermediate_dim + width
    embeddings = (config.vocabulary_size + config.max_sequence_length + 2) * width + normalization
    encoder = embeddings + config.num_layers * (4 * square + feed_forward + 2 * normalization)
    labels = len(config.labels) or (1 if config.problem == "regression" else 2)
    head = {
        "fill_mask": square + normalization + config.vocabulary_size,
        "text_classification": square + labels * (width + 1),
        "token_classification": labels * (width + 1),
        "question_answering": 2 * (width + 1),
        "text_embedding": 0,
    }[config.task]
    return encoder + head + (square + 2 * (width + 1) if config.next_sentence else 0)


def gru_seq2seq_parameters(config):
    """Counts the weights from Bahdanau et al. (2015), appendix A, and Luong et al. (2015), section 3, with biases."""
    embedded, hidden = config.embedding_dim, config.hidden_dim

    def gru(dim):
        return 3 * hidden * (dim + hidden + 2)

    ways = 2 if config.bidirectional else 1
    memory = ways * hidden
    encoder = ways * (gru(embedded) + (config.num_layers - 1) * gru(memory))
    bridge = config.num_layers * hidden * (memory + 1) if config.bidirectional else 0
    query, key, context_by_token, readout, top = {
        "additive": (
            hidden * hidden + hidden,
            hidden * (memory + 1),
            memory,
            hidden + embedded + memory + 1,
            hidden // 2,
        ),
        "multiplicative": (0, hidden * memory, hidden, hidden + memory, hidden),
        "none": (0, 0, hidden, 2 * hidden + embedded + 1, hidden // 2),
    }[config.attention]
    if not config.input_feeding:
        context_by_token = 0
        if config.attention == "none":
            readout, top = 0, hidden
    decoder = gru(embedded + context_by_token) + (config.num_layers - 1) * gru(hidden)
    embeddings = (config.vocabulary_size + (config.source_vocabulary_size or 0)) * embedded
    output = config.vocabulary_size * (top + 1)
    return embeddings + encoder + bridge + query + key + decoder + hidden * readout + output


PARAMETERS = {
    "transformer": transformer_parameters,
    "gru_seq2seq": gru_seq2seq_parameters,
    "gpt2": gpt2_parameters,
    "lstm_lm": lstm_lm_parameters,
    "bert": bert_parameters,
}


@pytest.mark.parametrize("name", zoo.ZOO)
def test_each_entry_agrees_with_its_recipe(name):
    entry = zoo.ZOO[name]
    recipe = entry.recipe()
    assert recipe.name == name
    assert entry.task == recipe.task
    assert entry.parameters == PARAMETERS[recipe.family](recipe.model)
    assert zoo.recipe(name) == recipe
    assert zoo.recipe(name, task=entry.task) == recipe


@pytest.mark.parametrize("name", [name for name in zoo.ZOO if zoo.ZOO[name].tasks])
def test_a_recipe_of_several_tasks(name):
    entry = zoo.ZOO[name]
    assert entry.task in entry.tasks
    for task in entry.tasks:
        recipe = zoo.recipe(name, task)
        assert (recipe.name, recipe.task) == (name, task)
        assert from_json(to_json(recipe)) == recipe


@pytest.mark.parametrize(
    ("name", "task", "message"),
    [
        (
            "bert_tiny",
            "text_clasification",
            "the recipe 'bert_tiny' is for fill_mask, text_classification, token_classification, question_answering, "
            "text_embedding; received task='text_clasification'. Did you mean 'text_classification'?",
        ),
        (
            "gpt2_tiny",
            "casual_lm",
            "the recipe 'gpt2_tiny' is for causal_lm; received task='casual_lm'. Did you mean 'causal_lm'?",
        ),
        ("transformer_tiny", "fill_mask", "the recipe 'transformer_tiny' is for seq2seq; received task='fill_mask'."),
    ],
)
def test_a_task_that_a_recipe_is_not_for(name, task, message):
    with pytest.raises(RecipeError) as error:
        zoo.recipe(name, task)
    assert str(error.value) == message


def test_a_recipe_file_has_one_task(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(to_json(zoo.recipe("bert_tiny")), encoding="utf-8")
    assert zoo.recipe(path, "fill_mask").task == "fill_mask"
    with pytest.raises(RecipeError, match=r"mine\.json' is for fill_mask; received task='text_embedding'\.$"):
        zoo.recipe(path, "text_embedding")


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


def test_a_bert_of_one_by_hand():
    # D=2, F=3, V=5, 7 positions, one layer: 5*2 + 7*2 + 2*2 + 4 = 32; 4*6 + (6+3+6+2) + 2*4 = 49; 6 + 4 + 5 = 15.
    small = BertConfig(
        vocabulary_size=5,
        hidden_dim=2,
        intermediate_dim=3,
        num_layers=1,
        num_heads=1,
        max_sequence_length=7,
        **dict.fromkeys(("start_id", "end_id", "mask_id"), 4),
    )
    assert bert_parameters(small) == 32 + 49 + 15
    with_next = dataclasses.replace(small, next_sentence=True, num_texts=2)
    labelled = dataclasses.replace(small, task="text_classification", labels=("a", "b", "c"))
    assert bert_parameters(with_next) == 32 + 49 + 15 + 6 + 6
    assert bert_parameters(labelled) == 32 + 49 + 6 + 9
    for config in (small, with_next, labelled):
        assert Bert(config).count_params() == bert_parameters(config)


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
