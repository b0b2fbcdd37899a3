"""A scheme of one's own: one class in the table, and it goes all the way to the receiver."""

import dataclasses
import json
import struct

import numpy as np
import pytest

from airnet_sdr.dsp.errors import LinkError
from airnet_sdr.models.checkpoint import Checkpoint, load
from airnet_sdr.models.packing import tensors_of, to_vectors
from airnet_sdr.models.payload import SCHEMES, ReceivedWeights
from airnet_sdr.rx.receiver import receive
from airnet_sdr.sim import loopback
from airnet_sdr.tests.command import assert_refused, run
from airnet_sdr.tx.sender import describe, make_burst


@dataclasses.dataclass(frozen=True)
class SignPlan:
    checkpoint: Checkpoint
    vectors: list[np.ndarray]

    @property
    def card(self):
        return self.checkpoint.card


@dataclasses.dataclass(frozen=True)
class SignPayload:
    """Of every weight its sign, two to a QPSK symbol, and of every tensor its mean magnitude in the manifest."""

    kind = "sign"
    role = "weights"
    magnitudes: tuple[float, ...]

    @classmethod
    def plan(cls, candidates, config, fmt=None):
        network = candidates.only
        return SignPlan(network, to_vectors(network.tensors))

    @classmethod
    def encode(cls, plan, run=map):
        signs = [np.where(np.resize(vector, vector.size + vector.size % 2) < 0, -1, 1) for vector in plan.vectors]
        rails = np.concatenate(signs).astype(np.float32) / np.float32(np.sqrt(2))
        means = tuple(float(np.float32(np.abs(vector).mean())) for vector in plan.vectors)
        return cls(means), rails.view(np.complex64)

    def decode(self, received, numels, estimator="linear"):
        matched, _ = received.soft(0, self.num_symbols(numels))
        rails, vectors, start = np.where(matched.view(np.float32) < 0, -1, 1).astype(np.float32), [], 0
        for numel, magnitude in zip(numels, self.magnitudes, strict=True):
            vectors.append(np.float32(magnitude) * rails[start : start + numel])
            start += numel + numel % 2
        return ReceivedWeights(vectors, [None] * len(numels))

    def num_symbols(self, numels):
        return sum((numel + 1) // 2 for numel in numels)

    def tensor_plans(self, numels):
        return [None] * len(numels)

    def describe(self, name, stream):
        return [f"{name}: {stream.size} symbols of signs"]

    def to_bytes(self):
        return struct.pack(f">H{len(self.magnitudes)}f", len(self.magnitudes), *self.magnitudes)

    @classmethod
    def from_bytes(cls, body):
        (num,) = struct.unpack_from(">H", body)
        return cls(struct.unpack_from(f">{num}f", body, 2)), body[2 + 4 * num :]


def signs_of(path):
    """What the receiver is to have of a checkpoint."""
    vectors = to_vectors(load(path).tensors)
    return [np.float32(np.abs(v).mean()) * np.where(v < 0, -1, 1).astype(np.float32) for v in vectors]


def same(module, vectors):
    return all(np.array_equal(a, b) for a, b in zip(to_vectors(tensors_of(module)), vectors, strict=True))


def test_one_class_in_the_table_reaches_the_receiver(model, monkeypatch):
    monkeypatch.setitem(SCHEMES, "sign", SignPayload)
    burst = make_burst(model, scheme="sign", seed=1)
    assert "symbols of signs" in describe(burst)
    reception = receive(loopback.transmit(burst, snr_db=20, seed=1), evaluate="none")
    assert (reception.report["scheme"], reception.report["part"]) == ("sign", "sign")
    assert reception.report["channel_uses"]["payload"] == burst.stream.size
    assert same(reception.network, signs_of(model))


def test_commands_take_it_by_its_name(model, monkeypatch, tmp_path):
    monkeypatch.setitem(SCHEMES, "sign", SignPayload)
    files = ["--report", tmp_path / "report.json", "--save", tmp_path / "got.safetensors"]
    options = ["--scheme", "sign", "--snr-db", "20", "--evaluate", "none"]
    result = run(loopback.main, "--model", model, *options, *files)
    assert (result.status, result.err) == (0, "") and "symbols of signs" in result.out
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["scheme"] == "sign" and report["weights"]["nmse_db"] < 0
    got = to_vectors(load(tmp_path / "got.safetensors").tensors)
    assert all(np.array_equal(a, b) for a, b in zip(got, signs_of(model), strict=True))


def test_a_receiver_without_the_class_says_which_kinds_it_knows(model, monkeypatch):
    with monkeypatch.context() as sender:
        sender.setitem(SCHEMES, "sign", SignPayload)
        samples = loopback.transmit(make_burst(model, scheme="sign"), snr_db=20, seed=1)
    with pytest.raises(LinkError, match="'sign', here there are: state, analog, digital, hybrid"):
        receive(samples, evaluate="none")


def test_a_scheme_that_there_is_not_is_refused_by_name(model):
    result = run(loopback.main, "--model", model, "--scheme", "sign", "--evaluate", "none")
    assert_refused(result, 1, "--scheme must be one of analog, digital, hybrid", "'sign'")
