"""A run begins with another's weights and tokenizer, or says what does not fit."""

import dataclasses
import json
import shutil

import keras
import numpy as np
import pytest

from tests.tiny_run import digest
from tfzoo import initial_checkpoint, runs, zoo
from tfzoo.errors import CheckpointError, RecipeError, UsageError
from tfzoo.interop import hf
from tfzoo.recipes.recipe import override
from tfzoo.run_folder import begin, build_model, prepare
from tfzoo.text import TokenizerPair, train_pair
from tfzoo.training import checkpoints

pytestmark = pytest.mark.xdist_group("initial_checkpoint")

TEXTS = ["The heron stands in the river.", "A heron waits for fish.", "Rain fills the river, and the fish wait."]
# The rates of this schedule do not depend on the number of steps.
SETTINGS = [
    "training.num_steps=2",
    "training.checkpoint_steps=1",
    "training.warmup_steps=1",
    "training.schedule=inverse_sqrt",
    "data.batch_size=2",
    "data.sequence_length=8",
]
# With such a rate a step changes no bit.
STILL = "training.learning_rate=1e-30"


def write(path, lines):
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def language_model(tmp_path_factory):
    """A run of a tiny GPT-2, two steps long, and a recipe that goes on from it with other data."""
    folder = tmp_path_factory.mktemp("language_model")
    data = write(folder / "train.jsonl", [json.dumps({"text": text}) for text in TEXTS])
    recipe = override(zoo.recipe("gpt2_tiny"), SETTINGS)
    runs.train(recipe, folder / "run", data=f"jsonl:{data}", verbose=0)
    other = write(folder / "other.jsonl", [json.dumps({"text": text[::-1]}) for text in TEXTS])
    further = override(recipe, [f"training.initial_checkpoint={folder / 'run'}", f"data.train=jsonl:{other}"])
    return folder / "run", further


def test_a_run_begins_with_the_weights_and_the_tokenizer_of_another(language_model, tmp_path):
    first, recipe = language_model
    runs.train(override(recipe, STILL), tmp_path / "run", verbose=0)
    begun = checkpoints.read_weights(checkpoints.best(first))
    assert digest(tmp_path / "run" / "tokenizer") == digest(first / "tokenizer")
    after = checkpoints.read_weights(checkpoints.newest(tmp_path / "run"))
    assert after.keys() == begun.keys()
    for path, value in begun.items():
        np.testing.assert_array_equal(after[path], value, err_msg=path)
    fresh = build_model(recipe)
    assert not np.array_equal(fresh.get_weights()[0], begun["embedding/table"])
    requested = json.loads((tmp_path / "run" / "requested_recipe.json").read_text(encoding="utf-8"))
    assert requested["training"]["initial_checkpoint"] == str(first)


def test_a_resume_needs_it_no_more(language_model, tmp_path):
    """And ends with the same bits."""
    copy = shutil.copytree(language_model[0], tmp_path / "copy")
    recipe = override(language_model[1], f"training.initial_checkpoint={copy}")
    runs.train(recipe, tmp_path / "one", verbose=0)
    runs.train(override(recipe, "training.num_steps=1"), tmp_path / "two", verbose=0)
    shutil.rmtree(copy)
    runs.train(recipe, tmp_path / "two", verbose=0)
    newest = [checkpoints.newest(tmp_path / name) for name in ("one", "two")]
    assert newest[0].step == newest[1].step == 2
    assert newest[0].sha256 == newest[1].sha256
    changed = override(recipe, "training.initial_checkpoint=none")
    with pytest.raises(UsageError, match=r"was started with training.initial_checkpoint=.*copy; received"):
        runs.train(changed, tmp_path / "two", verbose=0)


def test_sizes_that_contradict_it(language_model, tmp_path):
    first, recipe = language_model
    message = (
        rf"`model.num_layers` must be that of `training.initial_checkpoint` {first}, 2; received model.num_layers=1."
    )
    with pytest.raises(RecipeError, match=message):
        runs.train(override(recipe, "model.num_layers=1"), tmp_path / "run", verbose=0)
    assert not (tmp_path / "run").exists()


def test_dropout_may_differ(language_model, tmp_path):
    found = initial_checkpoint.read(override(language_model[1], "model.dropout=0.7"), tmp_path / "run")
    assert found.config.dropout != 0.7


def test_another_family(language_model, tmp_path):
    recipe = override(zoo.recipe("lstm_lm_tiny"), f"training.initial_checkpoint={language_model[0]}")
    with pytest.raises(UsageError, match=r"is of a GPT2Config, and the recipe 'lstm_lm_tiny' of a LstmLmConfig"):
        initial_checkpoint.read(recipe, tmp_path / "run")


def test_nothing_there(language_model, tmp_path):
    recipe = override(language_model[1], f"training.initial_checkpoint={tmp_path / 'nowhere'}")
    with pytest.raises(UsageError, match="nowhere is no folder; name that of a run, or one of Hugging Face's, or sam"):
        runs.train(recipe, tmp_path / "run", verbose=0)


@pytest.mark.parametrize("field", ["lora_rank", "frozen_layers"])
def test_fresh_weights_are_not_frozen(language_model, tmp_path, field):
    recipe = override(language_model[1], ["training.initial_checkpoint=none", f"training.{field}=1"])
    with pytest.raises(RecipeError, match=f"`{field}` keeps weights as they are, and this run has none yet but random"):
        runs.train(recipe, tmp_path / "run", verbose=0)


