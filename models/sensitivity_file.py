"""The file of a network's sensitivity: `sensitivity.json` beside it, or of one of several networks in a folder
`STEM.sensitivity.json`."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.host.files import write_whole
from airnet_sdr.models.checkpoint import Checkpoint, locate
from airnet_sdr.models.packing import checksum

ARRAYS = ("snr_grid_db", "background_db", "damages", "hessian")  # fields of a Sensitivity
NAME = "sensitivity.json"


@dataclass(frozen=True)
class Sensitivity:
    """Damages of tensors `names` (L,) over `snr_grid_db` (G,): `damages` (B, L, G), measured with the others at
    `background_db` (B,), and `hessian` (L, G), by the trace. `made` is the command that made the file, `weights` the
    checksum of the network's weights; None is any."""

    names: tuple[str, ...]
    snr_grid_db: np.ndarray
    background_db: np.ndarray
    damages: np.ndarray
    hessian: np.ndarray
    made: str = ""
    weights: int | None = None

    def damage(self, names, snr_db: float = 20.0, method: str = "measured") -> np.ndarray:
        """(L, G) damage of each of `names` over the grid, the others at `snr_db`. `method` is "measured" or "hessian".

        Raises InputError if `names` are not the measured tensors.
        """
        if tuple(names) != self.names:
            raise InputError(
                f"the sensitivity is of tensors {', '.join(self.names)}, not of {', '.join(names)}; measure it again"
            )
        if method == "hessian":
            return self.hessian
        if len(self.background_db) == 1:
            return self.damages[0]
        position = np.interp(snr_db, self.background_db, np.arange(len(self.background_db)))
        low = min(int(position), len(self.background_db) - 2)
        return (low + 1 - position) * self.damages[low] + (position - low) * self.damages[low + 1]


def places(path: Path) -> tuple[Path, Path]:
    """Where the sensitivity of a network may be: beside it, under its own name and under that of all."""
    return path.with_name(f"{path.stem}.{NAME}"), path.with_name(NAME)


def find_sensitivity(name_or_path, checkpoint: Checkpoint | None = None) -> Sensitivity | None:
    """That beside a shipped name or PATH.safetensors; None if there is none, or none of the weights of `checkpoint`.

    Raises InputError for a file that is none.
    """
    for place in places(locate(name_or_path)):
        if place.is_file():
            found = _read(place)
            if checkpoint is None or _is_of(found, checkpoint):
                return found
    return None


def load_sensitivity(name_or_path) -> Sensitivity:
    """`find_sensitivity`, but InputError if the file is missing."""
    found = find_sensitivity(name_or_path)
    if found is None:
        raise InputError(f"no {NAME} beside {locate(name_or_path)}; make it with python models/sensitivity.py")
    return found


def write_sensitivity(path: Path, found: Sensitivity) -> None:
    """Write that of the network at ``path``, whole or not at all; the file of another network in the folder stays."""
    own, common = places(path)
    is_others = common.is_file() and _read(common).weights not in (None, found.weights)
    content = {
        name: _to_six_digits(value).tolist() if isinstance(value, np.ndarray) else value
        for name, value in asdict(found).items()
    }
    write_whole(own if is_others or own.is_file() else common, (json.dumps(content) + "\n").encode())


_to_six_digits = np.vectorize(lambda value: float(f"{value:.6g}"), otypes=[np.float64])


def _is_of(found: Sensitivity, checkpoint: Checkpoint) -> bool:
    if found.names != tuple(checkpoint.tensors):
        return False
    return found.weights is None or found.weights == checksum(checkpoint.tensors)


def _read(path: Path) -> Sensitivity:
    try:
        fields = json.loads(path.read_text())
        found = Sensitivity(
            names=tuple(fields["names"]),
            made=fields["made"],
            weights=fields.get("weights"),
            **{name: np.array(fields[name], dtype=np.float64) for name in ARRAYS},
        )
        shape = (len(found.names), len(found.snr_grid_db))
        if found.hessian.shape != shape or found.damages.shape != (len(found.background_db), *shape):
            raise ValueError(f"shapes {found.damages.shape} and {found.hessian.shape} do not fit {shape}")
        if not np.isfinite(found.damages).all():
            raise ValueError("damages that are no finite numbers")
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path} is no sensitivity file ({error!r}); make it with python models/sensitivity.py"
        ) from error
    return found
