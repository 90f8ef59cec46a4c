"""What of a model learns, and how fast: learning rates by layer, frozen layers, and adapters of low rank.

A variable's layer is read off its path: embeddings and positions are layer 0, block_0 (encoder_block_0, lstm_0 ...) is
layer 1, and what is neither is the head, above all blocks. Where a model has two stacks, both count from 0.

Adapters are those of Hu et al., 2021 (https://arxiv.org/abs/2106.09685), section 4: an attention's kernels of queries
and values become kernel + scale * A B, where A and B, of a small rank, learn and the kernel does not. Keras' own do the
work (`keras.layers.Dense.enable_lora`), with A drawn as in the authors' code.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import keras
import numpy as np

from tfzoo.errors import RecipeError
from tfzoo.layers.attention import MultiHeadAttention
from tfzoo.training.config import TrainingConfig

_BLOCK = re.compile(r"(?:\w+_)?(?:block|lstm)_(\d+)")
_EMBEDDING = re.compile(r"\w*(?:embedding|positions)\w*")
_A, _B = "lora_kernel_a", "lora_kernel_b"
_HEAD = -1


def restrict(model: keras.Model, config: TrainingConfig) -> None:
    """Freezes what is not to learn, and adds the adapters that are; before the model is compiled.

    Raises:
        RecipeError: the model has no such layers, fewer than are to be frozen, no attention to adapt, or nothing else.
    """
    if not config.lora_rank and not config.frozen_layers:
        return
    depths = _depths(model, "lora_rank" if config.lora_rank else "frozen_layers")
    num_layers = max(depths.values())
    if config.frozen_layers > num_layers:
        raise RecipeError(
            f"`frozen_layers` must not exceed the {num_layers} blocks of {model.name!r}; received "
            f"frozen_layers={config.frozen_layers}."
        )
    last = num_layers if config.lora_rank else config.frozen_layers
    for variable in model.trainable_variables:
        if 0 <= depths[variable.path] <= last and not variable.path.endswith((_A, _B)):
            variable.trainable = False
    if config.lora_rank:
        _adapt(model, config.lora_rank, config.lora_alpha)
    if not model.trainable_variables:
        raise RecipeError(
            f"`frozen_layers` leaves nothing of {model.name!r} to learn, which has no head; received "
            f"frozen_layers={config.frozen_layers}. Freeze fewer."
        )


def rate_multipliers(model: keras.Model, layer_decay: float) -> dict[str, float]:
    """Returns what each layer's learning rate is multiplied by: `layer_decay` to the power of the layers above it.

    The head counts as one layer. Of 2 blocks and a decay of 0.5: embeddings 0.125, block_0 0.25, block_1 0.5, head 1.

    Args:
        model: built, and restricted.
        layer_decay: in (0, 1].

    Returns: name of a layer, which its variables' paths hold -> multiplier; nothing at 1.

    Raises:
        RecipeError: the model's paths tell no layers.
    """
    if layer_decay == 1:
        return {}
    depths = _depths(model, "layer_decay")
    top = max(depths.values()) + 1
    trained = {variable.path for variable in model.trainable_variables}
    return {
        _layer(path, model): layer_decay ** (top - number)
        for path, number in depths.items()
        if number != _HEAD and path in trained
    }


def depth(name: str) -> int:
    """Returns which layer a variable belongs to: 0 = embeddings, 1 = the first block ..., -1 = the head.

    Args:
        name: the first part of the variable's path below the model's name.
    """
    block = _BLOCK.fullmatch(name)
    if block:
        return int(block[1]) + 1
    return 0 if _EMBEDDING.fullmatch(name) else _HEAD


def adapter_scales(model: keras.Model) -> dict[str, float]:
    """Returns path of a layer below the model's name -> how many times its adapter counts; nothing without adapters."""
    return {
        _below(dense.lora_kernel_a.path, model).removesuffix(f"/{_A}"): dense.lora_alpha / dense.lora_rank
        for dense in _adaptable(model)
        if dense.lora_enabled
    }


def without_effect(path: str, weight: keras.Variable) -> np.ndarray | None:
    """Returns a value for a variable of an adapter with which it adds nothing; None for any other variable."""
    return np.zeros(weight.shape, weight.dtype) if path.endswith((f"/{_A}", f"/{_B}")) else None


def merge(weights: Mapping[str, np.ndarray], scales: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns weights without adapters: each kernel has what its adapter adds.

    Args:
        weights: variable path -> value.
        scales: from `adapter_scales`.
    """
    merged = dict(weights)
    for path, scale in scales.items():
        a, b = (merged.pop(f"{path}/{name}").astype(np.float64) for name in (_A, _B))
        kernel = merged[f"{path}/kernel"]
        merged[f"{path}/kernel"] = (kernel + float(scale) * (a @ b)).astype(kernel.dtype)
    return merged


def _adapt(model: keras.Model, rank: int, alpha: float) -> None:
    adaptable = list(_adaptable(model))
    if not adaptable:
        raise RecipeError(
            f"`lora_rank` adapts attention, and {model.name!r} has none; received lora_rank={rank}. Set it to 0; "
            "`frozen_layers` and `layer_decay` suit any model of blocks."
        )
    for dense in adaptable:
        # A model that was trained in this process before has them.
        if not dense.lora_enabled:
            uniform = keras.initializers.VarianceScaling(1 / 3, mode="fan_in", distribution="uniform")
            dense.enable_lora(rank, lora_alpha=alpha, a_initializer=uniform)


def _adaptable(model: keras.Model) -> Iterator[keras.layers.Dense]:
    # Keras has no public name for all layers of a model, those within other layers included.
    for layer in model._flatten_layers():
        if isinstance(layer, MultiHeadAttention):
            yield from (layer.query_dense, layer.value_dense)


def _depths(model: keras.Model, field: str) -> dict[str, int]:
    """Path of each variable -> its layer."""
    depths = {weight.path: depth(_layer(weight.path, model)) for weight in model.weights}
    if max(depths.values(), default=0) < 1:
        raise RecipeError(
            f"`{field}` needs a model whose variables' paths tell its blocks, as block_0/...; those of {model.name!r} "
            f"do not. Leave `{field}` out."
        )
    return depths


def _layer(path: str, model: keras.Model) -> str:
    return _below(path, model).partition("/")[0]


def _below(path: str, model: keras.Model) -> str:
    return path.removeprefix(f"{model.name}/")
