"""Options common to the tables and the grid: networks, seeds, images."""

import dataclasses
from pathlib import Path

from airnet_sdr.dsp.host.options import check_fields, option
from airnet_sdr.models.shipped import ZOO


@dataclasses.dataclass(frozen=True)
class ExperimentConfig:
    """The networks, the number of transmissions, and the evaluation images."""

    architecture: str | None = option(
        None, "your own architecture; its networks are those of DIR/NAME (default: none)", metavar="FILE.py:NAME"
    )
    networks: Path = option(ZOO, "folder of DATASET/METHOD/seed-N (default: the zoo)", metavar="DIR")
    training_seeds: tuple[int, ...] = option((1, 2, 3), "training seeds of the networks", 0, metavar="S")
    link_seeds: int = option(5, "transmissions of each network", 1, metavar="K")
    images: int | None = option(None, "evaluate on the first N test examples only (default: all)", 1)
    data_dir: str | None = option(
        None, "folder searched first for data sets (default: none)", flag="--data", metavar="DIR"
    )

    def __post_init__(self):
        check_fields(self)
