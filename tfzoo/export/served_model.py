"""A SavedModel as a server runs it: restored into a session, called by signature, answered in JSON.

TF Serving loads with TensorFlow's C++ loader, which restores variables by the graph alone. `tf.compat.v1.saved_model`
does the same, while `tf.saved_model.load` rebuilds Python objects and forgives what a server does not.
"""

from __future__ import annotations

import base64
import os
from types import TracebackType
from typing import Any, Self

import numpy as np
import tensorflow as tf
import tensorflow_text  # noqa: F401  registers the tokenizers' operators, which a server has linked

from tfzoo.errors import ArtifactMismatch, one_line
from tfzoo.export.quiet import only_errors

Arrays = dict[str, np.ndarray]


class ServedModel:
    """The signatures of one version folder, in a session of its own; `run` may be called from several threads.

    Args:
        version_folder: the folder with saved_model.pb.

    Raises:
        ArtifactMismatch: it does not load.
    """

    def __init__(self, version_folder: str | os.PathLike[str]) -> None:
        self._session = tf.compat.v1.Session(graph=tf.Graph())
        try:
            # The loader calls itself deprecated, at length; servers have no other.
            with only_errors("tensorflow"), self._session.graph.as_default():
                loaded = tf.compat.v1.saved_model.load(self._session, ["serve"], os.fspath(version_folder))
        except (tf.errors.OpError, OSError, RuntimeError, ValueError, KeyError) as error:
            self._session.close()
            raise ArtifactMismatch(f"{version_folder} does not load on a server: {one_line(error)}") from error
        self.signatures = {
            name: signature for name, signature in loaded.signature_def.items() if not name.startswith("__")
        }

    def __enter__(self) -> Self:
        """Closes the session at the end of a `with`."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """See `__enter__`."""
        self._session.close()

    def run(self, signature: str, inputs: Arrays) -> Arrays:
        """Answers one request.

        Args:
            signature: its name.
            inputs: all inputs by name; strings as bytes in an object array.

        Returns: all outputs by name, strings as bytes in object arrays.

        Raises:
            ArtifactMismatch: no such signature, other inputs than it has, or the request fails.
        """
        if signature not in self.signatures:
            raise ArtifactMismatch(f"no signature {signature!r}; there are {', '.join(sorted(self.signatures))}.")
        definition = self.signatures[signature]
        if inputs.keys() != definition.inputs.keys():
            raise ArtifactMismatch(
                f"signature {signature!r} takes {', '.join(sorted(definition.inputs))}; "
                f"the request has {', '.join(sorted(inputs))}."
            )
        for name, value in inputs.items():
            expected = tf.dtypes.as_dtype(definition.inputs[name].dtype)
            if tf.dtypes.as_dtype(value.dtype) != expected:
                raise ArtifactMismatch(
                    f"signature {signature!r} takes {name!r} as {expected.name}; the request has {value.dtype}."
                )
        try:
            return self._session.run(
                {name: tensor.name for name, tensor in definition.outputs.items()},
                {definition.inputs[name].name: value for name, value in inputs.items()},
            )
        except tf.errors.FailedPreconditionError as error:
            raise ArtifactMismatch(
                f"the SavedModel fails a server's request: {signature!r} reads what is not restored "
                f"({one_line(error)}); write it with keras.export.ExportArchive, which tracks Keras' variables."
            ) from error
        except (tf.errors.OpError, ValueError) as error:
            raise ArtifactMismatch(
                f"the SavedModel fails a server's request to {signature!r}: {one_line(error)}"
            ) from error


def to_json(name: str, value: Any) -> Any:
    """A tensor, or a value of one, as TF Serving's REST interface writes it.

    Bytes are written as text, and as {"b64": ...} where the tensor's name ends in `_bytes`; float32 by its shortest
    decimals.

    Raises:
        ArtifactMismatch: bytes that are not UTF-8, which a server writes raw, and a client cannot parse.
    """
    if isinstance(value, np.ndarray):
        return [to_json(name, part) for part in value]
    if not isinstance(value, bytes):
        return float(str(value)) if isinstance(value, np.floating) else value.item()
    if name.endswith("_bytes"):
        return {"b64": base64.b64encode(value).decode()}
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise ArtifactMismatch(
            f"{name!r} holds bytes that are not UTF-8 ({value[:40]!r}), which a server writes raw into its JSON; "
            f"give text, or call it {name}_bytes, which goes as base64."
        ) from error


def response_json(outputs: Arrays) -> dict[str, Any]:
    """The body that answers a request with `inputs`; a lone output stands there without its name."""
    columns = {name: to_json(name, value) for name, value in sorted(outputs.items())}
    return {"outputs": columns if len(columns) > 1 else next(iter(columns.values()))}


def from_json(value: Any, dtype: str) -> np.ndarray:
    """The other way: nested lists, strings as text or {"b64": ...}, to the array that `ServedModel.run` takes.

    Raises:
        ValueError: rows of unequal length, or values of another type.
    """
    if dtype != "string":
        return np.array(value, dtype)

    def to_bytes(item: Any) -> Any:
        if isinstance(item, list):
            return [to_bytes(one) for one in item]
        return base64.b64decode(item["b64"], validate=True) if isinstance(item, dict) else item.encode()

    return np.array(to_bytes(value), object)
