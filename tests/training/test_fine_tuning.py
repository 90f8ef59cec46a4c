"""What learns, and how fast, by layer: rates, frozen layers and adapters."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.training import encoder, tiny
from tfzoo.errors import CheckpointError, RecipeError
from tfzoo.models import GPT2, GPT2Config, LstmLanguageModel, LstmLmConfig, Transformer, TransformerConfig
from tfzoo.training import averaging, checkpoints, fit
from tfzoo.training.fine_tuning import adapter_scales, depth, rate_multipliers, restrict

LORA = {"lora_rank": 2, "lora_alpha": 6.0, "learning_rate": 0.05}


def weights(model):
    return {weight.path.removeprefix(f"{model.name}/"): weight.numpy() for weight in model.weights}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("embedding", 0),
        ("segment_embedding", 0),
        ("positions", 0),
        ("embedding_normalization", 0),
        ("encoder_positions", 0),
        ("block_0", 1),
        ("block_11", 12),
        ("decoder_block_2", 3),
        ("lstm_1", 2),
        ("pooler", -1),
        ("normalization", -1),
        ("masked_lm_bias", -1),
        ("text_classification", -1),
    ],
)
def test_depth(name, expected):
    assert depth(name) == expected


def test_multipliers_fall_from_the_head_down():
    model = encoder.new_model("text_classification")
    half = {"block_1": 0.5, "block_0": 0.25}
    below = dict.fromkeys(("embedding", "segment_embedding", "positions", "embedding_normalization"), 0.125)
    assert rate_multipliers(model, 0.5) == half | below
    assert rate_multipliers(model, 1.0) == {}


def small_models():
    sizes = {"vocabulary_size": 11, "hidden_dim": 4, "num_layers": 2}
    heads = {"intermediate_dim": 6, "num_heads": 2}
    return {
        "gpt2": GPT2(GPT2Config(**sizes, **heads, pad_id=0, start_id=0, end_id=0)),
        "lstm_lm": LstmLanguageModel(LstmLmConfig(**sizes, embedding_dim=3)),
        "transformer": Transformer(TransformerConfig(**sizes, **heads)),
    }


def test_every_family_has_layers():
    expected = {
        "gpt2": {"block_1": 0.5, "block_0": 0.25, "embedding": 0.125, "positions": 0.125},
        "lstm_lm": {"lstm_1": 0.5, "lstm_0": 0.25, "embedding": 0.125},
        "transformer": {
            **{"encoder_block_1": 0.5, "encoder_block_0": 0.25, "embedding": 0.125},
            **{"decoder_block_1": 0.5, "decoder_block_0": 0.25},
        },
    }
    assert {name: rate_multipliers(model, 0.5) for name, model in small_models().items()} == expected


@pytest.mark.parametrize("field", [{"layer_decay": 0.5}, {"frozen_layers": 1}, {"lora_rank": 1}])
def test_a_model_without_layers_is_refused(tmp_path, field):
    message = f"`{next(iter(field))}` needs a model whose variables' paths tell its blocks.*those of 'tiny' do not"
    with pytest.raises(RecipeError, match=message):
        fit(tiny.new_model(), tiny.train_dataset, tiny.config(**field), tmp_path, verbose=0)


def test_what_cannot_be_frozen_or_adapted_is_refused():
    with pytest.raises(RecipeError, match="`frozen_layers` must not exceed the 2 blocks of 'bert'; received .*=3"):
        restrict(encoder.new_model("text_classification"), encoder.config(frozen_layers=3))
    with pytest.raises(RecipeError, match="`frozen_layers` leaves nothing of 'bert' to learn, which has no head"):
        restrict(encoder.new_model("text_embedding"), encoder.config(frozen_layers=2))
    with pytest.raises(RecipeError, match="`lora_rank` adapts attention, and 'lstm_lm' has none"):
        restrict(small_models()["lstm_lm"], encoder.config(lora_rank=2))


@pytest.mark.parametrize("frozen_layers", [1, 2])
def test_frozen_layers_do_not_move_by_a_bit(tmp_path, frozen_layers):
    model = encoder.new_model("text_classification")
    before = weights(model)
    numbers = {"frozen_layers": frozen_layers, "weight_decay": 0.1, "ema_decay": 0.5, "layer_decay": 0.9}
    encoder.train(tmp_path, "text_classification", model, **numbers)
    for path, after in weights(model).items():
        frozen = -1 < depth(path.partition("/")[0]) <= frozen_layers
        # Softmax does not see what all keys share.
        if frozen or not path.endswith("key/bias"):
            assert np.array_equal(after, before[path]) == frozen, path
    saved = checkpoints.read_weights(checkpoints.newest(tmp_path))
    assert np.array_equal(saved["block_0/self_attention/query/kernel"], before["block_0/self_attention/query/kernel"])


def adapted(tmp_path, name="run", **changes):
    return encoder.train(tmp_path / name, "text_classification", **LORA | changes)


def test_adapters_and_the_head_learn_and_nothing_else(tmp_path):
    before = weights(encoder.new_model("text_classification"))
    model, _ = adapted(tmp_path)
    after = weights(model)
    new = {path for path in after if path not in before}
    kernels = {f"block_{i}/self_attention/{name}" for i in (0, 1) for name in ("query", "value")}
    assert new == {f"{kernel}/lora_kernel_{letter}" for kernel in kernels for letter in "ab"}
    moved = {path for path in before if not np.array_equal(before[path], after[path])}
    assert moved == {f"{layer}/{name}" for layer in ("pooler", "text_classification") for name in ("kernel", "bias")}
    assert {path.removeprefix("bert/") for path in map(lambda v: v.path, model.trainable_variables)} == new | moved
    assert all(np.abs(after[path]).max() > 0.01 for path in new)
    assert adapter_scales(model) == dict.fromkeys(kernels, 3.0)


def test_a_run_has_them_merged(tmp_path):
    model, _ = adapted(tmp_path)
    plain = encoder.new_model("text_classification", seed=99)
    checkpoints.load_weights(plain, checkpoints.newest(tmp_path / "run"))
    inputs = next(iter(encoder.train_dataset("text_classification")(0)))[0]
    expected = model(inputs).numpy()
    np.testing.assert_allclose(plain(inputs), expected, rtol=0, atol=1e-6)
    after, merged = weights(model), weights(plain)
    for path in merged:
        kernel = after[path].astype(np.float64)
        if f"{path.removesuffix('/kernel')}/lora_kernel_a" in after:
            a, b = (after[f"{path.removesuffix('kernel')}lora_kernel_{letter}"] for letter in "ab")
            kernel = kernel + 3.0 * a.astype(np.float64) @ b
            assert np.abs(merged[path] - after[path]).max() > 1e-3
        np.testing.assert_allclose(merged[path], kernel, rtol=0, atol=1e-7, err_msg=path)
    # So does the adapted model itself, given the same weights, and the .keras file of it.
    checkpoints.load_weights(model, checkpoints.newest(tmp_path / "run"))
    assert np.array_equal(model(inputs), plain(inputs))


def test_a_keras_file_of_an_adapted_model_is_plain(tmp_path):
    model, _ = adapted(tmp_path)
    inputs = next(iter(encoder.train_dataset("text_classification")(0)))[0]
    model.save(tmp_path / "model.keras")
    # Its optimizer knows the adapters, and Keras leaves out what it cannot load.
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    assert len(again.weights) == len(encoder.new_model("text_classification").weights)
    np.testing.assert_allclose(again(inputs), model(inputs), rtol=0, atol=1e-6)


def test_the_mean_of_checkpoints_is_that_of_merged_kernels(tmp_path):
    adapted(tmp_path, keep_checkpoints=2)
    each = [checkpoints.read_weights(one) for one in averaging.last(tmp_path / "run", 2)]
    mean = checkpoints.read_weights(*averaging.last(tmp_path / "run", 2))
    assert not any("lora" in path for path in mean)
    for path, value in mean.items():
        np.testing.assert_allclose(value, (each[0][path] + each[1][path]) / 2, rtol=0, atol=1e-7)


def test_adapters_that_count_otherwise_are_refused(tmp_path):
    adapted(tmp_path, num_steps=2)
    with pytest.raises(CheckpointError, match="its adapters count otherwise. Set `lora_rank` and `lora_alpha` as the"):
        adapted(tmp_path, lora_alpha=7.0)
    with pytest.raises(CheckpointError, match="lora_kernel_a' is float32"):
        adapted(tmp_path, lora_rank=3)
    with pytest.raises(CheckpointError, match="does not fit the model: 'optimizer/adam/.*' is in the model only"):
        adapted(tmp_path, lora_rank=0)


def test_a_run_that_begins_with_weights_is_adapted(tmp_path):
    begun = weights(encoder.new_model("text_classification", seed=5))
    checkpoints.begin(tmp_path / "run", begun)
    model, history = adapted(tmp_path)
    assert [record["step"] for record in history][-2:] == [2, 4]
    after = weights(model)
    path = "block_1/self_attention/query/kernel"
    assert np.array_equal(after[path], begun[path])


def test_in_half_precision_the_adapters_stay_in_float32(tmp_path):
    model = encoder.new_model("text_classification", dtype="mixed_bfloat16")
    encoder.train(tmp_path, "text_classification", model, **LORA)
    assert {variable.dtype for variable in model.trainable_variables} == {"float32"}
    plain = encoder.new_model("text_classification", dtype="mixed_bfloat16")
    checkpoints.load_weights(plain, checkpoints.newest(tmp_path))
    inputs = next(iter(encoder.train_dataset("text_classification")(0)))[0]
    np.testing.assert_allclose(plain(inputs), model(inputs), rtol=0, atol=0.02)


def test_the_first_adapters_add_nothing():
    model = encoder.new_model("text_classification")
    inputs = next(iter(encoder.train_dataset("text_classification")(0)))[0]
    before = model(inputs).numpy()
    restrict(model, encoder.config(lora_rank=3))
    np.testing.assert_array_equal(model(inputs), before)
    dense = model.blocks[0].self_attention.query_dense
    # As in the authors' code: uniform up to 1 / sqrt(width).
    assert 0.5 < np.abs(dense.lora_kernel_a.numpy()).max() * encoder.CONFIG.hidden_dim**0.5 <= 1
    other = model.blocks[1].self_attention.query_dense
    assert not np.array_equal(dense.lora_kernel_a, other.lora_kernel_a)


def test_a_layers_rate_is_what_it_says(tmp_path):
    """One step of Adam, whose first update is the rate itself, whatever the gradient."""
    model = encoder.new_model("text_classification")
    before = weights(model)
    encoder.train(tmp_path, "text_classification", model, layer_decay=0.5, num_steps=1, warmup_steps=0, epsilon=1e-12)
    steps = {path: np.abs(after - before[path]).max() for path, after in weights(model).items()}
    for layer, rate in {"text_classification": 1.0, "block_1/feed_forward": 0.5, "block_0/feed_forward": 0.25}.items():
        for path, step in steps.items():
            if path.startswith(layer):
                assert step == pytest.approx(0.02 * rate, rel=1e-3), path
    assert steps["embedding/table"] == pytest.approx(0.02 * 0.125, rel=1e-3)


def test_dropout_of_frozen_layers_stays():
    config = dataclasses.replace(encoder.CONFIG, dropout=0.5)
    model = encoder.new_model("text_classification", config=config)
    restrict(model, encoder.config(frozen_layers=2))
    inputs = next(iter(encoder.train_dataset("text_classification")(0)))[0]
    hidden = [model.encode(inputs, training=True) for _ in range(2)]
    assert not np.array_equal(*hidden)
    assert isinstance(hidden[0], tf.Tensor)
