"""Each contradiction in a training configuration is named with its value and the way out."""

import subprocess
import sys

import pytest

from tfzoo.errors import RecipeError
from tfzoo.training import TrainingConfig

VALID = {"num_steps": 40, "checkpoint_steps": 10, "learning_rate": 0.5, "warmup_steps": 8}


def test_defaults_are_the_papers():
    config = TrainingConfig(**VALID)
    assert (config.beta_2, config.epsilon, config.label_smoothing) == (0.98, 1e-9, 0.1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_steps": 0}, "`num_steps` must be at least 1; received num_steps=0."),
        ({"checkpoint_steps": 0}, "`checkpoint_steps` must be at least 1; received checkpoint_steps=0."),
        ({"keep_checkpoints": 0}, "`keep_checkpoints` must be at least 1; received keep_checkpoints=0."),
        ({"warmup_steps": -1}, "`warmup_steps` must be at least 0; received warmup_steps=-1."),
        ({"accumulation_steps": 0}, "`accumulation_steps` must be at least 1; received accumulation_steps=0."),
        ({"average_checkpoints": -1}, "`average_checkpoints` must be at least 0; received average_checkpoints=-1."),
        ({"average_checkpoints": 4}, "received average_checkpoints=4, keep_checkpoints=3."),
        ({"average": "bets"}, "`average` must be one of last, best; received average='bets'. Did you mean 'best'?"),
        (
            {"average_checkpoints": 5, "keep_checkpoints": 5},
            "num_steps / checkpoint_steps = 4; received average_checkpoints=5.",
        ),
        ({"early_stopping_patience": -1}, "`early_stopping_patience` must be at least 0; received"),
        ({"seed": -1}, "`seed` must be at least 0; received seed=-1."),
        ({"seed": 2**32}, "`seed` must be below 2**32; received seed=4294967296."),
        ({"learning_rate": 0.0}, "`learning_rate` must be above 0; received learning_rate=0.0."),
        ({"learning_rate": float("nan")}, "`learning_rate` must be above 0; received learning_rate=nan."),
        ({"epsilon": 0.0}, "`epsilon` must be above 0; received epsilon=0.0."),
        ({"clip_norm": -1.0}, "`clip_norm` must not be negative; received clip_norm=-1.0."),
        ({"weight_decay": -0.1}, "`weight_decay` must not be negative; received weight_decay=-0.1."),
        ({"label_smoothing": 1.0}, "`label_smoothing` must be in [0, 1); received label_smoothing=1.0."),
        ({"beta_2": 1.0}, "`beta_2` must be in [0, 1); received beta_2=1.0."),
        ({"ema_decay": 1.0}, "`ema_decay` must be in [0, 1); received ema_decay=1.0."),
        (
            {"teacher_forcing_ratio": 1.5},
            "`teacher_forcing_ratio` must be in [0, 1]; received teacher_forcing_ratio=1.5.",
        ),
        (
            {"teacher_forcing_schedule": "cosine"},
            "`teacher_forcing_schedule` must be 'constant' or 'linear'; received teacher_forcing_schedule='cosine'.",
        ),
        ({"schedule": "linaer"}, "`schedule` knows inverse_sqrt, cosine, linear; received schedule='linaer'. Did you"),
        ({"optimizer": "adamw"}, "`optimizer` knows adam, adafactor, sgd, lamb; received optimizer='adamw'. Did you"),
        (
            {"precision": "float16"},
            "`precision` knows float32, mixed_bfloat16, mixed_float16; received precision='float16'",
        ),
        ({"jit_compile": True, "accumulation_steps": 2}, "received jit_compile=True, accumulation_steps=2. Set one of"),
        ({"momentum": 1.0}, "`momentum` must be in [0, 1); received momentum=1.0."),
        ({"momentum": 0.9}, "`momentum` is of optimizer 'sgd'; received momentum=0.9, optimizer='adam'. Leave it out"),
        ({"warmup_steps": 0}, "received warmup_steps=0. Use schedule='cosine' to start at the peak."),
        ({"schedule": "cosine", "warmup_steps": 40}, "received warmup_steps=40, num_steps=40."),
        ({"schedule": "linear", "warmup_steps": 41}, "schedule 'linear' needs `warmup_steps` below `num_steps`"),
        ({"layer_decay": 0.0}, "`layer_decay` must be in (0, 1]; received layer_decay=0.0."),
        ({"layer_decay": 1.1}, "`layer_decay` must be in (0, 1]; received layer_decay=1.1."),
        ({"frozen_layers": -1}, "`frozen_layers` must be at least 0; received frozen_layers=-1."),
        ({"lora_rank": -1}, "`lora_rank` must be at least 0; received lora_rank=-1."),
        ({"lora_alpha": 0.0}, "`lora_alpha` must be above 0; received lora_alpha=0.0."),
        (
            {"lora_rank": 4, "frozen_layers": 2},
            "`lora_rank` freezes every block already; set `frozen_layers` to 0; received lora_rank=4, frozen_layers=2.",
        ),
        ({"initial_checkpoint": ""}, "`initial_checkpoint` must name something, or be null; received"),
    ],
)
def test_contradictions(changes, message):
    with pytest.raises(RecipeError) as caught:
        TrainingConfig(**VALID | changes)
    assert message in str(caught.value)


def test_needs_no_tensorflow():
    code = "import sys; from tfzoo.training import TrainingConfig; assert 'tensorflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
