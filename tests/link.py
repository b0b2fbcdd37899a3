"""What the tests of the link share: random weights as a burst, noise of a stated SNR, a receiver run over an array."""

import dataclasses

import numpy as np

from airnet_sdr.dsp.burst import FrameReceiver
from airnet_sdr.dsp.ofdm import amplitude
from airnet_sdr.dsp.uep import Protection
from airnet_sdr.dsp.units import linear, nmse
from airnet_sdr.models.card import ModelCard
from airnet_sdr.models.payload.analog import encode_vectors
from airnet_sdr.rx.combine import BurstCombiner, rebuild
from airnet_sdr.tx.burst import lay_out, modulate

NUMELS = (300, 16, 8001, 64, 11000, 10)  # about 20,000 weights, one tensor of odd length


def make_burst(numels=NUMELS, copies=1, power=1.0, seed=1, curve=None):
    """Gaussian weight vectors and their burst; copies and power are one for all tensors or one each."""
    rng = np.random.default_rng(seed)
    vectors = [(0.1 * rng.standard_normal(n) + 0.02).astype(np.float32) for n in numels]
    protection = Protection(copies=np.resize(copies, len(numels)), power=np.resize(power, len(numels)))
    protection = dataclasses.replace(protection, curves=(curve,) * len(numels))
    return vectors, burst_of(vectors, protection)


def burst_of(vectors, protection, accuracy=0.5, run=map):
    """The burst of weight vectors (numel,), protected."""
    return lay_out(ModelCard("net", "data", accuracy), [encode_vectors(vectors, protection, run)], run=run)


def transmit(burst, cycles=1):
    """All frames of a burst as one array (samples,) complex64."""
    return np.concatenate(list(modulate(burst)) * cycles)


def white(num, noise_var, seed):
    """White circular Gaussian noise (num,) complex64."""
    noise = np.random.default_rng(seed).standard_normal((num, 2)) * np.sqrt(noise_var / 2)
    return noise.astype(np.float32).view(np.complex64).reshape(-1)


def on_air(samples, snr_db=None, cfo=0.0, before=700, after=700, seed=0):
    """Silence, samples, silence, with a carrier offset (rad/sample) and noise at ``snr_db`` per payload symbol."""
    padded = np.concatenate([np.zeros(before), samples, np.zeros(after)])
    out = (padded * np.exp(1j * cfo * np.arange(padded.size))).astype(np.complex64)
    if snr_db is not None:
        out += white(out.size, amplitude() ** 2 / linear(snr_db), seed)
    return out


def receive(samples):
    """All frames of a recording, pushed whole."""
    receiver = FrameReceiver()
    return receiver.push(samples) + receiver.finish()


def weights_nmse(frames, vectors, estimator="linear"):
    """NMSE (linear) of the weights rebuilt from frames, each tensor centred and normalised first; and the combiner."""
    combiner = BurstCombiner(frames[0].header.burst_key)
    for frame in frames:
        combiner.add(frame)
    received = rebuild(combiner, combiner.manifest(), [v.size for v in vectors], estimator)
    sent = np.concatenate([(v - v.mean()) / v.std() for v in vectors])
    heard = np.concatenate([(r - v.mean()) / v.std() for r, v in zip(received.vectors, vectors, strict=True)])
    return nmse(heard, sent), combiner
