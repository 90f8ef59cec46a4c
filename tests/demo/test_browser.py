"""The page in headless Chromium: a person's keys and clicks, and the answers of Keras and of ONNX Runtime in Python."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.demo.webdriver import ENTER, SHIFT
from tfzoo.text.special_tokens import SPECIAL_TOKENS, START_ID

pytestmark = pytest.mark.xdist_group("artifacts")

READY = "!document.getElementById('controls').disabled"
ANSWERED = "document.getElementById('form').getAttribute('aria-busy') === 'false'"
FAILED = "!document.getElementById('error').hidden"
READ = ("spiece.model", "vocab.json", "merges.txt")  # all that the page reads of a tokenizer
DOCUMENTATION = Path(__file__).parents[2] / "docs"


@pytest.fixture
def page(browser, serve, exported):
    """The page of an artifact, loaded; every request of it goes to the server, and nothing complains."""
    server = open_page(browser, serve, exported.directory)
    yield browser
    assert requested(browser) == {server.url}
    assert [entry["message"] for entry in browser.log("browser")] == []


@pytest.fixture
def artifact(separate_vocabularies, tmp_path):
    """A copy of an artifact, to be changed."""
    return separate_vocabularies.copy(tmp_path / "model")


def open_page(browser, serve, directory):
    server = serve(directory)
    browser.log("performance")
    browser.emulate(width=736)
    browser.open(server.url)
    browser.wait_until(f"({READY}) || ({FAILED})")
    return server


def requested(browser):
    """The origins that were asked, as "http://host:port/"; what the page holds itself (data:) is not asked for."""
    events = [json.loads(entry["message"])["message"] for entry in browser.log("performance")]
    urls = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    return {"/".join(url.split("/")[:3]) + "/" for url in urls if not url.startswith(("data:", "blob:"))}


def wait_for_answer(page):
    page.wait_until(f"({ANSWERED}) || ({FAILED})")
    assert not page.run(f"return {FAILED}"), page.text("#error")


def content(page, selector):
    """The text of each element, spaces as they are."""
    return page.run(f"return [...document.querySelectorAll({selector!r})].map((found) => found.textContent)")


def set_number(page, name, value):
    page.clear(f"#{name}")
    page.type(f"#{name}", str(value))


def test_answers_and_probabilities_equal_keras_and_onnx(page, exported):
    check_answers(page, exported)


def check_answers(page, exported):
    """Greedy search and beams, by a click and by a key."""
    assert page.run("return self.crossOriginIsolated")  # else the browser gives no threads
    onnx, keras = exported.runtimes["onnx"], exported.runtimes["keras"]
    for num_beams in (1, 3):
        for index, text in enumerate(text for text in exported.texts if text):
            set_number(page, "num_beams", num_beams)
            page.clear("#text")
            page.type("#text", text)
            if index % 2:
                page.type("#text", ENTER)
            else:
                page.click("#answer")
            wait_for_answer(page)

            (expected,) = onnx.generate([text], num_beams=num_beams, num_return_sequences=num_beams)
            assert content(page, "#output") == [expected[0].output]
            assert keras([text], num_beams=num_beams) == [expected[0].output]
            others = [line.rsplit(" ", 1) for line in content(page, "#hypotheses > li")]
            assert [output for output, _ in others] == [other.output for other in expected[1:]]
            scores = [page.text("#timing").split("score ")[1].removesuffix(" nats"), *(score for _, score in others)]
            np.testing.assert_allclose(np.array(scores, float), [one.score for one in expected], atol=0.0011)
            check_picture(page, exported, text, expected[0].token_ids)


def check_picture(page, exported, text, token_ids):
    """Each produced token's bar is as long as Keras finds it probable, and the likeliest others stand below."""
    keras, target = exported.runtimes["keras"], exported.tokenizer.target
    source_ids = keras.tokenizer.source.encode(text)[: keras.max_length - 1] + [target.end_id]
    inputs = {"encoder_token_ids": [source_ids], "decoder_token_ids": [[START_ID, *token_ids[:-1]]]}
    logits = keras.backend.logits({name: np.array(ids, np.int32) for name, ids in inputs.items()})[0].astype(float)
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    drawn = drawn_candidates(page)
    assert len(drawn) == len(token_ids)
    for chosen, row, bars in zip(token_ids, probabilities, drawn, strict=True):
        others = [index for index in np.argsort(-row, kind="stable") if index != chosen]
        assert bars[0][0] == label(target, chosen)
        np.testing.assert_allclose([bar[1] for bar in bars], 100 * row[[chosen, *others[:3]]], atol=0.06)
        np.testing.assert_allclose([bar[2] for bar in bars], [max(bar[1], 0.1) for bar in bars], atol=1)


