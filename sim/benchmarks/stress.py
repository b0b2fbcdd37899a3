"""Implementation loss under stress: events inside frames, echoes past the prefix, fading, clipping.

Events come in the middle of OFDM symbol 12. The bound, where there is one, is a receiver that loses the frames they
touch and no others; *attainable* is one that loses only the OFDM symbols hit, or uses them at their remaining SNR:
with f the payload's share hit and S' the SNR there, NMSE = (1 − f)/(1 + S) + f/(1 + S'). A rail clipped at A standard
deviations keeps α = 1 − 2Q(A) of its amplitude and gains the noise E|clip − x|² − (1 − α)² (Bussgang 1952). For
echoes past the prefix attainable is an equaliser that uses their energy.
"""

import dataclasses

import numpy as np
from scipy.stats import norm

from airnet_sdr.dsp.frame import frame_samples, payload_slots
from airnet_sdr.dsp.ofdm import amplitude
from airnet_sdr.dsp.radio.scale import NOMINAL_POWER
from airnet_sdr.dsp.theory import converter_nmse, effective_snr
from airnet_sdr.dsp.units import db, linear
from airnet_sdr.sim.benchmarks import loss
from airnet_sdr.sim.benchmarks.measure import BenchConfig, Measure, over_processes
from airnet_sdr.sim.channel import PRESETS, Channel, ChannelConfig
from airnet_sdr.tx.burst import LEAD_SAMPLES, Burst

HIT_SYMBOL = 12
CLIP_DB = 3.0


@dataclasses.dataclass(frozen=True)
class StressRow(loss.Row):
    """A row with the least cost of its events.

    share : of the payload that is hit; hit_noise : noise there over the signal, inf where erased; touched : share of
    the payload in the frames touched, None for no bound; distortion : noise everywhere over signal and noise
    """

    share: float = 0.0
    hit_noise: float = np.inf
    touched: float | None = None
    distortion: float = 0.0


def take_measures(config: BenchConfig) -> list[Measure]:
    """The losses under stress beside what is attainable."""
    burst, vectors = loss.shipped_burst(config.model)
    measures = []
    for row in rows(burst)[2:3] if config.quick else rows(burst):
        trials = over_processes(loss.trial, (burst, vectors, row), list(range(config.seeds)), config.workers)
        found = loss.summarise_row(row, burst, trials)
        best = attainable_db(row, burst, row.share, row.hit_noise)
        bound = None if row.touched is None else round(attainable_db(row, burst, row.touched), 2)
        detail = {"attainable": best, "loss": found.detail["loss"], "lost": found.detail["lost"]}
        measures.append(dataclasses.replace(found, bound=bound, detail=detail))
    return measures


def rows(burst: Burst) -> list[StressRow]:
    """The airs; events need the frame's geometry."""
    header, fmt = burst.header, burst.fmt
    frames, symbol = header.num_frames, min(HIT_SYMBOL, header.num_symbols - 1)
    hit = LEAD_SAMPLES + (1 + symbol) * fmt.symbol_samples + fmt.symbol_samples // 2
    at = [hit + frame * frame_samples(header, fmt) for frame in range(frames)]
    one = fmt.slots_per_symbol / payload_slots(header, fmt)  # payload share of an OFDM symbol in its frame
    steps = tuple((start, 6.0 * (i % 2 == 0)) for i, start in enumerate(at))
    bursts = tuple((start, 300, 15.0) for start in at)
    overrun = float(linear(15)) * 300 / fmt.fft_size / amplitude(fmt) ** 2
    high = np.sqrt(linear(6))
    step = ((high - 1) / (high + 1)) ** 2  # half a symbol at either gain: (deviation over mean)²

    def row(name, air, touched=None, **cost):
        return StressRow(f"{name}, 15 dB", ChannelConfig(snr_db=15, **air), touched=touched, **cost)

    lost = {"touched": 1 / frames, "share": one / frames}
    cut = {"cut_start_samples": at[0], "cut_stop_samples": at[-1]}
    clipped = {"bits": 12, "full_scale_db": CLIP_DB}

    return [
        row("echo of -10 dB 60 samples late", {"echoes": ((60.0, -10.0, 45.0),)}),
        row("Rayleigh path, Doppler 5 Hz", {"doppler_hz": 5}),
        row("500 samples dropped in one frame", {"drops": ((at[1], 500),)}, **lost),
        row("1024 samples repeated in one frame", {"repeats": ((at[1], 1024),)}, **lost),
        row("burst of 300 samples at +15 dB in every frame", {"bursts": bursts}, share=one, hit_noise=overrun),
        row("gain step of 6 dB in every frame", {"gain_steps": steps}, share=one, hit_noise=step),
        row("clipped at 3 dB over a rail's rms", clipped, distortion=_clip_distortion()),
        row("recording begins and ends inside a frame", cut, touched=2 / frames, share=(1 + one) / frames),
        StressRow("hostile", PRESETS["hostile"]),
    ]


def attainable_db(row: StressRow, burst: Burst, share: float, hit_noise: float = np.inf) -> float:
    """The loss, overhead included, when a share of the payload is hit and everything else is ideal."""
    channel = Channel(row.config, loss.RATE_HZ, loss.FREQ_HZ, 0, NOMINAL_POWER)
    noise_var = channel.noise_var + row.distortion * (NOMINAL_POWER + channel.noise_var)
    signal = NOMINAL_POWER * amplitude(burst.fmt) ** 2
    snr, hit_snr = signal / noise_var, 1 / (noise_var / signal + hit_noise)
    nmse = (1 - share) / (1 + snr) + share / (1 + hit_snr)
    return float(sum(loss.overhead_db(burst).values()) + db(signal / channel.noise_var) - db(effective_snr(nmse)))


def _clip_distortion() -> float:
    scale = np.sqrt(linear(CLIP_DB))
    kept = 1 - 2 * norm.sf(scale)
    return float((converter_nmse(scale) - (1 - kept) ** 2) / kept**2)
