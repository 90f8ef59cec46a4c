"""What only the GRU encoder-decoder promises: its variants, its state, attention. `test_contract.py` has the rest."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfzoo
from tests.models.promises import assert_one_trace_serves_every_batch_and_length
from tests.references import gru_seq2seq as reference
from tests.tolerances import tolerance
from tfzoo.errors import RecipeError
from tfzoo.models import GruSeq2Seq, GruSeq2SeqConfig

pytestmark = pytest.mark.xdist_group("gru_seq2seq")

B, T, S, V = 4, 7, 5, 37
LENGTHS = [5, 3, 1, 5]
CONFIG = GruSeq2SeqConfig(
    vocabulary_size=V,
    source_vocabulary_size=41,
    embedding_dim=6,
    hidden_dim=10,
    num_layers=2,
    max_sequence_length=9,
)
# attention, input feeding, and whether each layer of the decoder runs over all tokens at once.
KINDS = [
    ("additive", True, False),
    ("multiplicative", True, False),
    ("multiplicative", False, True),
    ("none", True, True),
    ("none", False, True),
]


def with_kind(kind, **changes):
    return dataclasses.replace(CONFIG, attention=kind[0], input_feeding=kind[1], **changes)


def random_model(config=CONFIG, **options):
    model = GruSeq2Seq(config, **options)
    generator = np.random.default_rng(5)
    for variable in model.trainable_variables:
        variable.assign(generator.normal(0, 0.5, variable.shape))
    return model


def random_inputs(seed=0):
    generator = np.random.default_rng(seed)
    source = generator.integers(1, V, (B, S)).astype(np.int32)
    return {
        "encoder_token_ids": source * (np.arange(S) < np.array(LENGTHS)[:, np.newaxis]).astype(np.int32),
        "decoder_token_ids": generator.integers(1, V, (B, T)).astype(np.int32),
    }


def weights(model):
    return {variable.path.partition("/")[2]: variable.numpy() for variable in model.trainable_variables}


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: f"{kind[0]}-{kind[1]}")
def kind(request):
    return request.param


class TestVariants:
    @pytest.mark.parametrize(
        "changes",
        [{}, {"bidirectional": False, "num_layers": 1}, {"source_vocabulary_size": None, "num_layers": 3}],
        ids=["both ways", "one way", "shared"],
    )
    def test_equals_numpy(self, kind, changes):
        config = with_kind(kind, **changes)
        model, inputs = random_model(config), random_inputs()
        expected = reference.logits(config, weights(model), inputs)
        assert np.abs(expected).max() > 1
        np.testing.assert_allclose(model(inputs), expected, rtol=0, atol=tolerance("numpy_parity"))

    def test_a_batch_of_mixed_lengths_equals_each_row_alone(self, kind):
        model, inputs = random_model(with_kind(kind)), random_inputs()
        together = model(inputs).numpy()
        for row, length in enumerate(LENGTHS):
            alone = {
                "encoder_token_ids": inputs["encoder_token_ids"][row : row + 1, :length],
                "decoder_token_ids": inputs["decoder_token_ids"][row : row + 1],
            }
            np.testing.assert_allclose(together[row : row + 1], model(alone), rtol=0, atol=tolerance("cached_step"))

    @pytest.mark.parametrize("chunks", [[1] * T, [3, 1, 3]], ids=str)
    def test_steps_equal_the_whole(self, kind, chunks):
        model, inputs = random_model(with_kind(kind)), random_inputs()
        state, begin, pieces = model.start(inputs), 0, []
        for size in chunks:
            logits, state = model.step(inputs["decoder_token_ids"][:, begin : begin + size], state)
            pieces.append(logits)
            begin += size
        np.testing.assert_allclose(np.concatenate(pieces, axis=1), model(inputs), rtol=0, atol=tolerance("cached_step"))

    def test_the_state_is_what_start_says(self, kind):
        config = with_kind(kind)
        expected = {"hidden_0": (B, 10), "hidden_1": (B, 10)}
        if config.attention != "none":
            expected |= {"memory_key_0": (B, S, 10), "memory_value_0": (B, S, 20), "memory_padding_mask": (B, S)}
            if (config.attention, config.input_feeding) == ("multiplicative", True):
                expected["attentional_0"] = (B, 10)
        elif config.input_feeding:
            expected["memory_summary_0"] = (B, 10)
        model = random_model(config)
        state = model.start(random_inputs())
        assert {name: tuple(value.shape) for name, value in state.items()} == expected
        _, after = model.step(random_inputs()["decoder_token_ids"], state)
        assert {name: tuple(value.shape) for name, value in after.items()} == expected

    def test_one_loop_over_all_tokens_or_one_for_each_layer(self, kind):
        """Fused, there is a loop in each layer, and none around them."""
        model = random_model(with_kind(kind))
        step = tf.function(model.step, autograph=False)
        inputs = random_inputs()
        graph = step.get_concrete_function(inputs["decoder_token_ids"], model.start(inputs)).graph
        loops = [node.name for node in graph.get_operations() if "While" in node.type]
        assert len(loops) == (CONFIG.num_layers if kind[2] else 1)

    def test_one_trace_serves_every_batch_and_length(self, kind):
        assert_one_trace_serves_every_batch_and_length(random_model(with_kind(kind)), random_inputs())

    def test_every_weight_gets_a_gradient_in_a_graph(self, kind):
        model, inputs = random_model(with_kind(kind, dropout=0.1)), random_inputs()

        @tf.function(autograph=False)
        def gradients():
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(model(inputs, training=True) ** 2)
            return tape.gradient(loss, [variable.value for variable in model.trainable_variables])

        for variable, gradient in zip(model.trainable_variables, gradients(), strict=True):
            assert np.abs(tf.convert_to_tensor(gradient)).max() > 1e-6, variable.path


class TestVariables:
    def test_have_names_of_their_own(self):
        paths = [variable.path for variable in random_model().trainable_variables]
        assert len(set(paths)) == len(paths)
        assert "gru_seq2seq/encoder_gru_1/backward_recurrent_kernel" in paths
        assert "gru_seq2seq/source_attention/score/kernel" in paths

    def test_a_source_of_padding_alone_gives_numbers(self, kind):
        inputs = random_inputs()
        inputs["encoder_token_ids"][1] = 0
        assert np.isfinite(random_model(with_kind(kind))(inputs)).all()


class TestAttention:
    @pytest.mark.parametrize("kind", [kind for kind in KINDS if kind[0] != "none"], ids=str)
    def test_equals_numpy(self, kind):
        config = with_kind(kind)
        model, inputs = random_model(config), random_inputs()
        found = model.attention(inputs)
        assert found.shape == (B, 1, 1, T, S)
        expected = reference.attention(config, weights(model), inputs)
        assert np.ptp(expected[0], axis=1).min() > 0.01  # it does look at some more than at others
        np.testing.assert_allclose(found[:, 0, 0], expected, rtol=0, atol=tolerance("numpy_parity"))
        np.testing.assert_allclose(np.sum(found, axis=-1), 1, rtol=0, atol=tolerance("numpy_parity"))

    def test_a_model_without_says_so(self):
        model = random_model(with_kind(KINDS[3]))
        with pytest.raises(ValueError, match=r"this model has no attention; received attention='none'\."):
            model.attention(random_inputs())


class TestDropout:
    def test_is_on_in_training_only(self, kind):
        model, inputs = random_model(with_kind(kind, dropout=0.5)), random_inputs()
        assert np.array_equal(model(inputs), model(inputs))
        assert np.abs(model(inputs, training=True) - model(inputs, training=True)).max() > 1e-2
        hidden = [model.start(inputs, training=True)["hidden_1"] for _ in range(2)]
        assert np.abs(hidden[0] - hidden[1]).max() > 1e-2
        logits = [model.step(inputs["decoder_token_ids"], model.start(inputs), training=True)[0] for _ in range(2)]
        assert np.abs(logits[0] - logits[1]).max() > 1e-2

    def test_draws_anew_at_each_token_and_the_same_by_seed(self, kind):
        def train(graph):
            keras.utils.set_random_seed(3)
            model = GruSeq2Seq(with_kind(kind, dropout=0.5))
            seen = []
            model.output_dense.call = lambda y, training, call=model.output_dense.call: seen.append(y) or call(y)

            def run():
                model(random_inputs(), training=True)
                return seen.pop()

            call = tf.function(run, autograph=False) if graph else run
            return [call().numpy() for _ in range(2)]

        one, same = train(graph=True), train(graph=True)
        np.testing.assert_array_equal(one, same)
        assert not np.array_equal(one[0] == 0, one[1] == 0)
        dropped = one[0] == 0
        assert 0.3 < dropped.mean() < 0.7
        assert (dropped != dropped[:, :1]).any()
        np.testing.assert_allclose(one, train(graph=False), rtol=0, atol=tolerance("cached_step"))


class TestTeacherForcing:
    def test_at_1_there_is_nothing_to_draw(self):
        assert random_model().scheduled_sampling is None

    @pytest.mark.parametrize("kind", KINDS[:3], ids=str)
    def test_at_0_it_reads_what_greedy_search_finds(self, kind):
        model, inputs = random_model(with_kind(kind), teacher_forcing_ratio=0.0), random_inputs()
        read = inputs["decoder_token_ids"][:, :1]
        for _ in range(T - 1):
            logits = model({**inputs, "decoder_token_ids": read})
            read = np.concatenate([read, np.argmax(logits[:, -1:], axis=-1).astype(np.int32)], axis=1)
        assert not np.array_equal(read, inputs["decoder_token_ids"])
        expected = model({**inputs, "decoder_token_ids": read})
        np.testing.assert_allclose(model(inputs, training=True), expected, rtol=0, atol=tolerance("cached_step"))
        assert np.abs(expected - model(inputs)).max() > 0.1

    def test_between_it_reads_about_the_share_and_predictions_of_what_it_read(self):
        config = dataclasses.replace(CONFIG, max_sequence_length=60)
        model = random_model(config, teacher_forcing_ratio=0.75)
        generator = np.random.default_rng(1)
        inputs = {
            "encoder_token_ids": generator.integers(1, V, (40, S)).astype(np.int32),
            "decoder_token_ids": generator.integers(1, V, (40, 60)).astype(np.int32),
        }
        read = model.scheduled_sampling(inputs["decoder_token_ids"], step=model.step, state=model.start(inputs)).numpy()
        true = inputs["decoder_token_ids"]
        assert np.array_equal(read[:, 0], true[:, 0])
        is_true = read[:, 1:] == true[:, 1:]
        assert 0.7 < is_true.mean() < 0.82  # a prediction may be right
        predicted = np.argmax(model({**inputs, "decoder_token_ids": read}), axis=-1)[:, :-1]
        assert np.mean(read[:, 1:][~is_true] == predicted[~is_true]) > 0.999  # but for ties

    def test_validation_reads_the_truth(self):
        inputs = random_inputs()
        assert np.array_equal(random_model(teacher_forcing_ratio=0.0)(inputs), random_model()(inputs))

    def test_a_schedule_goes_by_batches(self):
        schedule = keras.optimizers.schedules.PolynomialDecay(1.0, 4, end_teacher := 0.0, power=1.0)
        model, inputs = random_model(teacher_forcing_ratio=schedule), random_inputs()
        asked = []
        model.scheduled_sampling.ratio = lambda step: asked.append(float(step)) or schedule(step)
        logits = [model(inputs, training=True).numpy() for _ in range(6)]
        assert asked == [0, 1, 2, 3, 4, 5]
        np.testing.assert_allclose(logits[0], model(inputs), rtol=0, atol=tolerance("cached_step"))
        at_0 = random_model(teacher_forcing_ratio=end_teacher)(inputs, training=True)
        np.testing.assert_allclose(logits[5], at_0, rtol=0, atol=tolerance("cached_step"))

    def test_no_gradient_flows_through_a_choice(self):
        model, inputs = random_model(teacher_forcing_ratio=0.0), random_inputs()
        state = model.start(inputs)
        read = model.scheduled_sampling(inputs["decoder_token_ids"], step=model.step, state=state)

        def gradient(model, token_ids):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(model({**inputs, "decoder_token_ids": token_ids}, training=True) ** 2)
            return tape.gradient(loss, model.embedding.table.value)

        np.testing.assert_allclose(
            gradient(model, inputs["decoder_token_ids"]), gradient(random_model(), read), rtol=1e-4, atol=1e-4
        )

    def test_a_checkpoint_resumes_the_draws_and_the_schedule(self, tmp_path):
        from tfzoo.training import checkpoints

        schedule = keras.optimizers.schedules.PolynomialDecay(0.9, 4, 0.1, power=1.0)

        def compiled(seed):
            keras.utils.set_random_seed(seed)
            model = GruSeq2Seq(dataclasses.replace(CONFIG, dropout=0.3), teacher_forcing_ratio=schedule)
            model.compile(optimizer=keras.optimizers.SGD(0.1, name="sgd"), loss=tfzoo.losses.cross_entropy())
            model.optimizer.build(model.trainable_variables)
            return model

        model, inputs = compiled(1), random_inputs()
        for _ in range(2):
            model(inputs, training=True)
        checkpoint = checkpoints.save(model, tmp_path, [{"step": 2, "nats_per_token": 1.0}])
        resumed = compiled(2)
        checkpoints.restore(resumed, checkpoint)
        for _ in range(2):
            assert np.array_equal(model(inputs, training=True), resumed(inputs, training=True))
        without = GruSeq2Seq(CONFIG)
        checkpoints.load_weights(without, checkpoint)
        assert np.array_equal(without(inputs), model(inputs))

    @pytest.mark.parametrize("ratio", [-0.1, 1.5])
    def test_out_of_range_is_refused(self, ratio):
        with pytest.raises(ValueError, match=rf"in \[0, 1\]; received teacher_forcing_ratio={ratio}\."):
            GruSeq2Seq(CONFIG, teacher_forcing_ratio=ratio)


class TestConfig:
    def test_round_trip(self, tmp_path):
        schedule = keras.optimizers.schedules.PolynomialDecay(1.0, 100, 0.5, power=1.0)
        config = with_kind(KINDS[1], dropout=0.3, bidirectional=False)
        model = random_model(config, teacher_forcing_ratio=schedule, name="other")
        copy = GruSeq2Seq.from_config(model.get_config())
        assert (copy.config, copy.name) == (config, "other")
        assert copy.teacher_forcing_ratio.get_config() == schedule.get_config()
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        assert np.array_equal(loaded(random_inputs()), model(random_inputs()))
        assert float(loaded.scheduled_sampling.ratio(50)) == pytest.approx(0.75)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"hidden_dim": 9}, "`hidden_dim` must be even; received hidden_dim=9."),
            ({"num_layers": 0}, "`num_layers` must be at least 1; received num_layers=0."),
            ({"dropout": 1.0}, "`dropout` must be in [0, 1); received dropout=1.0."),
            (
                {"attention": "aditive"},
                "`attention` knows additive, multiplicative, none; received attention='aditive'. "
                "Did you mean 'additive'?",
            ),
            (
                {"input_feeding": False},
                "`input_feeding` must be true with attention='additive', whose decoder reads the context; received "
                "input_feeding=False. Use attention='multiplicative' for a decoder that does not.",
            ),
            (
                {"source_vocabulary_size": 0},
                "`source_vocabulary_size` must be at least 1 or None; received source_vocabulary_size=0.",
            ),
        ],
        ids=lambda value: "" if isinstance(value, str) else "".join(value),
    )
    def test_a_config_that_cannot_work_is_refused(self, change, message):
        with pytest.raises(RecipeError) as error:
            dataclasses.replace(CONFIG, **change)
        assert str(error.value) == message
