"""Layered payloads in white noise: superposition, cancellation, and what is never subtracted."""

import dataclasses
import functools
import struct

import numpy as np
import pytest
import torch

from airnet_sdr.dsp.errors import InputError, NothingReceivedError
from airnet_sdr.dsp.theory import lmmse_nmse
from airnet_sdr.dsp.units import db, linear
from airnet_sdr.models.checkpoint import Checkpoint
from airnet_sdr.models.digital import channel_code
from airnet_sdr.models.digital.rate import least_snr_db, most_robust
from airnet_sdr.models.digital.scheme import compressed, weights_of
from airnet_sdr.models.nets import build
from airnet_sdr.models.packing import tensors_of, to_vectors
from airnet_sdr.models.payload import LayeredPayload
from airnet_sdr.models.payload.analog import AnalogPlan
from airnet_sdr.models.payload.average import Average
from airnet_sdr.models.payload.digital import DigitalPayload, DigitalPlan
from airnet_sdr.models.payload.layer import Layer, PlannedLayer
from airnet_sdr.models.payload.layered import LayeredPlan
from airnet_sdr.models.payload.protection import protect
from airnet_sdr.models.plan_config import PlanConfig
from airnet_sdr.rx.combine import rebuild
from airnet_sdr.sim.experiments.library.white_noise import WhiteNoise
from airnet_sdr.tx.burst import lay_out

pytest.importorskip("sionna", reason="the digital scheme needs sionna-no-rt")

SYMBOLS = 2400
TOP, REST = 0.8, 0.2  # powers


