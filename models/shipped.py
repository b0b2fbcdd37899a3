"""The shipped checkpoints: names, files and headers, read without NumPy or torch."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

ZOO = Path(__file__).parent / "zoo"  # DATASET/METHOD/seed-N/*.safetensors
SHIPPED = {"fashion": ZOO / "fashion-mnist" / "shipped" / "seed-1" / "fashion.safetensors"}


@dataclass(frozen=True)
class Facts:
    """Facts from a checkpoint's header: accuracy 0 to 1, nan if not measured."""

    num_weights: int
    accuracy: float
    dataset: str


def paths() -> dict[str, Path]:
    """Name and path of each checkpoint of `SHIPPED` that exists."""
    return {name: path for name, path in sorted(SHIPPED.items()) if path.is_file()}


def describe() -> dict[str, Facts]:
    """Facts about each shipped checkpoint by name."""
    return {name: facts_of(header(path)) for name, path in paths().items()}


def header(path: Path) -> dict:
    """The JSON header of a safetensors file: names, types and shapes, and `__metadata__`."""
    with path.open("rb") as file:
        return json.loads(file.read(int.from_bytes(file.read(8), "little")))


def facts_of(head: dict) -> Facts:
    """The facts in a header."""
    metadata = head.get("__metadata__", {})
    num_weights = sum(math.prod(entry["shape"]) for name, entry in head.items() if name != "__metadata__")
    return Facts(num_weights, float(metadata.get("accuracy", "nan")), metadata.get("dataset", "none"))
