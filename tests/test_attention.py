"""Where a run looked: tokens and weights of each answer, the same alone and among others."""

import json

import numpy as np
import pytest

from tests.tiny_run import SETTINGS, WORDS
from tests.tiny_run import pair as line
from tfzoo import runs
from tfzoo.attention import attention, weights_of
from tfzoo.cli.main import main
from tfzoo.errors import UsageError
from tfzoo.interop.g2p_en import PHONEMES
from tfzoo.recipes import gru_seq2seq, override
from tfzoo.run_folder import Run, begin, build_model
from tfzoo.runtime.predictor import Predictor
from tfzoo.text import SymbolTokenizer, TokenizerPair

pytestmark = pytest.mark.xdist_group("attention")

TEXTS = ["river", "a", "forest", "é", ""]


def new_run(directory, kind="additive"):
    """A run with random weights."""
    recipe = override(
        gru_seq2seq.small(),
        [
            f"model.attention={kind}",
            "model.input_feeding=true",
            "model.vocabulary_size=74",
            "model.source_vocabulary_size=30",
            "model.embedding_dim=8",
            "model.hidden_dim=12",
            "decoding.max_length=9",
        ],
    )
    model, generator = build_model(recipe), np.random.default_rng(0)
    weights = {
        variable.path.partition("/")[2]: generator.normal(0, 0.6, variable.shape).astype(np.float32)
        for variable in model.weights
    }
    letters = SymbolTokenizer("abcdefghijklmnopqrstuvwxyz", "")
    begin(recipe, TokenizerPair(letters, SymbolTokenizer(PHONEMES, " ")), weights, directory, TEXTS)
    return Run(directory)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return new_run(tmp_path_factory.mktemp("run") / "run")


def test_each_answer_has_its_tokens_and_weights(run):
    found = list(attention(run, iter(TEXTS), batch_size=2))
    answers = list(runs.answer(run, TEXTS))
    for one, answer in zip(found, answers, strict=True):
        assert {name: one[name] for name in ("input", "output")} == {name: answer[name] for name in ("input", "output")}
        assert one["score"] == pytest.approx(answer["score"], abs=1e-5)
        looks = one["attention"]
        assert looks["source"] == [*("⁇" if letter == "é" else letter for letter in one["input"]), "</s>"]
        assert [token for token in looks["target"] if token != "</s>"] == one["output"].split()
        weights = np.array(looks["weights"])
        assert weights.shape == (1, len(looks["target"]), len(looks["source"]))
        np.testing.assert_allclose(weights.sum(axis=-1), 1, rtol=0, atol=1e-3)
        assert json.loads(json.dumps(one)) == one


def test_a_text_looks_alone_where_it_looks_among_others(run):
    together = list(attention(run, TEXTS))
    for text, expected in zip(TEXTS, together, strict=True):
        (alone,) = attention(run, [text])
        assert alone["attention"]["target"] == expected["attention"]["target"]
        np.testing.assert_allclose(
            alone["attention"]["weights"], expected["attention"]["weights"], rtol=0, atol=2e-4
        )  # they are rounded


def test_the_weights_are_those_that_each_token_was_chosen_with(run):
    """Token by token, by the state that a search has."""
    ((prediction,),) = run.generate(["forest"], num_beams=1)
    _, _, (weights,) = weights_of(run, ["forest"], [prediction.token_ids])
    source = np.array([[*run.tokenizer.source.encode("forest"), run.tokenizer.source.end_id]], np.int32)
    state = run.model.start({"encoder_token_ids": source})
    last = run.tokenizer.target.start_id
    for t, chosen in enumerate(prediction.token_ids):
        before = state
        logits, state = run.model.step(np.array([[last]], np.int32), before)
        _, looks, _ = run.model._decode(np.array([[last]], np.int32), before, False)
        np.testing.assert_allclose(weights[0, t], looks[0, 0], rtol=0, atol=1e-5)
        assert int(np.argmax(logits)) == chosen
        last = chosen


def test_options_of_the_search_are_obeyed(run):
    (short,) = attention(run, ["forest"], max_length=3, num_beams=1)
    assert len(short["attention"]["target"]) <= 3
    with pytest.raises(UsageError, match="no decoding option 'beams'"):
        list(attention(run, ["forest"], beams=1))


def test_a_transformer_has_the_mean_of_its_heads_by_layer(tmp_path):
    data = tmp_path / "train.tsv"
    data.write_text("".join(map(line, WORDS[:20])), encoding="utf-8")
    settings = [*SETTINGS, "training.num_steps=2", "training.checkpoint_steps=2", "training.warmup_steps=1"]
    arguments = [f"--set={one}" for one in [*settings, "model.num_layers=2"]]
    run_dir = tmp_path / "run"
    assert (
        main(["train", "--recipe=transformer_tiny_g2p", f"--run_dir={run_dir}", f"--data=tsv:{data}", *arguments]) == 0
    )
    run = Run(run_dir)
    (found,) = attention(run, ["river"])
    ids = run.tokenizer.source.encode("river")
    source = np.array([[*ids, run.tokenizer.source.end_id]], np.int32)
    target = next(run.generate(["river"]))[0].token_ids
    before = np.array([[run.tokenizer.target.start_id, *target[:-1]]], np.int32)
    expected = run.model.attention({"encoder_token_ids": source, "decoder_token_ids": before}).numpy()
    assert expected.shape[1:3] == (2, 4)
    np.testing.assert_allclose(found["attention"]["weights"], expected[0].mean(axis=1), rtol=0, atol=1e-4)


def test_the_command_prints_it(run, capsys, tmp_path):
    words = tmp_path / "words.txt"
    words.write_text("river\nforest\n", encoding="utf-8")
    command = ["predict", f"--run_dir={run.directory}", f"--input={words}", "--attention", "--num_beams=1"]
    assert main([*command, "--json"]) == 0
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert printed == list(attention(run, ["river", "forest"], num_beams=1))
    for more, message in (
        ([], "--attention needs --json."),
        (["--json", "--token_log_probs"], "--token_log_probs and --attention describe an answer each"),
        (["--json", f"--output_dir={tmp_path / 'out'}"], "--attention go to the terminal; leave --output_dir out."),
    ):
        assert main([*command, *more]) == 2
        assert message in capsys.readouterr().err


class TestMistakes:
    def test_an_artifact_has_no_keras_model(self, run):
        as_loaded = Predictor(run.backend, run.tokenizer, run.decoding, run.max_length)
        with pytest.raises(UsageError, match="Give the run's folder"):
            attention(as_loaded, ["river"])

    def test_a_model_without_attention(self, tmp_path):
        with pytest.raises(UsageError, match=r"holds a model without attention; received model.attention='none'\."):
            attention(new_run(tmp_path / "run", kind="none"), ["river"])
