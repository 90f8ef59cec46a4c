"""Recipes: every number of a run in one frozen object, one module a family of models."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    submodules=["transformer"],
    submod_attrs={"recipe": ["Recipe", "differences", "from_json", "override", "to_json"]},
)
