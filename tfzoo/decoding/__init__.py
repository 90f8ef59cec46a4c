"""Decoding: one `generate` for every model that answers `start` and `step`."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__, submod_attrs={"config": ["DecodingConfig"], "generate": ["generate"]}
)
