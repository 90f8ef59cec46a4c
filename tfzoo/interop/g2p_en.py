"""The pronunciation network that the Python package g2p-en carries (Park & Kim, 2019, Apache-2.0), into a run.

It is one file, checkpoint20.npz: a GRU in one direction over the letters, whose last state begins a GRU over phonemes
with stress, and no attention. Its gates stand as in PyTorch: r, z, n, one below the other. Of the package this file
alone is read, and nothing imported: an import would want its other dependencies, and load data from the network. What
the package does around the network, such as numbers, homographs and words that a dictionary has, is not here.
"""

from __future__ import annotations

import importlib.util
import os
import zipfile
from pathlib import Path

import numpy as np

from tfzoo.errors import CheckpointError, UsageError
from tfzoo.recipes import gru_seq2seq
from tfzoo.run_folder import begin
from tfzoo.text import SymbolTokenizer, TokenizerPair

FILE = "checkpoint20.npz"
INSTALL = "pip install --no-deps 'g2p-en==2.1.0'"
LETTERS = "abcdefghijklmnopqrstuvwxyz"
PHONEMES = """AA0 AA1 AA2 AE0 AE1 AE2 AH0 AH1 AH2 AO0 AO1 AO2 AW0 AW1 AW2 AY0 AY1 AY2 B CH D DH EH0 EH1 EH2 ER0 ER1 ER2
    EY0 EY1 EY2 F G HH IH0 IH1 IH2 IY0 IY1 IY2 JH K L M N NG OW0 OW1 OW2 OY0 OY1 OY2 P R S SH T TH UH0 UH1 UH2 UW UW0
    UW1 UW2 V W Y Z ZH""".split()
WIDTH = 256  # of embeddings and states
EXAMPLES = ("tensor", "pronounce", "wednesday", "keyboard", "philosophy")


def read_checkpoint(checkpoint: str | os.PathLike[str] | None, run_dir: str | os.PathLike[str]) -> None:
    """Makes a run at step 0 of the network, to predict with, to export and to train further.

    Args:
        checkpoint: the file checkpoint20.npz, or a folder that holds it; None = that of the installed package.
        run_dir: an absent or empty folder.

    Raises:
        UsageError: `checkpoint` does not exist, or `run_dir` is not empty.
        CheckpointError: the package is not installed, or the file is damaged or of another network.
    """
    recipe = gru_seq2seq.g2p_en()
    path = _installed() if checkpoint is None else Path(checkpoint)
    path = path / FILE if path.is_dir() else path
    if not path.is_file():
        raise UsageError(f"`checkpoint` {path} is no file; name g2p-en's {FILE}, or leave it out: {INSTALL}")
    weights = _convert(_read(path))
    tokenizer = TokenizerPair(SymbolTokenizer(LETTERS, ""), SymbolTokenizer(PHONEMES, " "))
    begin(recipe, tokenizer, weights, Path(run_dir), EXAMPLES)


def _installed() -> Path:
    spec = importlib.util.find_spec("g2p_en")
    if spec is None or not spec.submodule_search_locations:
        # Without --no-deps come language tools of which nothing is used.
        raise CheckpointError(f"the package `g2p-en` is not installed: {INSTALL}")
    return Path(spec.submodule_search_locations[0])


def tensor_shapes() -> dict[str, tuple[int, ...]]:
    """Returns their name -> shape."""
    letters, phonemes = 3 + len(LETTERS), 4 + len(PHONEMES)  # with <pad>, <unk>, </s>; and <s> behind <unk>
    shapes: dict[str, tuple[int, ...]] = {"fc_w": (phonemes, WIDTH), "fc_b": (phonemes,)}
    for side, num_ids in (("enc", letters), ("dec", phonemes)):
        shapes |= {f"{side}_emb": (num_ids, WIDTH)}
        shapes |= dict.fromkeys((f"{side}_w_ih", f"{side}_w_hh"), (3 * WIDTH, WIDTH))
        shapes |= dict.fromkeys((f"{side}_b_ih", f"{side}_b_hh"), (3 * WIDTH,))
    return shapes


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        # Opened here: NumPy leaves a file open that is no archive.
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            tensors = {name: file[name] for name in file.files}
    except (OSError, EOFError, ValueError, TypeError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{path} is damaged ({error}); install it again: {INSTALL}") from error
    expected = tensor_shapes()
    for name in expected.keys() ^ tensors.keys():
        what = "is missing" if name in expected else "has no place in the network"
        raise CheckpointError(f"{path}: the tensor {name!r} {what}. Give the {FILE} of g2p-en 2.1.0: {INSTALL}")
    for name, shape in expected.items():
        if tensors[name].shape != shape:
            raise CheckpointError(
                f"{path}: the tensor {name!r} has the shape {tensors[name].shape}, and g2p-en 2.1.0 has {shape}: "
                f"{INSTALL}"
            )
    return {name: tensor.astype(np.float32) for name, tensor in tensors.items()}


def _convert(theirs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Our variable paths -> values."""
    pad_unk, end_letters = np.split(theirs["enc_emb"], [2])
    # Our vocabularies have <s> before </s> on both sides; no source ever holds one.
    source = np.concatenate([pad_unk, np.zeros((1, pad_unk.shape[1]), np.float32), end_letters])
    weights = {
        "source_embedding/table": source,
        "embedding/table": theirs["dec_emb"],
        "output/kernel": theirs["fc_w"].T,
        "output/bias": theirs["fc_b"],
    }
    for ours, prefix in (("encoder_gru_0", "enc"), ("decoder_gru_0", "dec")):
        for name, tensor in (
            ("kernel", theirs[f"{prefix}_w_ih"].T),
            ("recurrent_kernel", theirs[f"{prefix}_w_hh"].T),
            ("bias", theirs[f"{prefix}_b_ih"]),
            ("recurrent_bias", theirs[f"{prefix}_b_hh"]),
        ):
            r, z, n = np.split(tensor, 3, axis=-1)
            weights[f"{ours}/{name}"] = np.concatenate([z, r, n], axis=-1)
    return weights
