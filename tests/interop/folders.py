"""Checkpoints in Hugging Face's layout, to be changed by tests, and what the runs that they become are held to."""

import json
import re

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests import tiny_run
from tfzoo.errors import CheckpointError
from tfzoo.interop import hf
from tfzoo.recipes.recipe import from_json
from tfzoo.training import checkpoints


def read_config(folder):
    return json.loads((folder / "config.json").read_bytes())


def edit_config(folder, **changes):
    """Changes fields; `...` takes one away."""
    kept = {name: value for name, value in (read_config(folder) | changes).items() if value is not ...}
    (folder / "config.json").write_text(json.dumps(kept), encoding="utf-8")


def edit_tensors(folder, change):
    save_file(change(load_file(folder / "model.safetensors")), folder / "model.safetensors")


def without(name):
    """A change of tensors."""
    return lambda tensors: {key: value for key, value in tensors.items() if key != name}


def plus(name, value):
    """A change of tensors."""
    return lambda tensors: tensors | {name: value}


def recipe_of(run_dir):
    return from_json((run_dir / "recipe.json").read_text(encoding="utf-8"))


def weights(run_dir):
    return checkpoints.read_weights(checkpoints.newest(run_dir))


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == np.float32
        assert np.array_equal(found[name], value), name


def refusal(folder, tmp_path):
    """Returns what asserts that the folder, below `tmp_path`, is refused with a message and nothing is left behind."""

    def refused(pattern, error=CheckpointError):
        before = tiny_run.digest(tmp_path)
        with pytest.raises(error) as raised:
            hf.read_checkpoint(folder, tmp_path / "run")
        assert re.search(pattern, str(raised.value)), raised.value
        assert "\n" not in str(raised.value)
        assert tiny_run.digest(tmp_path) == before

    return refused
