"""The sweep that labs want: step the transmit attenuation of a board, and measure what arrives at each step.

    python sim/experiments/attenuation.py --radio pluto:ip:192.168.2.1 --rx-radio pluto:ip:192.168.3.1

`sim/sweep.py --radio` is another name of it.

The burst is sent without end; at each step the receiver listens afresh until every frame has come --cycles times,
rebuilds the network, and measures accuracy and the weights' error. Rounds of all steps follow one another, so that a
drift meets all steps alike. Beside the error stands what linear MMSE has at the SNR that the receiver measured,
1/(1 + n·S) for weights received n times (`theory`). `short_db` is what that SNR falls short of following the
attenuation dB for dB, best step as reference: large where converter, clipping or leakage limit, not the noise.

Writes attenuation.json (every trial, and means and deviations of each step), attenuation.csv (every trial) and
attenuation.png. What was measured before an error or Ctrl-C is written, too.
"""

import csv
import dataclasses
import io
import json
import shlex
import sys
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[2] / "src")
    from airnet_sdr.dsp.host import environment

    environment.set_defaults()

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from airnet_sdr.dsp.errors import NothingReceivedError, RadioTimeoutError
from airnet_sdr.dsp.host.command import CommandParser, run_command
from airnet_sdr.dsp.host.files import write_whole
from airnet_sdr.dsp.host.options import add_options, check_fields, config_from, option
from airnet_sdr.dsp.radio import ADDRESS_HELP, RadioConfig, Sink, open_sink, open_source
from airnet_sdr.dsp.radio.options import add_radio_options, require_pluto
from airnet_sdr.dsp.theory import lmmse_nmse
from airnet_sdr.dsp.units import db, linear
from airnet_sdr.rx.config import ListenConfig, ReceiveConfig
from airnet_sdr.rx.receiver import Reception, check, receive_from
from airnet_sdr.sim.benchmarks.measure import machine
from airnet_sdr.tx.burst import Burst, modulate
from airnet_sdr.tx.config import SendConfig
from airnet_sdr.tx.send import add_sender_options
from airnet_sdr.tx.sender import describe, make_burst

MEASURED = ("snr_db", "nmse_db", "theory_db", "accuracy", "gain_db", "cfo_hz")


@dataclasses.dataclass(frozen=True)
class AttenuationConfig:
    """The steps of a sweep, its rounds, and the two boards."""

    radio: str | None = option(None, "the sender's board", metavar="ADDRESS")
    rx_radio: str | None = option(None, "the receiver's board (default: that of --radio)", metavar="ADDRESS")
    attenuation_db: tuple[float, ...] = option(
        (0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0), "steps below full transmit power", 0, 89.75, metavar="A"
    )
    repeats: int = option(3, "rounds of all steps", 1, 10**6)
    cycles: int = option(1, "cycles that a trial combines", 1, 2**31, metavar="K")
    timeout_s: float = option(10.0, "without a frame for T seconds, a trial is lost", 1e-3, 1e9, metavar="T")
    out: Path = option(Path("out/sweep"), "folder of the results", metavar="DIR")

    def __post_init__(self):
        check_fields(self)
        for address in (self.radio, self.receiver):
            require_pluto(address, "an attenuation sweep")

    @property
    def receiver(self) -> str | None:
        """The receiver's address."""
        return self.rx_radio or self.radio


class Sweep:
    """Every round of every step over two boards; `trials`, and what `boards` say of themselves, as they come."""

    def __init__(self, burst: Burst, config: AttenuationConfig, radio: RadioConfig, receiving: ReceiveConfig):
        self.burst, self.config, self.radio, self.receiving = burst, config, radio, receiving
        self.trials: list[dict] = []
        self.boards: dict[str, dict] = {}

    def step_through(self) -> None:
        """Every round of every step."""
        samples, config = np.concatenate(list(modulate(self.burst))), self.config
        cells = [(number, step) for number in range(config.repeats) for step in config.attenuation_db]
        for number, attenuation_db in track(cells, "attenuation", console=Console(stderr=True)):
            sending = dataclasses.replace(self.radio, gain_db=-attenuation_db, gain_mode="manual", capture_samples=None)
            with open_sink(config.radio, sending) as sink:
                sink.repeat(samples)
                self.boards["transmitter"] = sink.describe()
                row = {"round": number, "attenuation_db": attenuation_db, "clipped_sent": sink.clipped}
                try:
                    row |= self._receive(sink)
                except NothingReceivedError as error:
                    row["error"] = str(error)
            self.trials.append(row)

    def _receive(self, sink: Sink) -> dict:
        """Listen once; the row of what was measured. NothingReceivedError where nothing can be rebuilt."""
        listening = ListenConfig(self.config.cycles, self.config.timeout_s)
        source = open_source(self.config.receiver, self.radio, beside=sink)
        try:
            reception = next(receive_from(source, self.receiving, listening))
        except RadioTimeoutError as error:
            raise NothingReceivedError(str(error)) from error
        self.boards["receiver"] = source.describe()
        return row_of(reception)


