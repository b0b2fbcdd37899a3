"""Scale: a long stream through the receiver, block by block, in a process of its own: peak memory and time per sample.

The stream is generated in laps of equal length, each one cycle of 25 million random weights at 20 dB and noise.
Further cycles of the burst must not use more memory, and the last lap must take no longer than the second; at the end
the cycles are combined to weights. `--scale-samples 1e9` is the contract's length; the default is
a fifth.
"""

import time
from collections.abc import Iterator
from multiprocessing import get_context

import numpy as np

from airnet_sdr.dsp.ofdm import amplitude
from airnet_sdr.dsp.units import db
from airnet_sdr.rx.combine import rebuild
from airnet_sdr.rx.listen import Listener
from airnet_sdr.sim.benchmarks.measure import BenchConfig, Measure
from airnet_sdr.sim.benchmarks.processes import peak_bytes
from airnet_sdr.sim.benchmarks.speed import PUSH, random_burst, white
from airnet_sdr.tx.burst import modulate

LAPS = 5
NOISE_VAR = 0.01
MEMORY_GB = 2.0


def take_measures(config: BenchConfig) -> list[Measure]:
    """Peak memory, time of the last lap over that of an early one, and what 5 cycles combined came to."""
    with get_context("spawn").Pool(1) as pool:
        found = pool.apply(receive_laps, (config.num_weights, config.scale_samples))
    _, second, *_, last = found["lap_seconds"]  # the first compiles and has its memory given
    trials = f"{found['samples']:.2g} samples"
    detail = {name: found[name] for name in ("lap_samples", "frames", "start_gb")} | {"weights": config.num_weights}
    speed = {"MS/s of each lap": [round(1e-6 * found["lap_samples"] / s, 1) for s in found["lap_seconds"]]}
    return [
        Measure("peak memory of a long stream", found["peak_gb"], "GB", MEMORY_GB, True, trials, detail),
        Measure("time per sample, last lap over second", last / second, "×", 1.15, True, trials, speed),
        Measure("weight NMSE after 5 cycles", found["nmse_db"], "dB", round(found["bound_db"] + 0.5, 2), True, trials),
    ]


def receive_laps(num_weights: int, num_samples: int) -> dict:
    """The stream through a receiver: memory, seconds of each lap, frames and NMSE."""
    weights = np.random.default_rng(1).standard_normal(num_weights).astype(np.float32)
    burst = random_burst(weights)
    noise = white(1 << 22) * np.float32(
        np.sqrt(NOISE_VAR / 2)
    )  # read from random offsets, which is faster than drawing
    rng = np.random.default_rng(3)
    lap = max(num_samples // LAPS, burst.num_samples)
    start_gb = 1e-9 * peak_bytes()
    listener = Listener(burst.fmt)
    laps = []
    for _ in range(LAPS):
        seconds = 0.0
        for samples in one_lap(burst, lap):
            place = int(rng.integers(noise.size - samples.size))
            noisy = samples + noise[place : place + samples.size]
            started = time.perf_counter()
            listener.push(noisy)
            seconds += time.perf_counter() - started
        laps.append(seconds)
    listener.finish()
    combiner = listener.best
    estimate = rebuild(combiner, combiner.manifest(), [num_weights]).vectors[0]
    error = float(np.mean((estimate - weights) ** 2, dtype=np.float64) / np.var(weights, dtype=np.float64))
    return {
        "peak_gb": 1e-9 * peak_bytes(),
        "start_gb": start_gb,
        "lap_seconds": laps,
        "lap_samples": lap,
        "samples": LAPS * lap,
        "frames": f"{combiner.num_received} of {LAPS * burst.header.num_frames}",
        "nmse_db": float(db(error)),
        "bound_db": float(db(1 / (1 + LAPS * amplitude(burst.fmt) ** 2 / NOISE_VAR))),
    }


def one_lap(burst, num_samples: int) -> Iterator[np.ndarray]:
    """A cycle of the burst, then silence, num_samples in all."""
    left = num_samples
    for samples in modulate(burst):
        left -= samples.size
        yield samples
    silence = np.zeros(PUSH, np.complex64)
    while left > 0:
        yield silence[:left]
        left -= PUSH
