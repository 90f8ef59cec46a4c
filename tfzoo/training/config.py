"""How to train: steps, learning rate, regularization and checkpoints, readable without TensorFlow."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

from tfzoo.errors import RecipeError


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """One training run. The defaults are those of Vaswani et al., 2017, section 5, where it states them.

    Args:
        num_steps: optimizer updates in the whole run.
        checkpoint_steps: steps between two checkpoints; each one also validates. The last step always has one.
        learning_rate: the peak, reached after `warmup_steps`.
        warmup_steps: steps of linear warm-up from 0; "inverse_sqrt" needs at least 1.
        schedule: after the warm-up, "inverse_sqrt" (the paper) or "cosine" down to 0 at `num_steps`.
        accumulation_steps: batches whose gradients make one update, as if they were one batch: what a batch's memory
            limits, more of them make up for. Steps remain updates.
        label_smoothing: probability in [0, 1) that is spread evenly over the vocabulary.
        clip_norm: largest global norm of the gradient; 0 = no clipping.
        beta_2: decay in [0, 1) of Adam's second moment.
        epsilon: added to Adam's denominator.
        weight_decay: decoupled weight decay (AdamW) per step, times the learning rate; 0 = plain Adam.
        ema_decay: decay in [0, 1) of an exponential moving average of the weights, which begins with the weights after
            the first update. It is validated, predicted with and exported in place of the trained weights; 0 = off.
        keep_checkpoints: newest checkpoints to keep; the best one is kept besides.
        average_checkpoints: predict, evaluate and export with the mean of the weights of the last so many checkpoints
            (section 6.1 of the paper takes 5) instead of the best one's; 0 = off.
        early_stopping_patience: checkpoints without a better validation loss before training stops; 0 = off.
        seed: of the initial weights and the dropout masks.

    Raises:
        RecipeError: a number is out of its range, or two contradict each other.
    """

    num_steps: int
    checkpoint_steps: int
    learning_rate: float
    warmup_steps: int
    schedule: Literal["inverse_sqrt", "cosine"] = "inverse_sqrt"
    accumulation_steps: int = 1
    label_smoothing: float = 0.1
    clip_norm: float = 1.0
    beta_2: float = 0.98
    epsilon: float = 1e-9
    weight_decay: float = 0.0
    ema_decay: float = 0.0
    keep_checkpoints: int = 3
    average_checkpoints: int = 0
    early_stopping_patience: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low in (
            ("num_steps", 1),
            ("checkpoint_steps", 1),
            ("accumulation_steps", 1),
            ("keep_checkpoints", 1),
            ("warmup_steps", 0),
            ("average_checkpoints", 0),
            ("early_stopping_patience", 0),
            ("seed", 0),
        ):
            if getattr(self, name) < low:
                raise RecipeError(f"`{name}` must be at least {low}; received {name}={getattr(self, name)}.")
        for name in ("learning_rate", "epsilon"):
            if not getattr(self, name) > 0:
                raise RecipeError(f"`{name}` must be above 0; received {name}={getattr(self, name)}.")
        for name in ("clip_norm", "weight_decay"):
            if not getattr(self, name) >= 0:
                raise RecipeError(f"`{name}` must not be negative; received {name}={getattr(self, name)}.")
        for name in ("label_smoothing", "beta_2", "ema_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise RecipeError(f"`{name}` must be in [0, 1); received {name}={getattr(self, name)}.")
        if self.schedule not in ("inverse_sqrt", "cosine"):
            raise RecipeError(f"`schedule` must be 'inverse_sqrt' or 'cosine'; received schedule={self.schedule!r}.")
        if self.schedule == "inverse_sqrt" and self.warmup_steps < 1:
            raise RecipeError(
                "schedule 'inverse_sqrt' needs `warmup_steps` of at least 1: the learning rate decays from there; "
                f"received warmup_steps={self.warmup_steps}. Use schedule='cosine' to start at the peak."
            )
        if self.schedule == "cosine" and self.warmup_steps >= self.num_steps:
            raise RecipeError(
                "schedule 'cosine' needs `warmup_steps` below `num_steps`, which leave steps to decay in; received "
                f"warmup_steps={self.warmup_steps}, num_steps={self.num_steps}."
            )
        if self.average_checkpoints > self.keep_checkpoints:
            raise RecipeError(
                "`average_checkpoints` must not exceed `keep_checkpoints`, beyond which checkpoints are deleted; "
                f"received average_checkpoints={self.average_checkpoints}, keep_checkpoints={self.keep_checkpoints}."
            )
        num_checkpoints = math.ceil(self.num_steps / self.checkpoint_steps)
        if self.average_checkpoints > num_checkpoints:
            raise RecipeError(
                "`average_checkpoints` must not exceed the checkpoints of the run, num_steps / checkpoint_steps = "
                f"{num_checkpoints}; received average_checkpoints={self.average_checkpoints}."
            )
        if self.seed >= 2**32:
            raise RecipeError(f"`seed` must be below 2**32; received seed={self.seed}.")
