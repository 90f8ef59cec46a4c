"""docs/prepare.md: its commands run one after the other, and make what the page says."""

import gzip

import pytest

from tests.prepared import LOWER, UPPER
from tests.readme import ROOT, blocks, commands
from tfzoo.cli.main import main
from tfzoo.data.prepared import open_prepared
from tfzoo.run_folder import read_recipe

TEXT = (ROOT / "docs/prepare.md").read_text(encoding="utf-8")
# What makes tokenizers and runs smaller.
SMALLER = {
    "tokenizer.source": "characters",
    "model.hidden_dim": 8,
    "model.intermediate_dim": 16,
    "model.num_layers": 1,
    "model.num_heads": 2,
    "model.max_sequence_length": 16,
    "data.max_source_length": 16,
    "data.max_target_length": 16,
    "decoding.max_length": 6,
}
SHORTER = {"training.num_steps": 1, "training.checkpoint_steps": 1, "training.warmup_steps": 1}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The page's files."""
    monkeypatch.chdir(tmp_path)
    lines = [f"{source}\t{target}\n" for source, target in LOWER + UPPER]
    (tmp_path / "news").mkdir()
    with gzip.open(tmp_path / "news/1.tsv.gz", "wt", encoding="utf-8") as file:
        file.writelines(lines[:60] * 2)
    (tmp_path / "talks.tsv").write_text("".join(lines[60:350]), encoding="utf-8")
    (tmp_path / "validation.tsv").write_text("".join(lines[350:]), encoding="utf-8")
    return tmp_path


def call(command, options):
    assert command[0] == "tfzoo"
    return main([*command[1:], *(f"--set={name}={value}" for name, value in options.items())])


def test_its_commands_prepare_and_train(folder, capsys):
    (block,) = blocks("sh", TEXT)
    *preparing, training = commands(block)
    assert [one[1] for one in preparing] == ["prepare", "prepare"]
    for command in preparing:
        assert call([*command, "--num_workers=1"], SMALLER) == 0, capsys.readouterr().err
    corpus, validation = (open_prepared(folder / f"corpora/{name}") for name in ("en-de", "en-de-validation"))
    assert corpus.statistics["weights"] == [0.3, 0.7]
    assert corpus.statistics["num_examples"] == 60 + 290
    assert corpus.statistics["dropped"]["duplicate"] == 60
    assert validation.statistics["num_examples"] == 50
    assert validation.tokenizer.assets() == corpus.tokenizer.assets()

    assert call(training, SMALLER | SHORTER) == 0, capsys.readouterr().err
    assert read_recipe(folder / "runs/en-de/recipe.json").data.validation == ("prepared:corpora/en-de-validation",)


def test_no_line_is_too_long_to_read():
    assert max(map(len, TEXT.splitlines())) <= 120
