"""Models: plain `keras.Model` subclasses, one paper each. They know tensors, not text."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    submod_attrs={
        "config": ["GPT2Config", "LstmLmConfig", "TransformerConfig"],
        "gpt2": ["GPT2"],
        "lstm_lm": ["LstmLanguageModel"],
        "transformer": ["Transformer"],
    },
)
