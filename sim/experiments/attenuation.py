"""Lab sweep: steps the transmit attenuation of a board and measures the received network at each step.

    python sim/experiments/attenuation.py --radio pluto:ip:192.168.2.1 --rx-radio pluto:ip:192.168.3.1

`sim/sweep.py --radio` is an alias.

The burst is sent endlessly; at each step the receiver listens anew until every frame has arrived --cycles times,
rebuilds the network, and measures accuracy and the weights' error. Rounds of all steps are repeated, so that drift
affects all steps equally. For comparison, `theory_nmse` is the NMSE of linear MMSE at the measured SNR, 1/(1 + n·S) for
weights received n times. `short_db` is the measured SNR's shortfall against following the attenuation dB for dB, with
the best step as reference: large where converter, clipping or leakage, not noise, limits the SNR.

Writes attenuation.json (every trial, means and deviations of each step), attenuation.csv (every trial) and
attenuation.png, also after an error or Ctrl-C.
"""

import dataclasses
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

from airnet_sdr.dsp.errors import NothingReceivedError, RadioTimeoutError
from airnet_sdr.dsp.host.command import CommandParser, run_command
from airnet_sdr.dsp.host.options import add_options, check_fields, config_from, option
from airnet_sdr.dsp.radio import ADDRESS_HELP, RadioConfig, Sink, open_sink, open_source
from airnet_sdr.dsp.radio.options import add_radio_options, require_pluto
from airnet_sdr.dsp.units import db
from airnet_sdr.rx.config import ListenConfig, ReceiveConfig
from airnet_sdr.rx.receiver import Reception, check, receive_from
from airnet_sdr.sim.experiments.library.steps import steps_table, theory_nmse, write_steps
from airnet_sdr.tx.burst import Burst, modulate
from airnet_sdr.tx.config import SendConfig
from airnet_sdr.tx.send import add_sender_options
from airnet_sdr.tx.sender import describe, make_burst


@dataclasses.dataclass(frozen=True)
class AttenuationConfig:
    """The steps of a sweep, its rounds, and the two boards."""

    radio: str | None = option(None, "the sender's board", metavar="ADDRESS")
    rx_radio: str | None = option(None, "the receiver's board (default: that of --radio)", metavar="ADDRESS")
    attenuation_db: tuple[float, ...] = option(
        (0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0), "attenuations below full transmit power, dB", 0, 89.75, metavar="A"
    )
    repeats: int = option(3, "rounds of all steps", 1, 10**6)
    cycles: int = option(1, "cycles combined per trial", 1, 2**31, metavar="K")
    timeout_s: float = option(10.0, "a trial without a frame for T seconds is lost", 1e-3, 1e9, metavar="T")
    out: Path = option(Path("out/sweep"), "output folder", metavar="DIR")

    def __post_init__(self):
        check_fields(self)
        for address in (self.radio, self.receiver):
            require_pluto(address, "an attenuation sweep")

    @property
    def receiver(self) -> str | None:
        """The receiver's address."""
        return self.rx_radio or self.radio


class Sweep:
    """A sweep over two boards; collects the `trials` and the descriptions of the `boards`."""

    def __init__(self, burst: Burst, config: AttenuationConfig, radio: RadioConfig, receiving: ReceiveConfig):
        self.burst, self.config, self.radio, self.receiving = burst, config, radio, receiving
        self.trials: list[dict] = []
        self.boards: dict[str, dict] = {}

    def step_through(self) -> None:
        """Run every round of every step."""
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
        """Listen once; returns the row of measurements. NothingReceivedError if no network can be rebuilt."""
        listening = ListenConfig(self.config.cycles, self.config.timeout_s)
        source = open_source(self.config.receiver, self.radio, beside=sink)
        try:
            reception = next(receive_from(source, self.receiving, listening))
        except RadioTimeoutError as error:
            raise NothingReceivedError(str(error)) from error
        self.boards["receiver"] = source.describe()
        return row_of(reception)


def row_of(reception: Reception) -> dict:
    """A reception's row in the table of trials."""
    report, burst = reception.report, reception.burst
    counts = [burst.receptions.get(frame, 0) for frame in range(burst.header.num_frames)]
    snr_db = report["sync"]["snr_db"]
    known = report["scheme"] == "analog" and snr_db is not None
    return {
        "snr_db": snr_db,
        "nmse_db": report["weights"]["nmse_db"],
        "theory_db": float(db(theory_nmse(report["layers"], snr_db, counts))) if known else None,
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


def sweep_boards(sweep: Sweep, command: str) -> None:
    """Sweep, write and print; also after an error the measurements are written."""
    complete = False
    try:
        sweep.step_through()
        complete = True
    finally:
        if sweep.trials:
            steps = write_steps(sweep.config.out, command, sweep.trials, sweep.boards, complete)
            Console(width=None if sys.stdout.isatty() else 160).print(steps_table(steps))


def main(argv=None) -> int:
    """Parse and sweep."""
    argv = sys.argv[1:] if argv is None else [str(word) for word in argv]
    parser = CommandParser(prog="attenuation", description=__doc__, epilog="radio addresses:\n" + ADDRESS_HELP)
    add_sender_options(parser)
    add_options(parser, SendConfig, ["snr_db"], {"snr_db": "SNR per payload symbol to plan for (default 20)"})
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
