"""Speed in MS/s of complex samples: receiver from samples to weights, scanning, sender from weights to samples; liquid.

The recording is 25 million random weights at 20 dB with a carrier and clock offset; a receiver is
`rx.listen.Listener` and `rx.combine.rebuild`, as in `rx/receive.py`. The radio to keep up with has 61.44 MS/s and two
cores; what noise alone and the sender take must leave it half of its time. SciPy's FFT of 1024, which the receiver
calls for every OFDM symbol, says what the machine can do. The channel code's decoder is Sionna's, at its own threshold
and where it is easy.
Speeds are medians over wall time; *a core* is over processor time, which other programs on the machine disturb less,
and so are the ratios to liquid.
"""

import importlib.util
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from scipy import fft

from airnet_sdr.dsp import control, estimate, ofdm, reception, symbols
from airnet_sdr.dsp.burst import GROUP_SAMPLES, FrameReceiver
from airnet_sdr.dsp.intake import Intake
from airnet_sdr.dsp.radio.sigmf_file import BLOCK_SAMPLES
from airnet_sdr.dsp.symbols import num_pairs
from airnet_sdr.dsp.sync import PreambleDetector
from airnet_sdr.dsp.uep import uniform
from airnet_sdr.dsp.units import linear
from airnet_sdr.models.card import ModelCard
from airnet_sdr.models.digital import channel_code
from airnet_sdr.models.digital.channel_code import CodedPayload
from airnet_sdr.models.payload import tensors
from airnet_sdr.models.payload.analog import encode_vectors
from airnet_sdr.rx import combine
from airnet_sdr.rx.combine import rebuild
from airnet_sdr.rx.listen import Listener
from airnet_sdr.sim.benchmarks import peer
from airnet_sdr.sim.benchmarks.loss import FREQ_HZ, RATE_HZ
from airnet_sdr.sim.benchmarks.measure import BenchConfig, Measure
from airnet_sdr.sim.benchmarks.stopwatch import shares, speeds
from airnet_sdr.sim.channel import Channel, ChannelConfig
from airnet_sdr.tx import burst as framing
from airnet_sdr.tx.burst import Burst, lay_out, modulate, transmission

FULL_RATE = 61.44
OVER_LIQUID, OVER_FFT, OVER_ONE = 3.0, 0.12, 1.8
PUSH = BLOCK_SAMPLES
RECEIVER_STAGES = {
    "take samples": [(Intake, "take")],
    "scan": [(PreambleDetector, "scan")],
    "acquire": [(PreambleDetector, "acquire"), (PreambleDetector, "acquire_near")],
    "derotate": [(ofdm, "_derotate")],
    "FFT": [(ofdm, "demodulate")],
    "channel": [(estimate, "estimate_channels"), (estimate, "first_paths")],
    "interference": [(reception, "find_interference")],
    "track": [(reception, "track")],
    "matched filter": [(reception, "soft_slots")],
    "header": [(control, "decode_headers")],
    "frames": [(reception, "frames_of")],
    "manifest": [(control, "add_llr"), (control, "decode_manifest")],
    "deinterleave": [(combine, "accumulate"), (combine, "collect")],
    "combine": [(symbols, "combine")],
    "MMSE": [(symbols, "linear_mmse"), (symbols, "to_weights")],
}
CODED = ((CodedPayload(12_500, 157_752, 2), -0.4), (CodedPayload(100_000, 157_752, 6), 17.2))  # SNR in dB
SENDER_STAGES = {
    "normalise": [(tensors, "centre_and_scale"), (symbols, "to_symbols"), (symbols, "repeat")],
    "interleave": [(framing, "deal"), (framing, "interleave")],
    "control": [(control, "encode_headers"), (control, "encode_manifest")],
    "fill grid": [(ofdm, "fill_grid")],
    "IFFT": [(ofdm, "modulate")],
}


