"""Artifacts of text-to-text models, opened unchanged by tools that nobody here wrote: the same tokens as Keras."""

import os

import numpy as np
import pytest

from tests.consumers.clients import ask, card_code, expected
from tests.tolerances import tolerance

pytestmark = pytest.mark.xdist_group("artifacts")

GREEDY = {"num_beams": 1}
# Hugging Face's length penalty is another formula; at 0 there is none.
BEAM = {"num_beams": 4, "num_return_sequences": 4, "length_penalty": 0.0, "early_stopping": True}


def limited(exported, search):
    """A search that ends where the artifact's own does."""
    return search | {"max_new_tokens": exported.manifest["decoding"]["max_length"]}


def trimmed(answers, end_id):
    """What stands behind the end token is padding."""
    for row in answers:
        for one in row:
            if end_id in one["token_ids"]:
                one["token_ids"] = one["token_ids"][: one["token_ids"].index(end_id) + 1]
    return answers


def readable(answers):
    """Hugging Face's decoders drop an unknown token, ours shows it."""
    assert not any("⁇" in one["text"] for row in answers for one in row)
    return answers


@pytest.fixture(scope="session")
def optimum(exported):
    num_beams = exported.manifest["decoding"]["num_beams"]
    as_exported = {"num_beams": num_beams, "do_sample": False}
    if num_beams > 1:
        as_exported |= {"length_penalty": exported.manifest["decoding"]["length_penalty"], "early_stopping": True}
    request = {
        "artifact": os.fspath(exported.directory),
        "task": exported.manifest["task"],
        "texts": exported.texts,
        "searches": {
            "greedy": limited(exported, GREEDY),
            "beam": limited(exported, BEAM),
            "default": {},
            "as exported": limited(exported, as_exported),
        },
        "card": card_code(exported, "optimum", exported.texts[0]),
    }
    return ask("optimum_client.py", request)


def test_optimum_searches_as_keras_does(exported, optimum):
    end_id = exported.tokenizer.target.end_id
    greedy = expected(exported, exported.texts, num_beams=1)
    beam = expected(exported, exported.texts, num_beams=4, num_return_sequences=4, length_penalty=0.0)
    assert trimmed(optimum["greedy"], end_id) == readable(greedy)
    assert trimmed(optimum["beam"], end_id) == readable(beam)


def test_optimum_takes_its_search_from_generation_config(exported, optimum):
    assert optimum["default"] == optimum["as exported"]


def test_the_model_card_shows_how(optimum):
    assert optimum["card"] == f"{[optimum['default'][0][0]['text']]}\n"


def test_a_transformers_pipeline_gives_the_same_text(exported, optimum):
    if not exported.tokenizer.shared:
        assert "pipeline" not in optimum  # a pipeline has one tokenizer
        return
    greedy = expected(exported, exported.texts, num_beams=1)
    assert optimum["pipeline"] == [row[0]["text"] for row in greedy]


@pytest.fixture(scope="session")
def transformers_js(exported):
    request = {
        "artifact": os.fspath(exported.directory),
        "task": exported.manifest["task"],
        "texts": exported.texts,
        "searches": {"greedy": limited(exported, GREEDY), "default": {}},
    }
    return ask("transformers_client.mjs", request)


def test_transformers_js_searches_greedily_as_keras_does(exported, transformers_js):
    source = exported.tokenizer.source
    limit = exported.manifest["max_length"]
    ids = [source.encode(text) for text in exported.texts]
    fitting = [row for row, one in enumerate(ids) if len(one) < limit]
    assert len(fitting) == len(ids) - 1
    # It cuts a long text behind the limit, end token included, where we cut before it.
    for row, one in enumerate(ids):
        found = transformers_js["source_ids"][row]
        assert [index for index in found if index != source.pad_id] == [*one, source.end_id][:limit]
    greedy = expected(exported, [exported.texts[row] for row in fitting], num_beams=1)
    # It has no beam search: with the beams of generation_config.json it is greedy all the same.
    for search in ("greedy", "default"):
        assert [transformers_js[search][row] for row in fitting] == readable(greedy), search
    for task in ("text2text-generation", "translation"):
        if exported.tokenizer.shared:
            assert [transformers_js[task][row] for row in fitting] == [row[0]["text"] for row in greedy], task
        else:
            assert task not in transformers_js


def test_onnxruntime_in_node_answers_by_one_call_and_by_a_loop(exported):
    check_onnxruntime_in_node(exported)


def check_onnxruntime_in_node(exported):
    """The searches of generate.onnx, and the loop over the other two graphs: the tokens of Keras."""
    searches = exported.manifest["golden"]["searches"]
    options = {name: searches[name]["options"] for name in ("greedy", "beam")}
    beam = {name: options["beam"][name] for name in ("num_beams", "length_penalty")}
    request = {
        "artifact": os.fspath(exported.directory),
        "task": exported.manifest["task"],
        "texts": exported.texts,
        "searches": options,
        "max_length": exported.manifest["decoding"]["max_length"],
    }
    answers = ask("onnxruntime_client.mjs", request)
    greedy = expected(exported, exported.texts, num_beams=1)
    log_probs = [one.pop("log_probs") for name in options for row in answers[name] for one in row]
    assert_same(answers["greedy"], greedy)
    assert_same(answers["loop"], greedy)
    hypotheses = expected(exported, exported.texts, **beam, num_return_sequences=beam["num_beams"])
    assert_same(answers["beam"], hypotheses)
    rows = [
        *exported.runtimes["keras"].generate(exported.texts, num_beams=1),
        *exported.runtimes["keras"].generate(exported.texts, **beam, num_return_sequences=beam["num_beams"]),
    ]
    for found, one in zip(log_probs, (one for row in rows for one in row), strict=True):
        np.testing.assert_allclose(found, one.log_probs, rtol=0, atol=tolerance("onnx_logits"))


def assert_same(found, expected):
    """The same tokens, and the same texts but for those in which only ours shows an unknown token."""
    assert [[one["token_ids"] for one in row] for row in found] == [
        [one["token_ids"] for one in row] for row in expected
    ]
    pairs = [pair for rows in zip(found, expected, strict=True) for pair in zip(*rows, strict=True)]
    texts = [(one["text"], other["text"]) for one, other in pairs if "⁇" not in other["text"]]
    assert len(texts) > len(pairs) / 2
    assert [one for one, _ in texts] == [other for _, other in texts]
