"""Answers from an artifact alone. The ONNX side imports no TensorFlow."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach(__name__, submod_attrs={"artifact": ["Artifact", "load"]})