def take_measures(config: BenchConfig) -> list[Measure]:
    """All speeds, one and two threads, and the profiles of one."""
    repeats = 1 if config.quick else 5
    weights = np.random.default_rng(1).standard_normal(config.num_weights).astype(np.float32)
    burst = random_burst(weights)
    recording = record(burst)
    noise = white(recording.size)
    detector = PreambleDetector(burst.fmt)
    profiles: dict[str, tuple[Callable, dict]] = {
        "receiver, samples to weights, 1 thread": (partial(receive_burst, recording, burst, 1), RECEIVER_STAGES),
        "sender, weights to samples, 1 thread": (partial(send_weights, weights, map), SENDER_STAGES),
    }
    with ThreadPoolExecutor(2) as pool:
        works: dict[str, tuple[Callable, int]] = {}
        for label, threads, run in (("1 thread", 1, map), ("2 threads", 2, pool.map)):
            works[f"receiver, samples to weights, {label}"] = (
                partial(receive_burst, recording, burst, threads),
                recording.size,
            )
            works[f"receiver on noise alone, {label}"] = partial(listen, noise, threads), noise.size
            works[f"preamble scan of noise, {label}"] = partial(scan, detector, noise, run), noise.size
            works[f"sender, weights to samples, {label}"] = partial(send_weights, weights, run), burst.num_samples
        works["SciPy's FFT of 1024 alone, 1 thread"] = partial(transform, noise), noise.size
        found = speeds(works, repeats)
    measures = []
    for name, clocks in found.items():
        detail = {"wall": clocks["wall"], "a core": clocks["cpu"]["median"]}
        if name in profiles:
            work, stages = profiles[name]
            detail |= shares(work, stages)
        bound = None
        if name.endswith("2 threads"):
            bound = FULL_RATE if name.startswith("receiver, samples") else 2 * FULL_RATE
        measures.append(Measure(name, clocks["wall"]["median"], "MS/s", bound, False, f"{repeats} runs", detail))
    measures[0].detail["frames"] = f"{receive_burst(recording, burst, 1)} of {burst.header.num_frames}"
    return measures + ratios(found) + decoders(repeats, config.quick) + peers(noise, repeats, config.quick)


def ratios(found: dict[str, dict]) -> list[Measure]:
    """The receiver over the FFT it calls, and two threads over one."""
    one, two = (found[f"receiver, samples to weights, {label}"] for label in ("1 thread", "2 threads"))
    fft_speed = found["SciPy's FFT of 1024 alone, 1 thread"]
    return [
        Measure("receiver over SciPy's FFT alone, a core", one["cpu"]["median"] / fft_speed["cpu"]["median"], "×",
                OVER_FFT, False),
        Measure("receiver, 2 threads over 1", two["wall"]["median"] / one["wall"]["median"], "×", OVER_ONE, False),
    ]  # fmt: skip


def decoders(repeats: int, quick: bool) -> list[Measure]:
    """The channel code's decoder in kbit/s of payload, by the SNR over that at which blocks begin to arrive."""
    if importlib.util.find_spec("sionna") is None:
        return []
    measures = []
    for payload, threshold_db in CODED[:1] if quick else CODED:
        data = np.random.default_rng(3).bytes(payload.num_bytes)
        sent = channel_code.encode(data, payload)
        speed = {}
        for margin_db in (0.5, 3.0):
            snr = linear(threshold_db + margin_db)
            received = sent + white(sent.size) * np.float32(np.sqrt(0.5 / snr))
            soft = (np.float32(snr) * received).astype(np.complex64), np.full(sent.size, snr, np.float32)
            if channel_code.decode(*soft, payload) != data:
                return [Measure("LDPC decoder: a payload did not arrive", np.nan, "")]
            work = partial(channel_code.decode, *soft, payload)
            found = speeds({"": (work, 8000 * payload.num_bytes)}, repeats)  # MS/s of thousands: kbit/s
            speed[f"{margin_db:g} dB above"] = found[""]["cpu"]["median"]
        modulation = channel_code.MODULATIONS[payload.bits_per_symbol]
        what = f"LDPC decoder, {8 * payload.num_bytes:,} bits, {modulation}, a core"
        measures.append(Measure(what, speed["0.5 dB above"], "kbit/s", None, False, f"{repeats} runs", speed))
    return measures


