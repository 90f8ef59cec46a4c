"""Data specifications to records, examples and batches."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    submod_attrs={
        "config": ["DataConfig"],
        "examples": ["encode_source", "seq2seq_example"],
        "pipeline": ["seq2seq"],
        "sources": ["read"],
    },
)
