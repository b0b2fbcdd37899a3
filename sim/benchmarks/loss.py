"""Implementation loss: the energy the link spends over that of an ideal link reaching the same weight NMSE.

With E the energy of all that is sent (prefixes, preambles, pilots and control included), N0 the noise per sample and
P the pairs of weights, S = E/(P·N0), and the ideal link reaches the NMSE at S_eff: loss = S/S_eff (`dsp.theory`). It
has two parts. *Overhead* is E over the energy of the payload symbols; *estimation*, the rest, is what the receiver
makes worse than 1/(1 + S) of its payload symbols. Fraction by fraction the overhead is printed in the order in which
the frame adds it: manifest, headers, pilots, preambles, prefixes.
"""

import dataclasses

import numpy as np

from airnet_sdr.dsp.radio.config import FREQ_HZ, RATE_HZ
from airnet_sdr.dsp.radio.scale import NOMINAL_POWER, to_full_scale
from airnet_sdr.dsp.symbols import num_pairs
from airnet_sdr.dsp.theory import effective_snr, implementation_loss_db
from airnet_sdr.dsp.uep import uniform
from airnet_sdr.dsp.units import db, power
from airnet_sdr.models import checkpoint
from airnet_sdr.models.packing import to_vectors
from airnet_sdr.models.payload.analog import encode_vectors
from airnet_sdr.rx.combine import BurstCombiner, rebuild
from airnet_sdr.rx.listen import Listener
from airnet_sdr.sim.benchmarks.measure import BenchConfig, Measure, over_processes, spread
from airnet_sdr.sim.channel import PRESETS, Channel, ChannelConfig
from airnet_sdr.sim.loopback import send_through
from airnet_sdr.tx.burst import LEAD_SAMPLES, Burst, lay_out, modulate

MAX_CFO_HZ = 120e3


@dataclasses.dataclass(frozen=True)
class Row:
    """A row: an air, the loss allowed, cycles sent; random_cfo draws ±120 kHz and the clock that goes with it."""

    name: str
    config: ChannelConfig
    bound_db: float | None = None
    cycles: int = 1
    random_cfo: bool = False


ROWS = (
    Row("AWGN 20 dB", ChannelConfig(snr_db=20), 1.0),
    Row("AWGN 10 dB, CFO to ±120 kHz, ±50 ppm", ChannelConfig(snr_db=10), 1.0, random_cfo=True),
    Row("AWGN 0 dB, CFO to ±120 kHz, ±50 ppm", ChannelConfig(snr_db=0), 1.2, random_cfo=True),
    Row("bench", PRESETS["bench"], 1.8),
    Row("room", PRESETS["room"], 1.5),
    Row("AWGN -5 dB", ChannelConfig(snr_db=-5)),
    Row("AWGN -5 dB, 16 cycles", ChannelConfig(snr_db=-5), 1.5, cycles=16),
)


def take_measures(config: BenchConfig) -> list[Measure]:
    """The table of implementation losses, and what 16 cycles gain over one (12.04 dB if nothing is lost)."""
    burst, vectors = shipped_burst(config.model)
    measures, snr_eff_db = [], {}
    for row in ROWS[1:2] if config.quick else ROWS:
        trials = over_processes(trial, (burst, vectors, row), list(range(config.seeds)), config.workers)
        snr_eff_db[row.name] = spread(t["snr_eff_db"] for t in trials)["median"]
        measures.append(summarise_row(row, burst, trials))
    if ROWS[-1].name in snr_eff_db and ROWS[-2].name in snr_eff_db:
        gain_db = snr_eff_db[ROWS[-1].name] - snr_eff_db[ROWS[-2].name]
        what = "S_eff gain of 16 cycles over one: short of 12 dB by"
        seeds = f"{config.seeds} seeds"
        measures.append(Measure(what, abs(12 - gain_db), "dB", 0.4, trials=seeds, detail={"gain_db": gain_db}))
    return measures


def summarise_row(row: Row, burst: Burst, trials: list[dict]) -> Measure:
    """The trials of a row as one measure."""
    overhead = overhead_db(burst)
    loss = spread(t["loss_db"] for t in trials)
    lost = sum(t["expected"] - t["received"] for t in trials)
    detail: dict = {"loss": loss, "lost": f"{lost} of {sum(t['expected'] for t in trials)} frames"}
    detail |= {"estimation": loss["median"] - sum(overhead.values()), "overhead": sum(overhead.values()), **overhead}
    value = loss["median"] if not lost or row.bound_db is None else np.inf  # a lost frame breaks the row's contract
    return Measure(row.name, value, "dB", row.bound_db, trials=f"{len(trials)} seeds", detail=detail)


