"""Prepared corpora as batches: the same examples as in memory, from any step on, and in disjoint shares."""

import collections
import dataclasses
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from tests import prepared as corpora
from tests.prepared import DOCUMENTS, LOWER, UPPER, documents, labels, rows
from tfzoo.data import causal_lm, causal_lm_windows, seq2seq, streaming
from tfzoo.data.boundaries import choose_boundaries
from tfzoo.data.prepared import open_prepared
from tfzoo.data.prepared_pairs import copies, draw
from tfzoo.data.sharding import Shard
from tfzoo.data.streaming import Order, groups_of, stream
from tfzoo.errors import DataError, UsageError
from tfzoo.preparation import prepare

NUM_SHARDS = 5
PAIRS = {
    "batch_tokens": 96,
    "max_source_length": corpora.MAX_SOURCE,
    "max_target_length": corpora.MAX_TARGET,
    "cleaning": ("whitespace", "exact_duplicates"),
}
WINDOWS = {"sequence_length": 7, "batch_size": 6}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    data = corpora.write_pairs(folder)
    prepare(corpora.pairs_recipe(), folder / "out", data=data, num_shards=NUM_SHARDS, verbose=False)
    return folder / "out"


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("documents")
    data = corpora.write_documents(folder)
    prepare(corpora.documents_recipe(), folder / "out", data=data, num_shards=NUM_SHARDS, verbose=False)
    return folder / "out"


@pytest.fixture
def small_groups(monkeypatch):
    monkeypatch.setattr(streaming, "GROUP", 2)


def read_pairs(directory, **options):
    return seq2seq(f"prepared:{directory}", open_prepared(directory).tokenizer, **PAIRS | options)


def read_windows(directory, **options):
    return causal_lm(f"prepared:{directory}", open_prepared(directory).tokenizer.target, **WINDOWS | options)


def taken(dataset, count=-1):
    return list(dataset.take(count).as_numpy_iterator())


def assert_same_batches(first, second):
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        for left, right in zip(tf.nest.flatten(one), tf.nest.flatten(other), strict=True):
            np.testing.assert_array_equal(left, right)


def of(directory):
    return open_prepared(directory).tokenizer.target


def test_the_lengths_of_the_docstring():
    histogram = np.bincount([2, 2, 2, 2, 3, 9, 9, 9])
    assert choose_boundaries(histogram, num_buckets=2) == [3, 9]
    assert choose_boundaries(histogram, num_buckets=1) == [9]
    assert choose_boundaries(histogram) == [2, 3, 9]


def test_boundaries_are_better_than_fixed_ones():
    lengths = np.random.default_rng(0).integers(1, 200, 5000) ** 2 // 200 + 1
    ends = choose_boundaries(np.bincount(lengths), num_buckets=4)
    padded = np.array(ends)[np.searchsorted(ends, lengths)].sum()
    for other in ([50, 100, 150, 200], [25, 75, 130, 200], [ends[0] + 1, *ends[1:]], [ends[0] - 1, *ends[1:]]):
        assert padded < np.array(other)[np.searchsorted(other, lengths)].sum()


def test_copies_are_those_of_the_docstring():
    strata, available, drawn = (tf.constant(one, tf.int64) for one in ([0] * 5, [5], [3]))
    assert [copies(strata, available, drawn, tf.constant(one, tf.int64)).numpy().tolist() for one in (0, 1)] == [
        [0, 1, 0, 1, 1],
        [1, 0, 1, 1, 0],
    ]


def test_copies_add_up_in_every_stratum_and_reach_everyone():
    generator = np.random.default_rng(0)
    strata = generator.integers(0, 4, 60)
    available = np.bincount(strata, minlength=4)
    drawn = available * np.array([0.3, 1, 2.4, 0.05]) // 1
    total = np.zeros(60, int)
    for epoch in range(30):
        tensors = (tf.constant(one, tf.int64) for one in (strata, available, drawn, epoch))
        one = copies(*tensors).numpy()
        np.testing.assert_array_equal(np.bincount(strata, one, minlength=4), drawn)
        total += one
    assert (total[strata != 3] > 0).all()


def test_a_draw_is_that_of_the_docstring():
    available = np.array([[[5, 1]]] * 3)
    assert draw(available, np.array([1.0, 1.0])).tolist() == [[[3, 3]]] * 3


