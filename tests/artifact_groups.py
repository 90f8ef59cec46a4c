"""What `tests/export/artifacts.py` exports, by name, and which tests must share a worker. Imports no TensorFlow."""

import pytest

ENCODERS = ("classifier", "pair_classifier", "word_classifier", "masked_lm", "answerer", "embedder")
# Name -> the xdist group of the tests that open it: each worker that runs one of them exports anew, in seconds.
ARTIFACTS = {
    "shared_vocabulary": "artifacts",
    "separate_vocabularies": "artifacts",
    "gru_seq2seq": "gru_seq2seq",
    "gpt2": "language_models",
    "lstm_lm": "language_models",
    **dict.fromkeys(ENCODERS, "encoders"),
}
GROUPS = tuple(dict.fromkeys(ARTIFACTS.values()))


def grouped(name, *values, case=None):
    """A parameter of a test that opens an artifact by its name, which comes first; `case` is what it tries."""
    return pytest.param(name, *values, id=case or name, marks=pytest.mark.xdist_group(ARTIFACTS[name]))
