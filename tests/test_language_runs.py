"""Language models through the command line: documents or pairs in, perplexity and continuations out."""

import json
import math

import numpy as np
import pytest

import tfzoo
from tests.tiny_run import digest
from tests.tolerances import tolerance
from tfzoo import runs
from tfzoo.cli.main import main
from tfzoo.decoding.next_token import next_token
from tfzoo.errors import UsageError
from tfzoo.recipes.recipe import override

pytestmark = pytest.mark.xdist_group("language_runs")

DOCUMENTS = [
    "The heron stands in the river.\nIt waits.",
    "A heron waits for fish, and the fish wait for rain.",
    "Rain fills the river, and the river fills the lake.",
    "The lake is still.\n\nThe heron stands in the lake.",
    "Fish like rain; the heron likes fish.",
]
HELD_OUT = ["The heron waits in the rain.", "The river is still, and the fish are in the lake."]
STEPS = 30


def write(path, documents):
    path.write_text("".join(f"{json.dumps({'text': text})}\n" for text in documents), encoding="utf-8")
    return f"jsonl:{path}"


@pytest.fixture(scope="module", params=["lstm_lm_tiny", "gpt2_tiny"])
def run(request, tmp_path_factory):
    """A run of a few steps, and the data that it was validated on."""
    folder = tmp_path_factory.mktemp(request.param)
    data, validation = write(folder / "train.jsonl", DOCUMENTS), write(folder / "validation.jsonl", HELD_OUT)
    command = [
        "train",
        f"--recipe={request.param}",
        f"--run_dir={folder / 'run'}",
        f"--data={data}",
        f"--validation_data={validation}",
        *(f"--set={one}" for one in SETTINGS),
    ]
    assert main(command) == 0
    return folder / "run", validation, command


SETTINGS = [
    f"training.num_steps={STEPS}",
    f"training.checkpoint_steps={STEPS // 2}",
    "data.batch_size=3",
    "data.sequence_length=12",
    "decoding.max_length=10",
    "model.max_sequence_length=24",
]


def test_the_same_command_resumes_exactly(run, tmp_path):
    """The carried state of the LSTM and the order of the documents included."""
    run_dir, _, command = run
    again = [part.replace(str(run_dir), str(tmp_path / "run")) for part in command]
    first_half = [*again, f"--set=training.num_steps={STEPS // 2}"]
    # The schedule of the learning rate is a function of num_steps: both halves must know the whole.
    assert main([*first_half, "--set=training.schedule=inverse_sqrt"]) == 0
    assert main([*again, "--set=training.schedule=inverse_sqrt"]) == 0
    whole = tmp_path / "whole"
    command = [part.replace(str(run_dir), str(whole)) for part in command]
    assert main([*command, "--set=training.schedule=inverse_sqrt"]) == 0
    name = f"step-{STEPS:08d}"
    halves, at_once = (digest(path / "checkpoints" / name) for path in (tmp_path / "run", whole))
    assert halves["state.safetensors"] == at_once["state.safetensors"]


def test_the_perplexity_is_that_of_a_sum_over_every_token(run):
    run_dir, validation, _ = run
    found = tfzoo.load(run_dir)
    report = runs.evaluate(run_dir, validation)
    end = found.tokenizer.target.end_id
    stream = [end]
    for document in HELD_OUT:
        stream += [*found.tokenizer.target.encode(document), end]
    # Windows of 12 labels, 6 ahead each: the definition, one token at a time.
    nats = 0.0
    for place in range(1, len(stream)):
        window = 0 if place <= 12 else math.ceil((place - 12) / 6) * 6
        context = np.array([stream[window:place]], np.int32)
        logits = found.backend.logits({"token_ids": context, "padding_mask": np.ones_like(context)})
        logits = logits[0, -1].astype(np.float64)
        nats += np.log(np.exp(logits).sum()) - logits[stream[place]]
    text = "".join(HELD_OUT)
    assert report["num_tokens"] == len(stream) - 1
    assert report["loss"] == pytest.approx(nats / (len(stream) - 1), abs=tolerance("numpy_parity"))
    assert report["perplexity"] == pytest.approx(math.exp(report["loss"]))
    assert report["bits_per_byte"] == pytest.approx(nats / math.log(2) / len(text), abs=tolerance("numpy_parity"))
    assert (report["num_words"], report["num_documents"]) == (17, 2)
    assert report["perplexity_per_word"] == pytest.approx(math.exp(nats / 17), rel=1e-4)
    assert found.checkpoint.history[-1]["val_nats_per_token"] == pytest.approx(report["loss"], abs=1e-4)


