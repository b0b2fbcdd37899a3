"""Gain of bandwidth expansion: NMSE of a Gaussian weight sent on k dimensions, by copies and by curves.

    python sim/experiments/expansion.py

prints, for each k and SNR per symbol, copies 1/(1 + kS), the curve that `dsp.uep` selects, and the limit
(1 + S)^-k, and writes out/expansion/expansion.json. All values are measured: random weights through
`dsp.expansion.expand`, noise, and `posterior_mean`. --design optimises the curves by Nelder and Mead's method, each
from the curve of the previous SNR, and writes models/curves.json: some ten minutes on one core.
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
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.optimize import minimize
from scipy.stats import norm

from airnet_sdr.dsp.expansion import LINE, Curve, expand, posterior_mean
from airnet_sdr.dsp.host.command import CommandParser, run_command
from airnet_sdr.dsp.host.files import write_whole
from airnet_sdr.dsp.host.options import add_options, check_fields, config_from, option
from airnet_sdr.dsp.uep import best_curve
from airnet_sdr.dsp.units import db, linear
from airnet_sdr.models import curves

DIMS = (2, 3, 4, 6, 8)
DESIGN_SNR_DB = tuple(range(0, 25, 3))
TABLE_SNR_DB = tuple(range(-8, 33, 2))
USES = (2, 3, 4, 6, 8, 11, 16)


@dataclasses.dataclass(frozen=True)
class ExpansionConfig:
    """The SNRs, the number of weights and repetitions, and the output folder."""

    snr_db: tuple[float, ...] = option((-5, 0, 5, 10, 15, 20, 25), "SNR per symbol", metavar="D")
    pairs: int = option(4000, "pairs of weights in each measurement", 1)
    seeds: int = option(5, "repetitions of each measurement", 1, metavar="K")
    out: Path = option(Path("out/expansion"), "folder for expansion.json", metavar="DIR")
    design: bool = option(False, "optimise the curves and write models/curves.json")

    def __post_init__(self):
        check_fields(self)


def curve_nmse_db(curve: Curve, snr_db: float, num: int, seed: int = 0) -> float:
    """NMSE in dB of ``num`` pairs of unit Gaussian weights sent along the curve at this SNR per symbol."""
    rng = np.random.default_rng(seed)
    # stratified weights, one per equally likely interval, in random order: only the noise is random
    x = rng.permutation(norm.ppf((np.arange(2 * num) + 0.5) / (2 * num))).astype(np.float32)
    pairs = (x / np.float32(np.sqrt(2))).view(np.complex64)
    noise_var = np.float32(linear(-snr_db))
    sent = expand(pairs, curve)
    noise = rng.standard_normal((sent.size, 2), dtype=np.float32).view(np.complex64)[:, 0]
    matched = (sent + np.float32(np.sqrt(noise_var / 2)) * noise) / noise_var
    found, _ = posterior_mean(matched, np.full(sent.size, 1 / noise_var, np.float32), curve)
    return float(db(np.mean(np.abs(found - pairs) ** 2, dtype=np.float64)))


def from_logs(logs, dims: int) -> Curve:
    """The curve with these logarithms of its parameters."""
    numbers = [float(number) for number in np.round(np.exp(np.clip(logs, -6, 5)), 4)]
    if dims % 2:
        return Curve(None, 1.0, numbers[0], tuple(numbers[1:]))
    return Curve(numbers[0], min(numbers[1], 1.0), numbers[2], tuple(numbers[3:]))


def first_guess(dims: int, snr_db: float) -> np.ndarray:
    """Logarithms of the parameters of a curve that winds faster at higher SNR."""
    speed = 1.2 * float(linear(snr_db)) ** 0.3
    num_circles = (dims - 1) // 2
    rings = [speed * 1.8 * 2.0**i for i in range(num_circles)]
    return np.log([1.0, *rings] if dims % 2 else [speed if dims == 2 else 0.5 * speed, 0.7, 1.0, *rings])


def design_curve(dims: int, snr_db: float, start, num: int = 500) -> np.ndarray:
    """Logarithms of the curve's parameters of least NMSE at this SNR, the better of two starts."""
    found = []
    for first in (first_guess(dims, snr_db), start):
        if first is not None:
            found.append(
                minimize(
                    lambda logs: curve_nmse_db(from_logs(logs, dims), snr_db, num),
                    first,
                    method="Nelder-Mead",
                    options={"maxfev": 40 * len(first), "xatol": 0.02, "fatol": 0.02},
                )
            )
    return min(found, key=lambda result: result.fun).x


