"""The demo page's server: a fixed table of files on 127.0.0.1, and nothing else."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import shutil
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, get_args
from urllib.parse import unquote

from absl import logging

from tfzoo.demo import onnxruntime_web
from tfzoo.errors import ArtifactError, UsageError
from tfzoo.models.config import BertTask
from tfzoo.runtime.artifact import MANIFEST, read_manifest
from tfzoo.runtime.onnx_names import DECODER, ENCODER, GENERATE, MODEL

PAGE = Path(__file__).parent / "page"
HOST = "127.0.0.1"
DEFAULT_PORT = 8000
# By task, what the page runs.
GRAPHS = {
    "seq2seq": (GENERATE, ENCODER, DECODER),
    "causal_lm": (GENERATE, MODEL),
    **dict.fromkeys(get_args(BertTask), (MODEL,)),
}

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".wasm": "application/wasm",
}
_HEADERS = {
    # The two that a page needs to be given threads: it shares its process with no other site.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Nothing comes from, or goes to, anywhere else.
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class DemoServer(ThreadingHTTPServer):
    """Serves the page, the browser's ONNX Runtime and one artifact, from the moment of `serve_forever` on.

    Args:
        artifact_dir: the artifact; it must hold the graphs that the page runs.
        onnxruntime_web_dir: see `onnxruntime_web.find`.
        port: where to listen; None = 8000 if it is free, else any free one.

    Raises:
        ArtifactError: the folder is not an artifact, or a file that its manifest lists is missing or outside of it.
        UsageError: the artifact lacks the graphs, the browser's runtime is missing, or the port is taken.
    """

    daemon_threads = True

    def __init__(
        self,
        artifact_dir: str | os.PathLike[str],
        onnxruntime_web_dir: str | os.PathLike[str] | None = None,
        port: int | None = None,
    ) -> None:
        files = _files(Path(artifact_dir), onnxruntime_web.find(onnxruntime_web_dir))
        handler = functools.partial(_Handler, files)
        try:
            super().__init__((HOST, DEFAULT_PORT if port is None else port), handler)
        except (OSError, OverflowError) as error:
            taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
            if port is not None or not taken:
                raise UsageError(f"`port` cannot be used ({error}); received port={port}. Name another one.") from error
            super().__init__((HOST, 0), handler)

    @property
    def url(self) -> str:
        """The page's address."""
        return f"http://{HOST}:{self.server_port}/"


def _files(artifact_dir: Path, onnxruntime_web_dir: Path) -> dict[str, Path]:
    """Returns decoded URL path -> file: all that the server ever reads."""
    manifest = read_manifest(artifact_dir)
    graphs = GRAPHS[manifest["task"]]
    lacking = [name for name in graphs if name not in manifest["files"]]
    if lacking:
        raise UsageError(
            f"the page runs {', '.join(graphs)}; {artifact_dir} lacks {', '.join(lacking)}. "
            "Export the model with --formats=saved_model,onnx."
        )
    table = {"/": PAGE / "index.html"}
    table |= {f"/{path.name}": path for path in PAGE.iterdir() if path.suffix in (".mjs", ".css")}
    table |= {f"/onnxruntime-web/{name}": onnxruntime_web_dir / name for name in onnxruntime_web.FILES}
    root = artifact_dir.resolve()
    for name in (MANIFEST, *manifest["files"]):
        path = (artifact_dir / name).resolve()
        if not path.is_relative_to(root) or not path.is_file():
            raise ArtifactError(f"{artifact_dir}: its file {name!r} is missing or outside of it; export it again.")
        table[f"/artifact/{name}"] = path
    return table


class _Handler(BaseHTTPRequestHandler):
    """Args: files: decoded URL path -> file; the rest comes from the server."""

    def __init__(self, files: dict[str, Path], *arguments: Any) -> None:
        self._files = files
        super().__init__(*arguments)

    def do_GET(self) -> None:
        """Sends a file of the table."""
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        """Sends its headers."""
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        # A foreign site whose name was made to point here must not read the artifact.
        if str(self.headers["Host"]).partition(":")[0] not in (HOST, "localhost"):
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST)
            return
        path = self._files.get(unquote(self.path.partition("?")[0]))
        if path is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        with path.open("rb") as file, contextlib.suppress(ConnectionError):  # a page that is closed while it loads
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", _TYPES.get(path.suffix, "application/octet-stream"))
            self.send_header("Content-Length", str(os.fstat(file.fileno()).st_size))
            self.end_headers()
            if with_body:
                shutil.copyfileobj(file, self.wfile)

    def end_headers(self) -> None:
        """Adds what every answer says, errors included."""
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *arguments: Any) -> None:
        """Logs a request where who asks for it sees it."""
        logging.debug(format, *arguments)
