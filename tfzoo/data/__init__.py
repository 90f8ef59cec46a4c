"""Data specifications to records, examples and batches."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    submod_attrs={
        "cleaning": ["clean"],
        "config": ["CausalLmDataConfig", "DataConfig"],
        "examples": ["encode_source", "seq2seq_example"],
        "language": ["causal_lm", "causal_lm_windows"],
        "pipeline": ["seq2seq"],
        "prompts": ["prompt_answer"],
        "sources": ["read"],
    },
)
