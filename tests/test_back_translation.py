"""docs/back_translation.md does what it says: its two commands run, and train on what the first one wrote."""

import json
import re

import pytest

from tests.readme import ROOT, blocks, commands
from tests.tiny_run import WORDS, pair
from tfzoo.cli.main import main
from tfzoo.data import seq2seq
from tfzoo.data.sources import read
from tfzoo.errors import DataError, UsageError
from tfzoo.run_folder import read_recipe
from tfzoo.text import TokenizerPair

TEXT = (ROOT / "docs/back_translation.md").read_text(encoding="utf-8")
# What makes a run shorter.
SHORTER = {
    "model.hidden_dim": 16,
    "model.intermediate_dim": 32,
    "model.num_layers": 1,
    "model.num_heads": 2,
    "model.max_sequence_length": 40,
    "model.vocabulary_size": 60,
    "data.max_source_length": 40,
    "data.max_target_length": 40,
    "decoding.max_length": 6,
    "training.num_steps": 2,
    "training.checkpoint_steps": 2,
    "training.warmup_steps": 1,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The page's files: words and their letters backwards, and more of those letters."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("back_translation")
        patch.chdir(folder)
        (folder / "train.tsv").write_text("".join(map(pair, WORDS[:40])), encoding="utf-8")
        (folder / "validation.tsv").write_text("".join(map(pair, WORDS[40:45])), encoding="utf-8")
        german = [pair(word).split("\t")[1] for word in WORDS[45:]]
        (folder / "german.txt").write_text("".join(german), encoding="utf-8")
        (option,) = re.findall(r"with\s+`(--set=data\.reversed=true)`", TEXT)
        assert train("--recipe=transformer_small", "--run_dir=runs/de-en", "--data=tsv:train.tsv", option) == 0
        yield folder


def train(*arguments):
    return main(["train", *arguments, *(f"--set={name}={value}" for name, value in SHORTER.items())])


def test_two_commands_are_the_recipe(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    (block,) = blocks("sh", TEXT)
    predicting, training = commands(block)
    assert [predicting[:2], training[:2]] == [["tfzoo", "predict"], ["tfzoo", "train"]]
    assert main(predicting[1:]) == 0, capsys.readouterr().err
    answers = [json.loads(line) for line in (folder / "back/german.txt.jsonl").read_text("utf-8").splitlines()]
    assert [one["input"] for one in answers] == (folder / "german.txt").read_text("utf-8").splitlines()
    translated = [(one["output"], one["input"]) for one in answers if one["output"].strip()]
    assert translated
    assert [*read("back_translated:back/*.jsonl@2")] == translated

    assert train(*training[2:]) == 0, capsys.readouterr().err
    assert read_recipe(folder / "runs/en-de-2/recipe.json").data.train == (
        "tsv:train.tsv@1",
        "back_translated:back/*.jsonl@2",
    )
    assert read_recipe(folder / "runs/de-en/recipe.json").data.reversed
    # What it was trained on: of three sources, two are translations.
    tokenizer = TokenizerPair.load(folder / "runs/en-de-2/tokenizer").source
    batches = seq2seq(("tsv:train.tsv@1", "back_translated:back/*.jsonl@2"), tokenizer, batch_size=1)
    num_genuine = sum(tokenizer.decode(inputs["encoder_token_ids"][0].numpy()) in WORDS for inputs, _, _ in batches)
    assert num_genuine == pytest.approx(len(batches) / 3, abs=3)


def test_a_reversed_run_answers_and_is_scored_the_other_way(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    details = ["--worst=worst.jsonl", "--json"]
    assert main(["evaluate", "--run_dir=runs/de-en", "--data=tsv:validation.tsv", *details]) == 0
    assert json.loads(capsys.readouterr().out)["num_sources"] == 5
    rows = [json.loads(line) for line in (folder / "worst.jsonl").read_text("utf-8").splitlines()]
    assert {row["references"][0] for row in rows} == {*WORDS[40:45]}
    examples = json.loads((folder / "runs/de-en/examples.json").read_text("utf-8"))
    assert all(re.fullmatch(r"[A-Z ]+", one) for one in examples)


def test_answers_without_an_output_are_left_out(tmp_path):
    path = tmp_path / "a.jsonl"
    rows = [{"input": "Haus", "output": "house", "score": -1.0}, {"input": "Baum", "output": " ", "score": -2.0}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert [*read(f"back_translated:{path}")] == [("house", "Haus")]
    with pytest.raises(UsageError, match="`back_translated:` has two columns, and one is needed"):
        read(f"back_translated:{path}", 1)
    path.write_text('{"source": "a", "target": "b"}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"a\.jsonl:1: the field 'output' is missing"):
        [*read(f"back_translated:{path}")]
