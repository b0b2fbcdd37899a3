"""Chosen transmissions over the whole link, against what the comparison expects of them.

    python sim/experiments/broadcast/link.py --plans out/broadcast/plans.json

sends the best transmission with an analog part and the best without, as chosen for a law, data set and training seed,
by the tool itself: as a layered payload through frames and an AWGN channel to the receiver, which superposes, cancels
and evaluates on all test images. Beside each accuracy are that of the same bursts in equivalent white noise, and that
of the curve. With --radio and --rx-radio two boards, real or virtual, are the air, at steps of the attenuation; the
others are then at the SNR that the receiver measured.
"""

import dataclasses
import json
import sys
from collections.abc import Iterator
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[3] / "src")
    from airnet_sdr.dsp.host import environment

    environment.begin()

import numpy as np
from rich.progress import track

from airnet_sdr.dsp.errors import InputError, NothingReceivedError
from airnet_sdr.dsp.host.command import CommandParser, run_command
from airnet_sdr.dsp.host.files import write_whole
from airnet_sdr.dsp.host.options import add_options, check_fields, config_from, option
from airnet_sdr.dsp.radio import RadioConfig
from airnet_sdr.dsp.units import linear
from airnet_sdr.models.nets import DATASETS
from airnet_sdr.rx.config import ReceiveConfig
from airnet_sdr.sim.experiments.broadcast.laws import CHANCE, LAWS
from airnet_sdr.sim.experiments.broadcast.tables import CURVE_DB
from airnet_sdr.sim.experiments.library.board_sweep import AttenuationConfig, Sweep
from airnet_sdr.sim.experiments.library.judge import Judge, judge_by_test
from airnet_sdr.sim.experiments.library.scoring import receive_burst, score_received
from airnet_sdr.sim.experiments.library.white_noise import WhiteNoise
from airnet_sdr.tx.burst import Burst
from airnet_sdr.tx.sender import make_burst


@dataclasses.dataclass(frozen=True)
class LinkConfig:
    """Which plans are sent, and at which SNRs."""

    plans: Path = option(Path("out/broadcast/plans.json"), "the plans that the comparison chose", metavar="FILE")
    arch: str = option("fashion", "architecture of the networks", choices=("fashion", "cifar"))
    law: str = option("rayleigh10", "law for which the plans were chosen", choices=tuple(LAWS))
    training_seed: int = option(1, "training seed of the networks", 0)
    snr_db: tuple[float, ...] = option((-5, 0, 5, 15), "SNR per payload symbol", metavar="D")
    link_seeds: int = option(2, "transmissions at each SNR or attenuation", 1, metavar="K")
    radio: str | None = option(None, "the sender's board (default: a simulated air)", metavar="ADDRESS")
    rx_radio: str | None = option(None, "the receiver's board (default: that of --radio)", metavar="ADDRESS")
    attenuation_db: tuple[float, ...] = option(
        (0.0, 20.0, 30.0, 37.0), "over boards: attenuations below full transmit power, dB", 0, 89.75, metavar="A"
    )
    images: int | None = option(None, "evaluate on the first N test examples only (default: all)", 1)
    out: Path = option(Path("out/broadcast-link"), "output folder", metavar="DIR")

    def __post_init__(self):
        check_fields(self)
        if self.rx_radio and not self.radio:
            raise InputError("`rx_radio` without `radio` has no sender; give both, or `radio` alone")


