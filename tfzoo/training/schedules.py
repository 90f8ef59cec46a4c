"""What changes over the steps of a run: the learning rate, and how much of the true target a decoder reads.

The learning rate has a linear warm-up, then inverse square root, cosine or linear decay.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tfzoo.training.config import TrainingConfig


@keras.saving.register_keras_serializable(package="tfzoo")
class InverseSquareRoot(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up to the peak, then decay by the inverse square root (Vaswani et al., 2017, section 5.3).

    Update number n = 1, 2, ... has peak * min(n / warmup_steps, sqrt(warmup_steps / n)), which is the paper's
    hidden_dim**-0.5 * min(n**-0.5, n * warmup_steps**-1.5) for peak = (hidden_dim * warmup_steps)**-0.5.

    The base model of the paper (hidden_dim=512, warmup_steps=4000):

    >>> schedule = InverseSquareRoot(peak=6.987712429686844e-4, warmup_steps=4000)
    >>> [f"{float(schedule(n - 1)):.4e}" for n in (1, 2000, 4000, 16000, 100000)]
    ['1.7469e-07', '3.4939e-04', '6.9877e-04', '3.4939e-04', '1.3975e-04']

    Args:
        peak: learning rate of update `warmup_steps`.
        warmup_steps: steps of linear warm-up, at least 1.

    Call arguments:
        step: () int, number of updates already made: 0 for the first.

    Returns: () float32.
    """

    def __init__(self, peak: float, warmup_steps: int) -> None:
        self.peak = peak
        self.warmup_steps = warmup_steps

    def __call__(self, step: tf.Tensor | int) -> tf.Tensor:
        """Returns the learning rate of the update after `step` updates."""
        progress = (tf.cast(step, "float32") + 1.0) / self.warmup_steps
        return self.peak * tf.minimum(progress, tf.math.rsqrt(progress))

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {"peak": self.peak, "warmup_steps": self.warmup_steps}


@keras.saving.register_keras_serializable(package="tfzoo")
class Linear(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up to the peak, then linearly to 0 (Devlin et al., 2019, appendix A.2).

    Update number n = 1, 2, ... has peak * min(n / warmup_steps, (num_steps + 1 - n) / (num_steps - warmup_steps)). It
    differs from the authors' code by a step at either end, where the rate there is 0: no update is lost.

    >>> schedule = Linear(peak=1.0, warmup_steps=2, num_steps=6)
    >>> [float(schedule(n - 1)) for n in (1, 2, 3, 4, 5, 6, 7)]
    [0.5, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0]

    Args:
        peak: learning rate of update `warmup_steps`, and of the next.
        warmup_steps: steps of linear warm-up; 0 = none.
        num_steps: updates in the whole run, above `warmup_steps`.

    Call arguments:
        step: () int, number of updates already made: 0 for the first.

    Returns: () float32.
    """

    def __init__(self, peak: float, warmup_steps: int, num_steps: int) -> None:
        self.peak = peak
        self.warmup_steps = warmup_steps
        self.num_steps = num_steps

    def __call__(self, step: tf.Tensor | int) -> tf.Tensor:
        """Returns the learning rate of the update after `step` updates."""
        step = tf.cast(step, "float32")
        rising = (step + 1.0) / max(self.warmup_steps, 1)
        falling = (self.num_steps - step) / (self.num_steps - self.warmup_steps)
        return self.peak * tf.maximum(tf.minimum(rising, tf.minimum(falling, 1.0)), 0.0)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {"peak": self.peak, "warmup_steps": self.warmup_steps, "num_steps": self.num_steps}


def build_schedule(config: TrainingConfig) -> keras.optimizers.schedules.LearningRateSchedule:
    """Returns the schedule that `config.schedule` names."""
    if config.schedule == "inverse_sqrt":
        return InverseSquareRoot(config.learning_rate, config.warmup_steps)
    if config.schedule == "linear":
        return Linear(config.learning_rate, config.warmup_steps, config.num_steps)
    decay_steps = config.num_steps - config.warmup_steps
    if not config.warmup_steps:
        return keras.optimizers.schedules.CosineDecay(config.learning_rate, decay_steps)
    return keras.optimizers.schedules.CosineDecay(
        0.0, decay_steps, warmup_target=config.learning_rate, warmup_steps=config.warmup_steps
    )


def build_teacher_forcing(config: TrainingConfig) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """Returns the probability of a true token, or its schedule by the number of batches before."""
    ratio = config.teacher_forcing_ratio
    if ratio == 1 or config.teacher_forcing_schedule == "constant":
        return ratio
    num_batches = config.num_steps * config.accumulation_steps
    return keras.optimizers.schedules.PolynomialDecay(1.0, num_batches, end_learning_rate=ratio, power=1.0)
