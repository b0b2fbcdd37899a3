"""One trial: a plan's network over a channel once, by the whole link or a faster simulation, named in its row.

- link: the frames, the air, the receiver and the LDPC decoder of `sim.loopback`;
- equivalent (analog): the link's noise on the weights at the channel's SNR;
- equivalent (hybrid): the same on the refinement; the base arrives or not as for digital;
- table (digital): the whole model arrives with the probability from the measured waterfalls and the receiver's loss
  (`models.digital.rate.arrival`);
- bound: the model arrives if b·log2(1 + |h|² S) is at least its bits.

Channels are static (AWGN) or flat Rayleigh fading of 1 Hz, so that the gain h is nearly constant over a burst of a
tenth of a second. The fast ways use the gain at the start of the burst: trials of one seed have the same fading in all
schemes.
"""

import contextlib
import dataclasses
import functools
import math
import zlib

import numpy as np
import pyarrow as pa

from airnet_sdr.dsp.errors import NothingReceivedError
from airnet_sdr.dsp.radio.config import FREQ_HZ, RATE_HZ
from airnet_sdr.dsp.radio.scale import NOMINAL_POWER
from airnet_sdr.dsp.units import db, linear
from airnet_sdr.models.digital.rate import arrival, best_payload
from airnet_sdr.models.digital.scheme import weights_of
from airnet_sdr.models.packing import tensor_specs
from airnet_sdr.models.payload import DigitalPayload, HybridPayload
from airnet_sdr.models.payload.digital import DigitalPlan
from airnet_sdr.rx.combine import rebuild
from airnet_sdr.sim.channel import Channel
from airnet_sdr.sim.channel.config import ChannelConfig
from airnet_sdr.sim.experiments.grid.plans import Networks, Place, Plan, hybrid_accuracy, refined
from airnet_sdr.sim.experiments.library.networks import load_once
from airnet_sdr.sim.experiments.library.scoring import (
    receive_burst,
    score_in_white_noise,
    score_over_link,
    score_received,
)
from airnet_sdr.tx.burst import lay_out

AIRS = {"static": ChannelConfig(), "fading": ChannelConfig(doppler_hz=1.0)}

KEY = ("arch", "scheme", "channel", "way", "payload_uses", "plan_snr_db", "snr_db", "training_seed", "link_seed")
SCHEMA = pa.schema(
    [
        ("arch", pa.string()),
        ("scheme", pa.string()),
        ("channel", pa.string()),
        ("way", pa.string()),
        ("payload_uses", pa.int64()),
        ("plan_snr_db", pa.float64()),
        ("snr_db", pa.float64()),
        ("training_seed", pa.int64()),
        ("link_seed", pa.int64()),
        ("gain_db", pa.float64()),  # of the channel at the start of the burst
        ("network", pa.string()),  # null: none fits the budget
        ("weights", pa.int64()),
        ("bits", pa.int64()),  # of the network, compressed; null: analog
        ("bits_per_symbol", pa.int64()),
        ("code_rate", pa.float64()),
        ("coded_uses", pa.int64()),  # of a hybrid's payload, those of its base
        ("arrived", pa.bool_()),
        ("accuracy", pa.float64()),  # null where nothing arrived
        ("accuracy_sent", pa.float64()),
    ]
)


@dataclasses.dataclass(frozen=True)
class Trial:
    """A plan, its channel, the seed of the link, and the way of simulation."""

    plan: Plan
    channel: str
    way: str
    snr_db: float
    link_seed: int

    @property
    def key(self) -> tuple:
        """The key of its row."""
        values = {**dataclasses.asdict(self.plan), **dataclasses.asdict(self)}
        return tuple(values[name] for name in KEY)

    @property
    def seed(self) -> int:
        """Seed of channel and noise, the same for all schemes."""
        return zlib.crc32(f"{self.channel} {self.plan.training_seed} {self.link_seed}".encode())


def run_trial(trial: Trial, network: str | None, place: Place) -> dict:
    """Run a trial with the ``network`` selected for its plan; returns its row."""
    row = dict.fromkeys(SCHEMA.names) | dict(zip(KEY, trial.key, strict=True))
    row |= {"gain_db": gain_db(trial), "arrived": False, "network": network}
    if network is None:
        return row
    run_scheme = {"analog": _analog, "hybrid": _hybrid}.get(trial.plan.scheme, _digital)
    return row | run_scheme(trial, network, place, row["gain_db"])


def gain_db(trial: Trial) -> float:
    """The channel's gain at the start of a burst."""
    air = Channel(AIRS[trial.channel], RATE_HZ, FREQ_HZ, trial.seed, signal_power=NOMINAL_POWER)
    return float(db(np.abs(air.frequency_response(0.0)) ** 2))