def test_groups_are_those_of_the_docstring():
    assert groups_of(5, Shard(index=0, count=2)) == [[0, 2, 4]]
    assert sorted(sum(groups_of(40, Shard(index=1, count=2)), [])) == list(range(1, 40, 2))
    assert [len(one) for one in groups_of(40, Shard(index=1, count=2))] == [10, 10]


def test_an_epoch_of_pairs_is_the_corpus(pairs):
    batches = taken(read_pairs(pairs))
    assert sorted(rows(batches, of(pairs))) == sorted({*LOWER, *UPPER})
    statistics = open_prepared(pairs).statistics
    assert statistics["num_examples"] == len({*LOWER, *UPPER})
    boundaries = statistics["boundaries"]
    for inputs, targets, _ in batches:
        longest = max(inputs["encoder_token_ids"].shape[1], targets.shape[1])
        bucket = boundaries[np.searchsorted(boundaries, longest)]
        assert len(targets) <= 96 // bucket
    assert len(batches) == read_pairs(pairs).cardinality()


def test_an_epoch_of_documents_is_the_corpus(texts):
    batches = taken(read_windows(texts))
    assert len(batches) == read_windows(texts).cardinality()
    ids = labels(batches)
    assert collections.Counter(documents(ids, of(texts))) == collections.Counter(DOCUMENTS)
    inputs = np.concatenate([one["token_ids"][weights > 0] for one, _, weights in batches])
    np.testing.assert_array_equal(inputs, np.concatenate([[of(texts).end_id], ids[:-1]]))
    for one, _, weights in batches:
        np.testing.assert_array_equal(one["padding_mask"], weights)


@pytest.mark.usefixtures("small_groups")
@pytest.mark.parametrize("kind", ["pairs", "texts"])
def test_the_order_is_a_function_of_seed_and_epoch_from_any_step(kind, request, pairs, texts):
    directory, read = {"pairs": (pairs, read_pairs), "texts": (texts, read_windows)}[kind]
    length = int(read(directory).cardinality())
    tf.random.set_seed(1)
    two = taken(read(directory, repeat=True, seed=4), 2 * length + 3)
    content = (lambda part: sorted(rows(part, of(directory)))) if kind == "pairs" else (lambda part: len(labels(part)))
    assert content(two[:length]) == content(two[length : 2 * length])
    with pytest.raises(AssertionError):
        assert_same_batches(two[:length], two[length : 2 * length])
    tf.random.set_seed(2)  # the model's dropout, say
    for start in (1, length - 1, length, 2 * length - 2):
        assert_same_batches(taken(read(directory, repeat=True, seed=4, start_step=start), 5), two[start : start + 5])
    with pytest.raises(AssertionError):
        assert_same_batches(taken(read(directory, seed=5)), two[:length])


