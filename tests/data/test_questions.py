"""Windows of contexts: every token in one of them, and the answer where the label says."""

import json
import random

import numpy as np
import pytest
import tensorflow as tf
from absl import logging

from tests.data.batches import to_numpy
from tests.text import fuzz
from tfzoo import data, text
from tfzoo.data.questions import answer_tokens
from tfzoo.data.squad import Answer, read_questions
from tfzoo.data.windows import cut_windows, cut_windows_in_graph
from tfzoo.errors import DataError, UsageError

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
LETTERS = "abcdefghij"
WINDOWS = {"window_length": 23, "stride": 5, "max_question_length": 6}


def squad(*paragraphs):
    """SQuAD's JSON of (context, [(question, (text, start) or None)])."""
    return {
        "data": [
            {
                "paragraphs": [
                    {
                        "context": context,
                        "qas": [
                            {
                                "id": f"{number}.{index}",
                                "question": question,
                                "answers": [{"text": answer[0], "answer_start": answer[1]}] if answer else [],
                            }
                            for index, (question, answer) in enumerate(questions)
                        ],
                    }
                    for number, (context, questions) in enumerate(paragraphs)
                ]
            }
        ]
    }


@pytest.fixture(scope="module")
def tokenizer():
    characters = [*LETTERS, "é", "漢", "字", "가", "😀", "!", "?"]
    return text.WordPieceTokenizer([*SPECIAL, *characters, *(f"##{one}" for one in characters)], lowercase=False)


@pytest.fixture(scope="module")
def paragraphs():
    """Contexts of 1 to 140 tokens with questions of 0 to 9, some without an answer."""
    generator = random.Random(1)
    found = []
    for number in range(60):
        parts = [*LETTERS, *LETTERS.upper(), " ", " ", "  ", "\n", "漢字", "é", "e\u0301", "\x07", "\u200b", "😀", "!"]
        context = f"{number}" + "".join(generator.choices(parts, k=generator.randrange(160)))
        questions = []
        for _ in range(generator.randrange(4)):
            question = " ".join(generator.choices(LETTERS, k=generator.randrange(10)))
            start = generator.randrange(len(context))
            answer = context[start : start + generator.randrange(1, 12)]
            has_token = any(not one.isspace() and one not in "\x07\u200b" for one in answer)
            questions.append((question, (answer, start) if has_token and generator.random() < 0.7 else None))
        found.append((context, questions))
    return found


