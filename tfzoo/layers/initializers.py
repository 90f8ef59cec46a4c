"""How weights begin."""

from __future__ import annotations

import keras


def kernel_initializer(stddev: float | None) -> keras.initializers.Initializer:
    """A new initializer for one kernel; each draws numbers of its own.

    Args:
        stddev: standard deviation of a normal distribution; None = uniform, by the kernel's size (Glorot & Bengio,
            2010, equation 16).
    """
    return keras.initializers.GlorotUniform() if stddev is None else keras.initializers.RandomNormal(stddev=stddev)
