"""What only BERT promises: its first weights, its dropout, its heads. `test_encoder_contract.py` holds the rest."""

import dataclasses

import keras
import numpy as np
import pytest

from tests.models.promises import assert_equals_numpy, assert_one_trace_serves_every_batch_and_length, randomized
from tests.references import bert as reference
from tests.tolerances import tolerance
from tfzoo.errors import RecipeError
from tfzoo.models import Bert, BertConfig
from tfzoo.models.bert import mean_embedding

pytestmark = pytest.mark.xdist_group("bert")

B, T, V = 3, 7, 37
CONFIG = BertConfig(
    vocabulary_size=V,
    hidden_dim=12,
    intermediate_dim=20,
    num_layers=2,
    num_heads=3,
    max_sequence_length=9,
    start_id=1,
    end_id=2,
    mask_id=3,
)
PAIRS = dataclasses.replace(CONFIG, num_texts=2, next_sentence=True)
CLASSIFIER = dataclasses.replace(CONFIG, task="text_classification", labels=("bad", "good"))
HEADS = {
    "fill_mask": CONFIG,
    "next_sentence": PAIRS,
    "text_classification": CLASSIFIER,
    "regression": dataclasses.replace(CLASSIFIER, labels=(), problem="regression"),
    "token_classification": dataclasses.replace(CLASSIFIER, task="token_classification"),
    "question_answering": dataclasses.replace(CONFIG, task="question_answering", num_texts=2),
    "text_embedding": dataclasses.replace(CONFIG, task="text_embedding"),
}


def random_model(config, **kwargs):
    return randomized(Bert(config, **kwargs))


def random_inputs(lengths=(7, 3, 1)):
    """Rows whose padding has random ids too, and whose real tokens are now and then the padding id."""
    generator = np.random.default_rng(0)
    return {
        "token_ids": generator.integers(0, 5, (B, T)).astype(np.int32),
        "padding_mask": (np.arange(T) < np.array(lengths)[:, np.newaxis]).astype(np.int32),
        "segment_ids": generator.integers(0, 2, (B, T)).astype(np.int32),
    }


@pytest.mark.parametrize("layer_norm_epsilon", [1e-12, 0.5])
def test_equals_numpy(layer_norm_epsilon):
    config = dataclasses.replace(CONFIG, layer_norm_epsilon=layer_norm_epsilon)
    assert_equals_numpy(random_model(config), reference, random_inputs())


def test_variables_have_names_of_their_own():
    first, second = Bert(PAIRS), Bert(PAIRS)
    paths = [variable.path for variable in first.trainable_variables]
    assert len(set(paths)) == len(paths) == 5 + 2 * 16 + 2 + 5 + 2
    assert paths == [variable.path for variable in second.trainable_variables]  # a second model in one process
    assert "bert/block_1/self_attention/key/kernel" in paths


def test_the_encoder_has_the_same_variables_for_every_task():
    encoder = {variable.path: tuple(variable.shape) for variable in Bert(HEADS["text_embedding"]).weights}
    assert len(encoder) == 5 + 2 * 16
    heads = {}
    for name, config in HEADS.items():
        variables = {variable.path: tuple(variable.shape) for variable in Bert(config).weights}
        assert variables.items() >= encoder.items()
        heads[name] = variables.keys() - encoder.keys()
    # No two tasks may take each other's head for their own; all may have the pooler.
    assert heads["text_classification"] & heads["next_sentence"] == {"bert/pooler/kernel", "bert/pooler/bias"}
    assert not heads["text_classification"] & heads["token_classification"]
    assert not heads["token_classification"] & heads["question_answering"]
    assert heads["fill_mask"] < heads["next_sentence"]


@pytest.mark.parametrize("head", HEADS)
def test_weights_start_as_in_the_authors_code(head):
    keras.utils.set_random_seed(4)
    sizes = {"hidden_dim": 96, "intermediate_dim": 384, "num_heads": 4}
    for variable in Bert(dataclasses.replace(HEADS[head], **sizes)).trainable_variables:
        kind = variable.path.rpartition("/")[2]
        if kind in ("bias", "beta", "masked_lm_bias"):
            assert not variable.numpy().any()
        elif kind == "gamma":
            assert (variable.numpy() == 1).all()
        else:
            assert variable.numpy().std() == pytest.approx(0.02, rel=0.2), variable.path


class TestDropout:
    def test_where_it_is(self):
        """Section 3 of the paper names none; this is that of the authors' code."""
        model = Bert(dataclasses.replace(CLASSIFIER, dropout=0.3))
        block = model.blocks[1]
        layers = (
            model.embedding_dropout,
            block.self_attention.weights_dropout,
            block.self_residual.output_dropout,
            block.feed_forward_residual.output_dropout,
            model.classifier_dropout,
        )
        assert [layer.rate for layer in layers] == [0.3] * 5
        # What is between the two dense layers stays whole.
        assert block.feed_forward.intermediate_dropout.rate == 0
        everywhere = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.Dropout)]
        assert sum(layer.rate > 0 for layer in everywhere) == 2 + 2 * 3

    @pytest.mark.parametrize(
        ("head", "name"),
        [
            ("text_classification", "classifier_dropout"),
            ("token_classification", "classifier_dropout"),
            ("text_embedding", "embedding_dropout"),
            ("text_embedding", "self_attention"),
            ("text_embedding", "self_residual"),
            ("text_embedding", "feed_forward_residual"),
        ],
    )
    def test_each_does_something(self, head, name):
        model, inputs = random_model(dataclasses.replace(HEADS[head], dropout=0.5)), random_inputs()
        ours = getattr(model, name, None) or getattr(model.blocks[1], name)
        kept = [layer for layer in ours._flatten_layers() if isinstance(layer, keras.layers.Dropout)]
        for layer in model._flatten_layers():
            if isinstance(layer, keras.layers.Dropout) and layer not in kept:
                layer.rate = 0.0
        assert not np.array_equal(*(model(inputs, training=True) for _ in range(2)))
        (layer,) = kept
        layer.rate = 0.0
        assert np.array_equal(*(model(inputs, training=True) for _ in range(2)))


