"""Where the browser's ONNX Runtime comes from; npm is a script of the test's own."""

import base64
import hashlib
import io
import stat
import tarfile

import pytest

from tfzoo.demo import onnxruntime_web
from tfzoo.errors import TfzooError, UsageError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tfzoo" / f"onnxruntime-web-{onnxruntime_web.VERSION}"


@pytest.fixture
def npm(tmp_path, monkeypatch):
    """Puts an `npm` on the path that runs a line of shell with $5 = the folder for the archive."""

    def install(line):
        program = tmp_path / "bin" / "npm"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f'#!/bin/sh\necho "$@" >> "{tmp_path}/calls"\n{line}\n')
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")

    return install


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """An archive like npm's, whose digest is the expected one."""
    path = tmp_path / "package.tgz"
    with tarfile.open(path, "w:gz") as package:
        for name in (*onnxruntime_web.FILES, "other.mjs"):
            member = tarfile.TarInfo(f"package/dist/{name}")
            member.size = len(name)
            package.addfile(member, io.BytesIO(name.encode()))
    digest = base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
    monkeypatch.setattr(onnxruntime_web, "INTEGRITY", f"sha512-{digest}")
    return path


def test_setup_fetches_once_and_keeps_what_the_page_needs(npm, archive, cache, tmp_path):
    npm(f'cp "{archive}" "$5/onnxruntime-web.tgz"')
    for _ in range(2):
        assert onnxruntime_web.install() == cache
    assert (tmp_path / "calls").read_text().startswith(f"pack {onnxruntime_web.PACKAGE} --ignore-scripts ")
    assert len((tmp_path / "calls").read_text().splitlines()) == 1
    assert {path.name: path.read_text() for path in cache.iterdir()} == {name: name for name in onnxruntime_web.FILES}
    assert [path.name for path in cache.parent.iterdir()] == [cache.name]
    assert onnxruntime_web.find() == cache


def test_setup_repairs_an_incomplete_installation(npm, archive, cache):
    npm(f'cp "{archive}" "$5/onnxruntime-web.tgz"')
    cache.mkdir(parents=True)
    (cache / "half").write_text("x")
    onnxruntime_web.install()
    assert sorted(path.name for path in cache.iterdir()) == sorted(onnxruntime_web.FILES)


def test_an_archive_that_was_changed_is_refused(npm, archive, cache, monkeypatch):
    npm(f'cp "{archive}" "$5/onnxruntime-web.tgz"')
    monkeypatch.setattr(onnxruntime_web, "INTEGRITY", "sha512-another")
    with pytest.raises(TfzooError, match="is not the one that this tfzoo was tested with"):
        onnxruntime_web.install()
    assert list(cache.parent.iterdir()) == []


def test_npm_s_own_reason_is_passed_on(npm, cache):
    npm('echo "npm warn old" >&2; echo "npm error code ENOTFOUND" >&2; exit 3')
    with pytest.raises(TfzooError, match=r"failed: npm error code ENOTFOUND\. Check"):
        onnxruntime_web.install()
    npm("exit 3")
    with pytest.raises(TfzooError, match="failed: exit code 3"):
        onnxruntime_web.install()
    assert list(cache.parent.iterdir()) == []


def test_without_npm_the_other_way_is_named(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UsageError, match=r"npm is missing.*--onnxruntime_web"):
        onnxruntime_web.install()


def test_without_setup_the_command_is_named():
    with pytest.raises(UsageError, match="run `tfzoo demo --setup` once"):
        onnxruntime_web.find()


@pytest.mark.parametrize("below", [".", "dist"])
def test_an_unpacked_package_can_be_named(tmp_path, below):
    directory = tmp_path / "package"
    (directory / below).mkdir(parents=True)
    for name in onnxruntime_web.FILES:
        (directory / below / name).touch()
    assert onnxruntime_web.find(directory).resolve() == (directory / below).resolve()
    (directory / below / onnxruntime_web.FILES[-1]).unlink()
    with pytest.raises(UsageError, match=f"must hold {', '.join(onnxruntime_web.FILES)}"):
        onnxruntime_web.find(directory)
