"""A model of two tables in place of one that was trained, and answers by trying every span in plain Python."""

import math
import random

import numpy as np
import tensorflow as tf

from tests.text import fuzz
from tests.text.test_word_piece import SENTENCES, awkward
from tfzoo.runtime.question_answering import Answer


class TableModel:
    """Logits by token id and by position; with ties, since they are few whole numbers and halves.

    Those of [CLS] are by the sum of the row's tokens, so that one window has more of an answer than another.
    """

    def __init__(self, vocabulary_size, max_length, *, no_answer=0.0):
        generator = np.random.default_rng(5)
        self.of_token = generator.integers(-6, 7, (vocabulary_size, 2)).astype(np.float32) / 2
        self.of_position = generator.integers(-2, 3, (max_length, 2)).astype(np.float32) / 2
        self.no_answer = no_answer

    def logits(self, inputs):
        ids, mask = inputs["token_ids"], inputs["padding_mask"]
        values = self.of_token[ids] + self.of_position[: ids.shape[1]]
        values[:, 0] = self.no_answer + (values * mask[:, :, np.newaxis])[:, 1:].sum(axis=1) % 3
        return values.transpose(0, 2, 1)

    def __call__(self, inputs, training):
        assert training is False
        ids, mask = inputs["token_ids"], tf.cast(inputs["padding_mask"], tf.float32)[:, :, tf.newaxis]
        values = tf.gather(tf.constant(self.of_token), ids) + tf.constant(self.of_position)[: tf.shape(ids)[1]]
        first = self.no_answer + tf.reduce_sum((values * mask)[:, 1:], axis=1) % 3
        return tf.transpose(tf.concat([first[:, tf.newaxis], values[:, 1:]], axis=1), [0, 2, 1])


def question_context_pairs():
    """Questions with contexts of no token to some hundreds, several questions a context."""
    generator = random.Random(31)
    contexts = [*SENTENCES[:5], *fuzz.strings(60, seed=32), *awkward(60, seed=33), "", " ", "\u200b\x07", "\u0301"]
    contexts += [" ".join(generator.choices(contexts, k=generator.randrange(2, 9))) for _ in range(40)]
    questions = ["", "\x07", "Who?", *SENTENCES[:5], *fuzz.strings(20, seed=34)]
    return [(generator.choice(questions), context) for context in contexts for _ in range(2)]


def tried(model, question, context, tokenizer, answering):
    """The answer by the rules of the docstrings, one window and one span at a time."""
    asked = tokenizer.encode(question)[: answering.max_question_length]
    ids, places = tokenizer.encode_with_offsets(context)
    room = answering.window_length - 3 - len(asked)
    best, no_answers, shares, start = None, [], [], 0
    while True:
        seen = ids[start : start + room]
        row = [tokenizer.start_id, *asked, tokenizer.end_id, *seen, tokenizer.end_id]
        inputs = {"token_ids": np.array([row]), "padding_mask": np.ones((1, len(row)), int)}
        start_logits, end_logits = model.logits(inputs)[0].tolist()
        no_answer = start_logits[0] + end_logits[0]
        spans = []
        for i in range(len(asked) + 2, len(row) - 1):
            for j in range(i, min(i + answering.max_answer_length, len(row) - 1)):
                spans.append((start_logits[i] + end_logits[j], i, j))
        total = sum(math.exp(score) for score, *_ in spans) + math.exp(no_answer)
        no_answers.append(no_answer)
        shares.append(math.exp(no_answer) / total)
        for score, i, j in spans:
            if best is None or score > best[0]:
                best = (score, *(one - len(asked) - 2 + start for one in (i, j)), math.exp(score) / total)
        if start + room >= len(ids):
            break
        start += answering.stride
    if best is None:
        return Answer("", min(shares), -1, -1, math.inf)
    margin = min(no_answers) - best[0]
    if answering.no_answer_threshold is not None and margin > answering.no_answer_threshold:
        return Answer("", min(shares), -1, -1, margin)
    begin, end = places[best[1]][0], places[best[2]][1]
    return Answer(context[begin:end], best[3], begin, end, margin)
