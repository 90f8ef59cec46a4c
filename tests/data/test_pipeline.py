"""Batches: their content, their bounds, their order, and resuming in the middle."""

import random
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl import logging

from tests.data.batches import assert_equal, to_numpy
from tfzoo import data, text
from tfzoo.errors import DataError, UsageError

LETTERS = "abcdefghij"


@pytest.fixture(scope="module")
def tokenizers():
    return text.SymbolTokenizer(LETTERS, ""), text.SymbolTokenizer(LETTERS.upper(), " ")


@pytest.fixture(scope="module")
def pairs():
    """300 different words and their spelling backwards, 1 to 14 letters."""
    generator = random.Random(1)
    words = ["".join(generator.choices(LETTERS, k=generator.randint(1, 14))) for _ in range(600)]
    return [(word, " ".join(reversed(word.upper()))) for word in dict.fromkeys(words)][:300]


@pytest.fixture(scope="module")
def spec(pairs, tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "pairs.tsv"
    path.write_text("".join(f"{source}\t{target}\n" for source, target in pairs), encoding="utf-8")
    return f"tsv:{path}"


def _sources(batches, tokenizer):
    return [tokenizer.decode(row) for inputs, _, _ in batches for row in inputs["encoder_token_ids"]]


def test_two_lines_give_these_arrays(tokenizers, tmp_path):
    path = tmp_path / "two.tsv"
    path.write_text("abc\tC B A\nd\tD\n", encoding="utf-8")
    ((inputs, labels, sample_weight),) = to_numpy(data.seq2seq(f"tsv:{path}", tokenizers, shuffle=False))
    np.testing.assert_array_equal(inputs["encoder_token_ids"], [[4, 5, 6, 3], [7, 3, 0, 0]])
    np.testing.assert_array_equal(inputs["decoder_token_ids"], [[2, 6, 5, 4], [2, 7, 0, 0]])
    np.testing.assert_array_equal(labels, [[6, 5, 4, 3], [7, 3, 0, 0]])
    np.testing.assert_array_equal(sample_weight, [[1, 1, 1, 1], [1, 1, 0, 0]])
    assert {one.dtype for one in (*inputs.values(), labels)} == {np.dtype("int32")}
    assert sample_weight.dtype == np.float32


def test_an_epoch_holds_every_pair_once(spec, pairs, tokenizers):
    batches = to_numpy(data.seq2seq(spec, tokenizers, batch_tokens=300))
    source, target = tokenizers
    seen = [
        (source.decode(inputs["encoder_token_ids"][row]), target.decode(labels[row]))
        for inputs, labels, _ in batches
        for row in range(len(labels))
    ]
    assert sorted(seen) == sorted(pairs)
    assert seen != pairs


def test_a_batch_holds_at_most_batch_tokens(spec, tokenizers):
    batches = to_numpy(data.seq2seq(spec, tokenizers, batch_tokens=300))
    sizes = [len(labels) * max(labels.shape[1], inputs["encoder_token_ids"].shape[1]) for inputs, labels, _ in batches]
    assert max(sizes) <= 300
    assert len(batches) > 5


def test_cardinality_is_known(spec, tokenizers):
    dataset = data.seq2seq(spec, tokenizers, batch_size=16)
    num_batches = len(to_numpy(dataset))
    assert dataset.cardinality().numpy() == num_batches
    rest = data.seq2seq(spec, tokenizers, batch_size=16, start_step=3)
    assert rest.cardinality().numpy() == num_batches - 3 == len(to_numpy(rest))
    assert data.seq2seq(spec, tokenizers, repeat=True).cardinality().numpy() == tf.data.INFINITE_CARDINALITY


def test_the_same_seed_gives_the_same_batches_however_they_are_read(spec, tokenizers):
    first = to_numpy(data.seq2seq(spec, tokenizers, batch_size=16, seed=3))
    tf.random.set_seed(11)
    again = data.seq2seq(spec, tokenizers, batch_size=16, seed=3)
    next(iter(again))
    assert_equal(to_numpy(again.take(4)), first[:4])
    assert_equal(to_numpy(again), first)
    other = to_numpy(data.seq2seq(spec, tokenizers, batch_size=16, seed=4))
    assert _sources(other, tokenizers[0]) != _sources(first, tokenizers[0])


def test_repeat_shuffles_each_epoch_anew(spec, pairs, tokenizers):
    num_batches = data.seq2seq(spec, tokenizers, batch_size=16).cardinality().numpy()
    batches = to_numpy(data.seq2seq(spec, tokenizers, batch_size=16, repeat=True).take(2 * num_batches))
    first, second = (_sources(half, tokenizers[0]) for half in (batches[:num_batches], batches[num_batches:]))
    assert first != second
    assert sorted(first) == sorted(second) == sorted(source for source, _ in pairs)
    assert_equal(to_numpy(data.seq2seq(spec, tokenizers, batch_size=16)), batches[:num_batches])


@pytest.mark.parametrize("weights", [("", ""), ("@0.2", "@0.8")], ids=["plain", "mixture"])
def test_a_resumed_run_sees_what_the_uninterrupted_one_sees(spec, tokenizers, weights):
    specs = [spec + one for one in weights]
    options = {"batch_size": 32, "seed": 9}
    num_batches = data.seq2seq(specs, tokenizers, **options).cardinality().numpy()
    whole = to_numpy(data.seq2seq(specs, tokenizers, repeat=True, **options).take(3 * num_batches))
    for start_step in (1, num_batches - 1, num_batches, 2 * num_batches + 3):
        resumed = data.seq2seq(specs, tokenizers, repeat=True, start_step=start_step, **options)
        expected = whole[start_step : start_step + 5]  # beyond the end of an epoch
        assert_equal(to_numpy(resumed.take(5)), expected)


def test_a_run_without_repeat_is_over_after_its_epoch(spec, tokenizers):
    dataset = data.seq2seq(spec, tokenizers, batch_size=16, start_step=1000)
    assert dataset.cardinality().numpy() == 0
    assert to_numpy(dataset) == []


def test_several_specifications_are_concatenated(spec, pairs, tokenizers, tmp_path):
    path = tmp_path / "more.tsv"
    path.write_text("jj\tJ J\n", encoding="utf-8")
    batches = to_numpy(data.seq2seq([spec, f"tsv:{path}"], tokenizers))
    assert sorted(_sources(batches, tokenizers[0])) == sorted([source for source, _ in pairs] + ["jj"])


def test_static_shapes_come_from_a_fixed_set(spec, tokenizers):
    batches = to_numpy(
        data.seq2seq(spec, tokenizers, batch_tokens=64, max_source_length=20, max_target_length=15, static_shapes=True)
    )
    shapes = {(inputs["encoder_token_ids"].shape, labels.shape) for inputs, labels, _ in batches}
    # Buckets end at 8, 10, 12, 14, 16 and 20 tokens; targets end at 15.
    assert shapes == {((8, 8), (8, 8)), ((6, 10), (6, 10)), ((5, 12), (5, 12)), ((4, 14), (4, 14)), ((4, 16), (4, 15))}


def test_examples_that_are_too_long_are_left_out_and_counted(tokenizers, tmp_path, caplog):
    path = tmp_path / "long.tsv"
    path.write_text("abc\tA\nabcd\tA\nabc\tA B C D\nab\tA B C\n", encoding="utf-8")
    logging.set_verbosity(logging.INFO)
    logging.use_absl_handler()
    with caplog.at_level("INFO", logger="absl"):
        logging.get_absl_logger().addHandler(caplog.handler)
        dataset = data.seq2seq(f"tsv:{path}", tokenizers, max_source_length=4, max_target_length=4)
        logging.get_absl_logger().removeHandler(caplog.handler)
    assert sorted(_sources(to_numpy(dataset), tokenizers[0])) == ["ab", "abc"]
    assert "long.tsv: 2 examples; 2 longer than max_source_length=4 or max_target_length=4 left out." in caplog.text


def test_one_tokenizer_serves_both_sides(tmp_path):
    path = tmp_path / "one.tsv"
    path.write_text("ab\tba\n", encoding="utf-8")
    ((inputs, labels, _),) = to_numpy(data.seq2seq(f"tsv:{path}", text.SymbolTokenizer("ab", "")))
    np.testing.assert_array_equal(inputs["encoder_token_ids"], [[4, 5, 3]])
    np.testing.assert_array_equal(labels, [[5, 4, 3]])


def test_keras_fit_takes_it(spec, tokenizers):
    inputs = {
        name: keras.Input((None,), dtype="int32", name=name) for name in ("encoder_token_ids", "decoder_token_ids")
    }
    embedded = keras.layers.Embedding(14, 8)(inputs["decoder_token_ids"])
    model = keras.Model(inputs, keras.layers.Dense(14)(embedded))
    model.compile(optimizer="sgd", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    history = model.fit(
        data.seq2seq(spec, tokenizers, repeat=True), steps_per_epoch=3, epochs=2, shuffle=False, verbose=0
    )
    assert len(history.history["loss"]) == 2


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"batch_tokens": 100},
            UsageError,
            "`batch_tokens` must hold one example of the greatest length; received batch_tokens=100",
        ),
        ({"batch_size": 0}, UsageError, "received batch_size=0"),
        ({"max_source_length": 1}, UsageError, "`max_source_length` must be at least 2"),
        ({"start_step": -1}, UsageError, "received start_step=-1"),
        ({"seed": -1}, UsageError, "received seed=-1"),
        ({"max_source_length": 2, "max_target_length": 2}, None, ""),
        ({"batch_size": 1000, "static_shapes": True}, DataError, "300 examples fill none"),
    ],
    ids=str,
)
def test_wrong_numbers_are_refused(spec, tokenizers, options, error, message):
    if error is None:
        assert data.seq2seq(spec, tokenizers, **options).cardinality().numpy() > 0
        return
    with pytest.raises(error) as raised:
        data.seq2seq(spec, tokenizers, **options)
    assert message in str(raised.value)


def test_data_that_is_all_too_long_is_refused(tokenizers, tmp_path):
    path = tmp_path / "long.tsv"
    path.write_text("abc\tA\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"each of its 1 examples is longer than max_source_length=2"):
        data.seq2seq(f"tsv:{path}", tokenizers, max_source_length=2)


def test_no_specification_is_refused(tokenizers):
    with pytest.raises(UsageError, match="`specs` is empty"):
        data.seq2seq([], tokenizers)


def test_reading_imports_no_tensorflow(spec):
    code = (
        "import sys\n"
        "import tfzoo.data.config, tfzoo.data.samples, tfzoo.text\n"
        f"from tfzoo.data import read\nlist(read({spec!r}))\nlist(read('sample:cmudict:test'))\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