def peers(noise: np.ndarray, repeats: int, quick: bool) -> list[Measure]:
    """Ratios to liquid on one core, at each FFT size, on frames; its speed on noise."""
    if importlib.util.find_spec("liquid") is None:
        return [Measure("liquid-dsp is not installed: pip install -e '.[bench]'", np.nan, "")]
    measures = []
    for fft_size in (64,) if quick else (64, 256, 1024):
        detail = peer.compare(fft_size, 200_000 if quick else 4_000_000, repeats, receive_burst)
        what = f"our receiver over liquid's ofdmflexframerx, M = {fft_size}, prefix {fft_size // 4}, a core"
        measures.append(Measure(what, detail.pop("ratio"), "×", OVER_LIQUID, False, f"{repeats} runs", detail))
    part = noise[:4_000_000]
    found = speeds({str(size): (peer.scan(size, part), part.size) for size in (64, 256, 1024)}, repeats)
    speed = {f"M = {size}": clocks["cpu"]["median"] for size, clocks in found.items()}
    what = "liquid's ofdmflexframerx on noise alone, a core"
    return [*measures, Measure(what, max(speed.values()), "MS/s", detail=speed)]


def random_burst(weights: np.ndarray, run=map) -> Burst:
    """One tensor of weights (n,), sent once."""
    encoded = encode_vectors([weights], uniform([num_pairs(weights.size)]), run)
    return lay_out(ModelCard("random", "none"), [encoded], run=run)


def record(burst: Burst) -> np.ndarray:
    """The burst through a channel at 20 dB, with 40 kHz of carrier offset and the matching clock offset."""
    channel = Channel(ChannelConfig(snr_db=20, cfo_hz=40e3, delay_samples=1000.4), RATE_HZ, FREQ_HZ)
    parts = [channel.process(samples) for samples, _ in transmission(burst)]
    return np.concatenate([*parts, channel.flush()])


def white(num: int) -> np.ndarray:
    """Noise (num,) complex64."""
    return np.random.default_rng(2).standard_normal(2 * num, dtype=np.float32).view(np.complex64)


def receive_burst(samples: np.ndarray, burst: Burst, threads: int = 1) -> int:
    """Receive and rebuild the weights; returns the number of frames received."""
    listener = Listener(burst.fmt, num_threads=threads)
    for start in range(0, samples.size, PUSH):
        listener.push(samples[start : start + PUSH])
    listener.finish()
    if listener.best is None or (manifest := listener.best.manifest()) is None:
        return 0
    rebuild(listener.best, manifest, [2 * burst.stream.size])
    return listener.best.num_received


def listen(samples: np.ndarray, threads: int) -> None:
    """Run the whole receiver over samples without a burst."""
    receiver = FrameReceiver(num_threads=threads)
    for start in range(0, samples.size, PUSH):
        receiver.push(samples[start : start + PUSH])
    receiver.finish()


def scan(detector: PreambleDetector, samples: np.ndarray, run) -> None:
    """The search for preambles alone."""
    for start in range(0, samples.size, PUSH):
        detector.scan(samples[start : start + PUSH], run)


def transform(samples: np.ndarray) -> None:
    """The FFTs of OFDM symbols, as many samples as there are, in the receiver's groups."""
    for start in range(0, samples.size - GROUP_SAMPLES + 1, GROUP_SAMPLES):
        fft.fft(samples[start : start + GROUP_SAMPLES].reshape(-1, 1024), axis=1, norm="ortho")


def send_weights(weights: np.ndarray, run) -> None:
    """Modulate weights to samples, frame by frame."""
    for _ in modulate(random_burst(weights, run), run):
        pass
