"""Denoising: what each kind makes of a text, and that the seed, the epoch and the example alone decide it."""

import collections
import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tfzoo import data, text
from tfzoo.data.config import DataConfig
from tfzoo.data.noise import MEAN_SPAN, Damage, Noise
from tfzoo.errors import DataError, RecipeError, UsageError

MASK = 1
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def ragged(*rows):
    return tf.ragged.constant([list(row) for row in rows], dtype=tf.int32, ragged_rank=1)


def uniform(rows, length, seed=0):
    return tf.constant(np.random.default_rng(seed).random((rows, 2, length + 1)))


def apply(kind, rows, probability=0.4, seed=0):
    noise = Noise(kind, probability=probability, mask_id=MASK)
    return noise(ragged(*rows), uniform(len(rows), max(map(len, rows)), seed)).to_list()


def numbers(*rows):
    return tf.constant([[[*one, *[0.99] * (9 - len(one))] for one in row] for row in rows], tf.float64)


class TestExamples:
    """The docstring's numbers, with the uniform numbers that make them."""

    @pytest.mark.parametrize(("kind", "expected"), [("masking", [4, 1, 6, 7, 1]), ("deletion", [4, 6, 7])])
    def test_each_token(self, kind, expected):
        hit = numbers([[0.5, 0.1, 0.6, 0.7, 0.2], []])
        assert Noise(kind, probability=0.4, mask_id=1)(ragged([4, 5, 6, 7, 8]), hit).to_list() == [expected]

    @pytest.mark.parametrize(
        ("lengths", "gaps", "expected"),
        [
            ([0.3], [0.5, 0.1], [4, 1, 7, 8]),  # a span of 2 or more, cut to 2, in the second gap
            ([0.3], [0.1], [1, 6, 7, 8]),
            ([0.3], [0.5, 0.6, 0.7, 0.1], [4, 5, 6, 1]),  # at the end
            ([0.1, 0.3], [0.5, 0.1, 0.6, 0.2], [4, 1, 6, 7, 1]),  # a span of 1, and of the next what is left
            ([0.01, 0.3], [0.5, 0.1, 0.6, 0.2], [4, 1, 5, 6, 1]),  # a span of 0 hides nothing
            ([0.01, 0.01, 0.3], [0.1, 0.2, 0.3], [1, 4, 1, 7, 8]),  # no more spans than hidden tokens
        ],
    )
    def test_infilling(self, lengths, gaps, expected):
        found = Noise("infilling", probability=0.4, mask_id=1)(ragged([4, 5, 6, 7, 8]), numbers([lengths, gaps]))
        assert found.to_list() == [expected]


@pytest.mark.parametrize("kind", ["masking", "deletion", "infilling"])
def test_an_exact_share_is_hit(kind):
    rows = [range(10, 10 + n) for n in (0, 1, 2, 3, 7, 20, 40) for _ in range(20)]
    for row, found in zip(rows, apply(kind, rows), strict=True):
        num_hit = int(0.4 * len(row) + 0.5)
        kept = [one for one in found if one != MASK]
        assert len(kept) == len(row) - num_hit
        assert kept == sorted(kept)  # what stays, stays in order
        assert {*kept} <= {*row}
        assert len(found) <= len(row)
        masks = len(found) - len(kept)
        assert masks == {"masking": num_hit, "deletion": 0}.get(kind, masks)
        if kind == "masking":
            assert all(one in (MASK, was) for one, was in zip(found, row, strict=True))
        if kind == "infilling":
            assert (masks > 0) == (num_hit > 0)
            assert not any(one == other == MASK for one, other in zip(found, found[1:], strict=False))


