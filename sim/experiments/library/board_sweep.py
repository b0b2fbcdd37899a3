"""Steps of the transmit attenuation over two boards, or one and a cable: what arrives at each."""

import dataclasses
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from airnet_sdr.dsp.errors import NothingReceivedError, RadioTimeoutError
from airnet_sdr.dsp.host.options import check_fields, option
from airnet_sdr.dsp.radio import RadioConfig, Sink, open_sink, open_source
from airnet_sdr.dsp.radio.options import require_pluto
from airnet_sdr.dsp.units import db
from airnet_sdr.rx.config import ListenConfig, ReceiveConfig
from airnet_sdr.rx.receiver import Reception, receive_from
from airnet_sdr.sim.experiments.library.steps import theory_nmse
from airnet_sdr.tx.burst import Burst, modulate


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
