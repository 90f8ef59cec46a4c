"""A page on which a person tries an artifact: their browser computes the answer, the server only hands out files."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__, submod_attrs={"onnxruntime_web": ["find", "install"], "server": ["DemoServer"]}
)
