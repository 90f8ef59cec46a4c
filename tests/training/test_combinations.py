"""What docs/training.md says of precision, moving averages, recomputation and XLA on one device and on two."""

import contextlib
import dataclasses
import pathlib
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.tolerances import tolerance
from tests.training import encoder
from tfzoo.errors import RecipeError
from tfzoo.training import checkpoints
from tfzoo.training.combinations import check_combination
from tfzoo.training.utilisation import peak_flops_per_second

DOCS = (pathlib.Path(__file__).parents[2] / "docs/training.md").read_text(encoding="utf-8")
TASK = "text_classification"
# Without dropout, whose masks differ by replica.
MODEL = dataclasses.replace(encoder.CONFIG, dropout=0.0, num_layers=1)
NUMBERS = {"num_steps": 2, "checkpoint_steps": 1, "warmup_steps": 0, "ema_decay": 0.5}


def new_model(precision="float32"):
    return encoder.new_model(TASK, config=MODEL, dtype=precision)


def train(run_dir, model, **changes):
    return encoder.train(run_dir, TASK, model, precision=model.dtype_policy.name, **NUMBERS | changes)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Two steps in float32 on one device, with a moving average."""
    return train(tmp_path_factory.mktemp("plain") / "run", new_model())


def assert_near(history, expected, rel):
    for name in ("loss", "val_loss"):
        assert [record[name] for record in history] == pytest.approx([record[name] for record in expected], rel=rel)


def test_recomputation_and_xla_change_nothing(tmp_path, plain):
    model, history = train(tmp_path, new_model(), recompute=True, jit_compile=True)
    assert model.jit_compile is True
    assert_near(history, plain[1], rel=1e-5)
    for mine, theirs in zip(model.get_weights(), plain[0].get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=tolerance("recomputed"))


def test_two_replicas_in_bfloat16_with_recomputation(tmp_path, plain, mirrored):
    with mirrored.scope():
        model = new_model("mixed_bfloat16")
    _, history = train(tmp_path, model, recompute=True)
    assert_near(history, plain[1], rel=0.02)
    assert history[-1]["val_loss"] != plain[1][-1]["val_loss"]
    # Both replicas' work counts, and nothing that is computed again.
    work = [
        records[0]["flops_utilisation"] * records[0]["seconds"] * peak_flops_per_second(dtype)
        for records, dtype in ((history, "bfloat16"), (plain[1], "float32"))
    ]
    assert work[0] == pytest.approx(work[1])


def test_float16_trains_with_a_moving_average_and_predicts_in_float32(tmp_path, plain):
    model, history = train(tmp_path, new_model("mixed_float16"))
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert_near(history, plain[1], rel=0.02)
    # The norm is that of the gradient of the loss, not of the scaled one.
    assert history[0]["gradient_norm"] == pytest.approx(plain[1][0]["gradient_norm"], rel=0.02)
    exact = new_model()
    checkpoints.load_weights(exact, checkpoints.newest(tmp_path))
    inputs, *_ = encoder.batch(TASK, 100)
    np.testing.assert_allclose(exact(inputs), model(inputs), rtol=0, atol=0.01)
    np.testing.assert_allclose(exact(inputs), plain[0](inputs), rtol=0, atol=0.05)


def test_an_overflow_in_float16_leaves_an_update_out(tmp_path):
    model = new_model("mixed_float16")
    # The loss is scaled by 2 ** 15: what is behind the classifier gets a gradient above 65,504.
    model.classifier.kernel.assign(1e3 * model.classifier.kernel)
    before = model.get_weights()
    model, history = train(tmp_path, model, ema_decay=0.0)
    for mine, theirs in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert float(model.optimizer.dynamic_scale) == 2.0**13
    assert [record["learning_rate"] for record in history] == [pytest.approx(encoder.config().learning_rate)] * 2


STRATEGIES = {
    "single": tf.distribute.get_strategy,
    "mirrored": lambda: object.__new__(tf.distribute.MirroredStrategy),
    "multi_worker": lambda: object.__new__(tf.distribute.MultiWorkerMirroredStrategy),
    "tpu": lambda: object.__new__(tf.distribute.TPUStrategy),
}


def table():
    """Field of a recipe, strategy, what docs/training.md says of them."""
    lines = DOCS.partition("## What goes with what\n\n")[2].partition("\n\n")[0].splitlines()
    header, _, *rows = [[cell.strip(" `") for cell in line.strip("| ").split("|")] for line in lines]
    return [(row[0], strategy, cell) for row in rows for strategy, cell in zip(header, row[1:], strict=True)]


@pytest.mark.parametrize(("field", "strategy", "cell"), table())
def test_what_the_table_refuses_is_refused(field, strategy, cell):
    name, _, value = field.removeprefix("training.").partition("=")
    changes = {name: value or {"ema_decay": 0.5, "accumulation_steps": 2}.get(name, True)}
    precision = keras.DTypePolicy(value or "float32")
    model = types.SimpleNamespace(distribute_strategy=STRATEGIES[strategy](), dtype_policy=precision)
    words = cell.removeprefix("refused: ")
    with contextlib.nullcontext() if words == cell else pytest.raises(RecipeError, match=words):
        check_combination(model, encoder.config(**changes))


def test_a_model_of_another_precision_is_refused(tmp_path):
    message = "`precision` must be that of the model, which is 'float32'; received precision='mixed_bfloat16'. Make"
    with pytest.raises(RecipeError, match=message):
        encoder.train(tmp_path, TASK, precision="mixed_bfloat16")
