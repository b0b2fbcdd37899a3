"""Ways to protect one network that was brought, by the sender's own options, at equal payload.

    python sim/experiments/brought.py --architecture FILE.py:NAME --model W.safetensors --out out/brought

For every budget, SNR and `uep` the network is planned for the SNR as `tx/send.py` plans it, sent in noise equivalent to
the link's, and judged by its own measure on its test data. b is the payload of every weight once; the state beside the
weights has its symbols on top of a budget. `auto` uses the sensitivity.json beside the network. Writes brought.json
and prints a table in Markdown.
"""

import dataclasses
import json
import shlex
import sys
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[2] / "src")
    from airnet_sdr.dsp.host import environment

    environment.begin()

import numpy as np
from rich.progress import track

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.host.command import CommandParser, run_command
from airnet_sdr.dsp.host.files import write_whole
from airnet_sdr.dsp.host.options import add_options, check_fields, config_from, option
from airnet_sdr.dsp.units import linear
from airnet_sdr.models.checkpoint import load
from airnet_sdr.models.known_state import with_state
from airnet_sdr.models.payload.budget import state_symbols, symbols_once
from airnet_sdr.models.plan_config import PlanConfig
from airnet_sdr.models.register import resolve_architecture
from airnet_sdr.sim.experiments.library.judge import ACCURACY, judge_by_test, untrained
from airnet_sdr.sim.experiments.library.scoring import score_received
from airnet_sdr.sim.experiments.library.white_noise import WhiteNoise
from airnet_sdr.tx.config import SendConfig
from airnet_sdr.tx.sender import make_burst

UEP = ("none", "size", "auto")


@dataclasses.dataclass(frozen=True)
class BroughtConfig:
    """The network, the cells of the table, and the output folder."""

    architecture: str | None = option(None, "its architecture", metavar="FILE.py:NAME")
    model: Path | None = option(None, "its weights", metavar="W.safetensors")
    budgets: tuple[float, ...] = option((1.0, 1.5, 2.0), "payloads in b", 1, 255, metavar="B")
    snr_db: tuple[float, ...] = option((0.0, 5.0, 10.0), "SNR per payload symbol", metavar="D")
    uep: tuple[str, ...] = option(UEP, "ways to protect it", choices=UEP)
    link_seeds: int = option(3, "transmissions of each cell", 1, metavar="K")
    data_dir: str | None = option(None, "folder searched first for data sets", flag="--data", metavar="DIR")
    out: Path = option(Path("out/brought"), "output folder", metavar="DIR")

    def __post_init__(self):
        check_fields(self)
        if self.architecture is None or self.model is None:
            raise InputError("name the network: `architecture` and `model`")


def measure(config: BroughtConfig) -> list[dict]:
    """A row for every transmission."""
    arch = resolve_architecture(config.architecture)
    checkpoint = with_state(load(config.model, arch), config.data_dir)
    judge = judge_by_test(arch, None, config.data_dir)
    scale = 100 if untrained(arch, judge)[0] == ACCURACY else 1
    rows = []
    cells = [(b, uep, snr_db) for b in config.budgets for uep in config.uep for snr_db in config.snr_db]
    for b, uep, snr_db in track(cells, "protection"):
        uses = int(b * symbols_once(checkpoint)) + state_symbols(checkpoint, PlanConfig(snr_db=snr_db))
        copies = int(b) if uep == "none" else 1  # without protection a budget is used in whole copies
        sending = SendConfig(
            uep=uep, copies=copies, snr_db=snr_db, payload_uses=uses, architecture=arch, data_dir=config.data_dir
        )
        burst = make_burst(config.model, sending)
        for seed in range(config.link_seeds):
            score = score_received(burst, WhiteNoise(burst, float(linear(snr_db)), seed), judge)
            rows.append({"b": b, "uep": uep, "snr_db": snr_db, "uses": uses, "link_seed": seed, "score": scale * score})
    return rows


def table(rows: list[dict]) -> list[str]:
    """Markdown lines: mean ± deviation over the transmissions of a cell."""
    levels = sorted({row["snr_db"] for row in rows})
    lines = ["| payload | `--uep` | " + " | ".join(f"{snr_db:g} dB" for snr_db in levels) + " |"]
    lines.append("|---" * (2 + len(levels)) + "|")
    for b, uep in dict.fromkeys((row["b"], row["uep"]) for row in rows):
        cells = []
        for snr_db in levels:
            scores = [row["score"] for row in rows if (row["b"], row["uep"], row["snr_db"]) == (b, uep, snr_db)]
            spread = float(np.std(scores, ddof=1)) if len(scores) > 1 else 0.0
            cells.append(f"{np.mean(scores):.1f} ± {spread:.1f}")
        lines.append(f"| {b:g} b | `{uep}` | " + " | ".join(cells) + " |")
    return lines


def run(config: BroughtConfig, command: str) -> None:
    """Measure, write brought.json, print the table."""
    rows = measure(config)
    write_whole(config.out / "brought.json", (json.dumps({"command": command, "rows": rows}, indent=1) + "\n").encode())
    print("\n".join(table(rows)))


def main(argv=None) -> int:
    """Parse and measure."""
    argv = sys.argv[1:] if argv is None else argv
    parser = CommandParser(prog="brought", description=__doc__)
    add_options(parser, BroughtConfig)
    options = parser.options(argv)
    command = shlex.join(["python", "sim/experiments/brought.py", *argv])
    return run_command(parser, lambda: run(config_from(BroughtConfig, options), command))


if __name__ == "__main__":
    sys.exit(main())
