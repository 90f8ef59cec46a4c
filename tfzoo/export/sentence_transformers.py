"""The files by which sentence-transformers makes a vector of a text, beside those of Hugging Face's transformers.

PATH/modules.json            the model, a pooling, and a normalization
PATH/1_Pooling/config.json   which hidden states make the vector
"""

from __future__ import annotations

from pathlib import Path

from tfzoo.text.huggingface import to_bytes

MODULES, POOLING = "modules.json", "1_Pooling/config.json"
FOLDERS = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}
MEAN_SWITCH = "pooling_mode_mean_tokens"  # older versions know no other, and newer ones read it too


def write_pooling(folder: Path, hidden_dim: int) -> None:
    """Writes the two files into the folder of a checkpoint; `hidden_dim` is the length of a vector."""
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, path) in enumerate(FOLDERS.items())
    ]
    pooling = {"word_embedding_dimension": hidden_dim, MEAN_SWITCH: True}
    for name, content in ((MODULES, modules), (POOLING, pooling)):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(to_bytes(content))
