"""Encoders' artifacts, opened by Hugging Face's clients: the labels, words, tokens and vectors that Keras gives.

None of the texts spells a special token but [MASK], which the clients read as such wherever it stands.
"""

import os
import re

import numpy as np
import pytest

from tests.consumers.clients import ask, card_code
from tests.export.artifacts import S_MAX, SENTENCES
from tests.tolerances import tolerance
from tfzoo.runtime.onnx_names import ENCODER_INPUTS
from tfzoo.runtime.tasks import encode_segments

pytestmark = pytest.mark.xdist_group("encoders")

TEXTS = [*SENTENCES, 'dogs, "quoted" Ünïcode 漢字!', "a"]


# Name -> the task of Hugging Face's pipeline, what it is asked besides in either language, and the texts. It answers
# from contexts that one window holds, for it scores a start and an end each for itself, over the whole input.
PIPELINES = {
    "classifier": ("text-classification", {"top_k": 3}, TEXTS),
    "pair_classifier": ("text-classification", {"top_k": 4}, [(text, SENTENCES[1]) for text in TEXTS]),
    "word_classifier": ("token-classification", {"ignore_labels": []}, ["the old dog runs", "green hill and far away"]),
    "masked_lm": ("fill-mask", {"top_k": 5}, ["the [MASK] runs", "old men and the [MASK]"]),
    "answerer": (
        "question-answering",
        {"max_answer_len": 7},
        [("who runs?", SENTENCES[0]), ("where?", SENTENCES[2]), ("old men", SENTENCES[1])],
    ),
    "embedder": ("feature-extraction", {}, TEXTS),
}


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance("onnx_logits"))


def assert_answers(name, exported, answers):
    """What a pipeline answered to each of the texts is what Keras answers."""
    task, _, texts = PIPELINES[name]
    for found, expected in zip(answers, exported.predictor.answer(texts), strict=True):
        match task:
            case "text-classification":
                assert [one["label"] for one in found] == expected["labels"]
                close([one["score"] for one in found], expected["scores"])
            case "token-classification":  # it labels each piece; a word has the label of its first one
                firsts = [one for one in found if not one["word"].startswith("##")]
                assert [one["entity"] for one in firsts] == expected["labels"]
                close([one["score"] for one in firsts], expected["scores"])
            case "fill-mask":
                close([one["score"] for one in found], expected["scores"][0])
                assert [one["token_str"] for one in found] == expected["tokens"][0]
            case "question-answering":
                assert found["answer"].removeprefix("##") == expected["output"]  # "##" goes on a word
            case "feature-extraction":
                close(found, expected["output"])


@pytest.mark.parametrize("name", [name for name in PIPELINES if name != "pair_classifier"])  # it takes no pairs
def test_a_pipeline_of_transformers_js_answers_as_keras_does(exported_by_name, name):
    exported = exported_by_name(name)
    task, options, texts = PIPELINES[name]
    if task == "feature-extraction":
        options = {"pooling": "mean", "normalize": True}
    request = {"task": "encoder", "artifact": os.fspath(exported.directory), "pipeline": task}
    assert_answers(name, exported, ask("transformers_client.mjs", request | {"texts": texts, "options": options}))


@pytest.fixture(scope="module")
def optimum(exported_by_name):
    """By name, what optimum's class and transformers' pipeline make of each encoder; one process for all."""
    models = []
    for name, (task, options, texts) in PIPELINES.items():
        if task == "question-answering":
            asked = [{"question": question, "context": context} for question, context in texts]
            options = options | {"align_to_words": False}
        else:
            options = options | ({"truncation": True} if task == "text-classification" else {})
            asked = [text if isinstance(text, str) else {"text": text[0], "text_pair": text[1]} for text in texts]
        columns = [texts] if isinstance(texts[0], str) else [*zip(*texts, strict=True)]
        artifact = os.fspath(exported_by_name(name).directory)
        models.append(
            {"artifact": artifact, "pipeline": task, "columns": columns, "asked": asked, "arguments": options}
        )
    return dict(zip(PIPELINES, ask("optimum_client.py", {"task": "encoder", "models": models}), strict=True))


@pytest.mark.parametrize("name", PIPELINES)
def test_a_class_of_optimum_computes_what_keras_does(exported_by_name, optimum, name):
    """All texts in one padded batch, on the ids of transformers' tokenizer."""
    exported = exported_by_name(name)
    inputs = {ours: np.array(optimum[name]["inputs"][theirs], np.int32) for ours, theirs in ENCODER_INPUTS.items()}
    mask = inputs["padding_mask"] == 1
    assert not mask.all()
    outputs = {output: np.array(value) for output, value in optimum[name]["outputs"].items()}
    expected = exported.predictor.backend.logits(inputs)
    limit = tolerance("onnx_logits") * max(1, np.abs(expected).max())
    match PIPELINES[name][0]:
        case "text-classification":
            (found,) = outputs.values()
        case "feature-extraction":
            found = mean_direction(outputs["last_hidden_state"], mask)
        case "question-answering":
            found = np.stack([outputs["start_logits"], outputs["end_logits"]], axis=1)
            found, expected = (np.where(mask[:, np.newaxis], one, 0) for one in (found, expected))
        case _:
            (found,) = outputs.values()
            found, expected = found[mask], expected[mask]
    np.testing.assert_allclose(found, expected, rtol=0, atol=limit)


@pytest.mark.parametrize("name", PIPELINES)
def test_a_pipeline_of_transformers_answers_as_keras_does(exported_by_name, optimum, name):
    answers = optimum[name]["pipeline"]
    if name == "embedder":  # it gives the vectors of the pieces, a text at a time
        answers = [mean_direction(np.array(one), np.ones([1, len(one[0])]))[0] for one in answers]
    assert_answers(name, exported_by_name(name), answers)


def mean_direction(states, mask):
    """(B, T, D) -> (B, D): the mean over what a mask says is real, at length 1."""
    sums = (states * mask[:, :, np.newaxis]).sum(axis=1)
    return sums / np.linalg.norm(sums, axis=1, keepdims=True)


@pytest.mark.parametrize("name", ["classifier", "answerer"])
def test_the_model_cards_code_gives_the_logits(exported_by_name, name):
    """optimum's, asked for one text, or for a pair of the same."""
    encoder, text = exported_by_name(name), SENTENCES[0]
    code = card_code(encoder, "optimum", text)
    (printed,) = ask("card_client.py", {"artifact": os.fspath(encoder.directory), "codes": [code]})
    inputs = encode_segments([text if name == "classifier" else (text, text)], encoder.tokenizer.source, S_MAX)
    expected = encoder.predictor.backend.logits(inputs)[0]
    found = [float(number) for number in re.findall(r"-?\d+\.\d+(?:e-?\d+)?", printed)]
    np.testing.assert_allclose(
        found, expected if name == "classifier" else expected[0], rtol=0, atol=1e-3
    )  # as printed
