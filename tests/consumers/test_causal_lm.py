"""Artifacts of language models, opened unchanged by tools that nobody here wrote: the same tokens as Keras.

A recurrent model has no counterpart at Hugging Face: there its tokenizer alone opens, and ONNX Runtime runs its graphs.
"""

import os

import numpy as np
import pytest

from tests.consumers.clients import ask, card_code, expected
from tests.tolerances import tolerance

pytestmark = pytest.mark.xdist_group("language_models")

GREEDY = {"temperature": 0.0, "stop": ()}
# Hugging Face's length penalty is another formula; at 0 there is none.
BEAM = {"num_beams": 4, "num_return_sequences": 4, "length_penalty": 0.0}


def fitting(exported):
    """Its prompts but the one that is too long, which we cut and other loops refuse."""
    room = exported.manifest["max_length"] - exported.manifest["decoding"]["max_length"] + 1
    texts = [text for text in exported.texts if len(exported.tokenizer.source.encode(text)) <= room]
    assert len(texts) == len(exported.texts) - 1
    return texts


def spelt(texts):
    """An empty prompt is the end token here; there it has no token, and the end token has to be spelt."""
    return [text or "<|endoftext|>" for text in texts]


def trimmed(rows, end_id):
    """What stands behind the end token is padding."""
    for one in (one for row in rows for one in row):
        if end_id in one["token_ids"]:
            one["token_ids"] = one["token_ids"][: one["token_ids"].index(end_id) + 1]
    return rows


@pytest.fixture(scope="session")
def optimum(exported_gpt2):
    decoding = exported_gpt2.manifest["decoding"]
    limit = {"max_new_tokens": decoding["max_length"]}
    sampled = {name: decoding[name] for name in ("temperature", "top_k", "top_p")}
    request = {
        "artifact": os.fspath(exported_gpt2.directory),
        "task": exported_gpt2.manifest["task"],
        "texts": spelt(fitting(exported_gpt2)),
        "searches": {
            "greedy": {"do_sample": False, **limit},
            "beam": {"do_sample": False, "early_stopping": True, **BEAM, **limit},
            "default": {},
            "as exported": {"do_sample": True, "num_beams": 1, **sampled, **limit},
        },
        "card": card_code(exported_gpt2, "optimum", exported_gpt2.texts[0]).replace(
            "(**inputs)", "(**inputs, do_sample=False)"
        ),
    }
    return ask("optimum_client.py", request)


def test_optimum_searches_as_keras_does(exported_gpt2, optimum):
    end_id = exported_gpt2.tokenizer.target.end_id
    greedy = expected(exported_gpt2, fitting(exported_gpt2), **GREEDY)
    assert trimmed(optimum["greedy"], end_id) == greedy
    assert trimmed(optimum["beam"], end_id) == expected(exported_gpt2, fitting(exported_gpt2), **GREEDY, **BEAM)
    assert optimum["pipeline"] == [row[0]["text"] for row in greedy]


def test_optimum_pads_a_batch_in_front_and_searches_the_same(exported_gpt2, optimum):
    lengths = [sum(row) for row in optimum["padded"]]
    assert len({*lengths}) > 2
    for length, row in zip(lengths, optimum["padded"], strict=True):
        assert row == [0] * (len(row) - length) + [1] * length
    assert trimmed(optimum["batch"], exported_gpt2.tokenizer.target.end_id) == expected(
        exported_gpt2, fitting(exported_gpt2), **GREEDY
    )


def test_optimum_takes_its_search_from_generation_config(optimum):
    assert optimum["default"] == optimum["as exported"] != optimum["greedy"]


def test_the_model_card_shows_how(exported_gpt2, optimum):
    (answer,) = exported_gpt2.runtimes["keras"](exported_gpt2.texts[:1], **GREEDY)
    assert optimum["card"] == f"{[exported_gpt2.texts[0] + answer]}\n"


def test_transformers_js_searches_greedily_as_keras_does(exported_gpt2):
    request = {
        "artifact": os.fspath(exported_gpt2.directory),
        "task": exported_gpt2.manifest["task"],
        "texts": spelt(fitting(exported_gpt2)),
        "searches": {
            "greedy": {"do_sample": False, "max_new_tokens": exported_gpt2.manifest["decoding"]["max_length"]}
        },
    }
    answers = ask("transformers_client.mjs", request)
    greedy = [row[0]["text"] for row in expected(exported_gpt2, fitting(exported_gpt2), **GREEDY)]
    assert answers == {"greedy": greedy, "batch": greedy}


def test_onnxruntime_in_node_answers_by_one_call_and_by_a_loop(language_model):
    searches = language_model.manifest["golden"]["searches"]
    texts = fitting(language_model)
    request = {
        "artifact": os.fspath(language_model.directory),
        "task": language_model.manifest["task"],
        "texts": texts,
        "searches": {name: search["options"] for name, search in searches.items()},
        "max_length": language_model.manifest["decoding"]["max_length"],
        "prompt_suffix": language_model.manifest["prompt_suffix"],
    }
    answers = ask("onnxruntime_client.mjs", request)
    assert answers.pop("loop") == expected(language_model, texts, **GREEDY)
    for name, rows in answers.items():
        options = request["searches"][name] | {
            "stop": (),
            "num_return_sequences": searches[name]["options"]["num_beams"],
        }
        predictions = language_model.runtimes["keras"].generate(texts, **options)
        for found, theirs in zip(rows, predictions, strict=True):
            assert [one["token_ids"] for one in found] == [one.token_ids for one in theirs], name
            assert [one["text"] for one in found] == [one.output for one in theirs], name
            for one, other in zip(found, theirs, strict=True):
                np.testing.assert_allclose(one["log_probs"], other.log_probs, rtol=0, atol=tolerance("onnx_logits"))


def test_the_loop_of_the_model_card_in_plain_python(language_model):
    texts = [text for text in fitting(language_model) if text]
    codes = [card_code(language_model, "tokenizers", text) for text in texts]
    printed = ask("card_client.py", {"artifact": os.fspath(language_model.directory), "codes": codes})
    assert printed == [f"{answer}\n" for answer in language_model.runtimes["keras"](texts, **GREEDY)]
