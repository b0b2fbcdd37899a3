"""Accuracy of a sent network: in equivalent white noise, or over the whole link."""

import dataclasses

from airnet_sdr.dsp.radio.config import FREQ_HZ, RATE_HZ
from airnet_sdr.dsp.radio.scale import NOMINAL_POWER
from airnet_sdr.dsp.uep import Protection
from airnet_sdr.dsp.units import linear
from airnet_sdr.models.batch_norm import recompute_statistics
from airnet_sdr.models.checkpoint import Checkpoint
from airnet_sdr.models.evaluate import logits, top1
from airnet_sdr.models.nets import build
from airnet_sdr.models.packing import load_vectors, tensor_specs
from airnet_sdr.models.payload.analog import AnalogPayload, AnalogPlan
from airnet_sdr.rx.combine import BurstCombiner, rebuild
from airnet_sdr.rx.listen import Listener
from airnet_sdr.sim.channel import Channel, ChannelConfig
from airnet_sdr.sim.experiments.library.white_noise import WhiteNoise
from airnet_sdr.sim.loopback import send_through
from airnet_sdr.tx.burst import Burst, lay_out


@dataclasses.dataclass(frozen=True)
class Sent:
    """A sent network: its name in results, its checkpoint and its protection."""

    name: str
    checkpoint: Checkpoint
    protection: Protection

    def burst(self, seed: int) -> Burst:
        """The burst of the network."""
        plan = AnalogPlan(self.checkpoint, self.protection)
        return lay_out(plan.card, [AnalogPayload.encode(plan)], seed)


def score_in_white_noise(sent: Sent, snr_db: float, seed: int, images, labels, estimator: str = "linear") -> float:
    """Accuracy with noise on the weights equivalent to the link's."""
    burst = sent.burst(seed)
    return score_received(burst, WhiteNoise(burst, float(linear(snr_db)), seed), images, labels, estimator)


def score_over_link(
    sent: Sent, snr_db: float, seed: int, images, labels, air=ChannelConfig(), estimator: str = "linear"
) -> float | None:
    """Accuracy over the whole link, by default on an AWGN channel; None if nothing was received."""
    burst = sent.burst(seed)
    received = receive_burst(burst, snr_db, seed, air)
    return None if received is None else score_received(burst, received, images, labels, estimator)


def receive_burst(burst: Burst, snr_db: float, seed: int, air=ChannelConfig()) -> BurstCombiner | None:
    """Receive a burst over the whole link; None if its manifest was not received."""
    listener = Listener()
    channel = Channel(dataclasses.replace(air, snr_db=snr_db), RATE_HZ, FREQ_HZ, seed, signal_power=NOMINAL_POWER)
    send_through(burst, channel, listener)
    return None if listener.best is None or listener.best.manifest() is None else listener.best


def score_received(burst: Burst, received, images, labels, estimator: str = "linear") -> float:
    """Accuracy of the rebuilt network, its batch norm statistics measured on these images."""
    manifest = burst.manifest
    module = build(manifest.card.architecture, manifest.card.widths)
    weights = rebuild(received, manifest, [spec.numel for spec in tensor_specs(module)], estimator)
    return score_module(load_vectors(module, weights.vectors), images, labels)


def score_module(module, images, labels) -> float:
    """Top-1 accuracy, with batch norm statistics measured on these images without labels, as in the receiver."""
    recompute_statistics(module, images)
    return top1(logits(module, images), labels)
