"""`static_shapes=True` of every kind of data: few shapes, and every example as often as without."""

import collections
import json
import random

import numpy as np
import pytest
import tensorflow as tf

from tests.data import encoders
from tests.data.batches import to_numpy
from tfzoo import data, text
from tfzoo.data.batches import bucket_boundaries
from tfzoo.data.few_shapes import with_few_shapes
from tfzoo.errors import DataError

B, LONGEST, NUM_RECORDS = 5, 19, 23
SYMBOLS = text.SymbolTokenizer(encoders.LETTERS + "=", "")
PIECES = encoders.tokenizer()
LABELS = ("x", "y")


def _words(generator, most):
    return ["".join(generator.choices(encoders.LETTERS, k=2)) for _ in range(generator.randint(1, most))]


@pytest.fixture(scope="module")
def specs(tmp_path_factory):
    """Name of each file of records -> its data specification."""
    generator = random.Random(1)
    texts = [_words(generator, 7) for _ in range(NUM_RECORDS)]
    pairs = [f"{' '.join(one)}\t{' '.join(one[:3])}" for one in texts]
    documents = [". ".join(" ".join(_words(generator, 4)) for _ in range(3)) + "." for _ in range(NUM_RECORDS)]
    contexts = [" ".join(_words(generator, 12)) for _ in range(NUM_RECORDS)]
    questions = [
        {
            "context": context,
            "qas": [{"id": str(index), "question": "ab", "answers": [{"text": context[:2], "answer_start": 0}]}],
        }
        for index, context in enumerate(contexts)
    ]
    files = {
        "text:documents.txt": documents,
        "text:letters_only.txt": ["".join(one) for one in texts],
        "tsv:pairs.tsv": pairs,
        "tsv:letters.tsv": [pair.replace(" ", "") for pair in pairs],
        "tsv:labelled.tsv": [f"{' '.join(one)}\t{LABELS[index % 2]}" for index, one in enumerate(texts)],
        "conll:words.conll": ["".join(f"{word} {LABELS[index % 2]}\n" for index, word in enumerate(t)) for t in texts],
        "squad:questions.json": [json.dumps({"data": [{"title": "t", "paragraphs": questions}]})],
    }
    directory = tmp_path_factory.mktemp("data")
    found = {}
    for name, lines in files.items():
        scheme, _, path = name.partition(":")
        (directory / path).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        found[path.partition(".")[0]] = f"{scheme}:{directory / path}"
    return found


# Kind of data -> its batches, of the specifications and options.
WINDOWS = {"sequence_length": LONGEST, "batch_size": B}
KINDS = {
    "seq2seq": lambda specs, options: data.seq2seq(
        specs["letters"], SYMBOLS, batch_size=B, max_source_length=LONGEST, max_target_length=LONGEST, **options
    ),
    "packed": lambda specs, options: data.causal_lm(specs["letters_only"], SYMBOLS, **WINDOWS, **options),
    "contiguous": lambda specs, options: data.causal_lm(
        specs["letters_only"], SYMBOLS, examples="contiguous", **WINDOWS, **options
    ),
    "prompt_answer": lambda specs, options: data.prompt_answer(
        specs["letters"], SYMBOLS, separator="=", **WINDOWS, **options
    ),
    "fill_mask": lambda specs, options: data.masked_lm(specs["documents"], PIECES, **WINDOWS, **options),
    "next_sentence": lambda specs, options: data.masked_lm(
        specs["documents"], PIECES, next_sentence=True, **WINDOWS, **options
    ),
    "classification": lambda specs, options: data.classification(
        specs["labelled"], PIECES, labels=LABELS, **WINDOWS, **options
    ),
    "token_classification": lambda specs, options: data.token_classification(
        specs["words"], PIECES, labels=LABELS, **WINDOWS, **options
    ),
    "question_answering": lambda specs, options: data.question_answering(
        specs["questions"], PIECES, window_length=LONGEST, stride=8, max_question_length=4, batch_size=B, **options
    ),
    "text_pairs": lambda specs, options: data.text_pairs(specs["pairs"], PIECES, **WINDOWS, **options),
}
LEAVES_OUT = ("seq2seq", "text_pairs")


def _counted(kind, batches):
    """How often each row that weighs something is there, without what is padding at its end."""
    found = collections.Counter()
    for inputs, labels, weights in batches:
        # Which row of the batch a text's partner has says nothing of the text.
        arrays = tf.nest.flatten((inputs, () if kind == "text_pairs" else labels, weights))
        for row in np.flatnonzero(tf.nest.flatten(weights)[0].reshape(len(arrays[0]), -1).any(axis=1)):
            found[tuple(tuple(np.trim_zeros(np.ravel(one[row]), "b").tolist()) for one in arrays)] += 1
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_there_are_few_shapes_and_nothing_counts_twice(kind, specs):
    plain, fixed = (
        to_numpy(KINDS[kind](specs, {"seed": 2, "static_shapes": static_shapes})) for static_shapes in (False, True)
    )
    num_rows = 2 * B if kind == "text_pairs" else B
    ends = bucket_boundaries(LONGEST)
    for inputs, labels, weights in fixed:
        assert {len(one) for one in tf.nest.flatten((inputs, labels, weights))} == {num_rows}
        by_token = [one for name, one in inputs.items() if name not in ("mask_positions", "continues")]
        assert {one.shape[1] for one in by_token} <= set(ends)
    shapes, of_plain = (
        {tuple(one.shape for one in tf.nest.flatten(batch)) for batch in batches} for batches in (fixed, plain)
    )
    assert len(shapes) <= len(ends)
    if kind != "contiguous":  # whose batches are as they are to be anyway
        assert shapes != of_plain
    ours, theirs = _counted(kind, fixed), _counted(kind, plain)
    if kind in LEAVES_OUT:
        assert not ours - theirs
        assert 0 < ours.total() < theirs.total()
    else:
        assert ours == theirs


def test_what_is_added_is_padding_and_the_first_row():
    tokens = tf.constant([[5, 6, 7], [8, 9, 4]])
    inputs = {"token_ids": tokens, "padding_mask": tf.ones_like(tokens), "mask_positions": tokens[:, :1]}
    dataset = tf.data.Dataset.from_tensors((inputs, tokens, tf.ones((2, 3))))
    fixed = with_few_shapes(dataset, num_rows=3, max_length=4, pad_id=1, label_pad_id=2)
    ((inputs, labels, weights),) = to_numpy(fixed)
    assert inputs["token_ids"].tolist() == [[5, 6, 7, 1], [8, 9, 4, 1], [5, 6, 7, 1]]
    assert inputs["padding_mask"].tolist() == [[1, 1, 1, 0]] * 3
    assert inputs["mask_positions"].tolist() == [[5], [8], [5]]
    assert labels.tolist() == [[5, 6, 7, 2], [8, 9, 4, 2], [5, 6, 7, 2]]
    assert weights.tolist() == [[1, 1, 1, 0], [1, 1, 1, 0], [0, 0, 0, 0]]


def test_pairs_that_fill_no_batch_are_refused(specs):
    with pytest.raises(DataError, match=r"and 23 pairs fill none; .* received batch_size=24\."):
        data.text_pairs(specs["pairs"], PIECES, batch_size=24, static_shapes=True)
