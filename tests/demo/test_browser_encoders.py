"""The page of each encoder in headless Chromium: what a person types is answered as Keras and ONNX Runtime do."""

import dataclasses
import itertools
import json

import numpy as np
import pytest

import tfzoo
from tests.demo.test_browser import (
    DOCUMENTATION,
    READY,
    content,
    drawn_candidates,
    open_page,
    requested,
    wait_for_answer,
)
from tests.demo.webdriver import ENTER
from tfzoo.data.python_docs import documents
from tfzoo.runtime.tasks import encode_segments

pytestmark = pytest.mark.xdist_group("encoders")

NO_TEXT = ("padding", "start", "end", "mask")  # what the page calls pieces that decode to nothing
FIELDS = ("#text", "#text_b")
BARS = (
    "return [...document.querySelectorAll('.bars > li')].map((candidate) => {"
    "  const [label, percent, bar] = candidate.children;"
    "  const share = bar.getBoundingClientRect().width / candidate.getBoundingClientRect().width;"
    "  return [label.textContent, parseFloat(percent.textContent), 100 * share, candidate.matches('.chosen')];"
    "})"
)


@pytest.fixture
def load(browser, serve, exported_by_name):
    """Name of an artifact -> it and its page, loaded; every request goes to the server, and nothing complains."""
    servers = []

    def load(name):
        exported = exported_by_name(name)
        servers.append(open_page(browser, serve, exported.directory))
        assert browser.run(f"return {READY}"), browser.text("#error")
        return exported, browser

    yield load
    (server,) = servers
    assert requested(browser) == {server.url}
    assert [entry["message"] for entry in browser.log("browser")] == []


def ask(page, *texts, enter=False):
    """Types into the fields, and answers by a click or by a key."""
    for field, text in zip(FIELDS, texts, strict=False):
        page.clear(field)
        page.type(field, text)
    page.run("document.getElementById('result').hidden = true")
    if enter:
        page.type(FIELDS[len(texts) - 1], ENTER)
    else:
        page.click("#answer")
    wait_for_answer(page)


def typed(exported):
    """The artifact's texts that keys can spell and a person would ask, as tuples."""
    texts = [(text,) if isinstance(text, str) else text for text in exported.texts]
    return [row for row in texts if all(text and text.isprintable() for text in row)]


def answered(exported, texts):
    """The answer of ONNX Runtime in Python, which Keras agrees with."""
    text = texts[0] if len(texts) == 1 else texts
    (answer,), (keras,) = (exported.runtimes[name].answer([text]) for name in ("onnx", "keras"))
    assert answer["output"] == keras["output"] or isinstance(answer["output"], list)
    return answer


@pytest.mark.parametrize("name", ["classifier", "pair_classifier"])
def test_each_label_has_a_bar_as_long_as_it_is_probable(load, name):
    exported, page = load(name)
    asked = typed(exported)
    for index, texts in enumerate(asked):
        ask(page, *texts, enter=index % 2)
        expected = answered(exported, texts)
        chosen = [expected["output"]] if name == "classifier" else expected["output"]
        assert content(page, "#output") == [", ".join(chosen) or "no label"]
        labels, percents, shares, is_chosen = zip(*page.run(BARS), strict=True)
        assert list(labels) == expected["labels"]
        np.testing.assert_allclose(percents, 100 * np.array(expected["scores"]), atol=0.06)
        np.testing.assert_allclose(shares, np.maximum(percents, 0.15), atol=0.3)
        assert [label for label, one in zip(labels, is_chosen, strict=True) if one] == chosen
        assert page.text("#timing").split(" in ")[0].endswith("tokens")
    assert len(asked) > 1


def test_words_have_the_colour_of_their_label(load):
    exported, page = load("word_classifier")
    asked = typed(exported)
    seen = set()
    for texts in asked:
        ask(page, *texts)
        expected = answered(exported, texts)
        labelled = [
            (word, label) for word, label in zip(expected["words"], expected["labels"], strict=True) if label != "O"
        ]
        assert content(page, "#output .word small") == [label for _, label in labelled]
        assert content(page, "#output .word") == [word + label for word, label in labelled]
        page.run("for (const small of document.querySelectorAll('#output small')) small.remove()")
        assert content(page, "#output") == [texts[0]]
        colours = page.run(
            "return [...document.querySelectorAll('#output .word, .legend .word')]"
            ".map((word) => getComputedStyle(word).backgroundColor)"
        )
        assert len(set(colours)) == 1  # of one kind, whether a word begins it or goes on
        assert content(page, ".legend li") == [f"ANIMAL {len(labelled)} word{'s' * (len(labelled) != 1)}"]
        seen.update(expected["labels"])
    if seen == {"O"}:
        pytest.skip("the artifact's random weights label no word of these texts")


