"""A WordPiece tokenizer of letters, and what the tests of an encoder's batches have in common."""

import numpy as np

from tests.data.batches import assert_equal, to_numpy
from tfzoo import text

LETTERS = "abcdefghij"
# [PAD] = 0, [UNK] = 1, [CLS] = 2, [SEP] = 3, [MASK] = 4, "a" = 5 ... "j" = 14, "##a" = 15, "##b" = 16 ... "##j" = 24.
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{letter}" for letter in LETTERS)]


def tokenizer():
    return text.WordPieceTokenizer(PIECES)


def assert_resumes(make, num_batches, start_steps):
    """Two epochs differ, and those that begin later equal the rest of the uninterrupted ones, bit for bit."""
    whole = to_numpy(make(repeat=True, start_step=0).take(2 * num_batches))
    first, second = whole[:num_batches], whole[num_batches:]
    assert any(
        one[0]["token_ids"].shape != other[0]["token_ids"].shape or (one[0]["token_ids"] != other[0]["token_ids"]).any()
        for one, other in zip(first, second, strict=True)
    )
    for start_step in start_steps:
        resumed = to_numpy(make(repeat=True, start_step=start_step).take(3))
        assert_equal(resumed, whole[start_step : start_step + 3])
    once = to_numpy(make(repeat=False, start_step=2))
    assert_equal(once, first[2:])
    return first, second


def rows(batches):
    """Each row of all batches without its padding: (token ids, segments, label, weight)."""
    found = []
    for inputs, labels, weights in batches:
        assert list(inputs) == ["token_ids", "padding_mask", "segment_ids"]
        assert {value.dtype for value in inputs.values()} == {np.dtype("int32")}
        assert weights.dtype == np.float32
        for index, mask in enumerate(inputs["padding_mask"]):
            count = int(mask.sum())
            np.testing.assert_array_equal(mask, [1] * count + [0] * (len(mask) - count))
            np.testing.assert_array_equal(inputs["token_ids"][index][count:], 0)
            np.testing.assert_array_equal(inputs["segment_ids"][index][count:], 0)
            ids, segments = (inputs[name][index][:count].tolist() for name in ("token_ids", "segment_ids"))
            found.append((ids, segments, labels[index], weights[index]))
    return found
