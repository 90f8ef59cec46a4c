"""Evaluation: scores of output texts against references, and the likelihood of given texts."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    submodules=[
        "classification",
        "encoder",
        "entities",
        "forced",
        "likelihood",
        "sentences",
        "squad",
        "text_metrics",
    ],
    submod_attrs={"config": ["EvaluationConfig"], "perplexity": ["perplexity"], "text_metrics": ["score"]},
)
