"""The docstrings that users meet say what they take, give back and raise."""

import inspect
import re

import pytest

import tfzoo
from tfzoo.export import exporter

FUNCTIONS = [
    tfzoo.recipe,
    tfzoo.load,
    tfzoo.train,
    tfzoo.evaluate,
    tfzoo.predict,
    tfzoo.export_run,
    tfzoo.score_pairs,
    tfzoo.verify,
    tfzoo.quickstart,
    exporter.export,
    tfzoo.data.causal_lm,
    tfzoo.data.causal_lm_windows,
    tfzoo.data.clean,
    tfzoo.data.prompt_answer,
    tfzoo.data.read,
    tfzoo.data.seq2seq,
    tfzoo.text.SentencePieceTokenizer.train,
    tfzoo.text.SymbolTokenizer.train,
    tfzoo.losses.cross_entropy,
    tfzoo.training.fit,
]


def arguments(docstring: str, heading: str = "Args") -> list[str]:
    text = re.search(rf"^{heading}:\n((?:    .*\n|\n)+)", docstring + "\n", re.MULTILINE)
    return re.findall(r"^    \**(\w+): \S", text[1], re.MULTILINE) if text else []


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__qualname__)
def test_a_public_function_says_what_it_takes_returns_and_raises(function):
    docstring = inspect.getdoc(function)
    assert arguments(docstring) == list(inspect.signature(function).parameters)
    assert re.search(r"^(Returns|Yields)\b", docstring, re.MULTILINE)
    assert arguments(docstring, "Raises")


def test_a_model_says_what_it_is_called_with_and_its_shapes():
    docstring = inspect.getdoc(tfzoo.models.Transformer)
    assert arguments(docstring) == ["config"]
    assert arguments(docstring, "Call arguments") == ["inputs"]
    assert arguments(docstring, "Raises") == ["ValueError"]
    for shape in ("(B, S) int32", "(B, T) int32", "(B, T, V) float32"):
        assert shape in docstring


def test_export_is_called_as_its_package_says():
    called = inspect.signature(tfzoo.export).parameters
    written = inspect.signature(exporter.export).parameters
    assert [(name, value.default, value.kind) for name, value in called.items()] == [
        (name, value.default, value.kind) for name, value in written.items()
    ]