def row_of(reception: Reception) -> dict:
    """What a trial's table holds of a reception."""
    report, burst = reception.report, reception.burst
    counts = [burst.receptions.get(frame, 0) for frame in range(burst.header.num_frames)]
    snr_db = report["sync"]["snr_db"]
    known = report["scheme"] == "analog" and snr_db is not None
    return {
        "snr_db": snr_db,
        "nmse_db": report["weights"]["nmse_db"],
        "theory_db": float(db(theory(report["layers"], snr_db, counts))) if known else None,
        "accuracy": report["accuracy"],
        "accuracy_sent": report["accuracy_sent"],
        "cfo_hz": report["sync"]["cfo_hz"],
        "sco_ppm": report["sync"]["sco_ppm"],
        "frames_lost": report["frames"]["lost"],
        "times_received": float(np.mean(counts)),
        "gain_db": report["radio"]["gain_db"],
        "clipped_received": report["radio"]["clipped"],
        "overflow": report["radio"]["overflow"],
        "warnings": report["warnings"],
    }


def theory(layers: list[dict], snr_db: float, counts: list[int]) -> float:
    """NMSE over all weights of linear MMSE, symbols arriving at snr_db, frame i received counts[i] times.

    A tensor of p times the mean power, sent once, has mean_i 1/(1 + n_i·p·S), as its symbols are spread over all
    frames; one sent k times, its copies in different frames, 1/(1 + k·n·p·S) with the mean n.
    """
    error = 0.0
    for layer in layers:
        snr = linear(snr_db + layer["power_db"])
        times = np.array(counts) if layer["copies"] == 1 else layer["copies"] * np.mean(counts)
        error += layer["numel"] * float(np.mean(lmmse_nmse(snr, times)))
    return error / sum(layer["numel"] for layer in layers)


def summarise(trials: list[dict]) -> list[dict]:
    """Of each step: trials and those received, mean and deviation of what was measured, how it compares to theory."""
    steps = []
    for attenuation_db in sorted({row["attenuation_db"] for row in trials}):
        rows = [row for row in trials if row["attenuation_db"] == attenuation_db]
        step = {
            "attenuation_db": attenuation_db,
            "trials": len(rows),
            "received": sum("error" not in row for row in rows),
            "frames_lost": sum(row.get("frames_lost", 0) for row in rows),
        }
        for name in MEASURED:
            values = [row[name] for row in rows if row.get(name) is not None]
            step[name] = float(np.mean(values)) if values else None
            step[f"{name}_deviation"] = float(np.std(values, ddof=1)) if len(values) > 1 else None
        known = step["nmse_db"] is not None and step["theory_db"] is not None
        step["over_theory_db"] = step["nmse_db"] - step["theory_db"] if known else None
        steps.append(step)
    best = max((s["snr_db"] + s["attenuation_db"] for s in steps if s["snr_db"] is not None), default=None)
    for step in steps:
        step["short_db"] = None if step["snr_db"] is None else best - step["snr_db"] - step["attenuation_db"]
    return steps


def table(steps: list[dict]) -> Table:
    """One line a step."""
    shown = Table(
        title="over boards: mean ± deviation of each step; SNR per payload symbol, as the receiver measured it"
    )
    for name in ("attenuation", "gain", "SNR", "short", "NMSE", "theory", "accuracy", "received", "frames lost"):
        shown.add_column(name, justify="right")
    for s in steps:
        shown.add_row(
            f"{s['attenuation_db']:g} dB",
            _shown(s, "gain_db", "dB", digits=0),
            _shown(s, "snr_db", "dB"),
            "" if s["short_db"] is None else f"{s['short_db']:.2f} dB",
            _shown(s, "nmse_db", "dB"),
            "" if s["theory_db"] is None else f"{s['theory_db']:.2f} dB",
            _shown(s, "accuracy", "%", 100),
            f"{s['received']} of {s['trials']}",
            str(s["frames_lost"]),
        )
    return shown


def _shown(step, name, unit, factor=1, digits=2):
    value, deviation = step[name], step[f"{name}_deviation"]
    if value is None:
        return ""
    spread = "" if deviation is None else f" ± {factor * deviation:.{digits}f}"
    return f"{factor * value:.{digits}f}{spread} {unit}"


