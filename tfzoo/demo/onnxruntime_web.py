"""ONNX Runtime for the browser, which the demo page computes with.

Its files (14 MB, MIT licence) are neither in this package nor in its repository: most users never open the page, and
the code is not ours. They come once from the npm registry through the user's own npm, which knows mirrors and proxies,
and are checked against the digest below; afterwards the page needs no network.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from tfzoo.errors import TfzooError, UsageError

VERSION = "1.30.0"
INTEGRITY = "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="

# All that a page on the CPU needs of the package. Each script begins with its copyright and licence.
FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")

PACKAGE = f"onnxruntime-web@{VERSION}"


def installed() -> Path:
    """Returns the folder that `install` fills, in the user's cache."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "tfzoo" / f"onnxruntime-web-{VERSION}"


def find(directory: str | os.PathLike[str] | None = None) -> Path:
    """Returns the folder with the runtime's files.

    Args:
        directory: npm's package, unpacked, or a folder with `FILES`; None = what `install` left.

    Raises:
        UsageError: a file is missing there.
    """
    if directory is None:
        if not _holds_all(installed()):
            raise UsageError(
                f"{PACKAGE}, which computes in the browser, is not installed: run `tfzoo demo --setup` once, or name a "
                "folder that holds the unpacked npm package with --onnxruntime_web."
            )
        return installed()
    for candidate in (Path(directory), Path(directory) / "dist"):
        if _holds_all(candidate):
            return candidate
    raise UsageError(
        f"`onnxruntime_web` must hold {', '.join(FILES)}, at its top or in dist/; received {directory}. "
        f"`npm pack {PACKAGE}` gives an archive with them."
    )


def _holds_all(directory: Path) -> bool:
    return all((directory / name).is_file() for name in FILES)


def install() -> Path:
    """Fetches the runtime through npm into the user's cache, and returns the folder; does nothing when it is there.

    Raises:
        UsageError: there is no npm.
        TfzooError: npm fails, or gives another archive than the one this tfzoo was tested with.
    """
    target = installed()
    if _holds_all(target):
        return target
    npm = shutil.which("npm")
    if npm is None:
        raise UsageError(
            f"npm is missing, through which {PACKAGE} comes. Install Node.js; or run `npm pack {PACKAGE}` on another "
            "machine, unpack the archive here, and name its folder with --onnxruntime_web."
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        archive = _pack(npm, Path(scratch))
        digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        if f"sha512-{digest}" != INTEGRITY:
            raise TfzooError(
                f"npm's archive of {PACKAGE} is not the one that this tfzoo was tested with (sha512-{digest}); "
                "ask the registry's owner why."
            )
        unpacked = Path(scratch) / "unpacked"
        unpacked.mkdir()
        with tarfile.open(archive) as package:
            for name in FILES:
                member = package.extractfile(f"package/dist/{name}")
                if member is None:
                    raise TfzooError(f"npm's archive of {PACKAGE} holds no dist/{name}.")
                (unpacked / name).write_bytes(member.read())
        shutil.rmtree(target, ignore_errors=True)  # an incomplete one
        unpacked.rename(target)
    return target


def _pack(npm: str, directory: Path) -> Path:
    command = [npm, "pack", PACKAGE, "--ignore-scripts", "--pack-destination", str(directory)]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    archives = list(directory.glob("*.tgz"))
    if done.returncode != 0 or not archives:
        reasons = [line for line in done.stderr.splitlines() if line.startswith("npm error")]
        reason = reasons[0] if reasons else f"exit code {done.returncode}"
        raise TfzooError(f"`npm pack {PACKAGE}` failed: {reason}. Check npm's registry and network, and try again.")
    return archives[0]
