"""The papers' numbers, stated a second time from the papers."""

import re
from typing import get_args

import pytest

from tfzoo.models.config import BertConfig, BertTask
from tfzoo.recipes import bert

TASKS = get_args(BertTask)
# Turc et al. (2019), table 1, and Devlin et al. (2019), section 3: layers, width, heads.
SIZES = {"tiny": (2, 128, 2), "mini": (4, 256, 4), "small": (4, 512, 8), "base": (12, 768, 12), "large": (24, 1024, 16)}
NAMES = [*SIZES, "minilm_l6"]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", SIZES)
def test_sizes_are_those_of_the_papers(name, task):
    recipe = getattr(bert, name)(task)
    model = recipe.model
    assert (recipe.name, recipe.task) == (f"bert_{name}", task)
    assert (model.num_layers, model.hidden_dim, model.num_heads) == SIZES[name]
    assert (model.intermediate_dim, model.dropout) == (4 * model.hidden_dim, 0.1)
    assert (model.vocabulary_size, model.max_sequence_length) == (30_522, 512)
    assert (model.labels, model.num_texts) == ((), 2 if task == "question_answering" else 1)
    assert (recipe.tokenizer.source, recipe.tokenizer.lowercase) == ("word_piece", True)
    assert recipe.training.initial_checkpoint is None


@pytest.mark.parametrize("name", ["mini", "small", "base", "large"])
def test_pretraining_is_that_of_appendix_a_2(name):
    recipe = getattr(bert, name)()
    training = recipe.training
    assert (recipe.task, recipe.data.batch_size, recipe.data.sequence_length) == ("fill_mask", 256, 128)
    assert recipe.data.mask_probability == 0.15
    assert (training.num_steps, training.warmup_steps, training.learning_rate) == (1_000_000, 10_000, 1e-4)
    assert (training.schedule, training.beta_2, training.weight_decay) == ("linear", 0.999, 0.01)
    assert (training.label_smoothing, training.clip_norm) == (0.0, 1.0)


@pytest.mark.parametrize("task", TASKS[1:])
@pytest.mark.parametrize("name", NAMES)
def test_fine_tuning_is_that_of_appendix_a_3(name, task):
    recipe = getattr(bert, name)(task)
    training = recipe.training
    assert recipe.data.batch_size in (16, 32)
    # Turc et al. tried 3e-4 and 1e-4 besides.
    assert training.learning_rate in ((3e-4, 1e-4) if name in ("tiny", "mini", "small") else (5e-5, 3e-5, 2e-5))
    assert training.warmup_steps == pytest.approx(training.num_steps / 10, abs=1)
    assert (training.schedule, training.weight_decay, training.label_smoothing) == ("linear", 0.01, 0.0)
    assert training.num_steps // training.checkpoint_steps >= 2  # the best of several


@pytest.mark.parametrize(
    ("task", "num_examples"),
    [
        ("text_classification", 6920),
        ("token_classification", 14_041),
        ("text_embedding", 10_000),
        ("question_answering", 88_000),
    ],
)
def test_fine_tuning_takes_three_epochs_of_its_corpus(task, num_examples):
    recipe = bert.base(task)
    assert recipe.training.num_steps * recipe.data.batch_size == pytest.approx(3 * num_examples, rel=5e-3)


def test_minilm_starts_from_its_weights():
    assert bert.minilm_l6().task == "text_classification"
    for task in TASKS:
        recipe = bert.minilm_l6(task)
        assert recipe.training.initial_checkpoint == "sample:minilm"
        model = recipe.model
        assert (model.num_layers, model.hidden_dim, model.intermediate_dim, model.num_heads) == (6, 384, 1536, 12)


def test_windows_are_those_of_the_authors_code():
    decoding = bert.base("question_answering").decoding
    assert (decoding.window_length, decoding.stride, decoding.max_question_length) == (384, 128, 64)
    assert bert.base("text_classification").decoding is None


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("max_sequence_length", [12, 27, 128])
def test_few_positions_make_short_inputs(task, max_sequence_length):
    config = BertConfig(
        task=task,
        hidden_dim=6,
        intermediate_dim=10,
        num_layers=1,
        num_heads=1,
        max_sequence_length=max_sequence_length,
        num_texts=2 if task == "question_answering" else 1,
    )
    recipe = bert.further("mine", config, learning_rate=3e-5)
    if task == "question_answering":
        assert recipe.decoding.window_length == max_sequence_length
        assert 1 <= recipe.decoding.stride < max_sequence_length / 2
    else:
        assert recipe.data.sequence_length == max_sequence_length


@pytest.mark.parametrize("name", NAMES)
def test_each_docstring_has_paper_command_and_score(name):
    documentation = getattr(bert, name).__doc__
    full_name = name if name == "minilm_l6" else f"bert_{name}"
    assert re.search(r"^    Paper: ", documentation, re.MULTILINE)
    assert re.search(rf"^    Command: tfzoo train --recipe={full_name} ", documentation, re.MULTILINE)
    assert re.search(r"^    Duration, score: ", documentation, re.MULTILINE)
