"""The four tokens that every vocabulary but GPT-2's and BERT's begins with, and their ids; and those of these two."""

from __future__ import annotations

PAD = "<pad>"
UNK = "<unk>"
START = "<s>"
END = "</s>"

PAD_ID = 0
UNK_ID = 1
START_ID = 2
END_ID = 3

SPECIAL_TOKENS = (PAD, UNK, START, END)
"""Token of each special id, in the order of the ids."""

UNK_SURFACE = "⁇"
"""What an unknown token becomes in text (SentencePiece's choice)."""

END_OF_TEXT = "<|endoftext|>"
"""The special token of a GPT-2 vocabulary: start, end and padding at once."""

BERT_PAD = "[PAD]"
BERT_UNK = "[UNK]"
BERT_START = "[CLS]"
BERT_END = "[SEP]"
BERT_MASK = "[MASK]"

BERT_TOKENS = (BERT_PAD, BERT_UNK, BERT_START, BERT_END, BERT_MASK)
"""The special tokens of a BERT vocabulary, which may stand anywhere in it."""
