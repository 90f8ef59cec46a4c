"""Export: SavedModel and ONNX, each proved equal to the model. `tfzoo.export(model, tokenizer, folder)` does it all."""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import lazy_loader as lazy

from tfzoo.decoding.config import AnswerConfig, DecodingConfig

if TYPE_CHECKING:
    import keras

    from tfzoo.text import Tokenizer, TokenizerPair

__getattr__, __dir__, __all__ = lazy.attach(__name__, submod_attrs={"exporter": ["export"]})


class _CallableModule(types.ModuleType):
    """`tfzoo.export` is this package and also the function that users call by that name."""

    def __call__(
        self,
        model: keras.Model,
        tokenizer: Tokenizer | tuple[Tokenizer, Tokenizer] | TokenizerPair,
        output_dir: str | os.PathLike[str],
        formats: Sequence[str] = ("saved_model", "onnx"),
        *,
        decoding: DecodingConfig | AnswerConfig | None = None,
        recipe: dict[str, Any] | None = None,
        metrics: dict[str, Any] | None = None,
        texts: Sequence[str | tuple[str, str]] = (),
    ) -> dict[str, Any]:
        """Exports a model and proves each format equal to it; `tfzoo.export.exporter.export` says all."""
        from tfzoo.export.exporter import export

        return export(
            model, tokenizer, output_dir, formats, decoding=decoding, recipe=recipe, metrics=metrics, texts=texts
        )


sys.modules[__name__].__class__ = _CallableModule
