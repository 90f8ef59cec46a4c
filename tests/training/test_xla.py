"""The whole training step of every family is one XLA program, as a TPU needs it; here on a CPU."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.training import families
from tfzoo.training.objectives import objective
from tfzoo.training.optimizers import build_optimizer


@pytest.mark.parametrize("family", families.FAMILIES)
def test_a_training_step_compiles_and_learns(family):
    keras.utils.set_random_seed(1)
    model = families.FAMILIES[family].model(0.1)
    # As `fit` does where `jit_compile` is asked for.
    model.supports_jit = True
    trained_for = objective(model)
    model.compile(
        # AdamW with clipping; the rate is its highest at first.
        optimizer=build_optimizer(families.training_config("adam", learning_rate=0.03)),
        loss=trained_for.loss,
        weighted_metrics=trained_for.metrics,
        jit_compile=True,
    )
    batch = families.FAMILIES[family].batch(np.random.default_rng(1), 4)
    dataset = tf.data.Dataset.from_tensors(tf.nest.map_structure(families.as_tensor, batch)).repeat()
    losses = model.fit(dataset, epochs=2, steps_per_epoch=8, shuffle=False, verbose=0).history["loss"]
    assert losses[1] < losses[0] - 0.1
    # What cannot be compiled, such as a string or a table, fails there and then.
    assert model.train_function is not None
    assert model.jit_compile
