"""Windows of documents: every token once, rows that go on, resuming, and a perplexity that no batch size changes."""

import random
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.data.batches import assert_equal, to_numpy
from tfzoo import data, text
from tfzoo.errors import DataError, UsageError

LETTERS = "abcdefghij"
END = 3


@pytest.fixture(scope="module")
def tokenizer():
    return text.SymbolTokenizer(LETTERS, "")


@pytest.fixture(scope="module")
def documents():
    """23 different documents of 1 to 12 letters: 171 labels, the end tokens included."""
    generator = random.Random(65)
    return ["".join(generator.choices(LETTERS, k=generator.randint(1, 12))) for _ in range(23)]


@pytest.fixture(scope="module")
def spec(documents, tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "documents.txt"
    path.write_text("".join(f"{one}\n" for one in documents), encoding="utf-8")
    return f"text:{path}"


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "two.txt"
    path.write_text("ab\ncde\n", encoding="utf-8")
    return f"text:{path}"


def _stream(rows):
    """Labels of rows of (inputs, labels, weights), joined; each input must be the label before it."""
    stream = []
    before = END
    for token_ids, padding_mask, labels, weights in rows:
        count = int(padding_mask.sum())
        np.testing.assert_array_equal(padding_mask, [1] * count + [0] * (len(labels) - count))
        np.testing.assert_array_equal(weights, padding_mask)
        np.testing.assert_array_equal(token_ids[count:], 0)
        np.testing.assert_array_equal(labels[count:], 0)
        np.testing.assert_array_equal(token_ids[:count], [before, *labels[: count - 1]][:count])
        stream += labels[:count].tolist()
        before = labels[count - 1] if count else before
    return stream


def _packed_stream(batches):
    return _stream(
        row
        for inputs, labels, weights in batches
        for row in zip(inputs["token_ids"], inputs["padding_mask"], labels, weights, strict=True)
    )


def _contiguous_stream(batches):
    batch_size = len(batches[0][1])
    return _stream(
        (inputs["token_ids"][row], inputs["padding_mask"][row], labels[row], weights[row])
        for row in range(batch_size)
        for inputs, labels, weights in batches
    )


def _texts(stream, tokenizer):
    """The documents of a stream, which must end with an end token."""
    assert stream[-1] == END
    pieces = "".join(tokenizer.decode([one]) if one != END else "\n" for one in stream)
    return pieces.removesuffix("\n").split("\n")


def test_packed_windows_are_those_of_the_docstring(two, tokenizer):
    dataset = data.causal_lm(two, tokenizer, sequence_length=4, batch_size=2, shuffle=False)
    ((inputs, labels, sample_weight),) = to_numpy(dataset)
    assert sorted(inputs) == ["padding_mask", "token_ids"]
    np.testing.assert_array_equal(inputs["token_ids"], [[3, 4, 5, 3], [6, 7, 8, 0]])
    np.testing.assert_array_equal(inputs["padding_mask"], [[1, 1, 1, 1], [1, 1, 1, 0]])
    np.testing.assert_array_equal(labels, [[4, 5, 3, 6], [7, 8, 3, 0]])
    np.testing.assert_array_equal(sample_weight, [[1, 1, 1, 1], [1, 1, 1, 0]])
    assert {one.dtype for one in (*inputs.values(), labels)} == {np.dtype("int32")}
    assert sample_weight.dtype == np.float32


def test_contiguous_windows_are_those_of_the_docstring(two, tokenizer):
    options = {"sequence_length": 2, "batch_size": 2, "shuffle": False, "examples": "contiguous"}
    first, second = to_numpy(data.causal_lm(two, tokenizer, **options))
    np.testing.assert_array_equal(first[0]["token_ids"], [[3, 4], [3, 6]])
    np.testing.assert_array_equal(first[1], [[4, 5], [6, 7]])
    np.testing.assert_array_equal(first[0]["continues"], [0, 0])
    np.testing.assert_array_equal(second[0]["token_ids"], [[5, 0], [7, 8]])
    np.testing.assert_array_equal(second[0]["padding_mask"], [[1, 0], [1, 1]])
    np.testing.assert_array_equal(second[1], [[3, 0], [8, 3]])
    np.testing.assert_array_equal(second[2], [[1, 0], [1, 1]])
    np.testing.assert_array_equal(second[0]["continues"], [1, 1])
    assert first[0]["continues"].dtype == np.int32


def test_evaluation_windows_are_those_of_the_docstring(two, tokenizer):
    ((inputs, labels, sample_weight),) = to_numpy(data.causal_lm_windows(two, tokenizer, sequence_length=4, stride=2))
    np.testing.assert_array_equal(inputs["token_ids"], [[3, 4, 5, 3], [5, 3, 6, 7], [6, 7, 8, 0]])
    np.testing.assert_array_equal(inputs["padding_mask"], [[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 0]])
    np.testing.assert_array_equal(labels, [[4, 5, 3, 6], [3, 6, 7, 8], [7, 8, 3, 0]])
    np.testing.assert_array_equal(sample_weight, [[1, 1, 1, 1], [0, 0, 1, 1], [0, 0, 1, 0]])
    assert_equal(to_numpy(data.causal_lm_windows(two, tokenizer, sequence_length=4)), [(inputs, labels, sample_weight)])


SIZES = [(2, 1), (3, 2), (7, 3), (9, 19), (171, 1), (19, 3), (57, 3), (200, 5)]


@pytest.mark.parametrize(("sequence_length", "batch_size"), SIZES)
@pytest.mark.parametrize("examples", ["packed", "contiguous"])
def test_every_token_is_a_label_once_an_epoch(spec, documents, tokenizer, examples, sequence_length, batch_size):
    options = {"sequence_length": sequence_length, "batch_size": batch_size, "examples": examples}
    dataset = data.causal_lm(spec, tokenizer, repeat=True, **options)
    num_batches = data.causal_lm(spec, tokenizer, **options).cardinality().numpy()
    assert dataset.cardinality().numpy() == tf.data.INFINITE_CARDINALITY
    batches = to_numpy(dataset.take(2 * num_batches))
    join = _packed_stream if examples == "packed" else _contiguous_stream
    epochs = [_texts(join(epoch), tokenizer) for epoch in (batches[:num_batches], batches[num_batches:])]
    assert epochs[0] != epochs[1]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(documents)
    assert_equal(to_numpy(data.causal_lm(spec, tokenizer, **options)), batches[:num_batches])
    num_padded = sum(labels.size - int(weights.sum()) for _, labels, weights in batches)
    assert num_padded < 2 * sequence_length * (1 if examples == "packed" else batch_size)


def test_contiguous_batches_are_full_and_say_where_an_epoch_begins(spec, tokenizer):
    options = {"sequence_length": 7, "batch_size": 3, "examples": "contiguous"}
    batches = to_numpy(data.causal_lm(spec, tokenizer, repeat=True, **options).take(20))
    # 171 labels are 3 rows of 57, and these 9 windows of 7.
    assert [inputs["continues"].tolist() for inputs, _, _ in batches] == ([[0] * 3] + [[1] * 3] * 8) * 2 + [
        [0] * 3,
        [1] * 3,
    ]
    assert {labels.shape for _, labels, _ in batches} == {(3, 7)}
    assert [int(weights.sum()) for _, _, weights in batches[:9]] == [21] * 8 + [3]


def test_more_rows_than_tokens_leave_rows_empty(two, tokenizer):
    ((inputs, _, weights),) = to_numpy(
        data.causal_lm(two, tokenizer, sequence_length=2, batch_size=10, examples="contiguous")
    )
    assert weights.sum() == 7
    np.testing.assert_array_equal(weights, inputs["padding_mask"])


def test_without_shuffling_documents_stand_as_in_the_files(spec, documents, tokenizer):
    options = {"sequence_length": 7, "batch_size": 3, "shuffle": False, "repeat": True}
    batches = to_numpy(data.causal_lm([spec, spec], tokenizer, **options).take(34))  # 342 = 16 * 21 + 6
    assert _texts(_packed_stream(batches[:17]), tokenizer) == documents * 2
    assert_equal(batches[17:], batches[:17])


@pytest.mark.parametrize("examples", ["packed", "contiguous"])
def test_the_seed_alone_decides_about_the_order(spec, tokenizer, examples):
    options = {"sequence_length": 7, "batch_size": 3, "examples": examples}
    first = to_numpy(data.causal_lm(spec, tokenizer, seed=3, **options))
    tf.random.set_seed(11)
    again = data.causal_lm(spec, tokenizer, seed=3, **options)
    next(iter(again))
    assert_equal(to_numpy(again), first)
    other = to_numpy(data.causal_lm(spec, tokenizer, seed=4, **options))
    assert any((one[1] != two[1]).any() for one, two in zip(first, other, strict=True))


@pytest.mark.parametrize("examples", ["packed", "contiguous"])
def test_a_resumed_run_sees_what_the_uninterrupted_one_sees(spec, tokenizer, examples):
    options = {"sequence_length": 7, "batch_size": 3, "examples": examples, "seed": 9}
    num_batches = data.causal_lm(spec, tokenizer, **options).cardinality().numpy()
    whole = to_numpy(data.causal_lm(spec, tokenizer, repeat=True, **options).take(3 * num_batches))
    for start_step in (1, num_batches - 1, num_batches, 2 * num_batches + 3):
        resumed = data.causal_lm(spec, tokenizer, repeat=True, start_step=start_step, **options)
        expected = whole[start_step : start_step + 4]  # beyond the end of an epoch
        assert_equal(to_numpy(resumed.take(len(expected))), expected)
    rest = data.causal_lm(spec, tokenizer, start_step=2, **options)
    assert rest.cardinality().numpy() == num_batches - 2
    assert_equal(to_numpy(rest), whole[2:num_batches])
    over = data.causal_lm(spec, tokenizer, start_step=num_batches + 1, **options)
    assert over.cardinality().numpy() == 0
    assert to_numpy(over) == []


def _nats(batches, context):
    """What a table model loses on each scored token that looks at `context` inputs of its window at most."""
    losses = []
    for inputs, labels, weights in batches:
        for row in range(len(labels)):
            for place in np.flatnonzero(weights[row]):
                seen = inputs["token_ids"][row][max(0, place + 1 - context) : place + 1]
                assert inputs["padding_mask"][row][place]
                losses.append(hash((*seen.tolist(), int(labels[row][place]))) % 9973 / 9973)
    return losses


@pytest.mark.parametrize(("sequence_length", "stride"), [(7, 3), (7, 1), (7, 7), (9, 4), (58, 57), (171, 5), (300, 7)])
def test_windows_score_every_token_once_whatever_the_batch(spec, documents, tokenizer, sequence_length, stride):
    options = {"sequence_length": sequence_length, "stride": stride}
    ((_, labels, weights),) = batches = to_numpy(data.causal_lm_windows(spec, tokenizer, batch_size=1000, **options))
    scored = [int(one) for row in range(len(labels)) for one in labels[row][weights[row] > 0]]
    assert _texts(scored, tokenizer) == documents
    losses = _nats(batches, sequence_length)
    for batch_size in (1, 4):
        dataset = data.causal_lm_windows(spec, tokenizer, batch_size=batch_size, **options)
        assert dataset.cardinality().numpy() == len(to_numpy(dataset)) == -(-len(labels) // batch_size)
        assert _nats(to_numpy(dataset), sequence_length) == losses


@pytest.mark.parametrize(("sequence_length", "stride"), [(7, 3), (9, 4), (5, 1)])
def test_windows_give_a_model_of_short_context_what_one_long_pass_gives(spec, tokenizer, sequence_length, stride):
    context = sequence_length - stride
    whole = _nats(to_numpy(data.causal_lm_windows(spec, tokenizer, sequence_length=171, batch_size=1)), context)
    windows = data.causal_lm_windows(spec, tokenizer, sequence_length=sequence_length, stride=stride, batch_size=5)
    assert _nats(to_numpy(windows), context) == whole
    assert _nats(to_numpy(windows), sequence_length) != whole


def test_a_byte_pair_tokenizer_pads_with_its_end_token(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("ab ab ab\n", encoding="utf-8")
    tokenizer = text.BytePairTokenizer.train(["ab ab ab"], 300)
    end = tokenizer.end_id
    ((inputs, labels, weights),) = to_numpy(data.causal_lm(f"text:{path}", tokenizer, sequence_length=6))
    ids = tokenizer.encode("ab ab ab")
    padding = [end] * (5 - len(ids))
    assert inputs["token_ids"].tolist() == [[end, *ids, *padding]]
    assert labels.tolist() == [[*ids, end, *padding]]
    assert weights.sum() == inputs["padding_mask"].sum() == len(ids) + 1


def test_documents_are_cleaned_across_specifications(two, tokenizer, tmp_path):
    path = tmp_path / "more.jsonl"
    path.write_text('{"text": "c  d"}\n{"text": "ab"}\n{"text": "\\ufeff"}\n', encoding="utf-8")
    steps = ("control_characters", "whitespace", "exact_duplicates")
    options = {"sequence_length": 50, "cleaning": steps}
    for dataset in (
        data.causal_lm([two, f"jsonl:{path}"], tokenizer, shuffle=False, **options),
        data.causal_lm_windows([two, f"jsonl:{path}"], tokenizer, **options),
    ):
        ((_, labels, _),) = to_numpy(dataset)
        assert labels[0, :11].tolist() == [4, 5, 3, 6, 7, 8, 3, 6, 1, 7, 3]
        assert not labels[0, 11:].any()


def test_keras_fit_takes_it(spec, tokenizer):
    inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in ("token_ids", "padding_mask")}
    embedded = keras.layers.Embedding(14, 8)(inputs["token_ids"])
    model = keras.Model(inputs, keras.layers.Dense(14)(embedded))
    model.compile(optimizer="sgd", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    dataset = data.causal_lm(spec, tokenizer, sequence_length=7, batch_size=3, repeat=True)
    history = model.fit(dataset, steps_per_epoch=3, epochs=2, shuffle=False, verbose=0)
    assert len(history.history["loss"]) == 2
    assert model.evaluate(data.causal_lm_windows(spec, tokenizer, sequence_length=7), verbose=0) > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sequence_length": 1}, "`sequence_length` must be at least 2; received sequence_length=1"),
        ({"batch_size": 0}, "received batch_size=0"),
        ({"seed": -1}, "received seed=-1"),
        ({"start_step": -1}, "received start_step=-1"),
        ({"examples": "pakced"}, "received examples='pakced'"),
        ({"examples": "prompt_answer"}, "call `tfzoo.data.prompt_answer`"),
        ({"cleaning": ("nfkd",)}, "Did you mean 'nfkc'?"),
    ],
    ids=str,
)
def test_wrong_arguments_are_refused(spec, tokenizer, options, message):
    with pytest.raises(UsageError) as raised:
        data.causal_lm(spec, tokenizer, **options)
    assert message in str(raised.value)


def test_a_wrong_stride_is_refused(spec, tokenizer):
    for stride in (0, 8):
        with pytest.raises(UsageError, match=rf"received stride={stride}, sequence_length=7"):
            data.causal_lm_windows(spec, tokenizer, sequence_length=7, stride=stride)


def test_reading_config_and_cleaning_needs_no_tensorflow():
    code = (
        "import sys\nimport tfzoo.data.config, tfzoo.data.cleaning, tfzoo.data.language, tfzoo.data.prompts\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_data_without_a_token_is_refused(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("\ufeff\x01\n\x02\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"a\.txt: no document with a token in it; give more data, or less `cleaning`"):
        data.causal_lm(f"text:{path}", text.SymbolTokenizer(LETTERS, ""), cleaning=("control_characters",))
