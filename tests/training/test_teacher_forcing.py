"""A run whose decoder reads more and more of its own predictions, resumed bit for bit."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfzoo.recipes import gru_seq2seq, override
from tfzoo.run_folder import build_model
from tfzoo.training import checkpoints, fit

RECIPE = override(
    gru_seq2seq.tiny(),
    [
        "model.vocabulary_size=13",
        "model.embedding_dim=6",
        "model.hidden_dim=10",
        "model.num_layers=1",
        "model.dropout=0.2",
        "training.num_steps=4",
        "training.checkpoint_steps=2",
        "training.warmup_steps=1",
        "training.teacher_forcing_ratio=0.2",
        "training.teacher_forcing_schedule=linear",
    ],
)


def train_dataset(start_step):
    generators = [np.random.default_rng(step) for step in range(start_step, 8)]
    source, target = (np.stack([g.integers(4, 13, (3, 5)) for g in generators]).astype(np.int32) for _ in range(2))
    inputs = {"encoder_token_ids": source, "decoder_token_ids": target}
    return tf.data.Dataset.from_tensor_slices((inputs, target[:, :, ::-1], np.ones(target.shape, np.float32)))


def train(run_dir, recipe=RECIPE, seed=1):
    keras.utils.set_random_seed(seed)
    model = build_model(recipe, for_training=True)
    fit(model, train_dataset, recipe.training, run_dir, verbose=0)
    return model


def test_two_and_two_steps_equal_four(tmp_path, monkeypatch):
    whole = train(tmp_path / "whole")

    def interrupt(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "prune", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "parts")
    assert checkpoints.steps(tmp_path / "parts") == [2]
    parts = train(tmp_path / "parts", seed=99)
    for one, other in zip(whole.variables, parts.variables, strict=True):
        assert np.array_equal(one, other), one.path
    assert whole.scheduled_sampling.seed_generator.state.numpy()[1] == 4  # one draw a batch


def test_a_run_is_loaded_without_it(tmp_path):
    trained = train(tmp_path)
    model = build_model(RECIPE)
    assert model.scheduled_sampling is None
    checkpoints.load_weights(model, checkpoints.newest(tmp_path))
    inputs, _, _ = next(iter(train_dataset(0)))
    assert np.array_equal(model(inputs), trained(inputs))


def test_the_ratio_decides_what_is_learnt(tmp_path):
    forced = train(tmp_path / "forced", override(RECIPE, "training.teacher_forcing_ratio=1"))
    assert forced.scheduled_sampling is None
    sampled = train(tmp_path / "sampled")
    assert any(
        not np.array_equal(one, other)
        for one, other in zip(forced.trainable_variables, sampled.trainable_variables, strict=True)
    )
