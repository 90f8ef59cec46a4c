"""What only the LSTM language model promises: its options, its state, its dropout. `test_contract.py` has the rest."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfzoo
from tests.references import lstm_lm as reference
from tests.tolerances import tolerance
from tfzoo.models import LstmLanguageModel, LstmLmConfig
from tfzoo.training import checkpoints

pytestmark = pytest.mark.xdist_group("lstm_lm")

B, T, V = 3, 7, 37
CONFIG = LstmLmConfig(vocabulary_size=V, embedding_dim=6, hidden_dim=10, num_layers=2, max_sequence_length=14)


def random_model(config=CONFIG, **options):
    model = LstmLanguageModel(config, **options)
    generator = np.random.default_rng(5)
    for variable in model.trainable_variables:
        variable.assign(generator.normal(0, 0.5, variable.shape))
    return model


def words(length, num_rows=B, seed=0):
    token_ids = np.random.default_rng(seed).integers(0, V, (num_rows, length)).astype(np.int32)
    return {"token_ids": token_ids, "padding_mask": np.ones_like(token_ids)}


def piece(inputs, begin, end, continues=None):
    found = {name: value[:, begin:end] for name, value in inputs.items()}
    return found if continues is None else found | {"continues": np.array(continues, np.int32)}


class TestVariants:
    @pytest.mark.parametrize("num_layers", [1, 3])
    @pytest.mark.parametrize("tie_embeddings", [False, True])
    def test_equals_numpy(self, tie_embeddings, num_layers):
        config = dataclasses.replace(CONFIG, tie_embeddings=tie_embeddings, num_layers=num_layers)
        model = random_model(config)
        inputs = words(T)
        weights = {variable.path.partition("/")[2]: variable.numpy() for variable in model.trainable_variables}
        expected = reference.logits(config, weights, inputs)
        assert np.abs(expected).max() > 1
        np.testing.assert_allclose(model(inputs), expected, rtol=0, atol=tolerance("numpy_parity"))

    def test_a_tied_model_ends_as_wide_as_its_embedding(self):
        assert {name: value.shape for name, value in random_model().start(words(T)).items()} == {
            "hidden_0": (B, 10),
            "cell_0": (B, 10),
            "hidden_1": (B, 6),
            "cell_1": (B, 6),
        }
        untied = random_model(dataclasses.replace(CONFIG, tie_embeddings=False))
        assert untied.start(words(T))["hidden_1"].shape == (B, 10)

    def test_tokens_are_not_scaled(self):
        model = random_model()
        token_ids = words(T)["token_ids"]
        np.testing.assert_array_equal(model.embedding(token_ids), model.embedding.table.numpy()[token_ids])


class TestState:
    def test_start_leaves_the_last_real_token_to_step(self):
        model, inputs = random_model(), words(T)
        inputs["padding_mask"][0, 3:] = 0
        inputs["padding_mask"][2, 1:] = 0
        state = model.start(inputs)
        for row, num_before in enumerate([2, T - 1, 0]):
            expected = model.empty_state(1)
            for t in range(num_before):
                _, expected = model.step(inputs["token_ids"][row : row + 1, t : t + 1], expected)
            for name, value in expected.items():
                np.testing.assert_allclose(state[name][row : row + 1], value, rtol=0, atol=tolerance("cached_step"))

    def test_the_prompt_is_the_input(self):
        inputs = words(T)
        token_ids, padding_mask = random_model().prompt(inputs | {"continues": np.zeros(B, np.int32)})
        assert np.array_equal(token_ids, inputs["token_ids"])
        assert np.array_equal(padding_mask, inputs["padding_mask"])
        assert token_ids.dtype == padding_mask.dtype == tf.int32

    def test_state_goes_on_beyond_the_longest_sequence(self):
        model, inputs = random_model(), words(20)
        state = model.empty_state(B)
        for begin in (0, 10):
            logits, state = model.step(inputs["token_ids"][:, begin : begin + 10], state)
        with pytest.raises(ValueError, match="received 15 tokens, max_sequence_length=14"):
            model.step(inputs["token_ids"][:, :15], model.empty_state(B))
        longer = random_model(dataclasses.replace(CONFIG, max_sequence_length=20))
        np.testing.assert_allclose(longer(inputs)[:, 10:], logits, rtol=0, atol=tolerance("cached_step"))


class TestCarriedState:
    def test_two_batches_equal_one_long_sequence(self):
        inputs = words(2 * T)
        model = random_model(carried_batch_size=B)
        pieces = [model(piece(inputs, begin, begin + T, [1] * B), training=True) for begin in (0, T)]
        np.testing.assert_allclose(
            np.concatenate(pieces, axis=1), random_model()(inputs), rtol=0, atol=tolerance("cached_step")
        )

    def test_a_row_that_does_not_continue_starts_anew(self):
        inputs = words(2 * T)
        model = random_model(carried_batch_size=B)
        model(piece(inputs, 0, T, [0] * B), training=True)
        logits = model(piece(inputs, T, 2 * T, [1, 0, 1]), training=True)
        whole, alone = random_model()(inputs)[:, T:], random_model()(piece(inputs, T, 2 * T))
        np.testing.assert_allclose(logits[::2], whole[::2], rtol=0, atol=tolerance("cached_step"))
        np.testing.assert_allclose(logits[1], alone[1], rtol=0, atol=tolerance("cached_step"))
        assert np.abs(whole[1] - alone[1]).max() > 1e-2

    def test_evaluation_neither_reads_nor_writes_it(self):
        inputs = words(2 * T)
        model = random_model(carried_batch_size=B)
        model(piece(inputs, 0, T, [0] * B), training=True)
        before = [state.numpy() for state in model.carried.states.values()]
        evaluated = model(piece(inputs, T, 2 * T, [1] * B))
        assert np.array_equal(evaluated, random_model()(piece(inputs, T, 2 * T)))
        for value, state in zip(before, model.carried.states.values(), strict=True):
            assert np.abs(value).max() > 0
            assert np.array_equal(value, state)

    def test_no_gradient_reaches_the_batch_before(self):
        inputs = words(2 * T)

        def gradient(tape_on_both):
            model = random_model(carried_batch_size=B)
            if not tape_on_both:
                model(piece(inputs, 0, T, [0] * B), training=True)
            with tf.GradientTape() as tape:
                if tape_on_both:
                    model(piece(inputs, 0, T, [0] * B), training=True)
                loss = tf.reduce_sum(model(piece(inputs, T, 2 * T, [1] * B), training=True))
            return tape.gradient(loss, model.embedding.table.value)

        assert np.array_equal(gradient(tape_on_both=True), gradient(tape_on_both=False))

    def test_fit_carries_it_in_a_graph(self):
        inputs = words(2 * T)
        model = random_model(carried_batch_size=B)
        model.compile(optimizer=keras.optimizers.SGD(0.0), loss=tfzoo.losses.cross_entropy())
        batches = [piece(inputs, begin, begin + T, [int(begin > 0)] * B) for begin in (0, T)]
        features = {name: np.stack([batch[name] for batch in batches]) for name in batches[0]}
        labels = np.stack([batch["token_ids"] for batch in batches])
        dataset = tf.data.Dataset.from_tensor_slices((features, labels, np.ones(labels.shape, np.float32)))
        model.fit(dataset, epochs=1, shuffle=False, verbose=0)
        _, expected = random_model().step(inputs["token_ids"], random_model().empty_state(B))
        for name, value in expected.items():
            np.testing.assert_allclose(model.carried.states[name], value, rtol=0, atol=tolerance("cached_step"))

    def test_a_checkpoint_resumes_it_and_a_model_without_it_loads_the_weights(self, tmp_path):
        def compiled(seed, **options):
            keras.utils.set_random_seed(seed)
            model = LstmLanguageModel(dataclasses.replace(CONFIG, dropout=0.3, weight_drop=0.2), **options)
            model.compile(optimizer=keras.optimizers.SGD(0.1, name="sgd"), loss=tfzoo.losses.cross_entropy())
            model.optimizer.build(model.trainable_variables)
            return model

        inputs = words(2 * T)
        model = compiled(1, carried_batch_size=B)
        model(piece(inputs, 0, T, [0] * B), training=True)
        checkpoint = checkpoints.save(model, tmp_path, [{"step": 1, "nats_per_token": 1.0}])
        resumed = compiled(2, carried_batch_size=B)
        checkpoints.restore(resumed, checkpoint)
        for _ in range(2):
            one, two = (m(piece(inputs, T, 2 * T, [1] * B), training=True) for m in (model, resumed))
            assert np.array_equal(one, two)  # state and dropout masks alike
        without = compiled(3)
        checkpoints.load_weights(without, checkpoint)
        assert np.array_equal(without(inputs), model(inputs))


class TestDropout:
    def test_falls_on_what_goes_up_and_never_on_what_goes_on(self, monkeypatch):
        seen = {}
        model = random_model(dataclasses.replace(CONFIG, dropout=0.6, num_layers=3))
        for i, layer in enumerate(model.lstms):

            def record(x, hidden, cell, mask, training, i=i, call=layer.call):
                seen[i] = (x, *call(x, hidden, cell, mask, training=training))
                return seen[i][1:]

            monkeypatch.setattr(layer, "call", record)
        logits = model(words(T), training=True)
        below = model.embedding(words(T)["token_ids"]).numpy()
        for i in range(3):
            x, y, hidden, _ = (value.numpy() for value in seen[i])
            dropped = x == 0
            assert 0.4 < dropped.mean() < 0.8
            np.testing.assert_allclose(x, np.where(dropped, 0, below / 0.4), rtol=1e-5)  # and nothing else changed
            assert np.array_equal(hidden, y[:, -1])
            # The layer itself drops nothing: from its input follows its output.
            weights = [value.numpy().astype(np.float64) for value in model.lstms[i].trainable_variables]
            expected = [reference.lstm(list(row), *weights)[0] for row in x]
            np.testing.assert_allclose(y, expected, rtol=0, atol=tolerance("numpy_parity"))
            below = y
        # Before the softmax as well: the logits are those of an output with zeros in it.
        top, *_ = np.linalg.lstsq(
            model.embedding.table.numpy().astype(np.float64),
            (logits.numpy() - model.output_bias.numpy()).reshape(-1, V).T.astype(np.float64),
        )
        assert 0.4 < np.mean(np.abs(top) < 1e-4) < 0.8

    @pytest.mark.parametrize("locked", [False, True])
    def test_locked_is_one_mask_for_all_tokens_of_a_row(self, locked):
        model = random_model(dataclasses.replace(CONFIG, dropout=0.5, locked_dropout=locked))
        for dropout in model.dropouts:
            dropped = dropout(np.ones((B, T, 10), np.float32), training=True).numpy() == 0
            assert (dropped == dropped[:, :1]).all() == locked
            assert (dropped[0] != dropped[1]).any()

    def test_a_dropped_word_is_dropped_everywhere(self):
        model = random_model(dataclasses.replace(CONFIG, embedding_dropout=0.4))
        seen = []
        model.dropouts[0].call = lambda x, training: seen.append(x.numpy()) or x
        inputs = words(14, num_rows=20)
        for _ in range(2):
            model(inputs, training=True)
        table = model.embedding.table.numpy()
        dropped = []
        for x in seen:
            gone = (x == 0).all(axis=2)
            by_word = np.array([gone[inputs["token_ids"] == word] for word in range(V)], dtype=object)
            assert all(len(set(values.tolist())) == 1 for values in by_word)
            dropped.append(np.array([values[0] for values in by_word]))
            assert 0.1 < dropped[-1].mean() < 0.7
            np.testing.assert_allclose(x[~gone], table[inputs["token_ids"][~gone]] / 0.6, rtol=1e-5)
        assert (dropped[0] != dropped[1]).any()
        model(inputs)
        np.testing.assert_array_equal(seen[-1], table[inputs["token_ids"]])

    def test_weight_drop_reaches_every_layer(self):
        model = random_model(dataclasses.replace(CONFIG, weight_drop=0.3))
        assert [layer.weight_drop for layer in model.lstms] == [0.3, 0.3]
        assert np.abs(model(words(T), training=True) - model(words(T))).max() > 1e-2

    def test_equal_seeds_draw_equal_masks(self):
        config = dataclasses.replace(CONFIG, dropout=0.3, embedding_dropout=0.2, weight_drop=0.4)

        def train(seed):
            keras.utils.set_random_seed(seed)
            model = LstmLanguageModel(config)
            return [model(words(T), training=True).numpy() for _ in range(2)]

        one, same, other = train(1), train(1), train(2)
        assert np.array_equal(one, same)
        assert not np.array_equal(one[0], one[1])
        assert not np.array_equal(one, other)


class TestConfig:
    def test_round_trip(self, tmp_path):
        config = dataclasses.replace(CONFIG, dropout=0.3, locked_dropout=True, weight_drop=0.2, tie_embeddings=False)
        model = random_model(config, carried_batch_size=B, name="other")
        copy = LstmLanguageModel.from_config(model.get_config())
        assert (copy.config, copy.carried_batch_size, copy.name) == (config, B, "other")
        model.save(tmp_path / "model.keras")
        assert np.array_equal(keras.saving.load_model(tmp_path / "model.keras")(words(T)), model(words(T)))

    def test_carried_state_is_no_weight(self):
        one, two = random_model(), random_model(carried_batch_size=B)
        assert [variable.path for variable in one.weights] == [variable.path for variable in two.weights]
        assert len(two.variables) == len(one.variables) + 4
