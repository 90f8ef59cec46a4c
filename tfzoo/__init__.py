"""tfzoo: text goes in at one end, a trained, exported and proven TensorFlow model comes out at the other.

Every name loads on first use, so that `import tfzoo` imports no TensorFlow.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=[
        "data",
        "decoding",
        "errors",
        "evaluation",
        "export",
        "layers",
        "models",
        "recipes",
        "runtime",
        "text",
        "training",
        "zoo",
    ],
    submod_attrs={
        "first_run": ["quickstart"],
        "preparation": ["prepare"],
        "runs": ["evaluate", "export_run", "load", "predict", "score_pairs", "train", "verify"],
        "training": ["losses", "optimizers"],
        "zoo": ["recipe"],
    },
)
