"""Loss under interference, against an oracle that knows the interference's power in each cell of time and frequency.

The oracle has the samples of the interference alone, takes their mean power over each cell of 8 subcarriers and one
OFDM symbol, N, and estimates each payload symbol of unit power with the error N/(1 + N): channel, timing and header
are known to it, no frame is lost. loss = S_eff of the oracle over S_eff of the receiver, of the mean NMSEs of all
seeds (`dsp.theory.effective_snr`). It is below 0 where the receiver takes out what the oracle bears: pulses, tones.

A row has a bound where the oracle's S_eff is at least that of the weakest signal that the receiver is made for.
"""

import dataclasses
import os
from pathlib import Path

import numpy as np

from airnet_sdr.dsp import ofdm
from airnet_sdr.dsp.frame import control_slots, frame_samples
from airnet_sdr.dsp.radio.config import FREQ_HZ, RATE_HZ
from airnet_sdr.dsp.radio.scale import NOMINAL_POWER
from airnet_sdr.dsp.theory import effective_snr
from airnet_sdr.dsp.units import db
from airnet_sdr.rx.listen import Listener
from airnet_sdr.sim.benchmarks import loss
from airnet_sdr.sim.benchmarks.measure import BenchConfig, Measure, over_processes
from airnet_sdr.sim.channel import Channel, ChannelConfig
from airnet_sdr.sim.channel.impairments import KINDS
from airnet_sdr.sim.loopback import send_through
from airnet_sdr.tx.burst import LEAD_SAMPLES, TAIL_SAMPLES, Burst

CELL = 8  # subcarriers
SNR_DB = 15.0
SIRS_DB = (0.0, -10.0, -20.0)
TONE_HZ = 271_828.0
SHARES = (0.03, 0.1, 0.3)
BOUND_DB = 1.5
LEAST_SNR_EFF_DB = -5.0
RECORDING = "ook-remote.sigmf-meta"


@dataclasses.dataclass(frozen=True)
class Row:
    """A row: its name and its air."""

    name: str
    config: ChannelConfig


def rows() -> list[Row]:
    """Each kind at each level and share, and the recorded background where there is one."""
    found = [
        Row(
            f"{kind}, SIR {sir_db:g} dB, {100 * share:g} % of the time",
            ChannelConfig(snr_db=SNR_DB, cfo_hz=20e3, sco_ppm=0, interference=((kind, sir_db, share),)),
        )
        for kind in KINDS
        for sir_db in SIRS_DB
        for share in SHARES
    ]
    found += [
        Row(f"steady tone, SIR {sir_db:g} dB", ChannelConfig(snr_db=SNR_DB, cfo_hz=20e3, sco_ppm=0, tones=tone))
        for sir_db in SIRS_DB
        for tone in [((TONE_HZ, sir_db),)]
    ]
    if (path := recorded_background()) is not None:
        air = ChannelConfig(cfo_hz=20e3, sco_ppm=0, background=str(path), background_snr_db=10)
        found.append(Row("recorded background, mean SNR 10 dB", air))
    return found


def recorded_background() -> Path | None:
    """The recording in $AIRNET_DATA, if it is there."""
    path = Path(os.environ.get("AIRNET_DATA", "data")) / RECORDING
    return path if path.exists() else None


def take_measures(config: BenchConfig) -> list[Measure]:
    """The table of losses under interference."""
    burst, vectors = loss.shipped_burst(config.model)
    measures = []
    for row in rows()[1:2] if config.quick else rows():
        trials = over_processes(trial, (burst, vectors, row), list(range(config.seeds)), config.workers)
        measures.append(measure(row, trials))
    return measures


def measure(row: Row, trials: list[dict]) -> Measure:
    """The trials of a row as one measure."""
    nmse, oracle = (float(np.mean([t[name] for t in trials])) for name in ("nmse", "oracle_nmse"))
    best_db = float(db(effective_snr(oracle)))
    value = best_db - float(db(max(effective_snr(nmse), 1e-9)))
    lost = sum(t["expected"] - t["received"] for t in trials)
    detail: dict = {"nmse_db": float(db(nmse)), "oracle_nmse_db": float(db(oracle))}
    detail |= {"lost": f"{lost} of {sum(t['expected'] for t in trials)} frames"}
    bound = BOUND_DB if best_db >= LEAST_SNR_EFF_DB else None
    return Measure(row.name, value, "dB", bound, trials=f"{len(trials)} seeds", detail=detail)


def trial(burst: Burst, vectors: list[np.ndarray], row: Row, seed: int) -> dict:
    """One transmission through the row's air: NMSE of the weights, that of the oracle, frames received."""
    channel = Channel(row.config, RATE_HZ, FREQ_HZ, seed, NOMINAL_POWER)
    listener = Listener(burst.fmt)
    send_through(burst, channel, listener)
    heard = listener.bursts.get(burst.header.burst_key)
    return {
        "nmse": min(1.0, loss.nmse(heard, vectors)),
        "oracle_nmse": oracle_nmse(burst, row.config, seed),
        "received": 0 if heard is None else len(heard.receptions),
        "expected": burst.header.num_frames,
    }


def oracle_nmse(burst: Burst, config: ChannelConfig, seed: int) -> float:
    """Mean of N/(1 + N) over the payload symbols of a burst, N known for each cell."""
    alone = Channel(dataclasses.replace(config, snr_db=None), RATE_HZ, FREQ_HZ, seed, NOMINAL_POWER)
    silence = np.zeros(LEAD_SAMPLES + burst.num_samples + TAIL_SAMPLES, np.complex64)
    interference = np.concatenate([alone.process(silence), alone.flush()])
    header, fmt = burst.header, burst.fmt
    starts = LEAD_SAMPLES + frame_samples(header, fmt) * np.arange(header.num_frames)
    cfo = np.full(starts.size, 2 * np.pi * config.cfo_hz / RATE_HZ)
    spectra = ofdm.demodulate(interference, starts, cfo, header.num_symbols, fmt, first=1)[:, :, fmt.columns]
    power = np.abs(spectra.reshape(*spectra.shape[:2], -1, CELL)) ** 2
    power = np.repeat(power.mean(axis=-1), CELL, axis=-1)  # (frames, symbols, num_active)
    slots = np.take_along_axis(power, fmt.data_index[None, : header.num_symbols], axis=2).reshape(starts.size, -1)
    payload = slots[:, control_slots(header, fmt) :]
    white = 0.0 if config.snr_db is None else Channel(config, RATE_HZ, FREQ_HZ, seed, NOMINAL_POWER).noise_var
    noise_var = (payload.astype(np.float64) + white) / (NOMINAL_POWER * ofdm.amplitude(fmt) ** 2)
    return float(np.mean(noise_var / (1 + noise_var)))
