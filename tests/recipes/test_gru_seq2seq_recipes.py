"""The papers' numbers, stated a second time from the papers."""

import re

import pytest

from tfzoo.recipes import gru_seq2seq

NAMES = {"gru_tiny": "tiny", "gru_mini": "mini", "gru_small": "small", "bahdanau": "bahdanau", "luong": "luong"}


def test_bahdanau_is_rnnsearch_50():
    recipe = gru_seq2seq.bahdanau()
    model = recipe.model
    assert (model.attention, model.bidirectional, model.num_layers) == ("additive", True, 1)
    # Appendix A.2.3: n = n' = 1000, m = 620; l = 500 is half of n.
    assert (model.hidden_dim, model.embedding_dim) == (1000, 620)
    assert (model.vocabulary_size, model.source_vocabulary_size) == (30_000, 30_000)
    assert (recipe.data.batch_size, recipe.data.max_source_length, recipe.data.max_target_length) == (80, 51, 51)
    assert (recipe.training.clip_norm, recipe.training.num_steps) == (1.0, 288_000)


def test_luong_is_section_4_1():
    recipe = gru_seq2seq.luong()
    model = recipe.model
    assert (model.attention, model.input_feeding, model.bidirectional) == ("multiplicative", True, False)
    assert (model.num_layers, model.hidden_dim, model.embedding_dim) == (4, 1000, 1000)
    assert (model.vocabulary_size, model.source_vocabulary_size, model.dropout) == (50_000, 50_000, 0.2)
    assert (recipe.data.batch_size, recipe.training.clip_norm) == (128, 5.0)
    assert recipe.training.num_steps == 12 * (4_500_000 // 128)


def test_small_fits_cmudict():
    recipe = gru_seq2seq.small()
    assert (recipe.tokenizer.source, recipe.tokenizer.target) == ("characters", "symbols")
    assert recipe.model.vocabulary_size == 39 + 4
    assert recipe.model.source_vocabulary_size == len("abcdefghijklmnopqrstuvwxyz'-.") + 4
    assert (recipe.data.train, recipe.data.validation) == (("sample:cmudict",), ("sample:cmudict:validation",))


@pytest.mark.parametrize("name", NAMES)
def test_each_docstring_has_paper_command_and_score(name):
    documentation = getattr(gru_seq2seq, NAMES[name]).__doc__
    assert re.search(r"^    Paper: ", documentation, re.MULTILINE)
    assert re.search(rf"^    Command: tfzoo train --recipe={name} ", documentation, re.MULTILINE)
    assert re.search(r"^    Duration, score: ", documentation, re.MULTILINE)
