"""The quickstart: small and fast on the run of `tests/tiny_run.py`, and for real where minutes are given."""

import dataclasses
import json
import re
import shutil

import pytest

import tfzoo
from tests import tiny_run
from tests.tiny_run import WORDS, digest
from tfzoo import first_run, recipes, runs, zoo
from tfzoo.errors import ArtifactMismatch
from tfzoo.run_folder import REQUESTED

pytestmark = pytest.mark.xdist_group("run")

WELL_KNOWN = WORDS[:2]
UNHEARD = ["lemonade", "starling", "carpenter"]


@pytest.fixture
def quickstart(trained, tmp_path, monkeypatch):
    """The quickstart with the tiny run's recipe, four words to score on and five to show, two of them known."""
    recipe = recipes.from_json((trained.run_dir / REQUESTED).read_text(encoding="utf-8"))
    entry = dataclasses.replace(zoo.ZOO[first_run.RECIPE], recipe=lambda: recipe)
    monkeypatch.setitem(zoo.ZOO, first_run.RECIPE, entry)
    test_data = tmp_path / "test.tsv"
    test_data.write_text("".join(map(tiny_run.pair, WORDS[:4])), encoding="utf-8")
    monkeypatch.setattr(first_run, "TEST_DATA", f"tsv:{test_data}")
    monkeypatch.setattr(first_run, "WORDS", (WELL_KNOWN[0], *UNHEARD, WELL_KNOWN[1]))
    monkeypatch.setattr(first_run, "cmudict", lambda split: ((word, "X") for word in WORDS))

    def export_run(run_dir, output_dir, metrics):
        """Takes the artifact that was exported from this very run, for the seconds that it saves."""
        shutil.copytree(trained.artifact, output_dir)
        path = output_dir / "manifest.json"
        manifest = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps(manifest | {"metrics": manifest["metrics"] | metrics}), encoding="utf-8")

    monkeypatch.setattr(runs, "export_run", export_run)
    return first_run.quickstart


def test_the_quickstart_reports_and_does_nothing_twice(quickstart, trained, tmp_path):
    run_dir = shutil.copytree(trained.run_dir, tmp_path / "run")  # its training is done
    report = quickstart(run_dir)
    assert (report.run_dir, report.artifact_dir) == (run_dir, run_dir / "artifact" / "pronounce")
    assert list(report.seconds) == ["training", "evaluation", "export and proof"]
    assert digest(run_dir / "checkpoints") == digest(trained.run_dir / "checkpoints")
    scores = runs.evaluate(run_dir, first_run.TEST_DATA)
    assert scores.items() <= report.scores.items()
    assert scores["num_sources"] == 4
    assert report.scores["step"] == tfzoo.load(run_dir).checkpoint.step
    answers = tfzoo.load(report.artifact_dir, runtime="onnx")(UNHEARD)
    assert report.pronunciations == dict(zip(UNHEARD, answers, strict=True))
    assert len(set(report.pronunciations.values())) == len(UNHEARD)
    assert set(report.proof) >= {"saved_model", "onnx"}

    lines = str(report).splitlines()
    assert "Held-out words: 4, none of which was trained on" in lines
    assert f"  phoneme error rate {scores['token_error_rate']:.1%}" in lines
    assert f"  lemonade   {report.pronunciations['lemonade']}" in lines
    assert f"  tfzoo verify {report.artifact_dir}" in lines

    before = digest(run_dir)
    again = quickstart(run_dir)
    assert digest(run_dir) == before
    assert list(again.seconds) == ["training"]
    assert dataclasses.replace(again, seconds=report.seconds) == report


def test_runtimes_that_disagree_are_no_success(quickstart, trained, tmp_path, monkeypatch):
    run_dir = shutil.copytree(trained.run_dir, tmp_path / "run")
    shutil.copytree(trained.artifact, run_dir / "artifact" / "pronounce")

    class Contrary(first_run.Artifact):
        def generate(self, texts, **options):
            for found in super().generate(texts, **options):
                is_onnx = type(self.backend).__module__ == "tfzoo.runtime.onnx"
                yield [found[0]._replace(token_ids=[*found[0].token_ids, 5])] if is_onnx else found

    monkeypatch.setattr(first_run, "Artifact", Contrary)
    with pytest.raises(ArtifactMismatch, match="for 'lemonade' ONNX answers '.*' and SavedModel '"):
        quickstart(run_dir)


@pytest.mark.slow
def test_the_real_one_pronounces_words_that_it_never_saw(tmp_path, capsys):
    report = first_run.quickstart(tmp_path / "run")
    assert report.scores["num_sources"] > 6000
    assert report.scores["token_error_rate"] < 0.20
    assert len(report.pronunciations) == first_run.NUM_WORDS
    phonemes = re.compile(r"[A-Z]{1,2}( [A-Z]{1,2})*")
    for word, output in report.pronunciations.items():
        assert phonemes.fullmatch(output), (word, output)
        assert tfzoo.load(report.artifact_dir, runtime="onnx")([word]) == [output]
    with capsys.disabled():
        print(report)  # noqa: T201  the point of a slow test is to see how slow
