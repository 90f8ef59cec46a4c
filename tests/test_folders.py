"""Files that appear whole, and folders that work goes on in."""

import json

import pytest

from tfzoo.errors import UsageError
from tfzoo.folders import aside, claim, write


def test_a_file_is_written_whole_and_leaves_nothing_beside_it(tmp_path):
    write(tmp_path / "a.txt", "größe")
    write(tmp_path / "a.txt", "größer")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "größer"
    first, second = aside(tmp_path / "a.txt"), aside(tmp_path / "a.txt")
    assert first != second
    assert first.parent == tmp_path
    assert first.match(".a.txt.*.part")


def test_a_folder_goes_on_with_what_it_was_begun_with(tmp_path):
    folder = tmp_path / "deep" / "out"
    claim(folder, ".note", {"size": 1, "names": ("a", "b")})
    (folder / "result").write_text("x", encoding="utf-8")
    claim(folder, ".note", {"size": 1, "names": ("a", "b")})
    with pytest.raises(UsageError, match="begun with another `names`; go on as before"):
        claim(folder, ".note", {"size": 1, "names": ("a", "c")})
    for text in ("{", "[]", '{"size": 1}'):
        (folder / ".note").write_text(text, encoding="utf-8")
        with pytest.raises(UsageError, match="is damaged"):
            claim(folder, ".note", {"size": 1, "names": ()})


def test_what_is_not_ours_is_left_alone(tmp_path):
    (tmp_path / "mine").write_text("x", encoding="utf-8")
    for path in (tmp_path, tmp_path / "mine"):
        with pytest.raises(UsageError, match="is not empty; name another folder"):
            claim(path, ".note", {})
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_call_that_was_killed_while_it_wrote_its_note_begins_again(tmp_path):
    aside(tmp_path / ".note").write_text('{"si', encoding="utf-8")
    claim(tmp_path, ".note", {"size": 1})
    assert json.loads((tmp_path / ".note").read_text(encoding="utf-8")) == {"size": 1}
    claim(tmp_path, ".note", {"size": 1})