def measure(config: LinkConfig) -> list[dict]:
    """A row for each plan and SNR: accuracies in percent over the link, in equivalent noise, and of the curve."""
    try:
        stored = json.loads(config.plans.read_text(encoding="utf-8"))["rows"]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{config.plans} has no plans ({error}); make them with sim/sweep.py") from error
    wanted = DATASETS[config.arch], config.law, config.training_seed
    chosen = [row for row in stored if (row["dataset"], row["law"], row["training_seed"]) == wanted]
    if not chosen:
        raise InputError(f"{config.plans} has no plans for {', '.join(map(str, wanted))}; give another law or seed")
    judge, rows = judge_by_test(config.arch, config.images), []
    for analog in (True, False):
        plan = max((row for row in chosen if row["analog"] == analog), key=lambda row: row["validation"])
        path = config.out / f"{'mixed' if analog else 'digital'}.json"
        write_whole(path, json.dumps({name: plan[name] for name in ("layers", "averages")}, indent=1).encode())
        burst = make_burst(path, scheme="layered")
        sent = _over_boards(config, burst) if config.radio else _over_the_air(config, burst, judge, plan["entrant"])
        for trials in sent:
            each_db, link = zip(*trials, strict=True)
            snrs = [float(linear(snr_db)) for snr_db in each_db]
            fast = [_accuracy(burst, WhiteNoise(burst, snr, seed), judge) for seed, snr in enumerate(snrs)]
            snr_db = float(np.mean(each_db))
            rows.append(
                {
                    "entrant": plan["entrant"],
                    "snr_db": round(snr_db, 2),
                    "link": round(float(np.mean(link)), 2),
                    "noise": round(float(np.mean(fast)), 2),
                    "curve": round(float(np.interp(snr_db, CURVE_DB, plan["curve"])), 2),
                }
            )
    return rows


Trials = list[tuple[float, float]]  # SNR per symbol in dB, accuracy in percent


def _over_the_air(config: LinkConfig, burst: Burst, judge: Judge, name: str) -> Iterator[Trials]:
    """The trials of each SNR."""
    for snr_db in track(config.snr_db, name):
        received = (receive_burst(burst, snr_db, seed) for seed in range(config.link_seeds))
        yield [(snr_db, _accuracy(burst, each, judge)) for each in received]


def _over_boards(config: LinkConfig, burst: Burst) -> Iterator[Trials]:
    """Those of each attenuation at which the receiver heard the burst, at the SNRs that it measured."""
    steps = AttenuationConfig(config.radio, config.rx_radio, config.attenuation_db, config.link_seeds, timeout_s=30.0)
    sweep = Sweep(burst, steps, RadioConfig(gain_db="auto", timeout_s=30.0), ReceiveConfig())
    sweep.step_through()
    for attenuation_db in config.attenuation_db:
        of_step = [row for row in sweep.trials if row["attenuation_db"] == attenuation_db and "error" not in row]
        if of_step:
            yield [(row["snr_db"], 100 * row["accuracy"]) for row in of_step]


def table(rows: list[dict]) -> list[str]:
    """Markdown lines: a row for each transmission and SNR, percent."""
    lines = ["| transmission | SNR, dB | whole link | equivalent noise | curve |", "|---" * 5 + "|"]
    for row in rows:
        numbers = " | ".join(f"{row[name]:.2f}" for name in ("link", "noise", "curve"))
        lines.append(f"| {row['entrant']} | {row['snr_db']:.4g} | {numbers} |".replace("| -", "| −"))
    return lines


def _accuracy(burst: Burst, received, judge: Judge) -> float:
    """Accuracy in percent of the network that arrived, that of chance if none did."""
    try:
        return CHANCE if received is None else 100 * score_received(burst, received, judge)
    except NothingReceivedError:
        return CHANCE


def run(config: LinkConfig) -> None:
    """Measure, write link.json, print the table."""
    rows = measure(config)
    write_whole(config.out / "link.json", (json.dumps(rows, indent=1) + "\n").encode())
    print("\n".join(table(rows)))


def main(argv=None) -> int:
    """Parse and measure."""
    parser = CommandParser(prog="link", description=__doc__)
    add_options(parser, LinkConfig)
    options = parser.options(argv)
    return run_command(parser, lambda: run(config_from(LinkConfig, options)))


if __name__ == "__main__":
    sys.exit(main())