def shipped_burst(model: str) -> tuple[Burst, list[np.ndarray]]:
    """The burst of a checkpoint with every weight sent once at equal power, and its weight vectors."""
    stored = checkpoint.load(model)
    vectors = to_vectors(stored.tensors)
    protection = uniform([num_pairs(v.size) for v in vectors])
    return lay_out(stored.card, [encode_vectors(vectors, protection)]), vectors


def trial(burst: Burst, vectors: list[np.ndarray], row: Row, seed: int) -> dict:
    """One transmission through the row's air: its loss, S_eff and frames received."""
    config = row.config
    if row.random_cfo:
        config = dataclasses.replace(config, cfo_hz=np.random.default_rng(seed).uniform(-MAX_CFO_HZ, MAX_CFO_HZ))
    channel = Channel(config, RATE_HZ, FREQ_HZ, seed, NOMINAL_POWER)
    listener = Listener(burst.fmt)
    send_through(burst, channel, listener, row.cycles)
    combined = listener.bursts.get(burst.header.burst_key)
    error = nmse(combined, vectors)
    h = response(config, seed, burst)
    energy = row.cycles * sum(x.size * power(to_full_scale(x)[0]) for x in modulate(burst))
    pairs = sum(v.size for v in vectors) / 2
    return {
        "loss_db": implementation_loss_db(energy, pairs, channel.noise_var, error, h),
        "snr_eff_db": float(db(effective_snr(error, h))),
        "received": 0 if combined is None else combined.num_received,
        "expected": row.cycles * burst.header.num_frames,
    }


def nmse(combined: BurstCombiner | None, vectors: list[np.ndarray]) -> float:
    """NMSE over all weights, each tensor centred and normalised to unit power; 1 when there is no manifest."""
    manifest = None if combined is None else combined.manifest()
    if manifest is None:
        return 1.0
    received = rebuild(combined, manifest, [v.size for v in vectors]).vectors
    errors = [np.sum((w_hat - w.astype(np.float64)) ** 2) / np.var(w, dtype=np.float64)
              for w_hat, w in zip(received, vectors, strict=True)]  # fmt: skip
    return float(sum(errors) / sum(v.size for v in vectors))


def response(config: ChannelConfig, seed: int, burst: Burst) -> np.ndarray:
    """The channel over the occupied band and, where the path fades, over the OFDM symbols of the burst.

    A constant sent through the same fading without anything else comes out as the path's gain.
    """
    freqs = burst.fmt.subcarriers / burst.fmt.fft_size
    h = Channel(config, RATE_HZ, FREQ_HZ, seed, NOMINAL_POWER).frequency_response(freqs)
    if not config.doppler_hz or config.tdl:
        return h
    fading = ChannelConfig(doppler_hz=config.doppler_hz, rician_k_db=config.rician_k_db)
    channel = Channel(fading, RATE_HZ, FREQ_HZ, seed, NOMINAL_POWER)
    gain = np.concatenate([channel.process(np.ones(LEAD_SAMPLES + burst.num_samples, np.complex64)), channel.flush()])
    return gain[LEAD_SAMPLES :: burst.fmt.symbol_samples, None] / gain[0] * h


def overhead_db(burst: Burst) -> dict[str, float]:
    """What each part of the frame adds to the payload's energy, in dB, in the order given; the sum is E/payload."""
    header, fmt = burst.header, burst.fmt
    frames = header.num_frames
    parts = {
        "manifest": frames * header.num_chunk_steps * fmt.chunk_step,
        "headers": frames * fmt.header_symbols,
        "pilots": frames * header.num_symbols * fmt.num_pilots,
        "preambles": frames * fmt.num_active,
    }
    total, shares = float(np.sum(np.abs(burst.stream) ** 2, dtype=np.float64)), {}
    for name, energy in parts.items():
        shares[name] = float(db(1 + energy / total))
        total += energy
    return shares | {"prefixes": float(db(fmt.symbol_samples / fmt.fft_size))}
