"""Which ways to train go together with which devices, as docs/training.md tabulates them."""

from __future__ import annotations

import keras
import tensorflow as tf

from tfzoo.errors import RecipeError
from tfzoo.training.config import TrainingConfig

_SEVERAL = (tf.distribute.MirroredStrategy, tf.distribute.MultiWorkerMirroredStrategy, tf.distribute.TPUStrategy)


def check_combination(model: keras.Model, config: TrainingConfig) -> None:
    """Refuses what would fail, or change nothing, on the model's devices.

    Raises:
        RecipeError: the model is not of `config.precision`; or XLA or float16 are asked for under a strategy that makes
            replicas.
    """
    if config.precision not in ("float32", model.dtype_policy.name):
        raise RecipeError(
            f"`precision` must be that of the model, which is {model.dtype_policy.name!r}; received "
            f"precision={config.precision!r}. Make the model with dtype={config.precision!r}."
        )
    strategy = model.distribute_strategy
    if not isinstance(strategy, _SEVERAL):
        return
    name = type(strategy).__name__
    if config.jit_compile:
        raise RecipeError(
            f"`jit_compile` is for one device: XLA does not compile the sums over replicas of a {name}; received "
            "jit_compile=True. Set it to false, or train with --strategy=single; a TPU compiles every step anyway."
        )
    if model.dtype_policy.name == "mixed_float16":
        raise RecipeError(
            f"precision 'mixed_float16' is for one device: under a {name} Keras would look at the first replica's "
            "gradient alone for an overflow. Use 'mixed_bfloat16', which needs no scaled loss, or --strategy=single."
        )