def drawn_candidates(page):
    """For each token its candidates: label, percent, and the bar's percent of the room that it has."""
    return page.run(
        "return [...document.querySelectorAll('#tokens > li')].map((token) =>"
        " [...token.querySelectorAll('.candidate')].map((candidate) => {"
        "   const [label, percent, bar] = candidate.children;"
        "   const share = bar.getBoundingClientRect().width / candidate.getBoundingClientRect().width;"
        "   return [label.textContent, parseFloat(percent.textContent), 100 * share];"
        " }))"
    )


def label(tokenizer, token_id):
    if token_id < len(SPECIAL_TOKENS):
        return ("padding", "unknown", "start", "end")[token_id]
    vocabulary = json.loads(tokenizer.assets()["tokenizer.json"])["model"]["vocab"]
    return vocabulary[token_id][0] if isinstance(vocabulary, list) else {i: s for s, i in vocabulary.items()}[token_id]


def test_the_keyboard_is_enough(page, exported):
    assert page.run("return document.activeElement.id") == "text"
    page.press(["a", SHIFT + ENTER, "b"])
    assert page.run("return document.getElementById('text').value") == "a\nb"
    page.press([ENTER])
    wait_for_answer(page)
    assert content(page, "#output") == exported.runtimes["onnx"](["a\nb"])
    assert page.run("return document.activeElement.id") == "text"


def test_an_example_is_answered_by_a_click(page, exported):
    examples = [text for text in exported.manifest["golden"]["texts"] if text][:4]
    assert content(page, "#examples button") == examples
    page.click("#examples button:nth-of-type(2)")
    wait_for_answer(page)
    assert page.run("return document.getElementById('text').value") == examples[1]
    assert content(page, "#output") == exported.runtimes["onnx"]([examples[1]])


def test_what_the_form_refuses_is_not_asked(page):
    page.click("#answer")
    page.type("#text", "a")
    set_number(page, "num_beams", 0)
    page.click("#answer")
    assert page.run("return document.getElementById('result').hidden")
    set_number(page, "num_beams", 1)
    page.click("#answer")
    wait_for_answer(page)
    assert not page.run("return document.getElementById('result').hidden")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_narrow_screen_needs_no_scrolling_sideways(page, exported, dark):
    page.type("#text", "m" * 60)
    page.click("#answer")
    wait_for_answer(page)
    page.emulate(width=320, dark=dark)
    assert page.run("return document.documentElement.scrollWidth") == 320
    ground = page.run("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, ground.removeprefix("rgb(").removesuffix(")").split(","))) < 3 * 128) == dark


def test_a_tokenizer_that_the_page_does_not_read_is_said(browser, serve, artifact):
    path = artifact / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"] = {name: entry for name, entry in manifest["files"].items() if not name.endswith(READ)}
    path.write_text(json.dumps(manifest))
    open_page(browser, serve, artifact)
    assert "this artifact has another kind" in browser.text("#error")
    assert not browser.run(f"return {READY}")


@pytest.mark.parametrize("name", ["onnx/generate.onnx", "onnx/decoder_model_merged.onnx"])
def test_a_damaged_file_is_said(browser, serve, artifact, name):
    content = bytearray((artifact / name).read_bytes())
    content[len(content) // 2] ^= 1
    (artifact / name).write_bytes(content)
    open_page(browser, serve, artifact)
    assert browser.text("#error") == f"{name} differs from the file that was proved; copy the artifact again."
    assert not browser.run(f"return {READY}")


@pytest.mark.slow
def test_the_picture_of_the_documentation(browser, serve, tmp_path):
    """Trains the quickstart's model, a minute or two, and shows it a word that no dictionary has."""
    from tfzoo.first_run import quickstart

    found = quickstart(tmp_path / "run")
    open_page(browser, serve, found.artifact_dir)
    for word, pronunciation in found.pronunciations.items():
        browser.clear("#text")
        browser.type("#text", word + ENTER)
        wait_for_answer(browser)
        assert content(browser, "#output") == [pronunciation]
    browser.emulate(width=736, scale=1.5)
    DOCUMENTATION.mkdir(exist_ok=True)
    (DOCUMENTATION / "demo.png").write_bytes(browser.screenshot())
