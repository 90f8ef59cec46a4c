"""An artifact that is kept at a run's best weights while it is trained."""

import dataclasses
import json
import shutil

import pytest

import tfzoo
from tests.tiny_run import STEPS, digest
from tfzoo import recipes, run_export, runs
from tfzoo.errors import ArtifactMismatch, UsageError
from tfzoo.run_folder import RECIPE, REQUESTED
from tfzoo.training import checkpoints

pytestmark = pytest.mark.xdist_group("run")

TEXTS = ["river", "stone"]


@pytest.fixture
def recipe(trained):
    return recipes.override(
        recipes.from_json((trained.run_dir / REQUESTED).read_text(encoding="utf-8")),
        ["training.num_steps=3", "training.checkpoint_steps=1", "training.warmup_steps=1", "model.dropout=0.2"],
    )


class Exporter:
    """In place of `export_run`: writes a manifest, and fails for the weights of some steps."""

    def __init__(self, mismatches=()):
        self.steps = []
        self.mismatches = mismatches

    def __call__(self, run_dir, output_dir):
        run = tfzoo.load(run_dir)
        step = run.metrics["step"]
        self.steps.append(step)
        if step in self.mismatches:
            raise ArtifactMismatch("logits differ.")
        output_dir.mkdir()
        manifest = {
            "metrics": run.metrics,
            "recipe": {"name": run.recipe.name, "family": run.recipe.family, "data": {"train": run.recipe.data.train}},
        }
        (output_dir / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


@pytest.fixture
def exporter(monkeypatch):
    exporter = Exporter()
    monkeypatch.setattr(run_export, "export_run", exporter)
    return exporter


def exported_step(directory):
    return json.loads((directory / "manifest.json").read_text(encoding="utf-8"))["metrics"]["step"]


def best_steps(history):
    """The steps at which the validation loss was lower than ever before."""
    best, found = float("inf"), []
    for record in history:
        if record["val_nats_per_token"] < best:
            best = record["val_nats_per_token"]
            found.append(record["step"])
    return found


def test_training_keeps_the_artifact_of_the_best_weights_and_is_not_changed_by_it(
    recipe, tmp_path, monkeypatch, exporter
):
    plain = runs.train(recipe, tmp_path / "plain", verbose=0)
    really = run_export.export_run

    def export_at_last(run_dir, output_dir):
        if runs.load(run_dir).metrics["step"] == 1:
            # One real export in the middle of training; what is drawn afterwards must not change.
            monkeypatch.setattr(run_export, "export_run", really)
            return whole(run_dir, output_dir, ("saved_model",))
        return really(run_dir, output_dir)

    monkeypatch.undo()
    whole = run_export.export_run
    monkeypatch.setattr(run_export, "export_run", export_at_last)
    run = runs.train(recipe, tmp_path / "run", export_dir=tmp_path / "served", verbose=0)
    assert exported_step(tmp_path / "served") == run.metrics["step"]
    assert exporter.steps == [step for step in best_steps(run.checkpoint.history) if step > 1]
    ours, theirs = (digest(folder / "checkpoints") for folder in (tmp_path / "run", tmp_path / "plain"))
    weights = f"step-{plain.checkpoint.step:08d}/state.safetensors"
    assert ours[weights] == theirs[weights]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plain", "run", "served"]


def test_what_is_exported_already_is_not_exported_again(trained, tmp_path, exporter):
    best = runs.load(trained.run_dir).metrics["step"]
    for _ in range(2):
        run_export.export_best(trained.run_dir, tmp_path / "served")
    assert exporter.steps == [best]
    (tmp_path / "served" / "manifest.json").write_text('{"metrics": {"step": 1}}', encoding="utf-8")
    run_export.export_best(trained.run_dir, tmp_path / "served")
    assert exporter.steps == [best, best]
    assert exported_step(tmp_path / "served") == best
    assert [path.name for path in tmp_path.iterdir()] == ["served"]


def test_an_average_waits_until_there_are_enough(trained, tmp_path, exporter, monkeypatch):
    run_dir = shutil.copytree(trained.run_dir, tmp_path / "run")
    recipe = recipes.from_json((run_dir / RECIPE).read_text(encoding="utf-8"))
    averaged = recipes.override(recipe, ["training.average_checkpoints=2"])
    (run_dir / RECIPE).write_text(recipes.to_json(averaged), encoding="utf-8")
    run_export.export_best(run_dir, tmp_path / "served")
    assert exporter.steps == [STEPS]
    more = recipes.override(averaged, ["training.average_checkpoints=4", "training.keep_checkpoints=4"])
    (run_dir / RECIPE).write_text(recipes.to_json(more), encoding="utf-8")
    first = checkpoints.at(run_dir, checkpoints.steps(run_dir)[0])
    monkeypatch.setattr(checkpoints, "newest", lambda _: dataclasses.replace(first, history=first.history[:3]))
    run_export.export_best(run_dir, tmp_path / "another")
    assert exporter.steps == [STEPS]


def test_a_mismatch_on_the_way_is_logged_and_the_last_one_raises(trained, tmp_path, exporter, capsys):
    run_export.export_best(trained.run_dir, tmp_path / "served")
    (tmp_path / "served" / "manifest.json").write_text('{"metrics": {"step": 1}}', encoding="utf-8")
    before = digest(tmp_path)
    exporter.mismatches = exporter.steps[:]
    run_export.export_best(trained.run_dir, tmp_path / "served")
    step = exporter.steps[0]
    assert f"step {step} is not exported: logits differ. Training goes on." in capsys.readouterr().err
    with pytest.raises(ArtifactMismatch, match="logits differ"):
        run_export.export_best(trained.run_dir, tmp_path / "served", is_final=True)
    assert digest(tmp_path) == before


@pytest.mark.parametrize("content", ["a file", "another recipe"])
def test_a_folder_of_something_else_is_refused_before_training(recipe, tmp_path, exporter, content):
    served = tmp_path / "served"
    served.mkdir()
    (served / "notes.txt").write_text("mine", encoding="utf-8")
    if content == "another recipe":
        (served / "manifest.json").write_text(json.dumps({"recipe": {"name": "gpt2_tiny", "family": "gpt2"}}))
    before = digest(tmp_path)
    with pytest.raises(UsageError, match="is not an artifact of the recipe 'transformer_tiny_g2p' on this data"):
        runs.train(recipe, tmp_path / "run", export_dir=served, verbose=0)
    assert digest(tmp_path) == before
