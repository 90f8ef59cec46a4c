"""Answers for many files, with a model that turns texts around: what is streamed, kept and gone on with."""

import gzip
import json

import pytest

from tfzoo import offline, runs
from tfzoo.cli.main import main
from tfzoo.errors import DataError, UsageError


class Reverser:
    """Answers with the text turned around; `fails_at` is a text that ends the process, as a kill would."""

    def __init__(self, fails_at=None):
        self.fails_at = fails_at
        self.seen = []


@pytest.fixture
def reverser(monkeypatch):
    predictor = Reverser()

    def answer(predictor, texts, **options):
        for text in texts:
            if text == predictor.fails_at:
                raise KeyboardInterrupt
            predictor.seen.append(text)
            yield {"input": text, "output": text[::-1] + options.get("suffix", ""), "score": -1.0, "alternatives": []}

    monkeypatch.setattr(runs, "load", lambda path, runtime=None: predictor)
    monkeypatch.setattr(runs, "answer", answer)
    monkeypatch.setattr(offline, "_fingerprint", lambda path: str(path))
    return predictor


@pytest.fixture
def texts(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_text("one\ntwo\n\nthree\n", encoding="utf-8")
    with gzip.open(folder / "b.txt.gz", "wt", encoding="utf-8") as file:
        file.write("größe\n漢字")
    return folder


def predict(texts, tmp_path, **options):
    return offline.predict_files("model", [f"{texts}/*"], tmp_path / "answers", verbose=False, **options)


def test_each_line_of_each_file_is_answered_in_a_line(reverser, texts, tmp_path):
    a, b = predict(texts, tmp_path)
    assert (a, b) == (tmp_path / "answers/a.txt", tmp_path / "answers/b.txt")
    assert a.read_text(encoding="utf-8") == "eno\nowt\n\neerht\n"
    assert b.read_text(encoding="utf-8") == "eßörg\n字漢\n"


def test_json_says_input_and_score(reverser, texts, tmp_path):
    path = predict(texts, tmp_path, as_json=True)[0]
    assert path.name == "a.txt.jsonl"
    assert json.loads(path.read_text(encoding="utf-8").splitlines()[1]) == {
        "input": "two",
        "output": "owt",
        "score": -1.0,
        "alternatives": [],
    }


def test_an_output_with_line_breaks_stays_one_line(reverser, texts, tmp_path):
    path = predict(texts, tmp_path, suffix="\nx\u2028y")[0]
    assert path.read_text(encoding="utf-8") == "eno x y\nowt x y\n x y\neerht x y\n"


def test_what_is_done_is_not_done_again(reverser, texts, tmp_path):
    predict(texts, tmp_path)
    reverser.seen.clear()
    (tmp_path / "answers/b.txt").unlink()
    predict(texts, tmp_path)
    assert reverser.seen == ["größe", "漢字"]


def test_an_interrupted_file_goes_on_at_its_line(reverser, texts, tmp_path):
    reverser.fails_at = "three"
    with pytest.raises(KeyboardInterrupt):
        predict(texts, tmp_path)
    part = tmp_path / "answers/.a.txt.part"
    assert part.read_text(encoding="utf-8") == "eno\nowt\n\n"
    assert not (tmp_path / "answers/a.txt").exists()
    part.write_text("eno\nowt\nhalf a li", encoding="utf-8")  # a kill in the middle of a write
    reverser.fails_at = None
    reverser.seen.clear()
    path = predict(texts, tmp_path)[0]
    assert reverser.seen[:2] == ["", "three"]
    assert path.read_text(encoding="utf-8") == "eno\nowt\n\neerht\n"
    assert not part.exists()


def test_a_line_that_is_not_utf_8_is_named_and_what_was_answered_is_kept(reverser, texts, tmp_path):
    (texts / "a.txt").write_bytes(b"one\ntw\xffo\n")
    with pytest.raises(DataError, match=r"a\.txt:2: not UTF-8 .* at byte 3"):
        predict(texts, tmp_path)
    assert (tmp_path / "answers/.a.txt.part").read_text(encoding="utf-8") == "eno\n"


def test_other_options_do_not_mix_into_a_folder(reverser, texts, tmp_path):
    predict(texts, tmp_path, suffix="!")
    with pytest.raises(UsageError, match="another `options`"):
        predict(texts, tmp_path, suffix="?")
    with pytest.raises(UsageError, match="another `as_json`"):
        predict(texts, tmp_path, suffix="!", as_json=True)
    with pytest.raises(UsageError, match="another `model`"):
        offline.predict_files("other", [f"{texts}/*"], tmp_path / "answers", verbose=False, suffix="!")


def test_a_folder_with_something_else_is_left_alone(reverser, texts, tmp_path):
    with pytest.raises(UsageError, match="is not empty"):
        offline.predict_files("model", [f"{texts}/*"], texts, verbose=False)
    assert sorted(path.name for path in texts.iterdir()) == ["a.txt", "b.txt.gz"]


def test_inputs_that_name_nothing_or_collide_are_refused(reverser, texts, tmp_path):
    with pytest.raises(DataError, match="no such file"):
        offline.predict_files("model", [str(tmp_path / "none*")], tmp_path / "answers", verbose=False)
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.txt").write_text("x\n", encoding="utf-8")
    with pytest.raises(UsageError, match="two inputs would be answered in"):
        offline.predict_files("model", [f"{texts}/*", f"{other}/*"], tmp_path / "answers", verbose=False)
    assert not (tmp_path / "answers").exists()


class TestBeam:
    @pytest.fixture(autouse=True)
    def _beam(self):
        pytest.importorskip("apache_beam", reason="Apache Beam is an extra: pip install 'tfzoo[beam]'")

    def run(self, texts, tmp_path, **options):
        from tfzoo.beam import run_pipeline

        run_pipeline("model", [f"{texts}/*"], str(tmp_path / "beam"), **options)

    def test_the_files_are_those_of_one_machine(self, reverser, texts, tmp_path):
        self.run(texts, tmp_path, as_json=True)
        for path in predict(texts, tmp_path, as_json=True):
            assert (tmp_path / "beam" / path.name).read_bytes() == path.read_bytes()
        assert len(list((tmp_path / "beam").iterdir())) == 2  # nothing half-written stays

    def test_what_is_done_is_not_done_again(self, reverser, texts, tmp_path):
        self.run(texts, tmp_path)
        (tmp_path / "beam/b.txt").unlink()
        reverser.seen.clear()
        self.run(texts, tmp_path)
        assert reverser.seen == ["größe", "漢字"]

    def test_the_runners_own_flags_reach_it(self, reverser, texts, tmp_path):
        with pytest.raises(ValueError, match="NoSuchRunner"):
            self.run(texts, tmp_path, pipeline_options=["--runner=NoSuchRunner"])

    def test_inputs_that_name_nothing_are_refused(self, reverser, tmp_path):
        with pytest.raises(DataError, match="no such file on Beam's file system"):
            self.run(tmp_path / "none", tmp_path)


def test_the_command_line_writes_files(reverser, texts, tmp_path, capsys):
    assert main(["predict", "--artifact=model", f"--input={texts}/*", f"--output_dir={tmp_path / 'answers'}"]) == 0
    assert (tmp_path / "answers/b.txt").read_text(encoding="utf-8") == "eßörg\n字漢\n"
    assert capsys.readouterr().out == f"answered: {tmp_path / 'answers'}\n"


@pytest.mark.parametrize("arguments", [["--input=a", "--input=b"], ["--beam_runner=DirectRunner"]])
def test_the_command_line_needs_a_place_for_files(arguments, capsys):
    assert main(["predict", "--artifact=model", *arguments]) == 2
    assert "give --output_dir" in capsys.readouterr().err