@pytest.fixture(scope="module")
def spec(paragraphs, tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "questions.json"
    path.write_text(json.dumps(squad(*paragraphs)), encoding="utf-8")
    return f"squad:{path}"


def _windows(batches, tokenizer):
    """Question, part of the context, and label of all rows, as ids; checks how a row is made."""
    found = []
    for inputs, labels, weights in batches:
        np.testing.assert_array_equal(weights, np.ones_like(labels))
        assert (weights.dtype, labels.dtype) == (np.float32, np.int32)
        assert {one.dtype for one in inputs.values()} == {np.dtype("int32")}
        assert inputs["padding_mask"].sum(axis=1).max() == inputs["padding_mask"].shape[1]
        for ids, mask, segments, label in zip(*inputs.values(), labels, strict=True):
            count = mask.sum()
            np.testing.assert_array_equal(mask, [1] * count + [0] * (len(mask) - count))
            np.testing.assert_array_equal(ids[count:], tokenizer.pad_id)
            first, last = np.flatnonzero(ids == tokenizer.end_id)
            assert (ids[0], last) == (tokenizer.start_id, count - 1)
            np.testing.assert_array_equal(segments, [0] * (first + 1) + [1] * (last - first) + [0] * (len(ids) - count))
            found.append((ids[1:first].tolist(), ids[first + 1 : last].tolist(), label.tolist()))
    return found


def test_the_example_of_the_docstring(tmp_path):
    tokenizer = text.WordPieceTokenizer([*SPECIAL, *"abcd"])
    (tmp_path / "a.json").write_text(json.dumps(squad(("b c d", [("a", ("c d", 2))]))), encoding="utf-8")
    options = {"window_length": 6, "stride": 1, "max_question_length": 1}
    ((inputs, labels, weights),) = to_numpy(
        data.question_answering(f"squad:{tmp_path / 'a.json'}", tokenizer, **options, shuffle=False)
    )
    np.testing.assert_array_equal(inputs["token_ids"], [[2, 5, 3, 6, 7, 3], [2, 5, 3, 7, 8, 3]])
    np.testing.assert_array_equal(inputs["padding_mask"], np.ones((2, 6)))
    np.testing.assert_array_equal(inputs["segment_ids"], [[0, 0, 0, 1, 1, 1]] * 2)
    np.testing.assert_array_equal(labels, [[0, 0], [3, 4]])
    np.testing.assert_array_equal(weights, np.ones((2, 2)))


def test_windows_are_cut_as_the_docstring_says():
    arrays = cut_windows(np.array([2]), np.array([7]), window_length=9, stride=3)
    assert [one.tolist() for one in arrays] == [[0, 0], [0, 3], [4, 4]]


@pytest.mark.parametrize("stride", [1, 2, 5])
def test_each_token_is_in_a_window_and_none_is_needless(stride):
    generator = np.random.default_rng(2)
    questions, contexts = generator.integers(0, 7, 200), generator.integers(0, 60, 200)
    windows = cut_windows(questions, contexts, window_length=14, stride=stride)
    for number, (question, context) in enumerate(zip(questions, contexts, strict=True)):
        mine = [(start, size) for one, start, size in zip(*windows, strict=True) if one == number]
        assert [start for start, _ in mine] == [stride * nth for nth in range(len(mine))]
        assert all(0 <= size <= 14 - 3 - question for _, size in mine)
        assert {at for start, size in mine for at in range(start, start + size)} == {*range(context)}
        # All but the last are full, and without the last a token would be missing.
        assert all(start + 14 - 3 - question < context for start, _ in mine[:-1])
    in_graph = cut_windows_in_graph(tf.constant(questions), tf.constant(contexts), window_length=14, stride=stride)
    for ours, theirs in zip(windows, in_graph, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_each_question_has_its_windows_with_its_answer(spec, tokenizer):
    found = _windows(to_numpy(data.question_answering(spec, tokenizer, **WINDOWS, batch_size=7)), tokenizer)
    expected, num_inside, num_outside = [], 0, 0
    for one in read_questions(spec):
        question = tokenizer.encode(one.question)[:6]
        ids, spans = tokenizer.encode_with_offsets(one.context)
        room = 23 - 3 - len(question)
        for start in range(0, max(1, len(ids) - room + 5), 5):
            label = [0, 0]
            if one.answers:
                answer, at = one.answers[0]
                tokens = [n for n, (first, last) in enumerate(spans) if first < at + len(answer) and last > at]
                if start <= tokens[0] and tokens[-1] < start + room:
                    label = [len(question) + 2 + token - start for token in (tokens[0], tokens[-1])]
                    num_inside += 1
                else:
                    num_outside += 1
            expected.append((question, ids[start : start + room], label))
    assert sorted(found) == sorted(expected)
    assert min(num_inside, num_outside) > 40


def test_the_order_is_a_function_of_seed_and_epoch(spec, tokenizer):
    def windows(**options):
        return to_numpy(data.question_answering(spec, tokenizer, **WINDOWS, batch_size=7, **options))

    def assert_equal(ours, theirs):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            tf.nest.map_structure(np.testing.assert_array_equal, one, other)

    assert_equal(windows(seed=3), windows(seed=3))
    assert sorted(_windows(windows(seed=3), tokenizer)) == sorted(_windows(windows(seed=4), tokenizer))
    assert _windows(windows(seed=3), tokenizer) != _windows(windows(seed=4), tokenizer)
    whole = windows(seed=3)
    endless = data.question_answering(spec, tokenizer, **WINDOWS, batch_size=7, seed=3, repeat=True)
    two = to_numpy(endless.take(2 * len(whole)))
    assert_equal(two[: len(whole)], whole)
    assert _windows(two[len(whole) :], tokenizer) != _windows(whole, tokenizer)
    late = data.question_answering(spec, tokenizer, **WINDOWS, batch_size=7, seed=3, repeat=True, start_step=5)
    assert_equal(to_numpy(late.take(2 * len(whole) - 5)), two[5:])
    assert_equal(windows(start_step=2, seed=3), whole[2:])
    assert len(data.question_answering(spec, tokenizer, **WINDOWS, batch_size=7)) == len(whole)


def test_weights_mix_specifications(spec, tokenizer, tmp_path):
    path = tmp_path / "other.json"
    path.write_text(json.dumps(squad(*[("a b c", [("j j j j", ("b", 2))])] * 9)), encoding="utf-8")
    mixed = _windows(
        to_numpy(data.question_answering([f"{spec}@0.5", f"squad:{path}@0.5"], tokenizer, **WINDOWS)), tokenizer
    )
    others = [one for one in mixed if one[0] == tokenizer.encode("j j j j")]
    assert 0.4 < len(others) / len(mixed) < 0.6


def test_an_answer_has_every_token_that_it_touches(tokenizer):
    generator = random.Random(5)
    for context in fuzz.strings(400, seed=6):
        _, spans = tokenizer.encode_with_offsets(context)
        if not spans:
            continue
        starts, ends = map(np.array, zip(*spans, strict=True))
        start = generator.randrange(len(context))
        answer = Answer(context[start : start + generator.randrange(1, 6)], start)
        touched = [n for n, (first, last) in enumerate(spans) if first < start + len(answer.text) and last > start]
        assert answer_tokens(answer, starts, ends) == ((touched[0], touched[-1]) if touched else None)


def test_answers_without_a_token_are_left_out_and_counted(tokenizer, tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    blank = ("a \u200b b", [("c", ("\u200b", 2))])
    path.write_text(json.dumps(squad(blank, ("a b", [("d", ("b", 2))]))), encoding="utf-8")
    logged = []
    monkeypatch.setattr(logging, "info", lambda message, *values: logged.append(message % values))
    batches = to_numpy(data.question_answering(f"squad:{path}", tokenizer, **WINDOWS))
    assert _windows(batches, tokenizer) == [(tokenizer.encode("d"), tokenizer.encode("a b"), [4, 4])]
    assert logged == [f"squad:{path}: 1 questions; 1 whose answer has no token left out.", "1 questions in 1 windows."]
    path.write_text(json.dumps(squad(blank)), encoding="utf-8")
    with pytest.raises(DataError, match=r"a\.json: no answer to any of its 1 questions has a token in its context"):
        data.question_answering(f"squad:{path}", tokenizer)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window_length": 0}, "`window_length` must be at least 1; received window_length=0"),
        ({"stride": 0}, "`stride` must be at least 1; received stride=0"),
        ({"max_question_length": 0}, "`max_question_length` must be at least 1"),
        (
            {"window_length": 20, "stride": 8, "max_question_length": 10},
            r"`stride` must not exceed .* max_question_length - 3 = 7, or tokens would be left out; received stride=8",
        ),
        ({"batch_size": 0}, "`batch_size` must be at least 1"),
        ({"seed": -1}, "`seed` must be at least 0"),
        ({"start_step": -1}, "`start_step` must be at least 0"),
        ({"specs": []}, "`specs` is empty; name at least one"),
        ({"specs": "tsv:a.tsv"}, "questions with contexts and answers are needed; use `squad:`"),
    ],
)
def test_mistakes_are_named(spec, tokenizer, options, message):
    with pytest.raises(UsageError, match=message):
        data.question_answering(**{"specs": spec, "tokenizer": tokenizer, **options})