def test_each_mask_is_filled_and_has_its_likeliest_pieces(load):
    exported, page = load("masked_lm")
    asked = [texts for texts in typed(exported) if "[MASK]" in texts[0]]
    assert len(asked) > 2
    for texts in asked:
        ask(page, *texts)
        expected = answered(exported, texts)
        assert content(page, "#output") == [expected["output"]]
        for bars, tokens, scores in zip(drawn_candidates(page), expected["tokens"], expected["scores"], strict=True):
            labels = [label for label, *_ in bars]
            assert len(labels) == 5
            assert [{"unknown": "⁇", **dict.fromkeys(NO_TEXT, "")}.get(one, one) for one in labels] == tokens
            np.testing.assert_allclose([bar[1] for bar in bars], 100 * np.array(scores), atol=0.06)
    page.clear("#text")
    page.type("#text", "no mask")
    page.click("#answer")
    page.wait_until("!document.getElementById('error').hidden")
    assert page.text("#error") == "Put [MASK] where a piece is missing."


def test_an_answer_is_marked_in_its_context(load):
    exported, page = load("answerer")
    long = "the old man and the sea " * 6
    for texts in [*typed(exported), ("who?", long), ("✓", "Größe\u3000漢字 ✓ 🙂 dogs")]:
        if texts in exported.texts[3:4]:  # no key has its characters
            page.click("#examples button:nth-of-type(3)")
            wait_for_answer(page)
        else:
            ask(page, *texts, enter=True)
        expected = answered(exported, texts)
        assert content(page, "#output") == [expected["output"] or "no answer"]
        assert content(page, "#drawing .passage") == [texts[1]]
        assert content(page, "mark") == [expected["output"]] * (expected["start"] >= 0)
        before = page.run("return document.querySelector('#drawing .passage').firstChild.textContent")
        assert expected["start"] < 0 or before == texts[1][: expected["start"]]
        share = float(page.text("#timing").split("probability ")[1].removesuffix(" %"))
        np.testing.assert_allclose(share, 100 * expected["score"], atol=0.06)
        assert " window" in page.text("#timing")


def test_two_texts_have_a_cosine_and_their_vectors(load):
    exported, page = load("embedder")
    for texts in [("the dog", "over the green hill"), ("the dog", "the dog")]:
        ask(page, *texts)
        vectors = np.array([answer["output"] for answer in exported.runtimes["onnx"].answer(texts)])
        np.testing.assert_allclose(float(page.text("#output")), vectors[0] @ vectors[1], atol=0.0011)
        shown = [line.removesuffix(", ...").split(", ") for line in content(page, ".vectors li")]
        np.testing.assert_allclose(np.array(shown, float), vectors[:, :6], atol=1.1e-4)
    assert page.text("#output") == "1.000"


def test_an_example_is_answered_by_a_click(load):
    exported, page = load("pair_classifier")
    examples = [texts for texts in exported.manifest["golden"]["texts"] if all(texts)]
    assert content(page, "#examples button") == [" · ".join(texts) for texts in examples][:4]
    page.click("#examples button:nth-of-type(2)")
    wait_for_answer(page)
    assert [page.run(f"return document.querySelector('{field}').value") for field in FIELDS] == examples[1]
    expected = answered(exported, tuple(examples[1]))
    assert content(page, "#output") == [", ".join(expected["output"]) or "no label"]


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("classifier", ["Text"]),
        ("pair_classifier", ["First text", "Second text"]),
        ("answerer", ["Question", "Context"]),
        ("masked_lm", ["Text with [MASK] in it"]),
    ],
)
def test_every_field_that_is_shown_has_a_label_and_must_be_filled(load, name, labels):
    _, page = load(name)
    shown = "[...document.querySelectorAll('textarea, input')].filter((field) => field.checkVisibility())"
    assert page.run(f"return {shown}.map((field) => field.labels[0].innerText)") == labels
    for field in FIELDS[: len(labels)]:
        page.click("#answer")
        assert page.run("return document.getElementById('result').hidden")
        page.type(field, "[MASK]")
    page.click("#answer")
    wait_for_answer(page)
    assert not page.run("return document.getElementById('result').hidden")


@pytest.fixture
def load_changed(browser, serve, exported_by_name, tmp_path):
    """Name of an artifact and parts of its manifest -> it and the page of a copy in which they are changed."""

    def load(name, **parts):
        exported = exported_by_name(name)
        path = exported.copy(tmp_path / "model") / "manifest.json"
        manifest = json.loads(path.read_text(encoding="utf-8"))
        for part, values in parts.items():
            manifest[part] |= values
        path.write_text(json.dumps(manifest), encoding="utf-8")
        open_page(browser, serve, path.parent)
        return exported, browser

    return load


