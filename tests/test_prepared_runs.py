"""Runs that are trained on prepared corpora: their tokenizer, their resume, and what is refused."""

import dataclasses

import numpy as np
import pytest

from tests import prepared as corpora
from tfzoo import run_data, runs
from tfzoo.data.prepared import open_prepared
from tfzoo.data.sharding import Shard
from tfzoo.errors import UsageError
from tfzoo.preparation import prepare
from tfzoo.run_folder import prepare as prepare_run
from tfzoo.text.config import TokenizerConfig


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    lower, upper = corpora.write_pairs(folder)
    prepare(corpora.pairs_recipe(), folder / "train", data=[lower, upper], num_shards=3, verbose=False)
    prepare(
        corpora.pairs_recipe(),
        folder / "validation",
        data=upper,
        tokenizer=folder / "train",
        num_shards=2,
        verbose=False,
    )
    return folder


def recipe_for(corpus, **training):
    recipe = corpora.pairs_recipe()
    return dataclasses.replace(
        recipe,
        data=dataclasses.replace(
            recipe.data,
            train=(f"prepared:{corpus / 'train'}",),
            validation=(f"prepared:{corpus / 'validation'}",),
        ),
        training=dataclasses.replace(recipe.training, checkpoint_steps=2, warmup_steps=1, **training),
    )


def test_a_run_has_the_tokenizer_of_its_corpus_and_resumes_exactly(corpus, tmp_path):
    whole = runs.train(recipe_for(corpus, num_steps=4), tmp_path / "whole", verbose=0)
    runs.train(recipe_for(corpus, num_steps=2), tmp_path / "halves", verbose=0)
    halves = runs.train(recipe_for(corpus, num_steps=4), tmp_path / "halves", verbose=0)
    assert whole.tokenizer.assets() == open_prepared(corpus / "train").tokenizer.assets()
    for one, other in zip(whole.model.weights, halves.model.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
    assert {"step": 4, "val_loss": whole.metrics["val_loss"]}.items() <= halves.metrics.items()
    assert run_data.examples(recipe_for(corpus)) == open_prepared(corpus / "validation").examples()


def test_shares_of_a_run_are_the_corpus(corpus, tmp_path):
    recipe, tokenizer = prepare_run(recipe_for(corpus), tmp_path / "run")
    found = []
    for index in range(2):
        shard = Shard(index=index, count=2)
        batches = run_data.training_batches(recipe, tokenizer, shard=shard)
        length = max(
            int(run_data._BATCHES["seq2seq"](recipe, recipe.data.train, tokenizer, {"shard": one}).cardinality())
            for one in (shard, Shard(index=1 - index, count=2))
        )
        found += corpora.rows(batches.take(length).as_numpy_iterator(), tokenizer.target)
    assert sorted(found) == sorted({*corpora.LOWER, *corpora.UPPER})


def test_an_encoder_is_pretrained_on_a_corpus(tmp_path):
    recipe, data = corpora.rows_recipe(), corpora.write_documents(tmp_path)
    prepare(recipe, tmp_path / "train", data=data, num_shards=2, verbose=False)
    assert all(one.count("[MASK]") == 1 for one in open_prepared(tmp_path / "train").examples())
    recipe = dataclasses.replace(
        recipe,
        data=dataclasses.replace(recipe.data, train=(f"prepared:{tmp_path / 'train'}",), validation=(data,)),
        training=dataclasses.replace(recipe.training, num_steps=2, checkpoint_steps=1, warmup_steps=1),
    )
    run = runs.train(recipe, tmp_path / "run", verbose=0)
    assert run.metrics["step"] == 2
    assert run.tokenizer.assets() == open_prepared(tmp_path / "train").tokenizer.assets()


def test_another_recipe_or_tokenizer_is_refused(corpus, tmp_path):
    recipe = recipe_for(corpus)
    with pytest.raises(UsageError, match="was prepared with tokenizer=TokenizerConfig"):
        runs.train(dataclasses.replace(recipe, tokenizer=TokenizerConfig()), tmp_path / "run")
    smaller = dataclasses.replace(recipe.model, vocabulary_size=13)
    with pytest.raises(UsageError, match="model.vocabulary_size=.*received model.vocabulary_size=13"):
        runs.train(dataclasses.replace(recipe, model=smaller), tmp_path / "run")
    documents = corpora.documents_recipe(train=recipe.data.train)
    with pytest.raises(UsageError, match="was prepared for the task 'seq2seq'; the recipe 'gpt2_tiny' is for"):
        runs.train(documents, tmp_path / "run")
    text = dataclasses.replace(
        recipe, data=dataclasses.replace(recipe.data, train=tuple(corpora.write_pairs(tmp_path)[:1]))
    )
    with pytest.raises(UsageError, match="prepared with another tokenizer"):
        runs.train(text, tmp_path / "run", verbose=0)  # validated on a corpus that has more characters