def network(width, seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        widths = (width,) * 5
        return Checkpoint("fashion", "fashion-mnist", 0.1, tensors_of(build("fashion", widths)), {}, widths)


@pytest.fixture(scope="module")
def networks():
    return network(3, 1), network(4, 2)


@functools.cache
def data_of(seed):
    """The bytes of the network of this seed."""
    return compressed(network(2 + seed, seed), 250)


def digital(checkpoint, start, power):
    data = data_of(checkpoint.widths[0] - 2)
    return PlannedLayer(DigitalPlan(checkpoint, data, most_robust(len(data), SYMBOLS)), start, float(db(power)))


def analog(checkpoint, start, power):
    plan = AnalogPlan(checkpoint, protect(checkpoint, PlanConfig("none", 4)))
    return PlannedLayer(plan, start, float(db(power)))


def received(layers, snr_db, seed=1):
    """The weights that arrive, and the burst."""
    plan = LayeredPlan(tuple(layers))
    burst = lay_out(plan.card, [LayeredPayload.encode(plan)])
    noisy = WhiteNoise(burst, float(linear(snr_db)), seed)
    return rebuild(noisy, burst.manifest, []), burst


def same(vectors, others):
    return all(np.array_equal(a, b) for a, b in zip(vectors, others, strict=True))


def threshold_db(layer, power, noise_power):
    """The SNR from which a layer arrives with 99 % above the layers below it."""
    needed = linear(least_snr_db(layer.plan.coded))
    return db(needed / (power - noise_power * needed))


def test_superposed_digital_layers_arrive_one_after_the_other(networks):
    layers = [digital(networks[0], 0, TOP), digital(networks[1], 0, REST)]
    first, second = threshold_db(layers[0], TOP, REST), threshold_db(layers[1], REST, 0)
    assert second > first + 3
    for snr_db, arrived in ((second + 0.5, 1), ((first + second) / 2, 0)):
        weights, burst = received(layers, snr_db)
        assert burst.stream.size == SYMBOLS and np.mean(np.abs(burst.stream) ** 2) == pytest.approx(1, abs=0.05)
        plan, card = layers[arrived].plan, networks[arrived].card
        assert (weights.card, weights.part.kind) == (card, "digital")
        assert same(weights.vectors, weights_of(plan.data, [v.size for v in weights.vectors]))
    with pytest.raises(NothingReceivedError, match="none of 2 layers"):
        received(layers, first - 3)


@pytest.mark.parametrize("above", [True, False])
def test_an_analog_layer_below_is_estimated_from_what_is_left(networks, above):
    """At the power's share of the SNR once the layer on top is subtracted; with that layer as noise otherwise."""
    top, below = digital(networks[0], 0, TOP), analog(networks[1], 0, REST)
    snr_db = threshold_db(top, TOP, REST) + (1 if above else -4)
    weights, _ = received([top, below], snr_db)
    snr = float(linear(snr_db))
    sinr = REST * snr / (1 + (0 if above else TOP * snr))
    assert weights.card == networks[1].card
    errors = [np.mean((a - b) ** 2) for a, b in zip(weights.vectors, to_vectors(networks[1].tensors), strict=True)]
    powers = [np.var(vector) for vector in to_vectors(networks[1].tensors)]
    assert db(sum(errors) / sum(powers)) == pytest.approx(db(lmmse_nmse(4 * sinr)), abs=0.7)


def test_a_wrong_decode_is_never_subtracted(networks, monkeypatch):
    """A decoder that returns wrong bits with a failed CRC leaves the symbols as they came."""
    top, below = digital(networks[0], 0, TOP), analog(networks[1], 0, REST)
    snr_db = threshold_db(top, TOP, REST) + 1
    encoded = []
    monkeypatch.setattr(channel_code, "encode", lambda data, coded, encode=channel_code.encode: (
        encoded.append(data), encode(data, coded))[1])  # fmt: skip
    right, _ = received([top, below], snr_db)
    assert encoded == 2 * [top.plan.data.ljust(top.plan.coded.num_bytes, b"\0")]  # the sender's, the receiver's
    block = channel_code.BlockCode.decode

    def wrong(self, statistic, information):
        rows, passed = block(self, statistic, information)
        return rows ^ 1, np.zeros_like(passed)

    monkeypatch.setattr(channel_code.BlockCode, "decode", wrong)
    weights, _ = received([top, below], snr_db)
    assert len(encoded) == 3 and weights.expected_nmse[-1] > 1.5 * right.expected_nmse[-1]


def test_a_payload_whose_blocks_pass_but_whose_crc_does_not_is_not_subtracted(networks, monkeypatch):
    top, below = digital(networks[0], 0, TOP), analog(networks[1], 0, REST)
    block = channel_code.BlockCode.decode
    monkeypatch.setattr(
        channel_code.BlockCode, "decode", lambda self, *soft: (block(self, *soft)[0] ^ 1, np.ones(1, bool))
    )
    weights, _ = received([top, below], threshold_db(top, TOP, REST) + 1)
    assert weights.part.kind == "analog" and min(weights.expected_nmse) > 0.4


class Claimed:
    """Some received symbols of noise at 20 dB in a burst whose header claims a billion; counts what is asked for."""

    run, capacity = map, 1 << 30

    def __init__(self, symbols_received):
        self.symbols_received, self.asked = symbols_received, []

    def soft(self, start, num):
        self.asked.append(num)
        assert num <= 1 << 22, f"{num} symbols at once"
        rng = np.random.default_rng(start)
        noise = rng.standard_normal((num, 2), np.float32).view(np.complex64)[:, 0]
        return 7 * noise, np.full(num, 100, np.float32)


def test_the_snr_of_averages_is_that_of_what_came(networks):
    """An analog layer at the end of a billion symbols that were never sent."""
    (row,) = LayeredPayload.encode(LayeredPlan((analog(networks[1], 0, 1.0),)))[0].layers
    far = dataclasses.replace(row, start=Claimed.capacity - row.end)
    received = Claimed(100_000)
    weights = LayeredPayload((far,), (Average(0, 0, 0, 1.0, 19, 21),)).decode(received, [])
    assert weights.card == networks[1].card and sum(received.asked) <= 9 * received.symbols_received


@pytest.mark.parametrize("fall_db, num_tried", [(0.0, 0), (20.0, 1)])
def test_layers_of_noise_take_the_time_of_one_block(networks, monkeypatch, fall_db, num_tried):
    """Eight on the same symbols: those below one that did not arrive are not tried."""
    tried, coded = [], channel_code.CodedPayload(1_000_000, 1_200_000, 8)

    def none(block, statistic, information):
        tried.append(len(statistic))
        return np.zeros((len(statistic), block.info_bits // 8), np.uint8), np.zeros(len(statistic), bool)

    monkeypatch.setattr(channel_code.BlockCode, "decode", none)
    layers = [Layer(networks[0].card, DigitalPayload(coded), 0, -number * fall_db) for number in range(8)]
    with pytest.raises(NothingReceivedError, match="none of 8 layers"):
        LayeredPayload(tuple(layers)).decode(Claimed(1_200_000), [])
    assert tried == [1] * num_tried


def test_layers_side_by_side_do_not_disturb_each_other(networks):
    layers = [analog(networks[1], SYMBOLS, 1.0), digital(networks[0], 0, 1.0)]
    alone, _ = received([dataclasses.replace(layers[0], start=0)], -20)
    weights, burst = received(layers, -20)
    assert weights.card == networks[1].card and weights.expected_nmse == pytest.approx(alone.expected_nmse)
    assert received(layers, 10)[0].card == networks[0].card


def test_bytes_that_are_no_layers_are_refused(networks):
    payload, _ = LayeredPayload.encode(LayeredPlan((digital(networks[0], 0, 1.0),)))
    data = payload.to_bytes()
    assert LayeredPayload.from_bytes(data)[0].to_bytes() == data
    with_average = LayeredPayload(payload.layers, (Average(0, 0, 0, 1.0, -5, 20),)).to_bytes()
    assert LayeredPayload.from_bytes(with_average)[0].averages == (Average(0, 0, 0, 1.0, -5, 20),)
    with pytest.raises(struct.error, match="average"):
        LayeredPayload.from_bytes(with_average[:-6] + b"\1" + with_average[-5:])
    for body in (b"\0", b"\x09" + data[1:], data[:-1], data[:9], b"\x01\x02" + data[2:]):
        with pytest.raises((struct.error, IndexError, InputError, UnicodeDecodeError)):
            LayeredPayload.from_bytes(body)
    with pytest.raises(InputError, match="layers must be 1 to 8; got 9"):
        LayeredPayload(9 * payload.layers).to_bytes()