def test_a_regression_shows_its_number(load_changed):
    exported, page = load_changed("classifier", head={"problem": "regression", "labels": []})
    ask(page, "the dog")
    encoded = encode_segments(["the dog"], exported.tokenizer.source, exported.predictor.max_length)
    ((expected, *_),) = exported.runtimes["onnx"].backend.logits(encoded)
    np.testing.assert_allclose(float(page.text("#output")), expected, rtol=1e-3)
    assert page.text("#output").lstrip("-").count(".") == 1
    assert page.run("return document.getElementById('picture').hidden")


def test_no_label_is_said(load):
    exported, page = load("pair_classifier")
    words = "the old man sea dog hill a".split()
    unlabelled = (pair for pair in itertools.permutations(words, 2) if not answered(exported, pair)["output"])
    pair = next(unlabelled, None)
    if pair is None:
        pytest.skip("the artifact's random weights give every pair of these words a label")
    ask(page, *pair)
    assert content(page, "#output") == ["no label"]
    assert len(page.run(BARS)) == 4


def test_no_answer_is_said(load_changed):
    _, page = load_changed("answerer", decoding={"no_answer_threshold": -1000.0})
    ask(page, "who runs?", "a dog runs")
    assert content(page, "#output") == ["no answer"]
    assert content(page, "#drawing .passage") == ["a dog runs"]
    assert content(page, "mark") == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("name", ["pair_classifier", "word_classifier", "masked_lm", "answerer", "embedder"])
def test_a_narrow_screen_needs_no_scrolling_sideways(load, name, dark):
    _, page = load(name)
    texts = ("[MASK] the old dog " + "m" * 60, "the old dog " * 9)
    ask(page, *texts[: 1 if name in ("word_classifier", "masked_lm") else 2])
    page.emulate(width=320, dark=dark)
    assert page.run("return document.documentElement.scrollWidth") == 320
    for selector in ("mark", ".word", ".candidate .label"):
        text, ground = (
            page.run(f"const [one] = document.querySelectorAll('{selector}'); return one ? {colour} : null")
            for colour in ("getComputedStyle(one).color", "getComputedStyle(one).backgroundColor")
        )
        if text and "0, 0, 0, 0" not in ground:
            assert contrast(text, ground) > 4.5


def contrast(*colours):
    """The contrast ratio of two colours such as "rgb(1, 2, 3)", by WCAG 2."""
    luminances = []
    for colour in colours:
        channels = np.array([float(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]) / 255
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        luminances.append(linear @ (0.2126, 0.7152, 0.0722))
    return (max(luminances) + 0.05) / (min(luminances) + 0.05)


@pytest.mark.slow
def test_the_picture_of_the_documentation(browser, serve, tmp_path):
    """Fine-tunes MiniLM, some minutes, to tell what a sentence is about, and shows it one that nobody wrote there."""
    subjects = ("asyncio", "decimal", "email", "logging", "tkinter", "turtle", "unittest")
    with (tmp_path / "train.tsv").open("w", encoding="utf-8") as file:
        for subject in subjects:
            paragraphs = [one for text in documents(subject.__eq__) for one in text.split("\n\n")]
            sentences = [" ".join(one.split()) for one in paragraphs if ">>>" not in one]
            file.writelines(f"{one}\t{subject}\n" for one in sentences if 40 <= len(one) <= 400)
    recipe = tfzoo.recipe("minilm_l6")
    data = dataclasses.replace(recipe.data, sequence_length=48, batch_size=16)
    steps = {"num_steps": 250, "warmup_steps": 25, "checkpoint_steps": 250}
    training = dataclasses.replace(recipe.training, **steps, learning_rate=2e-4)
    run_dir, artifact_dir = tmp_path / "run", tmp_path / "about_python"
    recipe = dataclasses.replace(recipe, data=data, training=training)
    tfzoo.train(recipe, run_dir, data=f"tsv:{tmp_path / 'train.tsv'}")
    tfzoo.export_run(run_dir, artifact_dir, formats=("onnx",))

    open_page(browser, serve, artifact_dir)
    for sentence, subject in (
        ("Cancel every task that is still waiting.", "asyncio"),
        ("Who sent this message, and to whom?", "email"),
        ("Turn left by ninety degrees and draw a circle.", "turtle"),
    ):
        ask(browser, sentence)
        assert content(browser, "#output") == [subject]
    browser.emulate(width=736, scale=1.5)
    (DOCUMENTATION / "demo_classifier.png").write_bytes(browser.screenshot())
