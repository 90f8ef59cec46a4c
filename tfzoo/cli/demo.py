"""Opens an artifact on a page where your browser computes the answers.

    tfzoo demo --setup
    tfzoo demo exports/g2p
    tfzoo demo exports/g2p --port=8080

--setup fetches ONNX Runtime for the browser through npm, once; afterwards the page needs no network. What is typed
there never leaves the browser: this command hands out files on 127.0.0.1, until Ctrl-C ends it.
"""

from __future__ import annotations

import contextlib

from absl import flags

from tfzoo.cli.flags import require


def define_flags(flag_values: flags.FlagValues) -> None:
    """Defines the command's flags."""
    flags.DEFINE_string("artifact", None, "the folder of an artifact with ONNX graphs", flag_values=flag_values)
    flags.DEFINE_integer(
        "port",
        None,
        "where to listen; 0 = any free port (left out: 8000, or any free one if that is taken)",
        flag_values=flag_values,
        lower_bound=0,
        upper_bound=65535,
    )
    flags.DEFINE_string(
        "onnxruntime_web",
        None,
        "a folder with npm's package onnxruntime-web, unpacked; left out, what --setup fetched",
        flag_values=flag_values,
    )
    flags.DEFINE_bool(
        "setup", False, "fetch onnxruntime-web through npm into the user's cache", flag_values=flag_values
    )


def run(flag_values: flags.FlagValues) -> None:
    """Serves until Ctrl-C, which is how it ends well; with --setup and no artifact, only fetches."""
    from tfzoo import demo

    if flag_values.setup:
        print(f"installed: {demo.install()}")
        if flag_values.artifact is None:
            return
    require(flag_values, "artifact")
    with demo.DemoServer(flag_values.artifact, flag_values.onnxruntime_web, flag_values.port) as server:
        print(f"serving {flag_values.artifact} at {server.url} (Ctrl-C ends it)", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
    print("stopped.")