def test_spans_are_poissons():
    (row,) = [range(10, 10_010)]
    (found,) = apply("infilling", [row], probability=0.3)
    # A span is what lacks between the neighbours of a mask.
    edges = [9, *found, 10_010]
    lengths = [edges[i + 1] - edges[i - 1] - 1 for i in range(1, len(edges) - 1) if edges[i] == MASK]
    assert sum(lengths) == 3000
    counts = collections.Counter(lengths)
    expected = [np.exp(-MEAN_SPAN) * MEAN_SPAN**n / np.prod(range(1, n + 1)) for n in range(8)]
    assert np.mean(lengths) == pytest.approx(MEAN_SPAN, rel=0.1)
    for n, share in enumerate(expected):
        assert counts[n] / len(lengths) == pytest.approx(share, abs=0.04), n


def test_every_place_is_as_likely():
    rows = [range(10, 18)] * 4000
    masked = np.array(apply("masking", rows, probability=0.25)) == MASK
    np.testing.assert_allclose(masked.mean(axis=0), 0.25, atol=0.03)
    starts = collections.Counter(found.index(MASK) for found in apply("infilling", rows, probability=0.12))
    assert {*starts} == {*range(8)}  # one hidden token: one span, in one of eight gaps
    assert max(starts.values()) < 1.3 * min(starts.values())


def test_high_probabilities_leave_a_mask():
    assert apply("infilling", [[5, 6, 7]], probability=0.99) == [[MASK]]
    assert apply("deletion", [[5, 6, 7]], probability=0.99) == [[]]
    assert apply("masking", [[5, 6, 7]], probability=0.99) == [[MASK] * 3]


def test_the_mask_is_the_tokenizers_own():
    word_piece = text.WordPieceTokenizer.train(["a b c d e f g h"] * 3, 30)
    symbols = text.SymbolTokenizer(LETTERS, "")
    for tokenizer, mask_id in ((word_piece, word_piece.mask_id), (symbols, symbols.unk_id)):
        damage = Damage("masking", tokenizer, probability=0.99, max_length=4, seed=0)
        found = damage(ragged([9, 8, 7, 3]), tf.constant([0]), tf.constant(0, tf.int64))
        assert found.to_list() == [[mask_id] * 3 + [3]]


def test_the_batch_decides_nothing():
    damage = Damage("infilling", text.SymbolTokenizer(LETTERS, ""), probability=0.4, max_length=30, seed=5)
    rows = [[*range(4, 4 + n), 3] for n in (5, 20, 12)]
    epoch = tf.constant(2, tf.int64)
    together = damage(ragged(*rows), tf.constant([7, 8, 9]), epoch).to_list()
    for row, index, expected in zip(rows, (7, 8, 9), together, strict=True):
        assert damage(ragged(row), tf.constant([index]), epoch).to_list() == [expected]
        assert expected[-1] == 3
    assert damage(ragged(*rows), tf.constant([7, 8, 9]), epoch + 1).to_list() != together
    assert damage(ragged(*rows), tf.constant([1, 2, 3]), epoch).to_list() != together


@pytest.fixture
def spec(tmp_path):
    path = tmp_path / "texts.txt"
    generator = np.random.default_rng(3)
    lines = ["".join(generator.choice([*LETTERS], generator.integers(1, 16))) for _ in range(60)]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return f"text:{path}"


def read(spec, **options):
    tokenizer = text.SymbolTokenizer(LETTERS, "")
    dataset = data.seq2seq(spec, tokenizer, batch_size=8, max_source_length=17, max_target_length=17, **options)
    return [tf.nest.map_structure(lambda tensor: tensor.numpy(), batch) for batch in dataset.take(40)]


def texts(batches):
    """Target -> source of each example."""
    decode = text.SymbolTokenizer(LETTERS, "").decode
    return {
        decode(target): decode(source)
        for inputs, labels, _ in batches
        for source, target in zip(inputs["encoder_token_ids"], labels, strict=True)
    }


def test_the_target_is_the_text(spec):
    batches = read(spec, noise="deletion", noise_probability=0.3)
    found = texts(batches)
    lines = [record[0] for record in data.read(spec, 1)]
    assert {*found} == {*lines}
    for target, source in found.items():
        assert len(source) == len(target) - int(0.3 * len(target) + 0.5)
    assert texts(read(spec, noise="masking")) == texts(read(spec, noise="masking"))
    assert texts(read(spec, noise="masking")) != texts(read(spec, noise="masking", seed=1))


