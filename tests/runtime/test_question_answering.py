"""Answers in long contexts: the same as by trying every span of every window."""

import subprocess
import sys

import numpy as np
import pytest

from tests.runtime.spans import TableModel, question_context_pairs, tried
from tests.text.test_word_piece import SENTENCES
from tfzoo import text
from tfzoo.decoding.config import AnswerConfig
from tfzoo.errors import UsageError
from tfzoo.runtime import question_answering
from tfzoo.runtime.question_answering import answers, best_spans

ANSWERING = AnswerConfig(window_length=24, stride=5, max_question_length=7, max_answer_length=4)


@pytest.fixture(scope="module", params=[True, False], ids=["uncased", "cased"])
def tokenizer(request):
    return text.WordPieceTokenizer.train(SENTENCES, 300, lowercase=request.param)


@pytest.fixture(scope="module")
def pairs():
    return question_context_pairs()


@pytest.mark.parametrize("threshold", [None, 0.0, -1.5])
@pytest.mark.parametrize("no_answer", [-1.0, 1.0])
def test_the_answer_is_the_best_of_all_spans(tokenizer, pairs, threshold, no_answer):
    answering = AnswerConfig(
        window_length=24, stride=5, max_question_length=7, max_answer_length=4, no_answer_threshold=threshold
    )
    model = TableModel(tokenizer.vocabulary_size, 24, no_answer=no_answer)
    found = list(answers(model.logits, pairs, tokenizer, answering))
    expected = [tried(model, *pair, tokenizer, answering) for pair in pairs]
    assert [(one.output, one.start, one.end, one.margin) for one in found] == [
        (one.output, one.start, one.end, one.margin) for one in expected
    ]
    np.testing.assert_allclose([one.score for one in found], [one.score for one in expected], rtol=1e-5)
    for (_, context), one in zip(pairs, found, strict=True):
        assert one.output == (context[one.start : one.end] if one.start >= 0 else "")
    num_empty = sum(one.start < 0 for one in found)
    if threshold is None:
        assert num_empty == sum(not tokenizer.encode(context) for _, context in pairs) > 4
    else:
        assert 20 < num_empty < len(pairs) - 20


def test_a_context_is_tokenized_once_for_its_questions(tokenizer, monkeypatch):
    seen = []
    encode = text.WordPieceTokenizer.encode_with_offsets
    monkeypatch.setattr(
        text.WordPieceTokenizer, "encode_with_offsets", lambda self, one: seen.append(one) or encode(self, one)
    )
    model = TableModel(tokenizer.vocabulary_size, 24)
    assert len(list(answers(model.logits, [("Who?", "the other")] * 50, tokenizer, ANSWERING))) == 50
    assert seen == ["the other"]


def test_windows_are_read_a_few_at_a_time_with_little_padding(tokenizer):
    model = TableModel(tokenizer.vocabulary_size, 24)
    shapes = []

    def logits(inputs):
        assert set(inputs) == {"token_ids", "padding_mask", "segment_ids"}
        shapes.append(inputs["token_ids"].shape)
        return model.logits(inputs)

    pairs = [("the", "the other " * 100), *[("the", "the")] * 63]
    found = list(answers(logits, iter(pairs), tokenizer, ANSWERING))
    assert len(found) == 64
    assert max(rows for rows, _ in shapes) == question_answering.NUM_WINDOWS
    assert {length for _, length in shapes} == {5, 24}


def test_pairs_are_read_as_answers_are_asked_for(tokenizer):
    def endless():
        while True:
            yield "the", "the other"

    model = TableModel(tokenizer.vocabulary_size, 24)
    assert next(answers(model.logits, endless(), tokenizer, ANSWERING)).output


@pytest.mark.parametrize("pair", ["ab", ("a",), ("a", 7), ("a", "b", "c")])
def test_what_is_no_pair_of_texts_is_refused(tokenizer, pair):
    with pytest.raises(UsageError, match="a question and its context are needed, two strings; received"):
        list(answers(lambda inputs: None, [pair], tokenizer, ANSWERING))


def test_the_best_span_is_in_the_context_and_short_enough():
    logits = np.zeros((2, 2, 8), np.float32)
    # [CLS] q q [SEP] c c c [SEP], and [CLS] [SEP] c [SEP] and padding, with the highest logits where no span may be.
    logits[:, :, [1, 7]] = 50
    logits[0, 0, [2, 3]] = 50
    logits[0] += [[0, 0, 0, 0, 3, 1, 2, 0], [1, 0, 0, 0, 1, 2, 4, 0]]
    spans = best_spans(logits, np.array([2, 0]), np.array([3, 1]), max_answer_length=2)
    assert [one.tolist() for one in spans[:4]] == [[6, 2], [6, 2], [6, 0], [1, 0]]
    # Spans 4-4, 4-5, 5-5, 5-6, 6-6 and none; 4-6 is too long.
    scores = [3 + 1, 3 + 2, 1 + 2, 1 + 4, 2 + 4, 1]
    np.testing.assert_allclose(spans.totals, [np.log(np.exp(scores).sum()), np.log(2)], rtol=1e-6)


def test_it_needs_no_tensorflow():
    code = "import sys, tfzoo.runtime.question_answering; assert 'tensorflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
