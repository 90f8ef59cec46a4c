"""The variables that a checkpoint holds, each under a name that is the same in every process.

model/PATH and optimizer/PATH are the variables of the two; seed/0, seed/1 ... the dropout states and what a model
carries from batch to batch, in the model's own order.

Where attention is adapted (see tfzoo.training.fine_tuning), lora/PATH says how many times a layer's adapter counts.

Where the optimizer keeps a moving average of the weights, that is model/PATH, which every reader takes, and the weights
themselves are trained/PATH.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import keras
import numpy as np

from tfzoo.errors import CheckpointError
from tfzoo.training.fine_tuning import adapter_scales


def weights(model: keras.Model) -> dict[str, keras.Variable]:
    """Returns the variables that predicting needs, of a built model.

    Raises:
        CheckpointError: two variables have one path.
    """
    # Without the model's own name, which Keras numbers when a process builds a second one.
    paths = (variable.path.removeprefix(f"{model.name}/") for variable in model.weights)
    return _by_path("model", paths, model.weights)


def training_state(model: keras.Model) -> dict[str, keras.Variable]:
    """Returns all variables that the next training step depends on, of a model compiled with a built optimizer.

    Raises:
        CheckpointError: two variables have one path.
    """
    variables = weights(model)
    predicting = {id(variable) for variable in variables.values()}
    # Keras names dropout states by a counter of the process; their order is the model's own.
    seeds = [variable for variable in model.variables if id(variable) not in predicting]
    variables |= {f"seed/{index}": variable for index, variable in enumerate(seeds)}
    # "adam/MODEL_encoder_kernel_momentum" -> "optimizer/adam/encoder_kernel_momentum"
    averages = _averages(model)
    states = [variable for variable in model.optimizer.variables if id(variable) not in set(map(id, averages))]
    paths = (variable.path.replace(f"/{model.name}_", "/", 1) for variable in states)
    variables |= _by_path("optimizer", paths, states)
    names = {id(variable): name for name, variable in variables.items()}
    for trained, average in zip(model.trainable_variables, averages, strict=bool(averages)):
        name = names[id(trained)]
        variables |= {name: average, name.replace("model/", "trained/", 1): trained}
    return variables


def adapters(model: keras.Model) -> dict[str, np.ndarray]:
    """Returns how many times the adapters of each layer that has them count, () float."""
    return {f"lora/{path}": np.array(scale) for path, scale in adapter_scales(model).items()}


def values(model: keras.Model) -> dict[str, np.ndarray]:
    """Returns what a checkpoint holds of a model and its training.

    Raises:
        CheckpointError: two variables have one path.
    """
    return {name: variable.numpy() for name, variable in training_state(model).items()} | adapters(model)


def check_fit(variables: dict[str, keras.Variable], saved: dict[str, np.ndarray], path: Path) -> None:
    """Refuses tensors that are not just those of the variables.

    Args:
        variables: by name.
        saved: the tensors, by name.
        path: the file that they are from, which the error names.

    Raises:
        CheckpointError: a name is on one side only, or a shape or type differs.
    """
    differences = list(_differences(variables, saved))
    if differences:
        more = f", and {len(differences) - 1} more differences" if len(differences) > 1 else ""
        raise CheckpointError(
            f"{path} does not fit the model: {differences[0]}{more}. "
            "Build the model and its training from this run's own recipe, or train into another run_dir."
        )


def assign(variables: dict[str, keras.Variable], saved: dict[str, np.ndarray]) -> None:
    """Gives each variable its tensor; `check_fit` before, so that a model never takes a part of them."""
    for name, variable in variables.items():
        variable.assign(saved[name])


def _differences(variables: dict[str, keras.Variable], saved: dict[str, np.ndarray]) -> Iterable[str]:
    for name in sorted(variables.keys() - saved.keys()):
        yield f"{name!r} is in the model only"
    for name in sorted(saved.keys() - variables.keys()):
        yield f"{name!r} is in the checkpoint only"
    for name in sorted(variables.keys() & saved.keys()):
        theirs = f"{saved[name].dtype} {saved[name].shape}"
        ours = f"{variables[name].dtype} {tuple(variables[name].shape)}"
        if theirs != ours:
            yield f"{name!r} is {theirs} in the checkpoint and {ours} in the model"


def _averages(model: keras.Model) -> list[keras.Variable]:
    """The moving averages of the trainable variables, if there are any; Keras has no public name for them."""
    # Keras wraps the optimizer of a model in float16 into one that scales the loss.
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    return optimizer._model_variables_moving_average if optimizer.use_ema else []


def _by_path(prefix: str, paths: Iterable[str], variables: list[keras.Variable]) -> dict[str, keras.Variable]:
    named: dict[str, keras.Variable] = {}
    for path, variable in zip(paths, variables, strict=True):
        name = f"{prefix}/{path}"
        if name in named:
            raise CheckpointError(f"two variables have the path {variable.path!r}; give their layers distinct names.")
        named[name] = variable
    return named
