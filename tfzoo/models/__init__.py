"""Models: plain `keras.Model` subclasses, one paper each. They know tensors, not text."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    submod_attrs={
        "bert": ["Bert"],
        "config": ["BertConfig", "GPT2Config", "GruSeq2SeqConfig", "LstmLmConfig", "TransformerConfig"],
        "gpt2": ["GPT2"],
        "gru_seq2seq": ["GruSeq2Seq"],
        "lstm_lm": ["LstmLanguageModel"],
        "transformer": ["Transformer"],
    },
)
