"""Where the calls of an experiment find networks, data and the user's own code, here or on another machine."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.models.data import files_of
from airnet_sdr.models.nets import DATASETS
from airnet_sdr.models.register import resolve_architecture
from airnet_sdr.models.sensitivity_file import places
from airnet_sdr.sim.experiments.library.judge import judge_by_loss
from airnet_sdr.sim.experiments.library.networks import folder_of


@dataclasses.dataclass(frozen=True)
class Place:
    """The folder of the networks, or the file of one; that of the data; the number of test images (None: all); and the
    file of the user's own architecture."""

    networks: Path
    data_dir: str | None = None
    images: int | None = None
    architecture: str | None = None

    def has(self, arch: str, seed: int) -> bool:
        """Whether an architecture and training seed have a network, and examples to judge it by, else a warning."""
        is_single = self.networks.suffix == ".safetensors"
        if not is_single and not folder_of(self.networks, arch, "clean", seed).is_dir():
            return False
        try:
            judge_by_loss(arch, 1, self.data_dir)
        except InputError as error:
            Console(stderr=True).print(f"[yellow]{arch} is left out: {error}[/]", highlight=False, soft_wrap=True)
            return False
        return True

    def for_workers(self, ray_address: str | None, archs: Iterable[str]) -> tuple[dict[str, Path], "Place"]:
        """`packed` for the nodes of a cluster; on this machine nothing needs to travel."""
        return ({}, self) if ray_address is None else self.packed(archs)

    def packed(self, archs: Iterable[str]) -> tuple[dict[str, Path], "Place"]:
        """What a machine needs that has no more than the program, and the place of it there.

        archs : the architectures whose data are needed
        Returns files and folders by their places in the current folder there (`dsp.host.workers`). Beside a single
        network lies its sensitivity, beside the user's FILE.py the other .py files of its folder, which it may import.
        Raises InputError if data are unavailable.
        """
        resolve_architecture(self.architecture)
        networks = Path("networks", self.networks.name)
        files = {str(networks): self.networks}
        if self.networks.is_file():
            files |= {str(networks.with_name(p.name)): p for p in places(self.networks) if p.is_file()}
        for arch in archs:
            for place, path in files_of(DATASETS.get(arch, "none"), self.data_dir).items():
                files[str(Path("data", place))] = path
        architecture = self.architecture
        file, colon, name = (architecture or "").rpartition(":")
        if colon:
            files |= {f"architecture/{path.name}": path for path in Path(file).resolve().parent.glob("*.py")}
            architecture = f"architecture/{Path(file).name}:{name}"
        has_data = any(Path(place).parts[0] == "data" for place in files)
        return files, Place(networks, "data" if has_data else None, self.images, architecture)
