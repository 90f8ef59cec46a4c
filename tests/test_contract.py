"""Every tiny entry of the zoo whose model writes text, against every promise that a model makes.

`test_encoder_contract.py` has the others. A new family joins by its entry in the zoo, named `*_tiny` or `*_tiny_*`, and
its line in `FAMILIES`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfzoo
from tests.contract import (
    FIRST_WORD,
    GENERATIVE,
    MAX_LENGTH,
    TOO_LONG,
    B,
    T,
    V,
    assert_one_batch_overfits,
    assert_two_devices_equal_one,
    copy_weights,
    families,
    randomize,
    tiny_entries,
    two_replicas,
    weights,
)
from tests.references import gpt2 as gpt2_reference
from tests.references import gru_seq2seq as gru_seq2seq_reference
from tests.references import lstm_lm as lstm_lm_reference
from tests.references import transformer as transformer_reference
from tests.tolerances import tolerance
from tfzoo.zoo import ZOO

# One worker takes the whole file: the models and their traces are built once.
pytestmark = pytest.mark.xdist_group("contract")

S = 5  # source tokens


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
    """What the promises need to know of a family.

    Args:
        model: the class; takes a config and Keras' `dtype`.
        reference: (config, weights by path, inputs) -> (B, T, V) float64 logits, in NumPy; of padding any number.
        sizes: config fields to overwrite, so that sizes are distinct.
        lengths: name of each input of token ids -> its length in tokens.
        sequence: the input that is read causally and that `step` takes.
        masked: whether an input `padding_mask` tells the padding of the sequence, whatever its ids are.
        noise: standard deviation of what is added to the weights; where all states are small, it takes more.
        learning_rate: Adam's, with which one batch is learnt by heart.
    """

    model: type[keras.Model]
    reference: Callable[..., np.ndarray]
    sizes: Callable[[Any], dict[str, Any]]
    lengths: dict[str, int]
    sequence: str
    masked: bool = False
    noise: float = 0.1
    learning_rate: float = 5e-3


FAMILIES = {
    "transformer": Family(
        model=tfzoo.models.Transformer,
        reference=transformer_reference.logits,
        sizes=lambda config: {
            "vocabulary_size": V,
            "source_vocabulary_size": config.source_vocabulary_size and V + 4,
            "max_sequence_length": MAX_LENGTH,
        },
        lengths={"encoder_token_ids": S, "decoder_token_ids": T},
        sequence="decoder_token_ids",
    ),
    "gru_seq2seq": Family(
        model=tfzoo.models.GruSeq2Seq,
        reference=gru_seq2seq_reference.logits,
        sizes=lambda config: {
            "vocabulary_size": V,
            "source_vocabulary_size": config.source_vocabulary_size and V + 4,
            "max_sequence_length": MAX_LENGTH,
        },
        lengths={"encoder_token_ids": S, "decoder_token_ids": T},
        sequence="decoder_token_ids",
        noise=0.4,
        learning_rate=3e-2,
    ),
    "gpt2": Family(
        model=tfzoo.models.GPT2,
        reference=gpt2_reference.logits,
        sizes=lambda config: {
            "vocabulary_size": V,
            "max_sequence_length": MAX_LENGTH,
            **dict.fromkeys(("pad_id", "start_id", "end_id"), V - 1),
        },
        lengths={"token_ids": T},
        sequence="token_ids",
        masked=True,
    ),
    "lstm_lm": Family(
        model=tfzoo.models.LstmLanguageModel,
        reference=lstm_lm_reference.logits,
        sizes=lambda config: {
            "vocabulary_size": V,
            "max_sequence_length": MAX_LENGTH,
            **dict.fromkeys(("pad_id", "start_id", "end_id"), V - 1),
        },
        lengths={"token_ids": T},
        sequence="token_ids",
        masked=True,
        noise=0.4,
        learning_rate=3e-2,
    ),
}


@dataclasses.dataclass(frozen=True)
class Subject:
    """A family, one of its tiny configs, and a model with random weights everywhere, biases and scales included."""

    family: Family
    config: Any
    model: keras.Model

    def inputs(self, seed: int = 0, num_rows: int = B, **lengths: int) -> dict[str, np.ndarray]:
        """Random words without padding."""
        generator = np.random.default_rng(seed)
        inputs = {
            name: generator.integers(FIRST_WORD, V, (num_rows, length)).astype(np.int32)
            for name, length in (self.family.lengths | lengths).items()
        }
        if self.family.masked:
            inputs["padding_mask"] = np.ones_like(inputs[self.family.sequence])
        return inputs

    def padded_inputs(self, seed: int, num_padding: int) -> dict[str, np.ndarray]:
        """Random words; in the second row the last `num_padding` of every input that has a mask are padding."""
        inputs = self.inputs(seed)
        for name in inputs:
            if self.family.masked or name != self.family.sequence:
                self.hide(inputs, name, np.s_[1, -num_padding:])
        return inputs

    def hide(self, inputs: dict[str, np.ndarray], name: str, where: Any) -> None:
        """Makes tokens of one input padding; where a mask tells it, their ids stay."""
        if name == "padding_mask":
            inputs[name][where] = 0
        elif not self.family.masked:
            inputs[name][where] = self.config.pad_id

    def real(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        """(B, T) bool, the tokens of the sequence whose logits count."""
        tokens = inputs[self.family.sequence]
        return inputs["padding_mask"].astype(bool) if self.family.masked else np.ones(tokens.shape, bool)

    def begun(self, seed: int) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
        """What `start` takes, the (B, T) tokens that steps take from there, and their logits by one whole forward."""
        if not self.family.masked:
            inputs = self.padded_inputs(seed, num_padding=1)
            return inputs, inputs[self.family.sequence], self.model(inputs).numpy()
        # Prompts of 3, 1 and 2 tokens; the last of each is left for the first step.
        last = np.array([[2], [0], [1]])
        whole = self.inputs(seed, **{self.family.sequence: T + 2})
        prompt = {self.family.sequence: whole[self.family.sequence][:, :3], "padding_mask": np.arange(3) <= last}
        stepped = last + np.arange(T)
        tokens = np.take_along_axis(whole[self.family.sequence], stepped, axis=1)
        logits = np.take_along_axis(self.model(whole).numpy(), stepped[:, :, np.newaxis], axis=1)
        return prompt | {"padding_mask": prompt["padding_mask"].astype(np.int32)}, tokens, logits

    def change(self, inputs: dict[str, np.ndarray], name: str, position: int) -> dict[str, np.ndarray]:
        """The same inputs with another word at one position of one input, in each row."""
        changed = {key: value.copy() for key, value in inputs.items()}
        changed[name][:, position] = FIRST_WORD + (changed[name][:, position] - FIRST_WORD + 1) % (V - FIRST_WORD)
        return changed

    def new_model(self, dtype: str | None = None, **changes: Any) -> keras.Model:
        """Another model with the same weights."""
        model = self.family.model(dataclasses.replace(self.config, **changes), dtype=dtype)
        copy_weights(self.model, model)
        return model


@pytest.fixture(scope="module", params=tiny_entries(generative=True))
def subject(request):
    recipe = ZOO[request.param].recipe()
    family = FAMILIES[recipe.family]
    config = dataclasses.replace(recipe.model, **family.sizes(recipe.model))
    keras.utils.set_random_seed(7)
    model = family.model(config)
    randomize(model, family.noise)
    return Subject(family, config, model)


def test_the_zoo_has_tiny_entries_of_every_family():
    writers = [name for name in ZOO if ZOO[name].task in GENERATIVE]
    assert families(tiny_entries(generative=True)) == families(writers) == set(FAMILIES)


class TestShape:
    @pytest.mark.parametrize("change", [0, 2])
    def test_logits_have_a_row_for_each_token(self, subject, change):
        sequence = subject.family.sequence
        inputs = subject.inputs(**{name: length + change for name, length in subject.family.lengths.items()})
        logits = subject.model(inputs)
        assert logits.shape == (B, subject.family.lengths[sequence] + change, V)
        assert logits.dtype == tf.float32
        one = subject.model({name: value[:1, :1] for name, value in inputs.items()})
        assert one.shape == (1, 1, V)

    def test_the_signature_leaves_batch_and_length_open(self, subject):
        signature = subject.model.input_signature()
        assert set(signature) == set(subject.inputs())
        for name, spec in signature.items():
            assert spec == tf.TensorSpec((None, None), tf.int32, name=name)

    def test_every_position_can_be_used(self, subject):
        longest = subject.inputs(**dict.fromkeys(subject.family.lengths, MAX_LENGTH))
        assert subject.model(longest).shape == (B, MAX_LENGTH, V)

    def test_a_sequence_too_long_is_refused(self, subject):
        for name in subject.family.lengths:
            with pytest.raises(ValueError, match="must not be longer") as error:
                subject.model(subject.inputs(**{name: MAX_LENGTH + 1}))
            assert TOO_LONG in str(error.value)


class TestPadding:
    def test_more_padding_changes_no_real_logit(self, subject):
        inputs = subject.inputs()
        padded = {
            name: np.pad(value, [(0, 0), (0, 4)], constant_values=0 if "mask" in name else subject.config.pad_id)
            for name, value in inputs.items()
        }
        length = subject.family.lengths[subject.family.sequence]
        np.testing.assert_allclose(
            subject.model(padded)[:, :length], subject.model(inputs), rtol=0, atol=tolerance("padding")
        )

    def test_a_short_row_among_longer_ones_gets_what_it_gets_alone(self, subject):
        inputs = subject.inputs()
        alone = {name: value[1:2, :-2].copy() for name, value in inputs.items()}
        for name in inputs:
            subject.hide(inputs, name, np.s_[1, -2:])
        np.testing.assert_allclose(
            subject.model(inputs)[1:2, :-2], subject.model(alone), rtol=0, atol=tolerance("padding")
        )


class TestCausality:
    def test_a_token_changes_no_logit_before_it(self, subject):
        sequence = subject.family.sequence
        inputs = subject.inputs()
        logits = subject.model(inputs).numpy()
        for t in range(subject.family.lengths[sequence]):
            after = subject.model(subject.change(inputs, sequence, t)).numpy()
            assert np.array_equal(after[:, :t], logits[:, :t])  # bit for bit
            assert (np.abs(after[:, t:] - logits[:, t:]).max(axis=2) > 1e-3).all()  # and changes all others

    def test_every_token_of_the_other_inputs_reaches_every_logit(self, subject):
        inputs = subject.inputs()
        logits = subject.model(inputs).numpy()
        others = set(subject.family.lengths) - {subject.family.sequence}
        if not others:
            pytest.skip("a language model has no other input")
        for name in others:
            for s in range(subject.family.lengths[name]):
                after = subject.model(subject.change(inputs, name, s)).numpy()
                assert (np.abs(after - logits).max(axis=2) > 1e-4).all()


class TestParity:
    def test_equals_numpy(self, subject):
        inputs = subject.padded_inputs(seed=1, num_padding=2)
        real = subject.real(inputs)
        expected = subject.family.reference(subject.config, weights(subject.model), inputs)[real]
        assert np.abs(expected).max() > 0.5  # the weights do something
        logits = subject.model(inputs).numpy()[real]
        np.testing.assert_allclose(logits, expected, rtol=0, atol=tolerance("numpy_parity"))


class TestCache:
    @pytest.mark.parametrize("chunks", [[1] * T, [3, 1, 3], [T]], ids=str)
    def test_steps_equal_the_whole(self, subject, chunks):
        inputs, tokens, whole = subject.begun(seed=2)
        state = subject.model.start(inputs)
        memory = {name: value.numpy() for name, value in state.items() if name.startswith("memory_")}
        begin, pieces = 0, []
        for size in chunks:
            logits, new_state = subject.model.step(tokens[:, begin : begin + size], state)
            assert new_state is not state  # beam search still needs the state it gave
            assert set(new_state) == set(state)
            state = new_state
            pieces.append(logits)
            begin += size
        np.testing.assert_allclose(np.concatenate(pieces, axis=1), whole, rtol=0, atol=tolerance("cached_step"))
        for name, value in memory.items():
            assert np.array_equal(state[name], value), name

    def test_rows_may_go_on_by_different_numbers_of_tokens(self, subject):
        if not subject.family.masked:
            pytest.skip("a step of a target has no padding")
        inputs, tokens, whole = subject.begun(seed=2)
        state = subject.model.start(inputs)
        done = np.zeros(B, int)
        for counts in ([1, 3, 0], [2, 0, 3], [3, 2, 1], [1, 2, 3]):
            mask = np.arange(3) < np.array(counts)[:, np.newaxis]
            chunk = np.take_along_axis(tokens, np.minimum(done[:, np.newaxis] + np.arange(3), T - 1), axis=1)
            logits, state = subject.model.step(chunk, state, padding_mask=mask.astype(np.int32))
            for row, count in enumerate(counts):
                expected = whole[row, done[row] : done[row] + count]
                np.testing.assert_allclose(logits[row, :count], expected, rtol=0, atol=tolerance("cached_step"))
            done += counts
        assert done.tolist() == [T] * B

    def test_the_state_is_batch_first(self, subject):
        state = subject.model.start(subject.inputs())
        _, state = subject.model.step(np.full((B, 2), FIRST_WORD, np.int32), state)
        assert {value.shape[0] for value in state.values()} == {B}


def training_data(subject: Subject, num_real: list[int]) -> tuple[Any, np.ndarray, np.ndarray]:
    """Inputs, labels and weights; row i has `num_real[i]` tokens that count."""
    inputs = subject.inputs(seed=3, num_rows=len(num_real))
    tokens = inputs[subject.family.sequence]
    labels = np.random.default_rng(4).integers(FIRST_WORD, V, tokens.shape).astype(np.int32)
    real = np.arange(tokens.shape[1]) < np.array(num_real)[:, np.newaxis]
    inputs[subject.family.sequence] = np.where(real, tokens, subject.config.pad_id)
    if subject.family.masked:
        inputs["padding_mask"] = real.astype(np.int32)
    return inputs, np.where(real, labels, subject.config.pad_id), real.astype(np.float32)


class TestLearning:
    def test_one_batch_overfits(self, subject):
        keras.utils.set_random_seed(1)
        model = subject.family.model(dataclasses.replace(subject.config, dropout=0.0))
        assert_one_batch_overfits(
            model, tfzoo.losses.cross_entropy(), training_data(subject, [7, 5, 2]), subject.family.learning_rate
        )


@pytest.fixture(scope="module")
def mirrored(two_cpus):
    with two_replicas(two_cpus, collective_key=200_000) as strategy:
        yield strategy


class TestDistribution:
    def test_two_devices_equal_one(self, subject, mirrored):
        # Rows per replica: (2, 2), then (2, 1). Tokens per replica: (9, 4), then (8, 6).
        data = training_data(subject, [7, 2, 1, 3, 5, 3, 6])
        # Softmax does not see what all keys share.
        assert_two_devices_equal_one(
            lambda: subject.new_model(dropout=0.0),
            tfzoo.losses.cross_entropy(label_smoothing=0.1),
            data,
            mirrored,
            unseen=("key/bias",),
        )


class TestKeras:
    def test_saved_and_loaded_is_bit_equal(self, subject, tmp_path):
        inputs = subject.inputs()
        subject.model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        assert type(loaded) is type(subject.model)
        assert loaded.config == subject.config
        assert np.array_equal(loaded(inputs), subject.model(inputs))


class TestMixedPrecision:
    def test_bfloat16_is_close_to_float32(self, subject):
        inputs = subject.inputs()
        model = subject.new_model(dtype="mixed_bfloat16")
        assert {layer.dtype_policy.name for layer in model._flatten_layers()} == {"mixed_bfloat16"}
        assert {variable.dtype for variable in model.trainable_variables} == {"float32"}
        logits = model(inputs)
        assert logits.dtype == tf.float32
        expected = subject.model(inputs)
        assert not np.array_equal(logits, expected)  # it did compute in bfloat16
        difference = np.abs(logits - expected) / np.abs(expected).max()
        assert difference.mean() < tolerance("bfloat16")
