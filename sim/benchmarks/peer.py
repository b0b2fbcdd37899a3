"""liquid's `ofdmflexframerx` (liquid-dsp, MIT) and our receiver at its FFT size, prefix and payload, uncoded.

Its frames: two short and one long preamble symbol, a coded header of 8 user bytes, a payload of QPSK without a code,
one pilot in eight subcarriers, four fifths of the subcarriers active. Ours takes the same numerology; its header is a
polar code, its payload stays soft, and with 72 bits of header and a manifest it carries more control.
"""

from collections.abc import Callable

import numpy as np

from airnet_sdr.dsp.frame import FrameFormat, payload_slots
from airnet_sdr.dsp.uep import uniform
from airnet_sdr.models.card import ModelCard
from airnet_sdr.models.payload.analog import encode_vectors
from airnet_sdr.sim.benchmarks.stopwatch import speeds
from airnet_sdr.tx.burst import Burst, lay_out, modulate

NUM_ACTIVE = {64: 48, 256: 200, 1024: 816}  # liquid's are 50, 204 and 818: ours are a multiple of 8
MAX_PAYLOAD_BYTES = 8000  # liquid's own limit is a little above
PUSH = 1 << 16


def peer_format(fft_size: int) -> FrameFormat:
    """Our frame at liquid's numerology, its payload at most what liquid's frame carries."""
    active = NUM_ACTIVE[fft_size]
    slots = active - active // 8
    return FrameFormat(
        fft_size=fft_size,
        prefix_samples=fft_size // 4,
        num_active=active,
        num_pilots=active // 8,
        pilot_shift=3,
        header_symbols=256,
        max_symbols_per_frame=min(64, (4 * MAX_PAYLOAD_BYTES + 256) // slots),
    )


def peer_burst(fft_size: int, num_samples: int) -> Burst:
    """Random weights in about num_samples samples of that format."""
    fmt = peer_format(fft_size)
    per_frame = fmt.max_symbols_per_frame * fmt.slots_per_symbol - fmt.header_symbols - 2 * fmt.chunk_step
    frames = max(fmt.min_frames, num_samples // ((1 + fmt.max_symbols_per_frame) * fmt.symbol_samples))
    weights = np.random.default_rng(fft_size).standard_normal(2 * frames * per_frame).astype(np.float32)
    encoded = encode_vectors([weights], uniform([frames * per_frame]))
    return lay_out(ModelCard("random", "none"), [encoded], fmt=fmt)


def liquid_frames(liquid, fft_size: int, num_bytes: int, num_samples: int) -> tuple[np.ndarray, int, bytes]:
    """Frames of liquid's generator one after the other, their number, and the payload."""
    sender = liquid.ofdmflexframetx(fft_size, fft_size // 4, 0)
    payload = np.random.default_rng(fft_size).integers(0, 256, num_bytes).astype(np.uint8)
    sender.assemble(np.arange(8, dtype=np.uint8), payload)
    symbols = []
    while sender.assembled:
        symbols.append(sender.generate(fft_size + fft_size // 4).copy())
    frame = np.concatenate(symbols)
    count = max(1, num_samples // frame.size)
    return np.tile(frame, count), count, payload.tobytes()


def compare(fft_size: int, num_samples: int, repeats: int, receive) -> dict:
    """Speeds of both in one thread at 20 dB per sample; receive(samples, burst), ours, counts frames."""
    import liquid

    burst = peer_burst(fft_size, num_samples)
    ours = _noisy(np.concatenate(list(modulate(burst))), fft_size)
    num_bytes = min(payload_slots(burst.header, burst.fmt) // 4, MAX_PAYLOAD_BYTES)
    samples, count, payload = liquid_frames(liquid, fft_size, num_bytes, num_samples)
    theirs = _noisy(samples, fft_size)
    num_received = {"ours": 0, "liquid": 0}

    def run_liquid():
        def callback(context, header, received, stats):
            num_received["liquid"] += received.tobytes() == payload
            return 0

        num_received["liquid"] = 0
        receiver = liquid.ofdmflexframerx(fft_size, fft_size // 4, 0, callback, None)
        for start in range(0, theirs.size, PUSH):
            receiver.execute(theirs[start : start + PUSH])

    def run_ours():
        num_received["ours"] = receive(ours, burst)

    found = speeds({"ours": (run_ours, ours.size), "liquid": (run_liquid, theirs.size)}, repeats)
    return {
        "ratio": found["ours"]["cpu"]["median"] / found["liquid"]["cpu"]["median"],
        "ours": found["ours"]["cpu"],
        "liquid": found["liquid"]["cpu"],
        "payload_symbols_a_frame": payload_slots(burst.header, burst.fmt),
        "frames_received": f"{num_received['ours']} of {burst.header.num_frames}, "
        f"liquid {num_received['liquid']} of {count}",
    }


def scan(fft_size: int, noise: np.ndarray) -> Callable[[], None]:
    """liquid's receiver over noise alone, as a function."""
    import liquid

    def scan_noise():
        receiver = liquid.ofdmflexframerx(fft_size, fft_size // 4, 0, lambda *_: 0, None)
        for start in range(0, noise.size, PUSH):
            receiver.execute(noise[start : start + PUSH])

    return scan_noise


def _noisy(samples, seed):
    """Samples and some silence after them, in noise 20 dB below."""
    samples = np.concatenate([samples, np.zeros(4096, np.complex64)])
    noise = np.random.default_rng(seed).standard_normal((samples.size, 2), dtype=np.float32).view(np.complex64)[:, 0]
    return samples + np.float32(np.sqrt(0.005)) * noise