def test_prompts_are_continued(run, capsys, tmp_path):
    run_dir, _, _ = run
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("The heron\n\nRain\n", encoding="utf-8")
    capsys.readouterr()
    command = ["predict", f"--run_dir={run_dir}", f"--input={prompts}", "--temperature=0.8", "--seed=3"]
    assert main([*command, "--json", "--token_log_probs", "--num_return_sequences=2"]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [answer["input"] for answer in answers] == ["The heron", "", "Rain"]
    for answer in answers:
        assert [len(answer["alternatives"]), len(answer["tokens"])] >= [1, 1]
        total = sum(token["log_prob"] for token in answer["tokens"])
        penalty = ((5 + len(answer["tokens"])) / 6) ** 0.6
        assert answer["score"] == pytest.approx(total / penalty, abs=1e-4)
    assert main([*command, "--num_return_sequences=1"]) == 0
    plain = capsys.readouterr().out
    assert main([*command, "--num_return_sequences=1", "--stream"]) == 0
    assert " ".join(capsys.readouterr().out.split()) == " ".join(plain.split())


def test_an_interrupted_stream_keeps_what_was_printed(run, capsys, tmp_path, monkeypatch):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("The heron\n", encoding="utf-8")
    command = ["predict", f"--run_dir={run[0]}", f"--input={prompts}", "--stream", "--temperature=0"]
    assert main(command) == 0
    whole = capsys.readouterr().out
    steps = []

    def interrupted(*arguments):
        steps.append(1)
        if len(steps) == 6:
            raise KeyboardInterrupt
        return next_token(*arguments)

    monkeypatch.setattr("tfzoo.runtime.predictor.next_token", interrupted)
    assert main(command) == 130
    printed = capsys.readouterr()
    assert 0 < len(printed.out) < len(whole)
    assert whole.startswith(printed.out)
    assert printed.err == "tfzoo: interrupted.\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--stream", "--json"], "--stream prints pieces of text, which --json cannot hold; leave one of the two out."),
        (["--token_log_probs"], "--token_log_probs needs --json."),
        (
            ["--max_length=25"],
            "`max_length` must not exceed the model's 24 positions; received max_length=25.",
        ),
        (["--stop="], "`stop` must be a sequence of texts that are not empty; received stop=('',)."),
    ],
)
def test_mistakes_are_one_line(run, capsys, tmp_path, arguments, message):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("The\n", encoding="utf-8")
    capsys.readouterr()
    assert main(["predict", f"--run_dir={run[0]}", f"--input={prompts}", *arguments]) == 2
    assert capsys.readouterr().err == f"tfzoo: {message}\n"


def test_decoding_options_mean_nothing_to_a_perplexity(run):
    with pytest.raises(UsageError, match="the perplexity of documents takes no decoding options; received num_beams"):
        runs.evaluate(run[0], run[1], num_beams=2)


PAIRS = (("red", "rot"), ("green", "grün"), ("blue", "blau"), ("white", "weiß"))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    path = folder / "pairs.tsv"
    path.write_text("".join(f"{prompt}\t{answer}\n" for prompt, answer in PAIRS), encoding="utf-8")
    recipe = override(
        tfzoo.recipe("gpt2_tiny"),
        [
            "data.examples=prompt_answer",
            "data.separator= =",
            "data.batch_size=4",
            "model.max_sequence_length=32",
            "model.dropout=0",
            "training.num_steps=120",
            "training.checkpoint_steps=120",
            "training.learning_rate=0.02",
            "evaluation.metrics=exact_match",
            "decoding.max_length=12",
        ],
    )
    return runs.train(recipe, folder / "run", data=f"tsv:{path}", verbose=0), f"tsv:{path}"


class TestPairs:
    """Prompt and answer: the loss falls on the answer, and a prompt is asked as it was trained."""

    def test_the_answers_are_learnt(self, pairs):
        found, _ = pairs
        assert found([prompt for prompt, _ in PAIRS]) == [answer for _, answer in PAIRS]

    def test_they_are_scored_as_answers_and_as_tokens(self, pairs):
        found, spec = pairs
        report = runs.evaluate(found.directory, spec)
        assert report["exact_match"] == 1
        assert report["num_tokens"] == sum(len(found.tokenizer.target.encode(answer)) + 1 for _, answer in PAIRS)
        assert report["loss"] < 0.1

    def test_an_artifact_puts_the_separator_behind_the_prompt(self, pairs, tmp_path):
        found, spec = pairs
        runs.export_run(found.directory, tmp_path / "colours", formats=["saved_model"])
        answer = tfzoo.load(tmp_path / "colours")
        assert answer(["green", "white"]) == ["grün", "weiß"]
        assert runs.evaluate(tmp_path / "colours", spec)["exact_match"] == 1
