"""Detection: frames missed in noise at any carrier offset, false frames in noise alone, control words lost.

A frame counts as received when its preamble was found and its header decoded; each of the frames is a stream of its
own, with noise before and after, a fractional delay and the clock offset that matches its carrier offset. The whole
receiver searches the noise. Control words are decoded over a known flat channel; the same SNR through the whole
receiver is shown too.
"""

import dataclasses
import itertools

import numpy as np

from airnet_sdr.dsp import control
from airnet_sdr.dsp.burst import FrameReceiver
from airnet_sdr.dsp.frame import DEFAULT_FORMAT as FMT
from airnet_sdr.dsp.frame import Header, layout_burst, manifest_capacity, manifest_uses
from airnet_sdr.dsp.ofdm import amplitude
from airnet_sdr.dsp.sync import MAX_CFO
from airnet_sdr.dsp.uep import uniform
from airnet_sdr.dsp.units import db, linear
from airnet_sdr.models.card import ModelCard
from airnet_sdr.models.payload.analog import encode_vectors
from airnet_sdr.sim.benchmarks.loss import FREQ_HZ, RATE_HZ
from airnet_sdr.sim.benchmarks.measure import BenchConfig, Measure, over_processes
from airnet_sdr.sim.channel import Channel, ChannelConfig
from airnet_sdr.tx.burst import Burst, lay_out, modulate

TRIALS, NOISE_SAMPLES = 3000, 100_000_000
FRAME_SNR_DB = -5.0  # per sample
CONTROL_SNR_DB = -6.5  # per symbol
MANIFEST_BYTES = 200
NOISE_BLOCK = 1 << 20
GAP_SAMPLES = 3000


def take_measures(config: BenchConfig) -> list[Measure]:
    """Missed and false frames, header and manifest errors."""
    trials = 12 if config.quick else TRIALS
    blocks = 2 if config.quick else -(-NOISE_SAMPLES // NOISE_BLOCK)

    def spread_over(function, shared, num):
        parts = np.array_split(np.arange(num), min(num, 8 * config.workers))
        return itertools.chain.from_iterable(over_processes(function, shared, parts, config.workers))

    frames = burst_of_frames()
    per_symbol_db = FRAME_SNR_DB + float(db(amplitude(FMT) ** 2))
    measures = []
    for snr_db, bound in ((per_symbol_db, 0), (CONTROL_SNR_DB, None)):
        found = list(spread_over(receive_alone, (frames, snr_db, trials), trials))
        cfos = [float(trial["cfo"]) for trial in found if not trial["received"]]
        detail = {"false": sum(trial["others"] for trial in found), "snr_per_symbol_db": snr_db}
        detail |= {"missed_at_cfo": [round(cfo, 3) for cfo in cfos[:8]]} if cfos else {}
        what = f"frames missed at {snr_db - db(amplitude(FMT) ** 2):.1f} dB per sample, CFO to ±{MAX_CFO} rad/sample"
        measures.append(Measure(what, len(cfos), "frames", bound, trials=f"{trials} frames", detail=detail))
    false = sum(spread_over(receive_noise, (), blocks))
    measures.append(Measure("false frames in noise", false, "frames", 0, trials=f"{blocks * NOISE_BLOCK:.2g} samples"))
    for name in ("header", "manifest"):
        errors = sum(spread_over(decode_control, (name,), trials))
        what = f"{name} errors at {CONTROL_SNR_DB} dB per symbol, channel known"
        measures.append(Measure(what, errors, "words", 0, trials=f"{trials} words"))
    return measures


def burst_of_frames() -> Burst:
    """Random weights that fill a few frames of full length."""
    weights = np.random.default_rng(1).standard_normal(300_000).astype(np.float32)
    return lay_out(ModelCard("random", "none"), [encode_vectors([weights], uniform([weights.size // 2]))])


def receive_alone(burst: Burst, snr_db: float, num: int, trials: np.ndarray) -> list[dict]:
    """Trials (n,) out of num: one frame each, in noise, at offsets that cover the whole range evenly."""
    sent = list(modulate(burst))
    outcomes = []
    for trial in trials:
        rng = np.random.default_rng([1, trial])
        cfo = MAX_CFO * (2 * (trial + rng.random()) / num - 1)
        delay = GAP_SAMPLES * rng.random()
        air = ChannelConfig(snr_db=snr_db, cfo_hz=cfo * RATE_HZ / (2 * np.pi), delay_samples=delay)
        channel = Channel(air, RATE_HZ, FREQ_HZ, int(trial))
        number = int(trial) % len(sent)
        samples = [channel.process(part) for part in (sent[number], np.zeros(GAP_SAMPLES, np.complex64))]
        frames = receive_frames(np.concatenate([*samples, channel.flush()]))
        header = dataclasses.replace(burst.header, frame=number)
        received = sum(frame.header == header for frame in frames)
        outcomes.append({"cfo": cfo, "received": received == 1, "others": len(frames) - received})
    return outcomes


def receive_frames(samples: np.ndarray) -> list:
    """All frames of a stream with a decoded header, without those extrapolated backwards."""
    receiver = FrameReceiver()
    return [frame for frame in receiver.push(samples) + receiver.finish() if not frame.supplement]


def receive_noise(blocks: np.ndarray) -> list[int]:
    """Frames found in each of the numbered blocks of noise, searched as one stream."""
    receiver = FrameReceiver()
    counts = []
    for block in blocks:
        noise = np.random.default_rng([2, block]).standard_normal(2 * NOISE_BLOCK, dtype=np.float32)
        counts.append(len(receiver.push(noise.view(np.complex64))))
    return [*counts, len(receiver.finish())]


def decode_control(name: str, trials: np.ndarray) -> list[bool]:
    """Whether each random header, or manifest of 200 bytes, was decoded wrongly or not at all."""
    layout = layout_burst(150_000, MANIFEST_BYTES, 0)
    noise_var = 1 / float(linear(CONTROL_SNR_DB))
    errors = []
    for trial in trials:
        rng = np.random.default_rng([3, trial])
        if name == "header":
            header = Header(int(rng.integers(1 << 12)), int(rng.integers(1 << 14)), 1 << 14, 24, 7)
            received = control.decode_headers(_in_noise(control.encode_header(header), noise_var, rng)[None])[0]
            errors.append(received != header)
        else:
            sent = rng.bytes(manifest_capacity(layout, FMT))
            soft = _in_noise(control.encode_manifest(sent, layout).reshape(-1), noise_var, rng)[: manifest_uses(layout)]
            llr = np.zeros(control.manifest_block_bits(layout), np.float32)
            control.add_llr(soft, 0, llr)
            errors.append(control.decode_manifest(llr, layout) != sent)
    return errors


def _in_noise(symbols, noise_var, rng):
    """Matched-filter output y/noise_var over a flat channel of gain 1."""
    noise = rng.standard_normal((symbols.size, 2), dtype=np.float32).view(np.complex64)[:, 0]
    return ((symbols + np.float32(np.sqrt(noise_var / 2)) * noise) / np.float32(noise_var)).astype(np.complex64)
