"""Text to token ids and back, in a graph and in plain Python."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    submod_attrs={
        "byte_pair": ["BytePairTokenizer"],
        "config": ["TokenizerConfig"],
        "loading": ["load"],
        "marian": ["MarianTokenizer"],
        "pairs": ["TokenizerPair", "pair", "train_pair"],
        "tokenizers": ["SentencePieceTokenizer", "SymbolTokenizer", "Tokenizer"],
        "word_piece": ["WordPieceTokenizer"],
    },
)
