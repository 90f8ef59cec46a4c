"""The page of a language model in headless Chromium: a prompt goes on as Keras and ONNX Runtime in Python go on."""

import numpy as np
import pytest

from tests.demo.test_browser import READY, content, drawn_candidates, open_page, requested, set_number, wait_for_answer

pytestmark = pytest.mark.xdist_group("language_models")


@pytest.fixture
def prompt_page(browser, serve, language_model):
    """The page of a language model, loaded."""
    server = open_page(browser, serve, language_model.directory)
    assert browser.run(f"return {READY}"), browser.text("#error")
    yield browser
    assert requested(browser) == {server.url}
    assert [entry["message"] for entry in browser.log("browser")] == []


def test_a_prompt_is_continued_as_keras_and_onnx_do(prompt_page, language_model):
    """Greedily and by the artifact's own sampling; with its stop text, its separator, from nothing, cut in front."""
    page = prompt_page
    assert page.text("#answer") == "Continue"
    options = language_model.predictor.decoding
    for temperature, seed in ((0, 0), (0.9, 3), (0.9, 4)):
        for text in [text for text in language_model.texts if text.isprintable() and max(text, default="") < "\u3000"]:
            set_number(page, "temperature", temperature)
            set_number(page, "seed", seed)
            page.clear("#text")
            if text:
                page.type("#text", text)
            page.run("document.getElementById('result').hidden = true")
            page.click("#answer")
            wait_for_answer(page)
            wanted = {"temperature": float(temperature), "seed": seed}
            ((expected,),) = language_model.runtimes["onnx"].generate([text], **wanted)
            assert content(page, "#output") == [expected.output]
            assert language_model.runtimes["keras"]([text], **wanted) == [expected.output]
            score = page.text("#timing").split("score ")[1].removesuffix(" nats")
            np.testing.assert_allclose(float(score), expected.score, atol=0.0011)
            check_continuation(page, language_model, text, expected.token_ids, options.max_length)


def check_continuation(page, language_model, text, token_ids, max_length):
    """Each bar is as long as Keras finds the token probable behind the prompt and the tokens before it."""
    predictor = language_model.runtimes["keras"]
    one = predictor.tokenizer.source
    prompt = one.encode(text + predictor.tokenizer.prompt_suffix) or [one.end_id]
    prompt = prompt[-(predictor.max_length - max_length + 1) :]
    ids = np.array([[*prompt, *token_ids[:-1]]], np.int32)
    logits = predictor.backend.logits({"token_ids": ids, "padding_mask": np.ones_like(ids)})[0].astype(float)
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    drawn = drawn_candidates(page)
    assert len(drawn) == len(token_ids)
    for chosen, row, bars in zip(token_ids, probabilities[len(prompt) - 1 :], drawn, strict=True):
        likeliest = np.sort(np.delete(row, chosen))[::-1][:3]
        np.testing.assert_allclose([bar[1] for bar in bars], 100 * np.array([row[chosen], *likeliest]), atol=0.06)


def test_a_damaged_merge_list_is_said(browser, serve, language_model, tmp_path):
    artifact = language_model.copy(tmp_path / "model")
    with (artifact / "merges.txt").open("a") as file:
        file.write("a b\n")
    open_page(browser, serve, artifact)
    assert browser.text("#error") == "merges.txt differs from the file that was proved; copy the artifact again."
