"""Import weights of other programs: `airnet-import net.pth --architecture FILE.py:NAME --out net.safetensors`.

    python models/importing.py net.pth --architecture FILE.py:NAME --out out/net.safetensors
    python models/importing.py timm:resnet18.a1_in1k --architecture FILE.py:resnet18 --out out/resnet18.safetensors

reads a state dict (.pth, .pt, .bin, .ckpt: `weights_only=True`, in a process of its own with limits; .safetensors; or a
pretrained network of timm), finds the network's tensors in it, and writes a checkpoint that every command takes.
Containers around the state dict and prefixes of its names, such as `state_dict`, `model` or `module.`, are taken off;
where a file has the network several times, as with an average of its weights, --prefix says which.
Accuracy and metrics are measured where the data are here, and travel with the network.
"""

import dataclasses
import sys
import tempfile
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1] / "src")
    from airnet_sdr.dsp.host import environment

    environment.set_defaults()

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from airnet_sdr.dsp.errors import InputError, LinkError
from airnet_sdr.dsp.host.command import CommandParser, run_command
from airnet_sdr.dsp.host.files import check_outputs
from airnet_sdr.dsp.host.options import add_options, check_fields, config_from, option
from airnet_sdr.models import checkpoint as checkpoints
from airnet_sdr.models.checkpoint import Checkpoint
from airnet_sdr.models.checkpoint_tensors import some
from airnet_sdr.models.evaluate import measured
from airnet_sdr.models.foreign import check_source, convert, is_timm, is_trainers
from airnet_sdr.models.nets import build
from airnet_sdr.models.packing import tensor_specs
from airnet_sdr.models.register import resolve_architecture
from airnet_sdr.models.task import OwnCodeError

NUM_PROBES = 8  # names by which a prefix is found
LEAST_SHARE = 0.5  # of the network's tensors that must be found under a prefix


@dataclasses.dataclass(frozen=True)
class ImportConfig:
    """The architecture of the weights, the checkpoint to write, and the data to measure it on."""

    architecture: str | None = option(None, "the network's code", metavar="FILE.py:NAME")
    out: Path | None = option(None, "the checkpoint to write", metavar="W.safetensors")
    prefix: str | None = option(
        None, "of a file that has the network several times, that whose names begin so", metavar="NAME"
    )
    data_dir: str | None = option(None, "folder searched first for data sets", flag="--data", metavar="DIR")
    force: bool = option(False, "overwrite --out")

    def __post_init__(self):
        check_fields(self)


def match_names(found: list[str], wanted: list[str]) -> dict[str, dict[str, str]]:
    """The name in the file of each of the network's tensors that is there, by the prefix that it has in the file.

    The names are equal but for one prefix, which may be on either side. The prefix with the most tensors comes first.

    >>> match_names(["ema.a", "model.module.a", "model.module.b"], ["a", "b"])
    {'model.module.': {'a': 'model.module.a', 'b': 'model.module.b'}, 'ema.': {'a': 'ema.a'}}
    """
    there: set[str] = set(found)
    fronts = _prefixes(found, wanted)
    matches = {front: {name: front + name for name in wanted if front + name in there} for front in fronts}
    for prefix in filter(None, _prefixes(wanted, found)):
        inside = {name: name.removeprefix(prefix) for name in wanted if name.startswith(prefix)}
        matched = {name: each for name, each in inside.items() if each in there}
        matches[""] = max(matches.get("", {}), matched, key=len)
    return dict(sorted(matches.items(), key=lambda match: -len(match[1])))