def design_curves() -> list[dict]:
    """All curves in the form of models/curves.json."""
    rows = []
    for dims in DIMS:
        logs = None
        for snr_db in track(DESIGN_SNR_DB, f"{dims} dimensions"):
            logs = design_curve(dims, snr_db, logs)
            curve = from_logs(logs, dims)
            row = dataclasses.asdict(curve)
            row["nmse_db"] = [round(curve_nmse_db(curve, level, 4000, 1), 2) for level in TABLE_SNR_DB]
            del row["snr_db"]
            rows.append({"dims": dims, "design_snr_db": snr_db, **row})
    return rows


def compare_with_copies(levels, num: int, seeds: int) -> list[dict]:
    """Measured NMSE of copies and of the selected curve, and the limit, for every number of uses and SNR."""
    rows = []
    for uses in track(USES, "expansion"):
        for snr_db in levels:
            snr = float(linear(snr_db))
            copies, curve = best_curve(uses, snr, curves.expansion_curves())
            curve = LINE if curve is None else curve
            found = [curve_nmse_db(curve, snr_db + float(db(copies)), num, seed) for seed in range(seeds)]
            rows.append(
                {
                    "uses": uses,
                    "snr_db": snr_db,
                    "copies_db": float(-db(1 + uses * snr)),
                    "chosen_db": float(np.mean(found)),
                    "deviation_db": float(np.std(found, ddof=1)) if seeds > 1 else 0.0,
                    "limit_db": float(-uses * db(1 + snr)),
                    "chosen": f"{curve.dims} dimensions, {copies} times",
                }
            )
    return rows


def print_table(rows: list[dict]) -> None:
    """Print copies, selected curve and limit, a line for each number of uses and SNR."""
    table = Table(title="NMSE of a Gaussian weight in k uses at S per symbol, dB")
    for column in ("k", "S", "k copies", "chosen", "limit", "which"):
        table.add_column(column, justify="left" if column == "which" else "right")
    for row in rows:
        table.add_row(
            str(row["uses"]),
            f"{row['snr_db']:g}",
            f"{row['copies_db']:.1f}",
            f"{row['chosen_db']:.1f} ± {row['deviation_db']:.1f}",
            f"{row['limit_db']:.1f}",
            row["chosen"],
        )
    Console().print(table)


def write_designs(command: str) -> None:
    """Optimise the curves and write models/curves.json."""
    head = json.dumps({"command": command, "snr_db": TABLE_SNR_DB})[:-1]
    lines = ",\n".join(json.dumps(row) for row in design_curves())
    write_whole(curves.PATH, f'{head}, "curves": [\n{lines}\n]}}\n'.encode())


def tabulate(config: ExpansionConfig, command: str) -> None:
    """Compare copies and curves, write expansion.json, print the table."""
    rows = compare_with_copies(config.snr_db, config.pairs, config.seeds)
    content = {"command": command, "pairs": config.pairs, "seeds": config.seeds, "rows": rows}
    write_whole(config.out / "expansion.json", (json.dumps(content, indent=1) + "\n").encode())
    print_table(rows)


def main(argv=None) -> int:
    """Parse, then measure or design."""
    argv = sys.argv[1:] if argv is None else argv
    parser = CommandParser(prog="expansion", description=__doc__)
    add_options(parser, ExpansionConfig)
    options = parser.options(argv)
    command = shlex.join(["python", "sim/experiments/expansion.py", *argv])

    def work():
        config = config_from(ExpansionConfig, options)
        write_designs(command) if config.design else tabulate(config, command)

    return run_command(parser, work)


if __name__ == "__main__":
    sys.exit(main())