def test_adapters_are_merged_in_a_run(language_model, tmp_path):
    settings = ["training.lora_rank=2", "training.learning_rate=0.1"]
    run = runs.train(override(language_model[1], settings), tmp_path / "run", verbose=0)
    begun = checkpoints.read_weights(checkpoints.best(language_model[0]))
    loaded = {weight.path.removeprefix("gpt2/"): weight.numpy() for weight in run.model.weights}
    moved = {path for path, value in loaded.items() if not np.array_equal(value, begun[path])}
    kernels = {f"block_{i}/self_attention/{name}/kernel" for i in (0, 1) for name in ("query", "value")}
    assert moved == kernels | {"normalization/gamma", "normalization/beta"}


def encoder_recipe(task, **changes):
    sizes = {"hidden_dim": 8, "intermediate_dim": 12, "num_layers": 2, "num_heads": 2, "max_sequence_length": 16}
    recipe = zoo.recipe("bert_tiny", task)
    model = dataclasses.replace(recipe.model, **sizes | changes)
    data = dataclasses.replace(recipe.data, sequence_length=16)
    return dataclasses.replace(recipe, model=model, data=data)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A run at step 0 of an encoder with the head for masked tokens, and its weights."""
    folder = tmp_path_factory.mktemp("encoder") / "run"
    return folder, begun(folder, encoder_recipe("fill_mask"))


def begun(folder, recipe, seed=3):
    tokenizer = train_pair(recipe.tokenizer, ((text,) for text in TEXTS), 90)
    target = tokenizer.target
    ids = {name: getattr(target, name) for name in ("vocabulary_size", "pad_id", "start_id", "end_id", "mask_id")}
    recipe = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, **ids))
    keras.utils.set_random_seed(seed)
    model = build_model(recipe)
    weights = {weight.path.removeprefix(f"{model.name}/"): weight.numpy() for weight in model.weights}
    begin(recipe, tokenizer, weights, folder, TEXTS)
    return weights


def classifier(folder, tmp_path, labels=("fish", "rain")):
    """A classifier that begins with what is in a folder: the model, and what was there."""
    lines = [f"{text}\t{labels[number % 2]}" for number, text in enumerate(TEXTS)]
    data = write(tmp_path / "train.tsv", lines)
    recipe = override(
        encoder_recipe("text_classification"),
        [f"training.initial_checkpoint={folder}", f"data.train=tsv:{data}"],
    )
    found = initial_checkpoint.read(recipe, tmp_path / "new")
    recipe, _ = prepare(recipe, tmp_path / "new", found.tokenizer)
    keras.utils.set_random_seed(9)
    model = build_model(recipe)
    fresh = {weight.path.removeprefix("bert/"): weight.numpy() for weight in model.weights}
    initial_checkpoint.load(model, found)
    return model, fresh, recipe


def changed(model, fresh):
    after = {weight.path.removeprefix("bert/"): weight.numpy() for weight in model.weights}
    return after, {path for path, value in after.items() if not np.array_equal(value, fresh[path])}


def test_an_encoder_begins_with_a_checkpoint_and_the_head_fresh(encoder, tmp_path, caplog):
    folder, weights = encoder
    with caplog.at_level("INFO", logger="absl"):
        model, fresh, recipe = classifier(folder, tmp_path)
    after, _ = changed(model, fresh)
    head = {f"{layer}/{name}" for layer in ("pooler", "text_classification") for name in ("kernel", "bias")}
    for path, value in after.items():
        np.testing.assert_array_equal(value, fresh[path] if path in head else weights[path], err_msg=path)
    assert digest(tmp_path / "new" / "tokenizer") == digest(folder / "tokenizer")
    assert recipe.model.vocabulary_size == TokenizerPair.load(folder / "tokenizer").target.vocabulary_size < 30522
    assert recipe.model.labels == ("fish", "rain")
    said = caplog.text
    assert "fresh: pooler/kernel, pooler/bias, text_classification/kernel, text_classification/bias; left beh" in said
    assert "masked_lm_bias, masked_lm_dense/bias" in said


@pytest.mark.parametrize(("labels", "is_fresh"), [(("fish", "rain"), False), (("lake", "wind"), True)])
def test_a_classifier_goes_on_for_the_same_labels_alone(tmp_path, labels, is_fresh):
    old = encoder_recipe("text_classification", labels=("fish", "rain"))
    weights = begun(tmp_path / "old", old)
    model, fresh, _ = classifier(tmp_path / "old", tmp_path, labels=labels)
    after, _ = changed(model, fresh)
    np.testing.assert_array_equal(after["pooler/kernel"], weights["pooler/kernel"])
    kernel = "text_classification/kernel"
    np.testing.assert_array_equal(after[kernel], fresh[kernel] if is_fresh else weights[kernel])


def test_a_hugging_face_folder(encoder, tmp_path):
    folder, weights = encoder
    hf.write_checkpoint(folder, tmp_path / "hf")
    model, fresh, _ = classifier(tmp_path / "hf", tmp_path)
    after, _ = changed(model, fresh)
    for path in after:
        if path in weights:
            np.testing.assert_array_equal(after[path], weights[path], err_msg=path)


def test_an_encoder_must_be_whole(encoder, tmp_path):
    folder, _ = encoder
    model, _, recipe = classifier(folder, tmp_path)
    found = initial_checkpoint.read(recipe, tmp_path / "another")
    del found.weights["block_1/feed_forward/output/kernel"]
    message = r"the model needs block_1/feed_forward/output/kernel of \(12, 8\), and the checkpoint lacks it. Give a"
    with pytest.raises(CheckpointError, match=message):
        initial_checkpoint.load(model, found)


def test_a_run_with_weights_of_its_own(encoder, tmp_path):
    folder, _ = encoder
    recipe = override(encoder_recipe("fill_mask"), f"training.initial_checkpoint={folder}")
    with pytest.raises(UsageError, match="begins with weights of its own; received training.initial_checkpoint="):
        initial_checkpoint.read(recipe, folder)