@pytest.mark.parametrize("kind", ["masking", "deletion", "infilling"])
def test_each_epoch_has_its_own_noise_and_resume_is_exact(spec, kind):
    whole = read(spec, noise=kind, repeat=True)
    num_batches = next(n for n in range(1, 41) if len(texts(whole[:n])) == len({*texts(whole)}))
    first, second = texts(whole[:num_batches]), texts(whole[num_batches : 2 * num_batches])
    assert first.keys() == second.keys()
    assert first != second
    resumed = read(spec, noise=kind, repeat=True, start_step=11)
    for ours, theirs in zip(whole[11:], resumed, strict=False):
        tf.nest.map_structure(np.testing.assert_array_equal, ours, theirs)


def test_reversed_pairs(tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_text("abc\tx\n", encoding="utf-8")
    ((inputs, labels, _),) = read(f"tsv:{path}", is_reversed=True, shuffle=False)
    decode = text.SymbolTokenizer(LETTERS, "").decode
    assert (decode(inputs["encoder_token_ids"][0]), decode(labels[0])) == ("x", "abc")


def mixed(tmp_path, temperature, caplog=None):
    for name, count in (("large", 300), ("small", 30)):
        lines = [f"{name[0]}{'abcdefghij'[i % 10]}{'abcdefghij'[i // 10 % 10]}\tx\n" for i in range(count)]
        (tmp_path / f"{name}.tsv").write_text("".join(lines), encoding="utf-8")
    specs = [f"tsv:{tmp_path / name}.tsv" for name in ("large", "small")]
    decode = text.SymbolTokenizer(LETTERS, "").decode
    dataset = data.seq2seq(specs, text.SymbolTokenizer(LETTERS, ""), batch_size=10, temperature=temperature)
    rows = [decode(row) for inputs, _, _ in dataset for row in inputs["encoder_token_ids"].numpy()]
    return collections.Counter(row[0] for row in rows)


@pytest.mark.parametrize(("temperature", "small"), [(1, 30), (2, 80), (1e9, 165)])
def test_a_temperature_mixes_by_size(tmp_path, temperature, small):
    # 330 examples; 300 ** (1 / 2) and 30 ** (1 / 2) are as 0.76 to 0.24.
    counts = mixed(tmp_path, temperature)
    assert counts["s"] == pytest.approx(small, abs=1)
    assert counts["l"] == pytest.approx(330 - small, abs=1)


def test_contradictions_are_refused(spec, tmp_path):
    with pytest.raises(UsageError, match=r"exclude each other; received tsv:a@0\.5 and temperature=2"):
        data.seq2seq("tsv:a@0.5", text.SymbolTokenizer("a", ""), temperature=2)
    with pytest.raises(UsageError, match="has two columns|two are needed"):
        read(spec)
    with pytest.raises(UsageError, match="`kind` must be one of masking, deletion, infilling; received kind='mask'"):
        Noise("mask", probability=0.3, mask_id=1)
    path = tmp_path / "pairs.tsv"
    path.write_text("a\tb\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"2 column\(s\) where 1 are needed"):
        read(f"tsv:{path}", noise="masking")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature": 0.5}, "`temperature` must be at least 1, or null; received temperature=0.5."),
        (
            {"noise": "maskin"},
            "`noise` must be one of masking, deletion, infilling, or null; received noise='maskin'.",
        ),
        ({"noise_probability": 1.0}, "`noise_probability` must be in (0, 1); received noise_probability=1.0."),
        (
            {"noise": "deletion", "reversed": True},
            "`reversed` is for pairs, and `noise` makes its own; received",
        ),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
)
def test_configurations_that_cannot_work(changes, message):
    with pytest.raises(RecipeError) as error:
        dataclasses.replace(DataConfig(), **changes)
    assert str(error.value).startswith(message)
