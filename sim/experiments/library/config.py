"""What the tables of methods and of protection, and the grid, are asked for alike: networks, seeds, images."""

import dataclasses
from pathlib import Path

from airnet_sdr.dsp.host.options import check_fields, option
from airnet_sdr.models.shipped import ZOO


@dataclasses.dataclass(frozen=True)
class ExperimentConfig:
    """The networks that are sent, how often, and the images that they are evaluated on."""

    networks: Path = option(ZOO, "folder of DATASET/METHOD/seed-N (default: the zoo)", metavar="DIR")
    training_seeds: tuple[int, ...] = option((1, 2, 3), "seeds that the networks were trained with", 0, metavar="S")
    link_seeds: int = option(5, "how often each network is sent", 1, metavar="K")
    images: int | None = option(None, "evaluate on the first images only (default: all)", 1)
    data_dir: str | None = option(None, "where data sets are looked for first", flag="--data", metavar="DIR")

    def __post_init__(self):
        check_fields(self)
