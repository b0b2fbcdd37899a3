"""A peer for the compressor: nncodec, the reference software of ISO/IEC 15938-17 (Neural Network Coding).

    python models/digital/nnc.py --model models/zoo/fashion-mnist/digital/seed-1/38k.safetensors

prints, for each network, the bits of its levels in this program's coder (`models.digital.compress`) and in nncodec's
DeepCABAC (Wiedemann et al., IEEE J. Sel. Topics Signal Process. 14(4), 2020). For networks not trained for bits it
prints the accuracy at equal bytes: this program quantises with a uniform step per tensor, nncodec with dependent
(trellis-coded) quantisation and one step for all tensors.

nncodec is not a dependency: it requires numpy below 2, which this program cannot use, and packages that its coder does
not need. `pip install --no-deps nncodec==2.1.3` is enough, and needs a C++ compiler. Its licence, Clear BSD, grants no
patents.
"""

import importlib
import sys
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[2] / "src")
    from airnet_sdr.dsp.host import environment

    environment.begin()

import numpy as np
from rich.console import Console
from rich.table import Table

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.host.command import CommandParser, run_command
from airnet_sdr.dsp.host.options import add_options, check_fields, config_from, option
from airnet_sdr.models import checkpoint as checkpoints
from airnet_sdr.models.batch_norm import recompute_statistics
from airnet_sdr.models.checkpoint import Checkpoint
from airnet_sdr.models.data import load as load_data
from airnet_sdr.models.digital import compress
from airnet_sdr.models.digital.quantise import steps_of
from airnet_sdr.models.digital.scheme import compress_to_fit, on_grid, weights_of
from airnet_sdr.models.evaluate import logits
from airnet_sdr.models.packing import load_vectors, to_vectors
from airnet_sdr.models.task import top1

QPS = (-24, -20, -16, -12)  # quantisation parameters of the standard: the step is 2^(qp/4), interpolated in quarters


def codec() -> Any:
    """nncodec's compress and decompress, without its imports of frameworks and data sets; InputError if missing."""
    if "nncodec.framework" not in sys.modules:
        framework = types.ModuleType("nncodec.framework")
        for name in ("tensorflow_model", "pytorch_model", "use_case_init"):
            module = types.ModuleType(f"nncodec.framework.{name}")
            setattr(framework, name, module)
            sys.modules[module.__name__] = module
        sys.modules[framework.__name__] = framework
    try:
        return importlib.import_module("nncodec.nnc")
    except ImportError as error:
        raise InputError(f"nncodec is not installed ({error}); pip install --no-deps nncodec==2.1.3") from error


def levels_to_bits(tensors, names: list[str], shapes: list[tuple[int, ...]]) -> int:
    """Bits of the levels in nncodec; checks that it decodes them exactly."""
    levels = {n: t.levels.reshape(s).astype(np.int32) for n, t, s in zip(names, tensors, shapes, strict=True)}
    data = codec().compress(levels, None, use_dq=False, row_skipping=True, return_bitstream=True)
    found = codec().decompress(data)
    if not all(np.array_equal(found[name], levels[name]) for name in names):
        raise InputError("nncodec does not decode the levels that it encoded; is it version 2.1.3?")
    return 8 * len(data)


def quantised(checkpoint: Checkpoint, qp: int) -> tuple[int, list[np.ndarray]]:
    """Bytes and weights (numel,) of a network quantised by nncodec."""
    data = codec().compress(
        dict(checkpoint.tensors), None, qp=qp, use_dq=True, row_skipping=True, return_bitstream=True
    )
    found = codec().decompress(data)
    return len(data), to_vectors({name: found[name] for name in checkpoint.tensors})


def compare(checkpoint: Checkpoint, images, labels) -> list[tuple[str, ...]]:
    """Rows of the table: quantisation, bits here and in nncodec, accuracy here and with nncodec."""

    def accuracy(vectors):
        module = load_vectors(checkpoint.module(), vectors)
        recompute_statistics(module, images)
        return f"{100 * top1(logits(module, images), labels):.2f}"

    tensors, steps = list(checkpoint.tensors.values()), steps_of(checkpoint.metadata)
    if steps:
        levels = on_grid(tensors, steps)
        there = levels_to_bits(levels, list(checkpoint.tensors), [tensor.shape for tensor in tensors])
        return [("levels as trained", f"{8 * len(compress.encode(levels)):,}", f"{there:,}", "", "")]
    rows: list[tuple[str, ...]] = []
    for qp in QPS:
        num_bytes, decoded = quantised(checkpoint, qp)
        here = compress.encode(compress_to_fit(tensors, num_bytes))
        scores = accuracy(weights_of(here, [tensor.size for tensor in tensors])), accuracy(decoded)
        rows.append((f"quantised afterwards, qp {qp}", f"{8 * len(here):,}", f"{8 * num_bytes:,}", *scores))
    return rows


@dataclass(frozen=True)
class NncConfig:
    """The networks to compare the compressors on, and the images."""

    model: tuple[str, ...] = option((), "checkpoints", metavar="NAME|PATH")
    images: int | None = option(None, "evaluate on the first test images only", 1)
    data_dir: str | None = option(None, "folder searched first for data sets", flag="--data", metavar="DIR")

    def __post_init__(self):
        check_fields(self)


def print_comparison(config: NncConfig) -> None:
    """The table of all networks."""
    table = Table("network", "", "bits here", "nncodec", "accuracy here, %", "nncodec, %")
    for name in config.model:
        checkpoint = checkpoints.load(name)
        images, labels = (array[: config.images] for array in load_data(checkpoint.dataset, "test", config.data_dir))
        for row in compare(checkpoint, images, labels):
            table.add_row(str(Path(name)), *row)
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def main(argv=None) -> int:
    """Parse, compare and print."""
    parser = CommandParser(prog="nnc", description=__doc__)
    add_options(parser, NncConfig)
    parser.require("model")
    options = parser.options(argv)
    return run_command(parser, lambda: print_comparison(config_from(NncConfig, options)))


if __name__ == "__main__":
    sys.exit(main())
