"""How to train: steps, learning rate, regularization and checkpoints, readable without TensorFlow."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal, get_args

from tfzoo.errors import RecipeError, nearest

Schedule = Literal["inverse_sqrt", "cosine", "linear"]
Average = Literal["last", "best"]
Optimizer = Literal["adam", "adafactor", "sgd", "lamb"]
Precision = Literal["float32", "mixed_bfloat16", "mixed_float16"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """One training run. The defaults are those of Vaswani et al., 2017, section 5, where it states them.

    Args:
        num_steps: optimizer updates in the whole run.
        checkpoint_steps: steps between two checkpoints; each one also validates. The last step always has one.
        learning_rate: the peak, reached after `warmup_steps`.
        warmup_steps: steps of linear warm-up from 0; "inverse_sqrt" needs at least 1.
        schedule: after the warm-up, "inverse_sqrt" (the paper), or "cosine" or "linear" down to 0 at `num_steps`.
        optimizer: "adam", "adafactor" (Shazeer and Stern, 2018: a matrix costs the memory of a row and a column, and
            the learning rate is relative to the size of each variable), "sgd" or "lamb" (You et al., 2020: for very
            large batches).
        momentum: in [0, 1), of "sgd".
        accumulation_steps: batches whose gradients make one update, as if they were one batch: what a batch's memory
            limits, more of them make up for. Steps remain updates.
        precision: what a model is computed in while it is trained: "float32", or "mixed_bfloat16" or "mixed_float16",
            where the weights and their updates stay float32; with "mixed_float16" the loss is scaled, and an update
            whose gradient overflows is left out. A run predicts and is exported in float32.
        recompute: whether the activations within a block are computed again for its gradient, instead of being kept
            (see `tfzoo.training.recomputation`): less memory for a third more work.
        jit_compile: whether XLA compiles the training step, once for each shape of a batch.
        label_smoothing: probability in [0, 1) that is spread evenly over the vocabulary, or over a text's classes.
        clip_norm: largest global norm of the gradient; 0 = no clipping.
        beta_2: decay in [0, 1) of the second moment of "adam" and "lamb"; the other optimizers have none.
        epsilon: added to the denominator of "adam" and "lamb".
        weight_decay: decoupled weight decay (AdamW) per step, times the learning rate; never of biases and of the
            scales and shifts of normalizations; 0 = none.
        layer_decay: factor in (0, 1] by which the learning rate falls from each layer to the one below it (Howard and
            Ruder, 2018, section 3.2): the head learns at the full rate, the last block at `layer_decay` times it, and
            the embeddings, below the first block, the slowest; 1 = all alike.
        frozen_layers: blocks, from the first on, that do not learn, nor do the embeddings below them; their dropout
            stays; 0 = all learn.
        lora_rank: rank of the adapters that learn in place of the blocks and embeddings, on the queries and values of
            each attention (Hu et al., 2021, section 4); what stands behind the last block learns too. A run's model has
            them merged. 0 = none.
        lora_alpha: the adapters count `lora_alpha` / `lora_rank` times.
        initial_checkpoint: what the run begins with: "sample:NAME", the folder of a run of the same family, or one of
            Hugging Face's. Its tokenizer is the run's; weights that it lacks start fresh. None = all do.
        ema_decay: decay in [0, 1) of an exponential moving average of the weights, which begins with the weights after
            the first update. It is validated, predicted with and exported in place of the trained weights; 0 = off.
        keep_checkpoints: newest checkpoints to keep; the best one, or those to be averaged, are kept besides.
        average_checkpoints: predict, evaluate and export with the mean of the weights of so many checkpoints (section
            6.1 of the paper takes the last 5) instead of the best one's; 0 = off.
        average: which these are, the "last" or the "best" by `monitor`.
        teacher_forcing_ratio: probability in [0, 1] that a recurrent decoder reads a true token and not its own
            prediction (Bengio et al., 2015).
        teacher_forcing_schedule: "constant", or "linear" from 1 at the first step to the ratio at `num_steps`.
        monitor: name of the measure that decides which checkpoint is best, and early stopping: by validation, or by
            training where there is none; "" = the task's usual one (see `tfzoo.training.measures`).
        early_stopping_patience: checkpoints in a row that are not better before training stops; 0 = off.
        seed: of the initial weights and the dropout masks.

    Raises:
        RecipeError: a number is out of its range, or two contradict each other.
    """

    num_steps: int
    checkpoint_steps: int
    learning_rate: float
    warmup_steps: int
    schedule: Schedule = "inverse_sqrt"
    optimizer: Optimizer = "adam"
    momentum: float = 0.0
    accumulation_steps: int = 1
    precision: Precision = "float32"
    recompute: bool = False
    jit_compile: bool = False
    label_smoothing: float = 0.1
    clip_norm: float = 1.0
    beta_2: float = 0.98
    epsilon: float = 1e-9
    weight_decay: float = 0.0
    layer_decay: float = 1.0
    frozen_layers: int = 0
    lora_rank: int = 0
    lora_alpha: float = 16.0
    initial_checkpoint: str | None = None
    ema_decay: float = 0.0
    keep_checkpoints: int = 3
    average_checkpoints: int = 0
    average: Average = "last"
    teacher_forcing_ratio: float = 1.0
    teacher_forcing_schedule: Literal["constant", "linear"] = "constant"
    monitor: str = ""
    early_stopping_patience: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low in (
            ("num_steps", 1),
            ("checkpoint_steps", 1),
            ("accumulation_steps", 1),
            ("keep_checkpoints", 1),
            ("warmup_steps", 0),
            ("frozen_layers", 0),
            ("lora_rank", 0),
            ("average_checkpoints", 0),
            ("early_stopping_patience", 0),
            ("seed", 0),
        ):
            if getattr(self, name) < low:
                raise RecipeError(f"`{name}` must be at least {low}; received {name}={getattr(self, name)}.")
        for name in ("learning_rate", "epsilon", "lora_alpha"):
            if not getattr(self, name) > 0:
                raise RecipeError(f"`{name}` must be above 0; received {name}={getattr(self, name)}.")
        for name in ("clip_norm", "weight_decay"):
            if not getattr(self, name) >= 0:
                raise RecipeError(f"`{name}` must not be negative; received {name}={getattr(self, name)}.")
        for name in ("label_smoothing", "momentum", "beta_2", "ema_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise RecipeError(f"`{name}` must be in [0, 1); received {name}={getattr(self, name)}.")
        if not 0 <= self.teacher_forcing_ratio <= 1:
            raise RecipeError(
                "`teacher_forcing_ratio` must be in [0, 1]; received "
                f"teacher_forcing_ratio={self.teacher_forcing_ratio}."
            )
        if self.teacher_forcing_schedule not in ("constant", "linear"):
            raise RecipeError(
                "`teacher_forcing_schedule` must be 'constant' or 'linear'; received "
                f"teacher_forcing_schedule={self.teacher_forcing_schedule!r}."
            )
        if not 0 < self.layer_decay <= 1:
            raise RecipeError(f"`layer_decay` must be in (0, 1]; received layer_decay={self.layer_decay}.")
        if self.lora_rank and self.frozen_layers:
            raise RecipeError(
                "`lora_rank` freezes every block already; set `frozen_layers` to 0; received "
                f"lora_rank={self.lora_rank}, frozen_layers={self.frozen_layers}."
            )
        if self.jit_compile and self.accumulation_steps > 1:
            raise RecipeError(
                "`jit_compile` compiles a step of one batch, which reads no data; received jit_compile=True, "
                f"accumulation_steps={self.accumulation_steps}. Set one of the two back."
            )
        if self.initial_checkpoint == "":
            raise RecipeError("`initial_checkpoint` must name something, or be null; received initial_checkpoint=''.")
        for name, known in (
            ("schedule", get_args(Schedule)),
            ("optimizer", get_args(Optimizer)),
            ("precision", get_args(Precision)),
        ):
            if getattr(self, name) not in known:
                raise RecipeError(
                    f"`{name}` knows {', '.join(known)}; received {name}={getattr(self, name)!r}."
                    f"{nearest(getattr(self, name), known)}"
                )
        if self.momentum and self.optimizer != "sgd":
            raise RecipeError(
                f"`momentum` is of optimizer 'sgd'; received momentum={self.momentum}, optimizer={self.optimizer!r}. "
                "Leave it out: 'adam' and 'lamb' have their own."
            )
        if self.schedule == "inverse_sqrt" and self.warmup_steps < 1:
            raise RecipeError(
                "schedule 'inverse_sqrt' needs `warmup_steps` of at least 1: the learning rate decays from there; "
                f"received warmup_steps={self.warmup_steps}. Use schedule='cosine' to start at the peak."
            )
        if self.schedule != "inverse_sqrt" and self.warmup_steps >= self.num_steps:
            raise RecipeError(
                f"schedule {self.schedule!r} needs `warmup_steps` below `num_steps`, which leave steps to decay in; "
                f"received warmup_steps={self.warmup_steps}, num_steps={self.num_steps}."
            )
        if self.average not in get_args(Average):
            raise RecipeError(
                f"`average` must be one of {', '.join(get_args(Average))}; received average={self.average!r}."
                f"{nearest(self.average, get_args(Average))}"
            )
        if self.average == "last" and self.average_checkpoints > self.keep_checkpoints:
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