@pytest.mark.usefixtures("small_groups")
@pytest.mark.parametrize(("count", "static_shapes"), [(2, False), (3, True)])
def test_shares_are_disjoint_and_together_the_corpus(count, static_shapes, pairs, texts):
    shares = [Shard(index=index, count=count, num_devices=2) for index in range(count)]
    options = {"static_shapes": static_shapes}
    found = [taken(read_pairs(pairs, shard=one, batch_tokens=192, **options)) for one in shares]
    assert len({len(one) for one in found}) == 1
    assert sorted(sum((rows(one, of(pairs)) for one in found), [])) == sorted({*LOWER, *UPPER})
    for share in found:  # the two devices of a process
        assert [len(one[1]) for one in share[::2]] == [len(one[1]) for one in share[1::2]]
    windows = [taken(read_windows(texts, shard=one, batch_size=12, **options)) for one in shares]
    assert len({len(one) for one in windows}) == 1
    every = sum((documents(labels(one), of(texts)) for one in windows), [])
    assert collections.Counter(every) == collections.Counter(DOCUMENTS)
    if static_shapes:
        assert {one[1].shape for share in windows for one in share} == {(12 // count // 2, 7)}
        shapes = {(one[0]["encoder_token_ids"].shape, one[1].shape) for share in found for one in share}
        assert len(shapes) <= len(open_prepared(pairs).statistics["boundaries"])


def test_a_mixture_keeps_its_weights_in_every_epoch(tmp_path):
    lower, upper = corpora.write_pairs(tmp_path)
    recipe = corpora.pairs_recipe()
    prepare(recipe, tmp_path / "out", data=[f"{lower}@1", f"{upper}@3"], num_shards=3, verbose=False)
    length = int(read_pairs(tmp_path / "out").cardinality())
    batches = taken(read_pairs(tmp_path / "out", repeat=True), 3 * length)
    seen = []
    for epoch in range(3):
        found = rows(batches[epoch * length : (epoch + 1) * length], of(tmp_path / "out"))
        num_upper = sum(source.isupper() for source, _ in found)
        total = len({*LOWER, *UPPER})
        # Each bucket of each origin is rounded once.
        assert abs(num_upper - 0.75 * total) <= len(open_prepared(tmp_path / "out").statistics["boundaries"])
        assert abs(len(found) - total) <= 2 * len(open_prepared(tmp_path / "out").statistics["boundaries"])
        seen.append({source for source, _ in found if source.islower()})
    assert seen[0] != seen[1]


def test_temperature_weighs_by_size(pairs):
    found = rows(taken(read_pairs(pairs, temperature=1000.0)), of(pairs))
    num_upper = sum(source.isupper() for source, _ in found)
    assert abs(2 * num_upper - len(found)) <= 2 * len(open_prepared(pairs).statistics["boundaries"])


@pytest.mark.parametrize(("length", "stride"), [(7, 3), (7, 7), (8, 4), (10_000, 300)])
def test_overlapping_windows_score_every_token_once(length, stride, texts):
    options = {"sequence_length": length, "stride": stride, "batch_size": 5}
    batches = taken(causal_lm_windows(f"prepared:{texts}", of(texts), **options))
    # The same from memory, of the documents in the order of the shards.
    ordered = documents(labels(batches), of(texts))
    assert collections.Counter(ordered) == collections.Counter(DOCUMENTS)
    file = texts.parent / "ordered.txt"
    file.write_text("".join(f"{one}\n" for one in ordered), encoding="utf-8")
    assert_same_batches(batches, taken(causal_lm_windows(f"text:{file}", of(texts), **options)))


def test_what_need_not_be_in_order_still_comes_once(pairs):
    batches = taken(read_pairs(pairs, deterministic=False))
    assert sorted(rows(batches, of(pairs))) == sorted({*LOWER, *UPPER})


def test_what_was_made_otherwise_is_refused(pairs, texts, tmp_path):
    with pytest.raises(UsageError, match="was prepared with max_source_length=13; received max_source_length=12"):
        read_pairs(pairs, max_source_length=12)
    with pytest.raises(UsageError, match=r'cleaning=\["whitespace", "exact_duplicates"\]; received cleaning=\[\]'):
        read_pairs(pairs, cleaning=())
    with pytest.raises(UsageError, match="prepared with another tokenizer"):
        seq2seq(f"prepared:{pairs}", of(texts), **PAIRS)
    with pytest.raises(UsageError, match="prepared for the task 'causal_lm', which has no `max_source_length`"):
        read_pairs(texts)
    with pytest.raises(UsageError, match="read alone"):
        seq2seq([f"prepared:{pairs}", "tsv:a.tsv"], of(pairs), **PAIRS)
    with pytest.raises(UsageError, match="without a weight"):
        seq2seq(f"prepared:{pairs}@2", of(pairs), **PAIRS)
    with pytest.raises(UsageError, match="streamed as whole documents"):
        read_windows(texts, examples="contiguous")
    with pytest.raises(UsageError, match="5 shards, too few for 6 workers"):
        read_pairs(pairs, shard=Shard(count=6), batch_tokens=960)
    with pytest.raises(UsageError, match="for each of the 8 devices; received batch_tokens=96"):
        read_pairs(pairs, shard=Shard(count=4, num_devices=2))
    with pytest.raises(DataError, match=r"statistics\.json is missing"):
        open_prepared(tmp_path)


def test_a_damaged_corpus_is_told(pairs, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(pairs, copy)
    path = copy / "statistics.json"
    statistics = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(statistics | {"version": 99}), encoding="utf-8")
    with pytest.raises(UsageError, match="format 99, not 1"):
        open_prepared(copy)
    path.write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match="is damaged"):
        open_prepared(copy)


def test_a_share_without_an_example_is_told(pairs):
    corpus = open_prepared(pairs)
    shards = [dict(one, buckets=np.zeros_like(one["buckets"]).tolist()) for one in corpus.statistics["shards"]]
    empty = dataclasses.replace(corpus, statistics=corpus.statistics | {"shards": shards})
    with pytest.raises(UsageError, match="share 0 of 1 has no example"):
        stream(
            empty,
            Order(shuffle=True, seed=0, repeat=False, start_step=0),
            num_batches=lambda group: 0,
            read=None,
            example=None,
        )
