"""What a recipe's data is, for each task of an encoder: batches, labels, inputs for a proof; and a run made of it."""

import dataclasses
import json

import numpy as np
import pytest

from tfzoo.data.config import ClassificationDataConfig, EncoderDataConfig, MaskedLmDataConfig
from tfzoo.errors import DataError, RecipeError, UsageError
from tfzoo.evaluation.config import EvaluationConfig
from tfzoo.models.config import BertConfig
from tfzoo.recipes.recipe import Recipe
from tfzoo.run_data import NUM_EXAMPLES, examples, labels, masked, training_batches, validation_batches
from tfzoo.run_folder import EXAMPLES, RECIPE, REQUESTED, prepare, read_recipe
from tfzoo.text.config import TokenizerConfig
from tfzoo.training.config import TrainingConfig

WORDS = "one two three four five six seven eight nine ten eleven twelve".split()


def _recipe(data_config, **model):
    return Recipe(
        name="tiny",
        family="bert",
        tokenizer=TokenizerConfig(source="word_piece"),
        data=dataclasses.replace(data_config, batch_size=4, sequence_length=16),
        model=BertConfig(
            vocabulary_size=200,
            hidden_dim=8,
            intermediate_dim=16,
            num_layers=1,
            num_heads=2,
            pad_id=0,
            start_id=1,
            end_id=2,
            mask_id=3,
            **model,
        ),
        training=TrainingConfig(
            num_steps=2, checkpoint_steps=1, learning_rate=1e-3, warmup_steps=1, label_smoothing=0.0
        ),
        evaluation=EvaluationConfig(metrics=()),
    )


@pytest.fixture
def write(tmp_path):
    def write(name, lines):
        path = tmp_path / name
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return str(path)

    return write


@pytest.fixture
def classifier(write):
    train = write("train.tsv", [f"{word} {word}\t{len(word)}" for word in WORDS])
    return _recipe(ClassificationDataConfig(train=(f"tsv:{train}",)), task="text_classification")


def _first(batches):
    return next(iter(batches.as_numpy_iterator()))


