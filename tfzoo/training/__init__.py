"""Training: losses, optimizers and schedules for plain `compile` and `fit`, and the resumable trainer over them."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    submodules=[
        "checkpoints",
        "cluster",
        "fine_tuning",
        "losses",
        "measures",
        "metrics",
        "objectives",
        "optimizers",
        "replicas",
        "schedules",
        "strategies",
        "utilisation",
    ],
    submod_attrs={
        "config": ["TrainingConfig"],
        "recomputation": ["recomputed"],
        "replicas": ["replicated"],
        "strategies": ["strategy"],
        "tracking": ["MlflowCallback"],
        "trainer": ["fit"],
    },
)
