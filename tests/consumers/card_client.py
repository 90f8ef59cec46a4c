"""Runs Python code of a model card beside its artifact, in the clients' environment.

Request: `artifact` (folder), `codes` (a list of Python code). Answer: what each prints.
"""

import contextlib
import io
import json
import os
import sys
from pathlib import Path

request = json.load(sys.stdin)
os.chdir(Path(request["artifact"]).parent)
printed = []
for code in request["codes"]:
    with contextlib.redirect_stdout(io.StringIO()) as output:
        exec(code, {})
    printed.append(output.getvalue())
print(json.dumps(printed))
