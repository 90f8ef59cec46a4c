"""What two runs are compared by: their state, their checkpoints and their records but for the times."""

import json

import numpy as np
from safetensors.numpy import load_file

from tfzoo.training import checkpoints

TIMES = {"seconds", "tokens_per_second", "examples_per_second", "flops_utilisation", "peak_memory_bytes"}


def without_times(history):
    return [{name: value for name, value in record.items() if name not in TIMES} for record in history]


def read_metrics(run_dir):
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def saved_state(run_dir, step):
    return load_file(checkpoints.at(run_dir, step).tensors_path)


def assert_same_state(one, two):
    """Of two models and their optimizers."""
    for first, second in zip(one.variables, two.variables, strict=True):
        np.testing.assert_array_equal(first.numpy(), second.numpy(), err_msg=first.path)
    for first, second in zip(one.optimizer.variables, two.optimizer.variables, strict=True):
        np.testing.assert_array_equal(first.numpy(), second.numpy(), err_msg=first.path)


def assert_same_checkpoints(one, two):
    """Of two run folders: the same steps, and at each of them the same tensors."""
    assert checkpoints.steps(one) == checkpoints.steps(two)
    for step in checkpoints.steps(one):
        first, second = (saved_state(run_dir, step) for run_dir in (one, two))
        assert first.keys() == second.keys()
        for name, value in first.items():
            np.testing.assert_array_equal(second[name], value, err_msg=f"{name} of step {step}")