class TestHeads:
    def test_masked_positions_are_rows_of_the_whole(self):
        model, inputs = random_model(CONFIG), random_inputs(lengths=(7, 7, 7))
        positions = np.array([[6, 2], [0, 0], [3, 5]])
        some = model(inputs | {"mask_positions": positions})
        whole = np.take_along_axis(model(inputs).numpy(), positions[:, :, np.newaxis], axis=1)
        np.testing.assert_allclose(some, whole, rtol=0, atol=10 * tolerance("cached_step"))

    def test_an_embedding_has_length_1(self):
        embeddings = random_model(HEADS["text_embedding"])(random_inputs()).numpy()
        np.testing.assert_allclose((embeddings**2).sum(axis=1), 1, rtol=0, atol=1e-6)

    def test_the_mean_is_that_of_real_tokens(self):
        states = np.array([[[3.0, 0.0], [0.0, 4.0], [99.0, 99.0]]], np.float32)
        found = mean_embedding(states, np.array([[1, 1, 0]]))
        np.testing.assert_allclose(found, [[0.6, 0.8]], rtol=0, atol=1e-7)
        assert not np.any(mean_embedding(states, np.array([[0, 0, 0]])))

    @pytest.mark.parametrize("task", ["text_classification", "token_classification"])
    def test_a_classifier_without_labels_is_refused(self, task):
        config = dataclasses.replace(CONFIG, task=task)
        with pytest.raises(ValueError, match="must name the classes") as error:
            Bert(config)
        assert str(error.value) == (
            f"`labels` must name the classes of a model for {task!r}; received labels=(). Training reads them off its "
            'data; without it, give them: labels=("negative", "positive").'
        )

    def test_the_first_token_decides_about_a_text(self):
        """The pooler reads [CLS]; what others say reaches it by attention alone, of which nothing is left here."""
        model, inputs = random_model(CLASSIFIER), random_inputs(lengths=(7, 7, 7))
        for block in model.blocks:
            block.self_attention.output_dense.kernel.assign(np.zeros((12, 12)))
        other = {name: value.copy() for name, value in inputs.items()}
        other["token_ids"][:, 1:] = 36
        assert np.array_equal(model(other), model(inputs))
        other["token_ids"][:, 0] = 35
        assert (np.abs(model(other) - model(inputs)) > 1e-3).any(axis=1).all()


def test_call_reads_no_other_input():
    model, inputs = random_model(CLASSIFIER), random_inputs()
    assert np.array_equal(model(inputs | {"mask_positions": np.ones((B, 2), np.int32)}), model(inputs))


@pytest.mark.parametrize("config", [CONFIG, CLASSIFIER])
def test_config_round_trip(config):
    half = Bert(config, name="mine", dtype="mixed_bfloat16")
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(half))
    assert (copy.name, copy.dtype_policy.name, copy.config) == ("mine", "mixed_bfloat16", config)
    assert type(copy.config.labels) is tuple
    assert copy.blocks[1].self_attention.query_dense.compute_dtype == "bfloat16"


def test_one_trace_serves_every_batch_and_length():
    assert_one_trace_serves_every_batch_and_length(random_model(PAIRS), random_inputs())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_heads": 5}, "`num_heads` must divide `hidden_dim`; received num_heads=5, hidden_dim=12."),
        ({"dropout": 1.0}, "`dropout` must be in [0, 1); received dropout=1.0."),
        ({"layer_norm_epsilon": 0}, "`layer_norm_epsilon` must be in (0, 1); received layer_norm_epsilon=0."),
        ({"mask_id": 37}, "`mask_id` must be in [0, vocabulary_size); received mask_id=37, vocabulary_size=37."),
        (
            {"task": "fil_mask"},
            "`task` knows fill_mask, text_classification, token_classification, question_answering, text_embedding; "
            "received task='fil_mask'. Did you mean 'fill_mask'?",
        ),
        ({"num_texts": 3}, "`num_texts` must be 1 or 2; received num_texts=3."),
        (
            {"next_sentence": True},
            "`num_texts` must be 2 for task='fill_mask', next_sentence=True; received num_texts=1.",
        ),
        (
            {"task": "text_embedding", "num_texts": 2},
            "`num_texts` must be 1 for task='text_embedding', next_sentence=False; received num_texts=2.",
        ),
        (
            {"task": "question_answering", "num_texts": 2, "next_sentence": True},
            "`next_sentence` is part of the task 'fill_mask'; received task='question_answering'.",
        ),
        ({"problem": "regression"}, "`problem` 'regression' is one of text classification; received task='fill_mask'."),
        (
            {"labels": ("a", "b")},
            "`labels` must be empty for task='fill_mask', problem='single_label'; received ('a', 'b').",
        ),
        (
            {"task": "text_classification", "labels": ("a", "a")},
            "`labels` must be distinct and not empty; received ('a', 'a').",
        ),
    ],
    ids=lambda value: "" if isinstance(value, str) else "-".join(value),
)
def test_a_config_that_cannot_work_is_refused(change, message):
    with pytest.raises(RecipeError) as error:
        dataclasses.replace(CONFIG, **change)
    assert str(error.value) == message
