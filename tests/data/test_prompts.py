"""Pairs: the loss falls on the answer and its end token alone."""

import random

import numpy as np
import pytest
from absl import logging

from tests.data.batches import assert_equal, to_numpy
from tfzoo import data, text
from tfzoo.errors import DataError, UsageError

LETTERS = "abcdefghij"
END = 3


@pytest.fixture(scope="module")
def tokenizer():
    return text.SymbolTokenizer(LETTERS + "=", "")


@pytest.fixture(scope="module")
def pairs():
    """120 different pairs of 1 to 9 letters."""
    generator = random.Random(1)
    words = ["".join(generator.choices(LETTERS, k=generator.randint(1, 9))) for _ in range(400)]
    return [(word, word[::-1][: generator.randint(1, 9)]) for word in dict.fromkeys(words)][:120]


@pytest.fixture(scope="module")
def spec(pairs, tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "pairs.tsv"
    path.write_text("".join(f"{prompt}\t{answer}\n" for prompt, answer in pairs), encoding="utf-8")
    return f"tsv:{path}"


def _pairs(batches, tokenizer):
    """The pairs of all rows: what is not scored, and what is."""
    found = []
    for inputs, labels, weights in batches:
        for token_ids, padding_mask, row_labels, row_weights in zip(
            inputs["token_ids"], inputs["padding_mask"], labels, weights, strict=True
        ):
            count = int(padding_mask.sum())
            np.testing.assert_array_equal(padding_mask, [1] * count + [0] * (len(labels[0]) - count))
            np.testing.assert_array_equal(token_ids[count:], 0)
            np.testing.assert_array_equal(row_labels[count:], 0)
            np.testing.assert_array_equal(row_labels[: count - 1], token_ids[1:count])
            assert row_labels[count - 1] == END
            num_answer = int(row_weights.sum())
            np.testing.assert_array_equal(np.flatnonzero(row_weights), np.arange(count - num_answer, count))
            prompt = tokenizer.decode(token_ids[: count - num_answer + 1])
            assert prompt.endswith("=")
            found.append((prompt.removesuffix("="), tokenizer.decode(row_labels[row_weights > 0])))
    return found


def test_two_pairs_give_the_arrays_of_the_docstring(tmp_path):
    path = tmp_path / "two.tsv"
    path.write_text("ab\tc\nc\ta\n", encoding="utf-8")
    tokenizer = text.SymbolTokenizer("abc=", "")
    ((inputs, labels, sample_weight),) = to_numpy(
        data.prompt_answer(f"tsv:{path}", tokenizer, separator="=", shuffle=False)
    )
    np.testing.assert_array_equal(inputs["token_ids"], [[4, 5, 7, 6], [6, 7, 4, 0]])
    np.testing.assert_array_equal(inputs["padding_mask"], [[1, 1, 1, 1], [1, 1, 1, 0]])
    np.testing.assert_array_equal(labels, [[5, 7, 6, 3], [7, 4, 3, 0]])
    np.testing.assert_array_equal(sample_weight, [[0, 0, 1, 1], [0, 1, 1, 0]])
    assert {one.dtype for one in (*inputs.values(), labels)} == {np.dtype("int32")}
    assert sample_weight.dtype == np.float32


def test_an_epoch_holds_every_pair_once_in_batches_of_similar_length(spec, pairs, tokenizer):
    dataset = data.prompt_answer(spec, tokenizer, separator="=", batch_size=7)
    batches = to_numpy(dataset)
    assert dataset.cardinality().numpy() == len(batches)
    found = _pairs(batches, tokenizer)
    assert sorted(found) == sorted(pairs)
    assert found != pairs
    real = sum(int(inputs["padding_mask"].sum()) for inputs, _, _ in batches)
    assert real / sum(labels.size for _, labels, _ in batches) > 0.85


def test_epochs_differ_and_a_resumed_run_sees_the_same(spec, pairs, tokenizer):
    options = {"separator": "=", "batch_size": 7, "seed": 5}
    num_batches = data.prompt_answer(spec, tokenizer, **options).cardinality().numpy()
    whole = to_numpy(data.prompt_answer(spec, tokenizer, repeat=True, **options).take(2 * num_batches))
    first, second = (_pairs(half, tokenizer) for half in (whole[:num_batches], whole[num_batches:]))
    assert first != second
    assert sorted(first) == sorted(second) == sorted(pairs)
    for start_step in (1, num_batches - 2, num_batches + 1):
        resumed = data.prompt_answer(spec, tokenizer, repeat=True, start_step=start_step, **options)
        assert_equal(to_numpy(resumed.take(4)), whole[start_step : start_step + 4])
    other = to_numpy(data.prompt_answer(spec, tokenizer, separator="=", batch_size=7, seed=6))
    assert _pairs(other, tokenizer) != first


def test_a_mixture_draws_by_its_weights(spec, tokenizer, tmp_path):
    path = tmp_path / "more.tsv"
    path.write_text("jjj\tjj\n", encoding="utf-8")
    found = _pairs(
        to_numpy(data.prompt_answer([f"{spec}@0.5", f"tsv:{path}@0.5"], tokenizer, separator="=")), tokenizer
    )
    assert 60 <= found.count(("jjj", "jj")) <= 62


def test_pairs_that_are_too_long_are_left_out_and_counted(tokenizer, tmp_path, caplog):
    path = tmp_path / "long.tsv"
    # prompt + "=" + answer: a row of these tokens, of which the first is no label and the end token is one.
    path.write_text("ab\tcd\nab\tcde\nabc\tde\na\tb\n", encoding="utf-8")
    logging.set_verbosity(logging.INFO)
    logging.use_absl_handler()
    with caplog.at_level("INFO", logger="absl"):
        logging.get_absl_logger().addHandler(caplog.handler)
        dataset = data.prompt_answer(f"tsv:{path}", tokenizer, sequence_length=5, separator="=")
        logging.get_absl_logger().removeHandler(caplog.handler)
    assert sorted(_pairs(to_numpy(dataset), tokenizer)) == [("a", "b"), ("ab", "cd")]
    assert "long.tsv: 2 pairs; 2 longer than sequence_length=5 left out." in caplog.text
    with pytest.raises(DataError, match=r"each of its 4 pairs is longer than sequence_length=2 tokens; raise it"):
        data.prompt_answer(f"tsv:{path}", tokenizer, sequence_length=2, separator="=")


def test_prompt_and_separator_are_tokenized_as_they_are_when_asked(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"source": "ab ab ", "target": "ab"}\n', encoding="utf-8")
    tokenizer = text.BytePairTokenizer.train(["ab ab \n"] * 2, 270)
    ((inputs, labels, weights),) = to_numpy(data.prompt_answer(f"jsonl:{path}", tokenizer))
    prompt, answer = tokenizer.encode("ab ab \n"), tokenizer.encode("ab")
    assert prompt != tokenizer.encode("ab ab ") + tokenizer.encode("\n")
    assert inputs["token_ids"].tolist() == [[*prompt, *answer]]
    assert labels[weights > 0].tolist() == [*answer, tokenizer.end_id]


def test_a_prompt_without_a_token_is_the_start_token(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("\u200b\tab\nb\ta\n", encoding="utf-8")  # a space of no width has no token
    tokenizer = text.SentencePieceTokenizer.train(["a b c", "b a"], 12)
    ((inputs, labels, weights),) = to_numpy(
        data.prompt_answer(f"tsv:{path}", tokenizer, separator="", shuffle=False, batch_size=2)
    )
    answer = tokenizer.encode("ab")
    assert inputs["token_ids"][0].tolist() == [tokenizer.end_id, *answer]
    assert labels[0].tolist() == [*answer, END]
    assert weights[0].tolist() == [1] * (len(answer) + 1)
    assert inputs["token_ids"][1][0] == tokenizer.encode("b")[0]


def test_a_separator_that_the_tokenizer_drops_is_refused(spec):
    with pytest.raises(UsageError, match=r"received separator='\\n', which the SymbolTokenizer drops"):
        data.prompt_answer(spec, text.SymbolTokenizer(LETTERS, " "))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sequence_length": 1}, "`sequence_length` must be at least 2"),
        ({"batch_size": 0}, "received batch_size=0"),
        ({"seed": -1}, "received seed=-1"),
        ({"start_step": -1}, "received start_step=-1"),
    ],
    ids=str,
)
def test_wrong_numbers_are_refused(spec, tokenizer, options, message):
    with pytest.raises(UsageError) as raised:
        data.prompt_answer(spec, tokenizer, separator="=", **options)
    assert message in str(raised.value)


def test_specifications_are_checked(tokenizer, spec):
    with pytest.raises(UsageError, match="`specs` is empty; name at least one, such as `tsv:train.tsv`"):
        data.prompt_answer([], tokenizer, separator="=")
    with pytest.raises(UsageError, match="this sample has one column, and two are needed"):
        data.prompt_answer([spec, "sample:python_docs"], tokenizer, separator="=")