def _analog(trial: Trial, network: str, place: Place, gain_db: float) -> dict:
    networks, plan = networks_of(place, trial.plan.arch, trial.plan.training_seed), trial.plan
    images, labels = networks.test_set
    sent = networks.sent(plan, network)
    if trial.way == "link":
        score = score_over_link(sent, trial.snr_db, trial.seed, images, labels, air=AIRS[trial.channel])
    else:
        score = score_in_white_noise(sent, trial.snr_db + gain_db, trial.seed, images, labels)
    return {
        "weights": sum(tensor.size for tensor in sent.checkpoint.tensors.values()),
        "arrived": score is not None,
        "accuracy": score,
        "accuracy_sent": sent.checkpoint.accuracy,
    }


def _hybrid(trial: Trial, network: str, place: Place, gain_db: float) -> dict:
    networks, plan = networks_of(place, trial.plan.arch, trial.plan.training_seed), trial.plan
    images, labels = networks.test_set
    checkpoint, hybrid = _refined(place, plan, network)
    payload, score = hybrid.digital.coded, None
    if trial.way == "link":
        burst = lay_out(hybrid.card, [HybridPayload.encode(hybrid)], trial.seed)
        received = receive_burst(burst, trial.snr_db, trial.seed, AIRS[trial.channel])
        with contextlib.suppress(NothingReceivedError):
            score = None if received is None else score_received(burst, received, images, labels)
    elif _by_table(trial, payload, gain_db):
        score = hybrid_accuracy(checkpoint, hybrid, trial.snr_db + gain_db, trial.seed, images, labels)
    return {
        "weights": sum(tensor.size for tensor in checkpoint.tensors.values()),
        "bits": 8 * len(hybrid.digital.data),
        "bits_per_symbol": payload.bits_per_symbol,
        "code_rate": payload.block.rate,
        "coded_uses": payload.num_symbols,
        "arrived": score is not None,
        "accuracy": score,
        "accuracy_sent": checkpoint.accuracy,
    }


def _digital(trial: Trial, network: str, place: Place, gain_db: float) -> dict:
    plan = trial.plan
    checkpoint, coded, as_sent = _coded(place, plan, network)
    row = {"weights": sum(tensor.size for tensor in checkpoint.tensors.values()), "bits": 8 * len(coded)}
    if plan.scheme == "bound":
        arrived = plan.payload_uses * math.log2(1 + linear(trial.snr_db + gain_db)) >= row["bits"]
    else:
        payload = best_payload(plan.payload_uses, plan.plan_snr_db)
        row |= {"bits_per_symbol": payload.bits_per_symbol, "code_rate": payload.block.rate}
        if trial.way == "link":
            arrived = _arrives(trial, checkpoint, coded, payload)
        else:
            arrived = _by_table(trial, payload, gain_db)
    return row | {"arrived": arrived, "accuracy": as_sent if arrived else None, "accuracy_sent": as_sent}


def _by_table(trial: Trial, payload, gain_db: float) -> bool:
    """Whether a coded payload arrives, drawn with the probability from the waterfalls."""
    return bool(np.random.default_rng(trial.seed).random() < arrival(payload, trial.snr_db + gain_db))


def _arrives(trial: Trial, checkpoint, coded: bytes, payload) -> bool:
    """Whether the model arrives over the whole link without error."""
    plan = DigitalPlan(checkpoint.card, coded, payload)
    burst = lay_out(plan.card, [DigitalPayload.encode(plan)], trial.seed)
    received = receive_burst(burst, trial.snr_db, trial.seed, AIRS[trial.channel])
    if received is None:
        return False
    numels = [spec.numel for spec in tensor_specs(checkpoint.module())]
    try:
        vectors = rebuild(received, received.manifest(), numels).vectors
    except NothingReceivedError:
        return False
    return all(np.array_equal(a, b) for a, b in zip(vectors, weights_of(coded, numels), strict=True))


@functools.lru_cache(maxsize=8)
def networks_of(place: Place, arch: str, seed: int) -> Networks:
    """The networks of a training seed, with the held-out images."""
    return Networks(place, arch, seed)


@functools.lru_cache(maxsize=16)
def _refined(place: Place, plan: Plan, network: str):
    """The checkpoint, and its hybrid plan."""
    checkpoint = load_once(networks_of(place, plan.arch, plan.training_seed).path(network))
    return checkpoint, refined(checkpoint, plan)


@functools.lru_cache(maxsize=16)
def _coded(place: Place, plan: Plan, network: str):
    """Checkpoint, bytes, and the test accuracy of the network in these bytes."""
    networks = networks_of(place, plan.arch, plan.training_seed)
    checkpoint, coded = networks.coded(plan, network)
    return checkpoint, coded, networks.accuracy_sent(checkpoint, coded)
