"""Export: SavedModel and ONNX, each proved equal to the model. `tfzoo.export(model, tokenizer, folder)` does it all."""

import sys
import types
from typing import Any

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach(__name__, submod_attrs={"exporter": ["export"]})


class _CallableModule(types.ModuleType):
    """`tfzoo.export` is this package and also the function that users call by that name."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        from tfzoo.export.exporter import export

        return export(*args, **kwargs)


sys.modules[__name__].__class__ = _CallableModule
