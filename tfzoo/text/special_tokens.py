"""The four tokens that every vocabulary but GPT-2's begins with, and their ids; and GPT-2's one."""

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
