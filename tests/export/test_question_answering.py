"""The served function: the answers of the Python one, from strings, however many windows a request has."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.runtime.spans import TableModel, question_context_pairs
from tests.text.test_word_piece import SENTENCES
from tfzoo import text
from tfzoo.decoding.config import AnswerConfig
from tfzoo.export.question_answering import answer_signature
from tfzoo.runtime.question_answering import NUM_WINDOWS, answers

ANSWERING = AnswerConfig(window_length=24, stride=5, max_question_length=7, max_answer_length=4)


@pytest.fixture(scope="module")
def tokenizer():
    return text.WordPieceTokenizer.train(SENTENCES, 300)


@pytest.fixture(scope="module")
def pairs():
    return question_context_pairs()


def _in_graph(model, tokenizer, answering):
    specs = [tf.TensorSpec([None], tf.string)] * 2
    return tf.function(answer_signature(model, tokenizer, answering), input_signature=specs, autograph=False)


@pytest.mark.parametrize(("threshold", "no_answer"), [(None, 0.0), (-1.5, 1.0)])
def test_it_equals_the_python_one(tokenizer, pairs, threshold, no_answer):
    answering = AnswerConfig(
        window_length=24, stride=5, max_question_length=7, max_answer_length=4, no_answer_threshold=threshold
    )
    model = TableModel(tokenizer.vocabulary_size, 24, no_answer=no_answer)
    expected = list(answers(model.logits, pairs, tokenizer, answering))
    serve = _in_graph(model, tokenizer, answering)
    for batch in (pairs, pairs[:1], pairs[-3:]):
        found = {name: value.numpy() for name, value in serve(*map(tf.constant, zip(*batch, strict=True))).items()}
        theirs = [expected[pairs.index(pair)] for pair in batch]
        assert [one.decode() for one in found["answers"]] == [one.output for one in theirs]
        assert found["starts"].tolist() == [one.start for one in theirs]
        assert found["ends"].tolist() == [one.end for one in theirs]
        np.testing.assert_allclose(found["scores"], [one.score for one in theirs], rtol=1e-5)
        assert [found[name].dtype for name in ("scores", "starts", "ends")] == [np.float32, np.int32, np.int32]


def test_many_windows_are_read_a_few_at_a_time(tokenizer):
    model = TableModel(tokenizer.vocabulary_size, 24)
    read = []

    def recorded(inputs, training):
        tf.py_function(lambda ids: read.append(tuple(ids.shape)), [inputs["token_ids"]], [])
        return model(inputs, training)

    pair = ("the", "the other brother " * 400)
    (expected,) = answers(model.logits, [pair], tokenizer, ANSWERING)
    found = _in_graph(recorded, tokenizer, ANSWERING)(*(tf.constant([one]) for one in pair))
    assert (found["answers"].numpy()[0].decode(), found["starts"].numpy()[0]) == (expected.output, expected.start)
    num_windows = 1 + math.ceil((len(tokenizer.encode(pair[1])) - 20) / ANSWERING.stride)
    assert sum(rows for rows, _ in read) == num_windows > 5 * NUM_WINDOWS
    assert max(rows for rows, _ in read) == NUM_WINDOWS


def test_an_empty_request_has_no_answers(tokenizer):
    model = TableModel(tokenizer.vocabulary_size, 24)
    found = _in_graph(model, tokenizer, ANSWERING)(*[tf.constant([], tf.string)] * 2)
    assert {name: value.shape[0] for name, value in found.items()} == dict.fromkeys(found, 0)


def test_bytes_that_are_not_utf8_are_answered_in_utf8(tokenizer):
    model = TableModel(tokenizer.vocabulary_size, 24)
    context = b"\xffthe \xe4\xbdother \xed\xa0\x80brother"
    found = _in_graph(model, tokenizer, ANSWERING)(tf.constant(["the"]), tf.constant([context]))
    (expected,) = answers(model.logits, [("the", context.decode("utf-8", "replace"))], tokenizer, ANSWERING)
    assert found["answers"].numpy()[0].decode() == expected.output
    assert (found["starts"].numpy()[0], found["ends"].numpy()[0]) == (expected.start, expected.end)


def test_it_is_served_from_a_saved_model(tokenizer, pairs, tmp_path):
    model = TableModel(tokenizer.vocabulary_size, 24)
    archive = keras.export.ExportArchive()
    archive.track(tokenizer.trackable())
    names = ("question", "context")
    archive.add_endpoint(
        "serve",
        answer_signature(model, tokenizer, ANSWERING),
        input_signature=[tf.TensorSpec((None,), tf.string, name=name) for name in names],
    )
    archive.write_out(tmp_path / "1", verbose=False)
    served = tf.saved_model.load(str(tmp_path / "1")).signatures["serve"]
    batch = pairs[:50]
    found = served(**dict(zip(names, map(tf.constant, zip(*batch, strict=True)), strict=True)))
    expected = list(answers(model.logits, batch, tokenizer, ANSWERING))
    assert [one.decode() for one in found["answers"].numpy()] == [one.output for one in expected]
