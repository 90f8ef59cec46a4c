"""Prepared documents as rows with masks: those of memory, from any step on, and in disjoint shares."""

import collections

import pytest
import tensorflow as tf

from tests import prepared as corpora
from tests.data import encoders
from tests.data.encoders import assert_equal, assert_resumes, to_numpy
from tests.prepared import DOCUMENTS
from tfzoo.data import masked_lm, streaming
from tfzoo.data.prepared import open_prepared
from tfzoo.data.prepared_documents import read_documents
from tfzoo.data.sharding import Shard
from tfzoo.errors import UsageError
from tfzoo.preparation import prepare

CLS, SEP = 2, 3
NUM_SHARDS = 5
OPTIONS = {"sequence_length": 9, "batch_size": 6, "mask_probability": 0.3}


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    encoders.tokenizer().save(folder / "pieces")
    prepare(
        corpora.rows_recipe(),
        folder / "out",
        data=corpora.write_documents(folder),
        tokenizer=folder / "pieces",
        num_shards=NUM_SHARDS,
        verbose=False,
    )
    return folder / "out"


@pytest.fixture
def _small_groups(monkeypatch):
    monkeypatch.setattr(streaming, "GROUP", 2)


def read(directory, **options):
    return masked_lm(f"prepared:{directory}", encoders.tokenizer(), **OPTIONS | options)


def rows(batches):
    """The rows that count, before anything was masked."""
    found = []
    for inputs, labels, weights in batches:
        columns = (inputs[name] for name in ("token_ids", "padding_mask", "mask_positions"))
        for ids, mask, positions, label, weight in zip(*columns, labels, weights, strict=True):
            is_real = weight > 0
            if is_real.any():
                ids = ids.copy()
                ids[positions[is_real]] = label[is_real]
                found.append(tuple(ids[mask > 0].tolist()))
    return found


def expected():
    tokenizer = encoders.tokenizer()
    ids = [tokenizer.encode(one) for one in DOCUMENTS]
    return collections.Counter((CLS, *one[at : at + 7], SEP) for one in ids for at in range(0, len(one), 7))


@pytest.mark.usefixtures("_small_groups")
def test_an_epoch_is_the_corpus(texts):
    dataset = read(texts)
    batches = to_numpy(dataset)
    assert len(batches) == dataset.cardinality()
    assert collections.Counter(rows(batches)) == expected()
    lengths = [inputs["padding_mask"].sum(axis=1) for inputs, *_ in batches]
    assert sum(one.max() - one.min() <= 1 for one in lengths) > 0.8 * len(lengths)  # rows of like length together


def test_the_batches_are_those_of_memory(texts):
    corpus = open_prepared(texts)
    ordered = read_documents(corpus, tf.range(NUM_SHARDS, dtype=tf.int64))
    lines = [encoders.tokenizer().decode(ids) for batch in ordered for ids in batch.numpy()]
    assert collections.Counter(lines) == collections.Counter(DOCUMENTS)
    file = texts.parent / "ordered.txt"
    file.write_text("".join(f"{one}\n" for one in lines), encoding="utf-8")
    for options in ({"seed": 0, "static_shapes": True}, {"seed": 7, "whole_word": True}):
        options |= {"shuffle": False}
        assert_equal(
            to_numpy(read(texts, **options)),
            to_numpy(masked_lm(f"text:{file}", encoders.tokenizer(), **OPTIONS | options)),
        )


@pytest.mark.usefixtures("_small_groups")
def test_the_order_and_the_masks_are_a_function_of_seed_and_epoch_from_any_step(texts):
    num_batches = int(read(texts).cardinality())
    first, second = assert_resumes(
        lambda **others: read(texts, seed=4, **others), num_batches, (1, num_batches - 1, num_batches + 2)
    )
    assert collections.Counter(rows(first)) == collections.Counter(rows(second)) == expected()
    assert rows(first) != rows(second)


@pytest.mark.usefixtures("_small_groups")
@pytest.mark.parametrize("static_shapes", [False, True])
def test_shares_are_disjoint_and_together_the_corpus(static_shapes, texts):
    shares = [Shard(index=index, count=2, num_devices=2) for index in range(2)]
    found = [to_numpy(read(texts, batch_size=12, shard=one, static_shapes=static_shapes)) for one in shares]
    assert len(found[0]) == len(found[1])
    assert collections.Counter(sum(map(rows, found), [])) == expected()
    for share in found:  # the two devices of a process
        assert [len(one[1]) for one in share[::2]] == [len(one[1]) for one in share[1::2]]
    if static_shapes:
        assert {one[0]["token_ids"].shape for share in found for one in share} <= {(3, 8), (3, 9)}


def test_what_cannot_be_streamed_is_refused(texts):
    with pytest.raises(UsageError, match="draws sentences from all over the corpus"):
        read(texts, next_sentence=True)
    with pytest.raises(UsageError, match=r'was prepared with cleaning=\[\]; received cleaning=\["nfkc"\]'):
        read(texts, cleaning=["nfkc"])