def draw(path: Path, steps: list[dict], accuracy_sent: float | None, title: str) -> None:
    """Error of the weights and accuracy against the measured SNR."""
    from matplotlib.figure import Figure  # half a second to import

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    error, accuracy = figure.subplots(1, 2)
    shown = [s for s in steps if s["snr_db"] is not None]
    snr_db = np.array([s["snr_db"] for s in shown])
    spread = [s["snr_db_deviation"] or 0 for s in shown]
    for axes, name, factor in ((error, "nmse_db", 1), (accuracy, "accuracy", 100)):
        rows = [i for i, s in enumerate(shown) if s[name] is not None]
        values = [factor * shown[i][name] for i in rows]
        deviations = [factor * (shown[i][f"{name}_deviation"] or 0) for i in rows]
        axes.errorbar(
            snr_db[rows], values, deviations, [spread[i] for i in rows], fmt="o", ms=4, capsize=3, label="measured"
        )
    if shown:
        grid = np.linspace(snr_db.min(), snr_db.max(), 200)
        error.plot(grid, db(lmmse_nmse(linear(grid))), lw=1, color="tab:gray", label="1/(1 + S)")
    rows = [s for s in shown if s["theory_db"] is not None]
    label = "theory, as often as frames were received"
    error.plot([s["snr_db"] for s in rows], [s["theory_db"] for s in rows], "x", color="black", label=label)
    if accuracy_sent is not None:
        accuracy.axhline(100 * accuracy_sent, ls="--", lw=1, color="tab:gray", label="as sent")
    error.set(xlabel="SNR per payload symbol, dB", ylabel="weight NMSE, dB")
    accuracy.set(xlabel="SNR per payload symbol, dB", ylabel="top-1, %")
    for axes in (error, accuracy):
        axes.grid(alpha=0.3)
        axes.legend()
    figure.suptitle(title)
    picture = io.BytesIO()
    figure.savefig(picture, dpi=130, format="png")
    write_whole(path, picture.getvalue())


def write(out: Path, command: str, trials: list[dict], boards: dict, complete: bool) -> list[dict]:
    """The files; the steps' means."""
    steps = summarise(trials)
    content = {
        "command": command,
        "complete": complete,
        "machine": machine(),
        "boards": boards,
        "steps": steps,
        "trials": trials,
    }
    write_whole(out / "attenuation.json", (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())
    text = io.StringIO()
    columns = dict.fromkeys(name for row in trials for name in row)
    writer = csv.DictWriter(text, list(columns))
    writer.writeheader()
    writer.writerows({**row, "warnings": "; ".join(row.get("warnings", []))} for row in trials)
    write_whole(out / "attenuation.csv", text.getvalue().encode())
    sent = next((row["accuracy_sent"] for row in trials if row.get("accuracy_sent") is not None), None)
    names = sorted({board["device"] for board in boards.values()})
    draw(out / "attenuation.png", steps, sent, ", ".join(names))
    return steps


def sweep_boards(sweep: Sweep, command: str) -> None:
    """Sweep, write and print; what was measured is kept whatever ends the sweep."""
    complete = False
    try:
        sweep.step_through()
        complete = True
    finally:
        if sweep.trials:
            steps = write(sweep.config.out, command, sweep.trials, sweep.boards, complete)
            Console(width=None if sys.stdout.isatty() else 160).print(table(steps))


def main(argv=None) -> int:
    """Parse and sweep."""
    argv = sys.argv[1:] if argv is None else [str(word) for word in argv]
    parser = CommandParser(prog="attenuation", description=__doc__, epilog="radio addresses:\n" + ADDRESS_HELP)
    add_sender_options(parser)
    add_options(parser, SendConfig, ["snr_db"], {"snr_db": "SNR per payload symbol that the plan is for (default 20)"})
    add_options(parser, ReceiveConfig, ["evaluate", "estimator", "data_dir"])
    radio = add_radio_options(parser, sending=False, bench=False)
    names = [field.name for field in dataclasses.fields(AttenuationConfig) if field.name != "radio"]
    add_options(radio, AttenuationConfig, names)
    options = parser.options(argv)
    command = shlex.join(["python", "sim/experiments/attenuation.py", *argv])

    def work():
        config = config_from(AttenuationConfig, options)
        receiving = config_from(ReceiveConfig, options, truth=options["model"])
        sending = config_from(SendConfig, {"snr_db": 20.0, "uep": "none"} | options)
        radio = config_from(RadioConfig, {"gain_db": "auto"} | options, timeout_s=config.timeout_s)
        check(receiving)
        burst = make_burst(options["model"], sending)
        print(describe(burst), flush=True)
        sweep_boards(Sweep(burst, config, radio, receiving), command)

    return run_command(parser, work)


if __name__ == "__main__":
    sys.exit(main())
