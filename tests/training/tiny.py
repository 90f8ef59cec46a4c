"""A model of 3 variables and 2 dropout states, and shuffled data for it, addressed by step."""

import keras
import numpy as np
import tensorflow as tf

from tfzoo.training import TrainingConfig, fit
from tfzoo.training.optimizers import build_optimizer

VOCABULARY, LENGTH, BATCH = 13, 7, 4


class TinyModel(keras.Model):
    """Predicts each token from itself."""

    def __init__(self, dim=6, dropout=0.3, dense_dtype=None):
        super().__init__(name="tiny")
        self.embedding = keras.layers.Embedding(VOCABULARY, dim, name="embedding")
        self.first_dropout = keras.layers.Dropout(dropout, name="first_dropout")
        self.second_dropout = keras.layers.Dropout(dropout, name="second_dropout")
        self.dense = keras.layers.Dense(VOCABULARY, dtype=dense_dtype, name="dense")

    def call(self, inputs, training=None):
        x = self.embedding(inputs["token_ids"])
        return self.dense(self.second_dropout(self.first_dropout(x, training=training), training=training))


def batches(step_seeds, length=LENGTH, label=lambda token_ids: (token_ids + 1) % VOCABULARY):
    """One batch a seed: random tokens, 1 to `length` of each row real."""
    generators = [np.random.default_rng(seed) for seed in step_seeds]
    token_ids = np.stack([g.integers(VOCABULARY, size=(BATCH, length)) for g in generators]).astype(np.int32)
    lengths = np.stack([g.integers(1, length + 1, size=(BATCH, 1)) for g in generators])
    weights = (np.arange(length) < lengths).astype(np.float32)
    return tf.data.Dataset.from_tensor_slices(({"token_ids": token_ids}, label(token_ids), weights))


def train_dataset(start_step):
    return batches(range(start_step, 16)).repeat()


def validation_dataset():
    """Batches of two lengths, as a bucketed pipeline makes them."""
    return batches(range(100, 102)).concatenate(batches(range(102, 104), length=3))


def config(**changes):
    numbers = {"num_steps": 4, "checkpoint_steps": 2, "learning_rate": 0.05, "warmup_steps": 3}
    return TrainingConfig(**numbers | changes)


def new_model(seed=1, **arguments):
    keras.utils.set_random_seed(seed)
    return TinyModel(**arguments)


def train(run_dir, model=None, *, validation=True, **changes):
    """Trains the model and returns it with its history."""
    model = model or new_model()
    dataset = validation_dataset() if validation else None
    return model, fit(model, train_dataset, config(**changes), run_dir, validation_dataset=dataset, verbose=0)


def compiled(seed=1, model=None):
    """A tiny model and its optimizer; weights, moments and dropout states all hold random whole numbers."""
    model = model or new_model(seed)
    model({"token_ids": keras.Input((None,), dtype="int32")})
    model.compile(optimizer=build_optimizer(config()))
    model.optimizer.build(model.trainable_variables)
    generator = np.random.default_rng(seed)
    for variable in [*model.variables, *model.optimizer.variables]:
        variable.assign(generator.integers(1000, size=variable.shape).astype(np.float32))
    return model


def history(*nats):
    """Records of every tenth step."""
    return [{"step": 10 * (index + 1), "nats_per_token": value} for index, value in enumerate(nats)]
