"""How sentence-transformers makes a vector of a text, read from the files of `tfzoo.export.sentence_transformers`.

Our vectors are the mean of the last hidden states, and always have length 1, whether there is a normalization or not;
texts are cut at the number of positions, not at what a file there says.
"""

from __future__ import annotations

import json
from pathlib import Path

from tfzoo.errors import CheckpointError
from tfzoo.export.sentence_transformers import FOLDERS, MEAN_SWITCH, MODULES, POOLING

# Newer versions name the mode; older ones have a switch for each, which newer ones read too.
_MODE, _MEAN = "pooling_mode", "mean"


def check_pooling(folder: Path) -> None:
    """Refuses a folder whose vectors are not the mean of the last hidden states; one without such files is none.

    Raises:
        CheckpointError: another pooling, another module, or a damaged file.
    """
    if not (folder / MODULES).is_file():
        return
    try:
        kinds = [one["type"].rpartition(".")[2] for one in json.loads((folder / MODULES).read_bytes())]
        pooling = json.loads((folder / POOLING).read_bytes()) if "Pooling" in kinds else {}
        switches = [name for name, value in pooling.items() if name.startswith(_MODE) and value is True]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{folder}: {MODULES} or {POOLING} is damaged ({error!r}); copy it again.") from error
    if kinds not in ([*FOLDERS], [*FOLDERS][:2]):
        raise CheckpointError(
            f"{folder / MODULES}: the modules are {', '.join(kinds)}; tfzoo reads {', '.join(FOLDERS)}."
        )
    modes = [pooling[_MODE]] if _MODE in pooling else switches
    if modes not in ([_MEAN], [MEAN_SWITCH]):
        raise CheckpointError(
            f"{folder / POOLING}: the pooling is {' and '.join(map(str, modes))}; tfzoo reads the mean alone."
        )
