"""What the page's JavaScript makes of an encoder's logits is what `tfzoo.runtime` makes of them, on awkward texts."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.demo.test_tokenizer import NODE
from tests.runtime.spans import question_context_pairs
from tests.text.test_word_piece import SENTENCES, awkward
from tfzoo import text
from tfzoo.decoding.config import AnswerConfig
from tfzoo.demo.server import PAGE
from tfzoo.runtime.encoder import Encoder
from tfzoo.runtime.head import Head

pytestmark = pytest.mark.skipif(NODE is None, reason="node is missing; run tests/setup")

T_MAX = 24  # tokens
TEXTS = [*SENTENCES[:5], *awkward(300, seed=41), "", " ", "a\vb\fc\x1cd\xa0e\u2003f\n", "a " * 30, " ".join(SENTENCES)]
PAIRS = [*zip(TEXTS, TEXTS[1:], strict=False), ("", ""), (TEXTS[0] * 3, "a"), ("a", TEXTS[0] * 3), (TEXTS[0], TEXTS[0])]


class Tables:
    """In place of a model: numbers by token id, by position and by segment, added up; halves, whose sums are exact.

    Of a question's window no answer has the numbers of the last token too: it is another in each window.
    """

    def __init__(self, head, size, vocabulary_size):
        generator = np.random.default_rng(8)
        self.head = head
        self.of = {
            name: generator.integers(-high, high + 1, (length, size)).astype(np.float32) / 2
            for name, length, high in (("token", vocabulary_size, 6), ("position", T_MAX, 2), ("segment", 2, 2))
        }

    def logits(self, inputs):
        ids, mask = inputs["token_ids"], inputs["padding_mask"][..., np.newaxis]
        rows = self.of["token"][ids] + self.of["position"][: ids.shape[1]] + self.of["segment"][inputs["segment_ids"]]
        if self.head.task == "question_answering":
            last = inputs["padding_mask"].sum(axis=1) - 2  # before the end token
            rows[:, 0] += self.of["token"][np.take_along_axis(ids, last[:, np.newaxis], 1)[:, 0]]
            return rows.transpose(0, 2, 1)
        if self.head.task not in ("text_classification", "text_embedding"):
            return rows
        sums = (rows * mask).sum(axis=1)
        return sums / np.linalg.norm(sums, axis=-1, keepdims=True) if self.head.task == "text_embedding" else sums


@pytest.fixture(scope="module")
def tokenizer():
    return text.WordPieceTokenizer.train(SENTENCES, 300)


@pytest.fixture
def ask(tokenizer, tmp_path):
    """Tables, texts as the page takes them, and options -> what the page answers."""

    def ask(tables, texts, decoding=None):
        tokenizer.save(tmp_path)
        head = tables.head
        manifest = {"task": head.task, "max_length": T_MAX, "head": {"labels": head.labels, "problem": head.problem}}
        job = {
            "directory": str(tmp_path),
            "manifest": manifest | {"decoding": decoding and vars(decoding)},
            "tables": {name: table.tolist() for name, table in tables.of.items()},
            "texts": texts,
        }
        command = [NODE, Path(__file__).with_name("answer.mjs"), PAGE]
        done = subprocess.run(command, input=json.dumps(job).encode(), capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return json.loads(done.stdout)

    return ask


def answered(tables, tokenizer, texts, decoding=None):
    return [*Encoder(tables, text.pair(tokenizer), tables.head, decoding).answer(texts)]


@pytest.mark.parametrize(("problem", "num_texts"), [("single_label", 1), ("single_label", 2), ("multi_label", 2)])
def test_classes_are_ranked_and_chosen(ask, tokenizer, problem, num_texts):
    labels = ("a", "b", "größe", "d e", "f")
    head = Head(task="text_classification", max_length=T_MAX, num_texts=num_texts, labels=labels, problem=problem)
    tables = Tables(head, len(labels), tokenizer.vocabulary_size)
    tables.of = {name: table / 8 for name, table in tables.of.items()}  # else all scores are 0 or 1
    texts = PAIRS if num_texts == 2 else TEXTS
    found = ask(tables, texts if num_texts == 2 else [[one] for one in texts])
    chosen = []
    for one, answer in zip(found, answered(tables, tokenizer, texts), strict=True):
        assert [each["label"] for each in one["classes"]] == answer["labels"]
        np.testing.assert_allclose([each["score"] for each in one["classes"]], answer["scores"], atol=1e-6)
        chosen.append([each["label"] for each in one["chosen"]])
        assert chosen[-1] == ([answer["output"]] if problem == "single_label" else answer["output"])
    assert len(set(map(tuple, chosen))) > 2


def test_a_regression_gives_its_number(ask, tokenizer):
    tables = Tables(
        Head(task="text_classification", max_length=T_MAX, problem="regression"), 1, tokenizer.vocabulary_size
    )
    found = ask(tables, [[one] for one in TEXTS])
    expected = [answer["output"] for answer in answered(tables, tokenizer, TEXTS)]
    assert [one["value"] for one in found] == expected
    assert len(set(expected)) > 30


def test_words_are_labelled_by_their_first_piece(ask, tokenizer):
    labels = ("O", "B-X", "I-X")
    tables = Tables(Head(task="token_classification", max_length=T_MAX, labels=labels), 3, tokenizer.vocabulary_size)
    found = ask(tables, TEXTS)
    for one, sentence, answer in zip(found, TEXTS, answered(tables, tokenizer, TEXTS), strict=True):
        read = [word for word in one["words"] if "label" in word]
        assert [word["word"] for word in read] == answer["words"]
        assert [word["label"] for word in read] == answer["labels"]
        np.testing.assert_allclose([word["score"] for word in read], answer["scores"], atol=1e-6)
        units = sentence.encode("utf-16-le", "surrogatepass")
        for word in one["words"]:
            start = 2 * word["start"]
            assert units[start:].startswith(word["word"].encode("utf-16-le", "surrogatepass"))
    assert {label for answer in answered(tables, tokenizer, TEXTS) for label in answer["labels"]} == {*labels}
    assert "label" not in found[-1]["words"][-1]  # behind the last position


def test_masks_are_filled_with_the_likeliest_pieces(ask, tokenizer):
    texts = ["[MASK]".join(TEXTS[at : at + 3]) for at in range(0, len(TEXTS), 3)]
    texts += ["", "[MASK]", "[MASK][MASK]s", "[mask]", "[MASK] " * 30, "a[MASK" + "]"]
    head = Head(task="fill_mask", max_length=T_MAX)
    tables = Tables(head, tokenizer.vocabulary_size, tokenizer.vocabulary_size)
    found = ask(tables, texts)
    for one, answer in zip(found, answered(tables, tokenizer, texts), strict=True):
        assert one["text"] == answer["output"]
        pieces = [[tokenizer.decode([each["id"]]) for each in mask] for mask in one["masks"]]
        assert pieces == answer["tokens"]
        for mask, scores in zip(one["masks"], answer["scores"], strict=True):
            np.testing.assert_allclose([each["probability"] for each in mask], scores, atol=1e-6)
    assert sum(len(one["masks"]) for one in found) > 100


def test_two_texts_have_a_cosine(ask, tokenizer):
    tables = Tables(Head(task="text_embedding", max_length=T_MAX), 7, tokenizer.vocabulary_size)
    found = ask(tables, PAIRS)
    for one, pair in zip(found, PAIRS, strict=True):
        vectors = [answer["output"] for answer in answered(tables, tokenizer, pair)]
        np.testing.assert_allclose(one["vectors"], vectors, atol=1e-6)
        np.testing.assert_allclose(one["cosine"], np.dot(*vectors), atol=1e-6)


SHORT = {"window_length": 20, "stride": 9, "max_question_length": 8, "max_answer_length": 2}


@pytest.mark.parametrize(
    "decoding",
    [
        AnswerConfig(window_length=24, stride=5, max_question_length=7, max_answer_length=4),
        AnswerConfig(**SHORT, no_answer_threshold=-5.25),  # parts contexts of one window
        AnswerConfig(**SHORT, no_answer_threshold=-9.75),  # those of many
    ],
    ids=["always", "short", "long"],
)
def test_a_context_of_any_length_answers(ask, tokenizer, decoding):
    tables = Tables(Head(task="question_answering", max_length=T_MAX, num_texts=2), 2, tokenizer.vocabulary_size)
    pairs = question_context_pairs()
    found = ask(tables, pairs, decoding)
    expected = answered(tables, tokenizer, pairs, decoding)
    assert [(one["start"], one["end"]) for one in found] == [(one["start"], one["end"]) for one in expected]
    np.testing.assert_allclose([one["score"] for one in found], [one["score"] for one in expected], rtol=1e-5)
    assert max(len(one["rows"]) for one in found) > 10
    nothing_there = sum(not tokenizer.encode(context) for _, context in pairs)
    num_empty = sum(one["start"] < 0 for one in expected)
    if decoding.no_answer_threshold is None:
        assert num_empty == nothing_there > 4
    else:
        assert nothing_there + 10 < num_empty < len(pairs) - 10