def test_a_classifier_gets_the_labels_of_its_data(classifier, write, tmp_path):
    recipe, tokenizer = prepare(classifier, tmp_path / "run")
    one = tokenizer.target
    assert recipe.model.labels == ("3", "4", "5", "6")
    expected = dataclasses.replace(
        classifier.model,
        labels=("3", "4", "5", "6"),
        vocabulary_size=one.vocabulary_size,
        pad_id=one.pad_id,
        start_id=one.start_id,
        end_id=one.end_id,
        mask_id=one.mask_id,
    )
    assert recipe == dataclasses.replace(classifier, model=expected)
    assert read_recipe(tmp_path / "run" / RECIPE) == recipe
    assert read_recipe(tmp_path / "run" / REQUESTED) == classifier
    inputs, found, weights = _first(training_batches(recipe, tokenizer))
    assert set(inputs) == {"token_ids", "padding_mask", "segment_ids"}
    assert found.shape == weights.shape == (4,)
    chosen = json.loads((tmp_path / "run" / EXAMPLES).read_text(encoding="utf-8"))
    assert chosen == [f"{word} {word}" for word in (WORDS[12 * place // 5] for place in range(NUM_EXAMPLES))]


def test_labels_that_the_recipe_names_stay_as_they_are(classifier, tmp_path):
    given = dataclasses.replace(classifier.model, labels=("6", "5", "4", "3", "2"))
    recipe, tokenizer = prepare(dataclasses.replace(classifier, model=given), tmp_path / "run")
    assert recipe.model.labels == ("6", "5", "4", "3", "2")
    few = dataclasses.replace(classifier.model, labels=("3", "4"))
    recipe, tokenizer = prepare(dataclasses.replace(classifier, model=few), tmp_path / "few")
    with pytest.raises(DataError, match=r"train\.tsv:3: the training data has no label '5', but 3, 4\."):
        training_batches(recipe, tokenizer)


def test_a_run_goes_on_with_the_labels_that_it_began_with(classifier, tmp_path, monkeypatch):
    run_dir = tmp_path / "run"
    first, _ = prepare(classifier, run_dir)
    assert prepare(classifier, run_dir)[0] == first
    monkeypatch.setattr("tfzoo.training.checkpoints.steps", lambda run_dir: [1])
    assert prepare(classifier, run_dir)[0] == first
    with open(tmp_path / "train.tsv", "a", encoding="utf-8") as file:
        file.write("more\t7\n")
    with pytest.raises(
        UsageError, match="was started with data that has the labels 3, 4, 5, 6; now it has 3, 4, 5, 6, 7"
    ):
        prepare(classifier, run_dir)


def test_class_weights_are_of_training_alone(classifier, tmp_path):
    weighted = dataclasses.replace(
        classifier, data=dataclasses.replace(classifier.data, class_weights=True, validation=classifier.data.train)
    )
    recipe, tokenizer = prepare(weighted, tmp_path / "run")
    weights = np.concatenate([one for _, _, one in training_batches(recipe, tokenizer).take(3).as_numpy_iterator()])
    assert len(set(weights)) > 1
    assert {one for _, _, batch in validation_batches(recipe, tokenizer).as_numpy_iterator() for one in batch} == {1}
    with pytest.raises(
        RecipeError, match="`data.class_weights` needs one label an example; received data.class_weights"
    ):
        dataclasses.replace(weighted, model=dataclasses.replace(weighted.model, problem="multi_label"))


def test_bad_data_leaves_nothing_behind(classifier, write, tmp_path):
    bad = write("bad.tsv", ["one\t1", "two"])
    with pytest.raises(DataError, match=r"bad\.tsv:2: 1 column"):
        prepare(
            dataclasses.replace(classifier, data=dataclasses.replace(classifier.data, train=(f"tsv:{bad}",))),
            tmp_path / "run",
        )
    misspelt = dataclasses.replace(classifier.data, validation=("tsv:no/such/file",))
    with pytest.raises(DataError, match="no such file"):
        prepare(dataclasses.replace(classifier, data=misspelt), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_pairs_numbers_and_several_labels(write, tmp_path):
    pairs = write("pairs.jsonl", [json.dumps({"text_a": f"a\t{word}", "text_b": word, "label": 0.5}) for word in WORDS])
    recipe = _recipe(
        ClassificationDataConfig(train=(f"jsonl:{pairs}",)),
        task="text_classification",
        num_texts=2,
        problem="regression",
    )
    assert examples(recipe)[0] == "a one\tone"
    recipe, tokenizer = prepare(recipe, tmp_path / "pairs")
    assert recipe.model.labels == ()
    inputs, found, _ = _first(training_batches(recipe, tokenizer))
    assert found.tolist() == [0.5] * 4
    assert inputs["segment_ids"].any()
    topics = write("topics.tsv", ["one two\tx;y", "three\tz"])
    recipe = _recipe(
        ClassificationDataConfig(train=(f"tsv:{topics}",), label_separator=";"),
        task="text_classification",
        problem="multi_label",
    )
    recipe, tokenizer = prepare(recipe, tmp_path / "topics")
    assert recipe.model.labels == ("x", "y", "z")
    assert sorted(_first(training_batches(recipe, tokenizer))[1].tolist()) == [[0, 0, 1], [1, 1, 0]]


def test_labelled_words(write, tmp_path):
    path = write("a.conll", [line for word in WORDS for line in (f"{word} B-X", "goes O", "")])
    recipe = _recipe(EncoderDataConfig(train=(f"conll:{path}",)), task="token_classification")
    assert labels(recipe) == ("O", "B-X")
    assert examples(recipe)[:2] == ["one goes", "three goes"]
    recipe, tokenizer = prepare(recipe, tmp_path / "run")
    inputs, found, weights = _first(training_batches(recipe, tokenizer))
    assert found.shape == weights.shape == inputs["token_ids"].shape


def test_pairs_of_like_texts(write, tmp_path):
    path = write("pairs.tsv", [f"{word}\t{word} {word}" for word in WORDS])
    recipe = _recipe(EncoderDataConfig(train=(f"tsv:{path}",)), task="text_embedding")
    assert labels(recipe) == ()
    assert examples(recipe)[:2] == ["one", "three"]
    recipe, tokenizer = prepare(recipe, tmp_path / "run")
    assert _first(training_batches(recipe, tokenizer))[1].shape == (8,)


@pytest.mark.parametrize("next_sentence", [False, True])
def test_documents_with_masks(write, tmp_path, next_sentence):
    path = write("a.txt", [" ".join(f"{word} goes." for word in WORDS[start:]) for start in range(12)])
    recipe = _recipe(
        MaskedLmDataConfig(train=(f"text:{path}",), mask_probability=0.3),
        task="fill_mask",
        next_sentence=next_sentence,
        num_texts=1 + next_sentence,
    )
    assert examples(recipe)[0] == "one goes. two goes. three goes. [MASK] goes. five goes. six goes."
    recipe, tokenizer = prepare(recipe, tmp_path / "run")
    inputs, found, weights = _first(training_batches(recipe, tokenizer))
    shape = found["logits"].shape if next_sentence else found.shape
    assert shape == inputs["mask_positions"].shape == (4, 4)
    assert set(weights) == {"logits", "next_sentence_logits"} if next_sentence else weights.shape == (4, 4)


def test_a_mask_stands_for_the_word_in_the_middle():
    assert masked("A dog  runs home.") == "A dog  [MASK] home."
    assert masked("one") == "o[MASK]e"
    assert masked("你好世界") == "你好[MASK]界"


def test_few_shapes_are_asked_for_by_the_recipe_or_by_its_devices(classifier, tmp_path):
    recipe, tokenizer = prepare(_with(classifier, batch_size=5), tmp_path / "run")
    # 12 examples.
    assert [len(one) for _, _, one in training_batches(recipe, tokenizer).take(3).as_numpy_iterator()].count(2) == 1
    for batches in (
        training_batches(_with(recipe, static_shapes=True), tokenizer),
        training_batches(recipe, tokenizer, static_shapes=True),
    ):
        weights = [one for _, _, one in batches.take(3).as_numpy_iterator()]
        assert [len(one) for one in weights] == [5, 5, 5]
        assert np.sum(weights) == 12


def _with(recipe, **changes):
    return dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, **changes))


def test_batches_go_on_where_they_are_told_to(classifier, tmp_path):
    recipe, tokenizer = prepare(classifier, tmp_path / "run")
    whole = [*training_batches(recipe, tokenizer).take(6).as_numpy_iterator()]
    rest = [*training_batches(recipe, tokenizer, 4).take(2).as_numpy_iterator()]
    for one, other in zip(rest, whole[4:], strict=True):
        np.testing.assert_array_equal(one[0]["token_ids"], other[0]["token_ids"])
        np.testing.assert_array_equal(one[1], other[1])


def test_an_encoder_needs_word_pieces(classifier):
    with pytest.raises(RecipeError, match="`tokenizer.source` must be 'word_piece' for the family 'bert'"):
        dataclasses.replace(classifier, tokenizer=TokenizerConfig(source="sentencepiece"))
