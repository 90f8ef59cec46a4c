"""Checkpoints hold everything, survive nothing that is damaged, and fit no other model."""

import hashlib
import json
import shutil

import keras
import numpy as np
import pytest
from safetensors import safe_open

from tests.training import tiny
from tfzoo.errors import CheckpointError
from tfzoo.training import checkpoints
from tfzoo.training.measures import best_record
from tfzoo.training.optimizers import build_optimizer


def values(model):
    return [variable.numpy() for variable in [*model.variables, *model.optimizer.variables]]


@pytest.fixture(scope="module")
def saved_run(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("run")
    checkpoints.save(tiny.compiled(), run_dir, tiny.history(2.5))
    return run_dir


@pytest.fixture
def run(saved_run, tmp_path):
    """A copy to damage."""
    return shutil.copytree(saved_run, tmp_path / "run")


def test_round_trip(run):
    model = tiny.compiled(seed=2)
    checkpoint = checkpoints.newest(run)
    assert (checkpoint.step, checkpoint.history) == (10, tiny.history(2.5))
    checkpoints.restore(model, checkpoint)
    for restored, expected in zip(values(model), values(tiny.compiled()), strict=True):
        np.testing.assert_array_equal(restored, expected)


def test_files_open_without_tfzoo(run):
    folder = run / "checkpoints" / "step-00000010"
    assert sorted(path.name for path in folder.iterdir()) == ["state.json", "state.safetensors"]
    with safe_open(folder / "state.safetensors", framework="np") as file:
        names = sorted(file.keys())
    trained = ("dense_bias", "dense_kernel", "embedding_embeddings")
    moments = [f"{name}_{moment}" for name in trained for moment in ("momentum", "velocity")]
    assert names == [
        "model/dense/bias",
        "model/dense/kernel",
        "model/embedding/embeddings",
        *(f"optimizer/adam/{name}" for name in [*moments, "iteration"]),
        "seed/0",
        "seed/1",
    ]
    fields = json.loads((folder / "state.json").read_text())
    assert fields["sha256"] == hashlib.sha256((folder / "state.safetensors").read_bytes()).hexdigest()


def test_load_weights_leaves_the_rest_alone(run):
    model = tiny.compiled(seed=2)
    checkpoints.load_weights(model, checkpoints.newest(run))
    num_weights = len(model.weights)
    weights = [variable.numpy() for variable in model.weights]
    for loaded, expected in zip(weights, tiny.compiled().get_weights(), strict=True):
        np.testing.assert_array_equal(loaded, expected)
    other = tiny.compiled(seed=2)
    assert num_weights == 3
    for variable, expected in zip(model.optimizer.variables, other.optimizer.variables, strict=True):
        np.testing.assert_array_equal(variable.numpy(), expected.numpy())


def test_a_run_that_begins_with_weights_has_them_alone(run, tmp_path):
    weights = checkpoints.read_weights(checkpoints.newest(run))
    checkpoints.begin(tmp_path / "new", weights)
    with pytest.raises(CheckpointError, match="step-00000000 exists already"):
        checkpoints.begin(tmp_path / "new", weights)
    model, before = tiny.compiled(seed=2), values(tiny.compiled(seed=2))
    checkpoint = checkpoints.best(tmp_path / "new")
    assert (checkpoint.step, checkpoint.history) == (0, [{"step": 0}])
    checkpoints.restore(model, checkpoint)
    given = {id(variable): variable.path.removeprefix("tiny/") for variable in model.weights}
    assert set(given.values()) == set(weights) == {"dense/bias", "dense/kernel", "embedding/embeddings"}
    for variable, old in zip([*model.variables, *model.optimizer.variables], before, strict=True):
        expected = weights[given[id(variable)]] if id(variable) in given else old
        assert np.array_equal(variable.numpy(), expected), variable.path


def test_the_first_measured_checkpoint_is_better_than_none(run):
    assert best_record([{"step": 0}, *tiny.history(9.0)])["step"] == 10


def test_load_weights_needs_no_optimizer(run):
    model = tiny.new_model(2)
    model({"token_ids": keras.Input((None,), dtype="int32")})
    checkpoints.load_weights(model, checkpoints.newest(run))
    np.testing.assert_array_equal(model.get_weights()[0], tiny.compiled().get_weights()[0])


def test_bfloat16_and_whole_numbers_survive(tmp_path):
    def model():
        layer = keras.layers.Dense(3, dtype="bfloat16", name="half")
        counter = keras.layers.Normalization(name="counter")
        model = keras.Sequential([keras.Input((5,)), counter, layer], name="mixed")
        model.compile(optimizer=build_optimizer(tiny.config()))
        model.optimizer.build(model.trainable_variables)
        return model

    keras.utils.set_random_seed(1)
    one = model()
    one.optimizer.iterations.assign(2**31 + 7)
    checkpoints.save(one, tmp_path, tiny.history(1.0))
    two = model()
    checkpoints.restore(two, checkpoints.newest(tmp_path))
    dtypes = {str(variable.numpy().dtype) for variable in [*two.variables, *two.optimizer.variables]}
    assert {"bfloat16", "float32", "int64"} <= dtypes
    for restored, expected in zip(values(two), values(one), strict=True):
        np.testing.assert_array_equal(restored, expected)
    assert two.optimizer.iterations.numpy() == 2**31 + 7


@pytest.mark.parametrize("place", [0, 100, 0.5, -1])
@pytest.mark.parametrize("name", ["state.safetensors", "state.json"])
def test_a_flipped_byte_is_seen(run, name, place):
    path = run / "checkpoints" / "step-00000010" / name
    content = bytearray(path.read_bytes())
    content[int(place * len(content)) if isinstance(place, float) else place] ^= 1
    path.write_bytes(content)
    assert_refused(run, f"{path} is damaged", f"Delete {path.parent} to go on from the checkpoint before it.")


@pytest.mark.parametrize("size", [0, 100])
@pytest.mark.parametrize("name", ["state.safetensors", "state.json"])
def test_a_truncated_file_is_seen(run, name, size):
    path = run / "checkpoints" / "step-00000010" / name
    path.write_bytes(path.read_bytes()[:size])
    assert_refused(run, f"{path} is damaged", f"Delete {path.parent} to go on from the checkpoint before it.")


@pytest.mark.parametrize("name", ["state.safetensors", "state.json"])
def test_a_missing_file_is_seen(run, name):
    path = run / "checkpoints" / "step-00000010" / name
    path.unlink()
    assert_refused(run, f"{path} is missing.", f"Delete {path.parent} to go on from the checkpoint before it.")


def test_edited_history_is_seen(run):
    path = run / "checkpoints" / "step-00000010" / "state.json"
    path.write_text(path.read_text().replace("2.5", "1.5"))
    assert_refused(run, f"{path} is damaged: its checksum differs.")


class WiderModel(tiny.TinyModel):
    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.first_norm = keras.layers.LayerNormalization(center=False, name="norm")

    def call(self, inputs, training=None):
        return super().call({"token_ids": inputs["token_ids"]}) + self.first_norm(keras.ops.ones((1, 1, 5)))[..., :1]


def test_another_model_is_named(run):
    missing = "'model/norm/gamma' is in the model only, and 2 more differences."
    assert_refused(run, f"does not fit the model: {missing}", "train into another run_dir", model=WiderModel())
    misshapen = "'model/dense/kernel' is float32 (6, 13) in the checkpoint and float32 (5, 13) in the model"
    assert_refused(run, misshapen, "and 5 more differences", model=tiny.TinyModel(dim=5))


def test_a_variable_too_many_is_named(tmp_path):
    checkpoints.save(tiny.compiled(model=WiderModel()), tmp_path, tiny.history(2.5))
    assert_refused(tmp_path, "'model/norm/gamma' is in the checkpoint only, and 2 more differences.")


def test_another_dtype_is_named(run):
    different = "'model/dense/bias' is float32 (13,) in the checkpoint and float16 (13,) in the model"
    assert_refused(run, different, model=tiny.new_model(dense_dtype="float16"))


def assert_refused(run_dir, *parts, model=None):
    """Restoring fails with all the parts in its message, on one line, and changes nothing."""
    model = tiny.compiled(seed=2, model=model)
    before = values(model)
    with pytest.raises(CheckpointError) as caught:
        checkpoints.restore(model, checkpoints.newest(run_dir))
    for part in parts:
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    for variable, expected in zip(values(model), before, strict=True):
        np.testing.assert_array_equal(variable, expected)


def test_two_variables_with_one_path_are_refused(tmp_path):
    layers = [keras.layers.Dense(3, name="twin"), keras.layers.Dense(3, name="twin")]

    class Twins(keras.Model):
        def __init__(self):
            super().__init__(name="twins")
            self.first, self.second = layers

        def call(self, inputs):
            return self.second(self.first(inputs))

    model = Twins()
    model(keras.Input((3,)))
    model.compile(optimizer=build_optimizer(tiny.config()))
    model.optimizer.build(model.trainable_variables)
    with pytest.raises(CheckpointError, match=r"two variables have the path 'twins/twin/kernel'; give their layers"):
        checkpoints.save(model, tmp_path, tiny.history(1.0))
    assert checkpoints.steps(tmp_path) == []


def test_nothing_is_overwritten(run):
    with pytest.raises(CheckpointError, match="step-00000010 exists already; delete it or train into another run_dir"):
        checkpoints.save(tiny.compiled(), run, tiny.history(1.0))


def test_a_run_without_checkpoints(tmp_path):
    for find in (checkpoints.newest, checkpoints.best):
        with pytest.raises(CheckpointError, match="checkpoints holds no checkpoint; train the run first"):
            find(tmp_path)


def test_newest_and_best_are_kept(tmp_path):
    model = tiny.compiled()
    nats = []
    for value in (3.0, 1.0, 2.0, 1.0, 4.0):
        nats.append(value)
        checkpoints.save(model, tmp_path, tiny.history(*nats))
        checkpoints.prune(tmp_path, 2)
    assert checkpoints.steps(tmp_path) == [20, 40, 50]
    assert checkpoints.best(tmp_path).step == 20
    assert checkpoints.newest(tmp_path).step == 50
    assert sorted(path.name[:4] for path in (tmp_path / "checkpoints").iterdir()) == ["step"] * 3


def test_a_checkpoint_between_two_records_counts_for_the_resume_alone(tmp_path):
    model = tiny.compiled()
    progress = {"loss/total": np.float32(2.5), "seconds": np.float64(1 / 3)}
    checkpoints.save_between(model, tmp_path, [], 7, progress)
    assert checkpoints.best(tmp_path).step == checkpoints.newest(tmp_path).step == 7
    checkpoints.save(model, tmp_path, tiny.history(3.0))
    checkpoints.save_between(model, tmp_path, tiny.history(3.0), 17, progress)
    checkpoints.prune(tmp_path, 1)
    assert checkpoints.steps(tmp_path) == [10, 17]
    assert checkpoints.best(tmp_path).step == 10
    between = checkpoints.newest(tmp_path)
    assert (between.step, between.history) == (17, tiny.history(3.0))
    assert checkpoints.read_progress(between) == progress
    assert checkpoints.read_progress(checkpoints.best(tmp_path)) == {}
    other = tiny.compiled(seed=2)
    checkpoints.restore(other, between)
    for restored, expected in zip(values(other), values(model), strict=True):
        np.testing.assert_array_equal(restored, expected)
    checkpoints.save(model, tmp_path, tiny.history(3.0, 4.0))
    checkpoints.prune(tmp_path, 2)
    assert checkpoints.steps(tmp_path) == [10, 20]


def test_half_written_folders_are_ignored_and_cleaned(run):
    half = run / "checkpoints" / ".tmp-step-00000020"
    half.mkdir()
    (half / "state.safetensors").write_bytes(b"half")
    assert checkpoints.newest(run).step == 10
    checkpoints.clean(run)
    assert not half.exists()
    assert checkpoints.steps(run) == [10]
