"""What a sent network is worth to a judge: in equivalent white noise, or over the whole link."""

import dataclasses

from airnet_sdr.dsp.radio.config import FREQ_HZ, RATE_HZ
from airnet_sdr.dsp.radio.scale import NOMINAL_POWER
from airnet_sdr.dsp.uep import Protection
from airnet_sdr.dsp.units import linear
from airnet_sdr.models.checkpoint import Checkpoint
from airnet_sdr.models.nets import build
from airnet_sdr.models.packing import load_vectors, tensor_specs
from airnet_sdr.models.payload.analog import AnalogPayload, AnalogPlan
from airnet_sdr.models.plan_config import PlanConfig
from airnet_sdr.rx.combine import BurstCombiner, rebuild
from airnet_sdr.rx.listen import Listener
from airnet_sdr.sim.channel import Channel, ChannelConfig
from airnet_sdr.sim.experiments.library.judge import Judge
from airnet_sdr.sim.experiments.library.white_noise import WhiteNoise
from airnet_sdr.sim.loopback import send_through
from airnet_sdr.tx.burst import Burst
from airnet_sdr.tx.sender import encode_burst


@dataclasses.dataclass(frozen=True)
class Sent:
    """A sent network: its name in results, its checkpoint, its protection, and the config of its plan."""

    name: str
    checkpoint: Checkpoint
    protection: Protection
    config: PlanConfig = PlanConfig()

    def burst(self, seed: int) -> Burst:
        """The burst of the network."""
        return encode_burst(AnalogPayload, AnalogPlan(self.checkpoint, self.protection), self.config, seed)


def score_in_white_noise(sent: Sent, snr_db: float, seed: int, judge: Judge, estimator: str = "linear") -> float:
    """The judge's number with noise on the weights equivalent to the link's."""
    burst = sent.burst(seed)
    return score_received(burst, WhiteNoise(burst, float(linear(snr_db)), seed), judge, estimator)


def score_over_link(
    sent: Sent, snr_db: float, seed: int, judge: Judge, air=ChannelConfig(), estimator: str = "linear"
) -> float | None:
    """The judge's number over the whole link, by default on an AWGN channel; None if nothing was received."""
    burst = sent.burst(seed)
    received = receive_burst(burst, snr_db, seed, air)
    return None if received is None else score_received(burst, received, judge, estimator)


def receive_burst(burst: Burst, snr_db: float, seed: int, air=ChannelConfig()) -> BurstCombiner | None:
    """Receive a burst over the whole link; None if its manifest was not received."""
    listener = Listener()
    channel = Channel(dataclasses.replace(air, snr_db=snr_db), RATE_HZ, FREQ_HZ, seed, signal_power=NOMINAL_POWER)
    send_through(burst, channel, listener)
    return None if listener.best is None or listener.best.manifest() is None else listener.best


def score_received(burst: Burst, received, judge: Judge, estimator: str = "linear") -> float:
    """The judge's number for the rebuilt network."""
    manifest = burst.manifest
    module = build(manifest.card.architecture, manifest.card.widths)
    weights = rebuild(received, manifest, [spec.numel for spec in tensor_specs(module)], estimator)
    if weights.card is not None:
        module = build(weights.card.architecture, weights.card.widths)
    return judge(load_vectors(module, weights.vectors), weights.state)
