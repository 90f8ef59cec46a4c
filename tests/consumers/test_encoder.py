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
from tfzoo.runtime.tasks import encode_segments

pytestmark = pytest.mark.xdist_group("encoders")

TEXTS = [*SENTENCES, 'dogs, "quoted" Ünïcode 漢字!', "a"]


def transformers_js(exported, pipeline, texts, **options):
    request = {"task": "encoder", "artifact": os.fspath(exported.directory), "pipeline": pipeline}
    return ask("transformers_client.mjs", request | {"texts": texts, "options": options})


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance("onnx_logits"))


def test_transformers_js_classifies(exported_by_name):
    classifier = exported_by_name("classifier")
    found = transformers_js(classifier, "text-classification", TEXTS, top_k=3)
    for answer, expected in zip(found, classifier.predictor.answer(TEXTS), strict=True):
        assert [one["label"] for one in answer] == expected["labels"]
        close([one["score"] for one in answer], expected["scores"])


def test_transformers_js_tags_words(exported_by_name):
    """It labels each piece; a word has the label of its first one, and O is left out there."""
    tagger = exported_by_name("word_classifier")
    texts = ["the old dog runs", "green hill and far away"]
    found = transformers_js(tagger, "token-classification", texts, ignore_labels=[])
    for answer, expected in zip(found, tagger.predictor.answer(texts), strict=True):
        firsts = [one for one in answer if not one["word"].startswith("##")]
        assert [one["entity"] for one in firsts] == expected["labels"]
        close([one["score"] for one in firsts], expected["scores"])


def test_transformers_js_fills_masks(exported_by_name):
    masked_lm = exported_by_name("masked_lm")
    texts = ["the [MASK] runs", "old men and the [MASK]"]
    found = transformers_js(masked_lm, "fill-mask", texts, top_k=5)
    for answer, expected in zip(found, masked_lm.predictor.answer(texts), strict=True):
        close([one["score"] for one in answer], expected["scores"][0])
        assert [one["token_str"] for one in answer] == expected["tokens"][0]


def test_transformers_js_gives_the_vectors(exported_by_name):
    embedder = exported_by_name("embedder")
    found = transformers_js(embedder, "feature-extraction", TEXTS, pooling="mean", normalize=True)
    close(found, embedder.predictor(TEXTS))


def test_transformers_js_answers_questions(exported_by_name):
    """Of contexts that one window holds; it scores a start and an end each for itself, over the whole input."""
    answerer = exported_by_name("answerer")
    pairs = [("who runs?", SENTENCES[0]), ("where?", SENTENCES[2]), ("old men", SENTENCES[1])]
    found = transformers_js(answerer, "question-answering", pairs, max_answer_len=7)
    expected = answerer.predictor(pairs)
    assert [one["answer"].removeprefix("##") for one in found] == expected  # "##" goes on a word


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
