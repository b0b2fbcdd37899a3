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
from airnet_sdr.models.checkpoint import Checkpoint
from airnet_sdr.models.digital.channel_code import CodedPayload
from airnet_sdr.models.digital.rate import arrival, best_payload
from airnet_sdr.models.payload import DigitalPayload, HybridPayload
from airnet_sdr.models.payload.digital import DigitalPlan
from airnet_sdr.models.register import resolve_architecture
from airnet_sdr.rx.combine import rebuild
from airnet_sdr.sim.channel import Channel
from airnet_sdr.sim.channel.config import ChannelConfig
from airnet_sdr.sim.experiments.grid.plans import Networks, Packed, Plan, judge_hybrid, plan_config, refined
from airnet_sdr.sim.experiments.library.judge import ACCURACY, untrained
from airnet_sdr.sim.experiments.library.place import Place
from airnet_sdr.sim.experiments.library.scoring import (
    receive_burst,
    score_in_white_noise,
    score_over_link,
    score_received,
)
from airnet_sdr.sim.experiments.library.tables import GUESSING
from airnet_sdr.tx.sender import encode_burst

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
        ("metric", pa.string()),  # the headline of the test: "accuracy", or the first of the network's own metrics
        ("score", pa.float64()),  # its value; null where nothing arrived
        ("score_sent", pa.float64()),
        ("score_lost", pa.float64()),  # that of an untrained network, which stands for a lost one
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
    row["metric"], row["score_lost"] = lost(place, trial.plan.arch, trial.plan.training_seed)
    if network is not None:
        run_scheme = {"analog": _analog, "hybrid": _hybrid}.get(trial.plan.scheme, _digital)
        row |= run_scheme(trial, network, place, row["gain_db"])
    if row["metric"] == ACCURACY:
        row |= {"accuracy": row["score"], "accuracy_sent": row["score_sent"]}
    return row


def gain_db(trial: Trial) -> float:
    """The channel's gain at the start of a burst."""
    air = Channel(AIRS[trial.channel], RATE_HZ, FREQ_HZ, trial.seed, signal_power=NOMINAL_POWER)
    return float(db(np.abs(air.frequency_response(0.0)) ** 2))


def _analog(trial: Trial, network: str, place: Place, gain_db: float) -> dict:
    networks, plan = networks_of(place, trial.plan.arch, trial.plan.training_seed), trial.plan
    sent = networks.sent(plan, network)
    score = None
    with contextlib.suppress(NothingReceivedError):  # the state of a network with batch norm may be lost
        if trial.way == "link":
            score = score_over_link(sent, trial.snr_db, trial.seed, networks.test, air=AIRS[trial.channel])
        else:
            score = score_in_white_noise(sent, trial.snr_db + gain_db, trial.seed, networks.test)
    return {
        "weights": sum(tensor.size for tensor in sent.checkpoint.tensors.values()),
        "arrived": score is not None,
        "score": score,
        "score_sent": score_sent(sent.checkpoint),
    }


def _hybrid(trial: Trial, network: str, place: Place, gain_db: float) -> dict:
    networks, plan = networks_of(place, trial.plan.arch, trial.plan.training_seed), trial.plan
    checkpoint, hybrid = _refined(place, plan, network)
    payload, score = hybrid.digital.coded, None
    if trial.way == "link":
        burst = encode_burst(HybridPayload, hybrid, plan_config(plan), trial.seed)
        received = receive_burst(burst, trial.snr_db, trial.seed, AIRS[trial.channel])
        with contextlib.suppress(NothingReceivedError):
            score = None if received is None else score_received(burst, received, networks.test)
    elif _by_table(trial, payload, gain_db):
        score = judge_hybrid(hybrid, trial.snr_db + gain_db, trial.seed, networks.test)
    return {
        "weights": sum(tensor.size for tensor in checkpoint.tensors.values()),
        "bits": 8 * len(hybrid.digital.data),
        "bits_per_symbol": payload.bits_per_symbol,
        "code_rate": payload.block.rate,
        "coded_uses": payload.num_symbols,
        "arrived": score is not None,
        "score": score,
        "score_sent": score_sent(checkpoint),
    }


def _digital(trial: Trial, network: str, place: Place, gain_db: float) -> dict:
    plan = trial.plan
    checkpoint, packed, as_sent = _packed(place, plan, network)
    row = {"weights": sum(tensor.size for tensor in checkpoint.tensors.values()), "bits": 8 * len(packed[0])}
    if plan.scheme == "bound":
        arrived = plan.payload_uses * math.log2(1 + linear(trial.snr_db + gain_db)) >= row["bits"]
    else:
        payload = best_payload(plan.payload_uses, plan.plan_snr_db)
        row |= {"bits_per_symbol": payload.bits_per_symbol, "code_rate": payload.block.rate}
        if trial.way == "link":
            arrived = _arrives(trial, checkpoint, packed, payload)
        else:
            arrived = _by_table(trial, payload, gain_db)
    return row | {"arrived": arrived, "score": as_sent if arrived else None, "score_sent": as_sent}


def _by_table(trial: Trial, payload, gain_db: float) -> bool:
    """Whether a coded payload arrives, drawn with the probability from the waterfalls."""
    return bool(np.random.default_rng(trial.seed).random() < arrival(payload, trial.snr_db + gain_db))


def _arrives(trial: Trial, checkpoint: Checkpoint, packed: Packed, payload: CodedPayload) -> bool:
    """Whether the model arrives over the whole link without error."""
    data, state_bytes = packed
    plan = DigitalPlan.of(checkpoint, data, payload, state_bytes)
    burst = encode_burst(DigitalPayload, plan, plan_config(trial.plan), trial.seed)
    received = receive_burst(burst, trial.snr_db, trial.seed, AIRS[trial.channel])
    if received is None:
        return False
    try:
        vectors = rebuild(received, received.manifest(), checkpoint.numels).vectors
    except NothingReceivedError:
        return False
    return all(np.array_equal(a, b) for a, b in zip(vectors, plan.vectors, strict=True))


@functools.lru_cache(maxsize=8)
def networks_of(place: Place, arch: str, seed: int) -> Networks:
    """The networks of a training seed, with their judges."""
    resolve_architecture(place.architecture)  # in the process of a worker, too
    return Networks(place, arch, seed)


@functools.lru_cache(maxsize=8)
def lost(place: Place, arch: str, seed: int) -> tuple[str, float]:
    """The headline's name, and its value for a network that was lost."""
    judge = networks_of(place, arch, seed).test
    return untrained(arch, judge) if judge.task.is_own else (ACCURACY, GUESSING)


def score_sent(checkpoint: Checkpoint) -> float | None:
    """The headline of a network as sent."""
    return next(iter(checkpoint.metrics.values()), checkpoint.accuracy)


@functools.lru_cache(maxsize=16)
def _refined(place: Place, plan: Plan, network: str):
    """The checkpoint, and its hybrid plan."""
    networks = networks_of(place, plan.arch, plan.training_seed)
    checkpoint = networks.load(networks.path(network))
    return checkpoint, refined(checkpoint, plan)


@functools.lru_cache(maxsize=16)
def _packed(place: Place, plan: Plan, network: str):
    """Checkpoint, bytes, and the test accuracy of the network in these bytes."""
    networks = networks_of(place, plan.arch, plan.training_seed)
    checkpoint, packed = networks.packed(plan, network)
    return checkpoint, packed, networks.judge_coded(checkpoint, packed, networks.test)