def _prefixes(longer: list[str], shorter: list[str]) -> list[str]:
    """What, put in front of some of the shorter names, makes longer ones; a few names tell them all."""
    probes = shorter[:: max(1, len(shorter) // NUM_PROBES)]
    ends = {probe: f".{probe}" for probe in probes}
    found = [name.removesuffix(p) for p in probes for name in longer if name == p or name.endswith(ends[p])]
    return list(dict.fromkeys(found))


def fitting_tensors(path: Path, source: str, architecture: str, prefix: str | None = None) -> dict[str, Tensor]:
    """The network's tensors in the file, by the network's names; ``prefix`` as in `ImportConfig`.

    Raises InputError where the file has the network several times, and naming the tensors that are missing, left over
    under the same prefix, or of another shape.
    """
    network = build(architecture)
    tensor_specs(network)  # its InputError for what cannot be sent
    state = network.state_dict()
    wanted = {name: tuple(value.shape) for name, value in state.items()}
    needed = [name for name, value in state.items() if value.is_floating_point() or value.is_complex()]
    with _opened(path, source) as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 # no dictionary
        matched, left = select_match(shapes, wanted, source, prefix)
        if sum(name in matched for name in needed) < LEAST_SHARE * len(needed):
            raise InputError(
                f"{source} is not of {architecture}: {len(matched)} of its {len(needed)} tensors are in the file, "
                f"which has {some(list(shapes))}; the network has {some(needed)}"
            )
        tensors = {name: file.get_tensor(each) for name, each in matched.items()}
    missing = [name for name in needed if name not in matched]
    if not missing:  # then what trainers store beside the weights is no part of the network
        left = [name for name in left if not is_trainers(name.partition(".")[0])]
    other = [f"{n} {shapes[each]} for {wanted[n]}" for n, each in matched.items() if shapes[each] != wanted[n]]
    faults = {"missing": missing, "unknown": left, "of another shape": other}
    if any(faults.values()):
        told = "; ".join(f"{what} {some(names)}" for what, names in faults.items() if names)
        raise InputError(f"{source} does not fit {architecture}: {told}")
    return tensors


def select_match(
    shapes: dict[str, tuple], wanted: dict[str, tuple], source: str, prefix: str | None = None
) -> tuple[dict[str, str], list[str]]:
    """The best match of the file's names with the network's, and what is left over under its prefix, without it.

    shapes, wanted : of the tensors in the file and in the network, by name
    Of several with as many tensors those with the right shapes count. Raises InputError where several are left, and
    where nothing has the ``prefix``.
    """
    front = f"{prefix.rstrip('.')}." if prefix else ""
    there = [name.removeprefix(front) for name in shapes if name.startswith(front)]
    if prefix and not there:
        raise InputError(f"{source} has nothing under the `prefix` {prefix}; it has {some(list(shapes))}")
    matches = match_names(there, list(wanted))
    most = max(map(len, matches.values()), default=0)
    best = {start: each for start, each in matches.items() if len(each) == most}
    fitting = {s: m for s, m in best.items() if all(shapes[front + each] == wanted[n] for n, each in m.items())}
    best = fitting or best or {"": {}}
    if prefix is not None and "" in best:
        best = {"": best[""]}
    if len(best) > 1 and most >= LEAST_SHARE * len(wanted):
        names = [(front + start).removesuffix(".") or "''" for start in best]
        raise InputError(f"{source} has the network several times; choose one with `prefix`: {', '.join(names)}")
    start, matched = next(iter(best.items()))
    copies = {each for match in matches.values() if len(match) == most for each in match.values()}
    left = sorted(name.removeprefix(start) for name in there if name.startswith(start) and name not in copies)
    return {name: front + each for name, each in matched.items()}, left


def _opened(path: Path, source: str):
    """The safetensors file; InputError where it is none."""
    try:
        return safe_open(path, "pt")
    except OSError as error:
        raise InputError(f"{source} cannot be read: {error.strerror or error}") from error
    except SafetensorError as error:
        raise InputError(f"{source} is not a whole safetensors file ({error}); get it again") from error


def import_weights(
    source: str, architecture: str, data_dir: str | None = None, prefix: str | None = None
) -> tuple[Checkpoint, LinkError | None]:
    """The checkpoint of foreign weights, measured where its data are here, and why it is not measured.

    Raises InputError if the weights cannot be read or do not fit the architecture, or are there several times under
    several prefixes and not under ``prefix``.
    """
    name = resolve_architecture(architecture)
    with tempfile.TemporaryDirectory(prefix="airnet-import-") as folder:
        every, own = Path(source), Path(folder) / "own.safetensors"
        if every.suffix.lower() != ".safetensors":
            every = Path(folder) / "all.safetensors"
            convert(source, every)
        save_file(fitting_tensors(every, source, name, prefix), own)
        checkpoint = checkpoints.load(own, name)
    origin = source if is_timm(source) else Path(source).name
    return measured(dataclasses.replace(checkpoint, metadata={"imported_from": origin}), data_dir)


def write_import(source: str, config: ImportConfig) -> None:
    """Import, write the checkpoint and print what it is.

    Raises InputError where the weights do not fit or ``out`` exists, OwnCodeError where the user's evaluation fails,
    after the checkpoint is written.
    """
    check_source(source)
    if config.out.suffix != ".safetensors":
        raise InputError(f"`out` must be W.safetensors; got {str(config.out)!r}")
    check_outputs([config.out], [] if is_timm(source) else [source])
    if config.out.exists() and not config.force:
        raise InputError(f"{config.out} exists; `force` overwrites it")
    checkpoint, error = import_weights(source, config.architecture, config.data_dir, config.prefix)
    checkpoints.save(config.out, checkpoint)
    num_weights = sum(tensor.size for tensor in checkpoint.tensors.values())
    print(f"{config.out}: {checkpoint.arch}, {num_weights:,} weights{_scores(checkpoint)}")
    if isinstance(error, OwnCodeError):
        raise error
    if error is not None:
        print(f"not evaluated: {error}")


def _scores(checkpoint: Checkpoint) -> str:
    accuracy = [] if checkpoint.accuracy is None else [f"accuracy {100 * checkpoint.accuracy:.2f} %"]
    return "".join(f", {each}" for each in [*accuracy, *(f"{n} {v:.5g}" for n, v in checkpoint.metrics.items())])


def main(argv=None) -> int:
    """Parse and import."""
    parser = CommandParser(prog="import", description=__doc__)
    parser.add_argument("weights", metavar="WEIGHTS.pth|.pt|.safetensors|timm:NAME", help="weights of another program")
    add_options(parser, ImportConfig)
    parser.require("architecture", "out")
    options = parser.options(argv)
    return run_command(parser, lambda: write_import(options["weights"], config_from(ImportConfig, options)))


if __name__ == "__main__":
    sys.exit(main())
