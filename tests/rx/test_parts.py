"""A payload of several parts: the last that arrives counts."""

import dataclasses

import numpy as np
import pytest
import torch

from airnet_sdr.dsp.errors import InputError, NothingReceivedError
from airnet_sdr.dsp.theory import lmmse_nmse
from airnet_sdr.dsp.units import db, linear
from airnet_sdr.models.checkpoint import Checkpoint
from airnet_sdr.models.digital.scheme import weights_of
from airnet_sdr.models.nets import build
from airnet_sdr.models.packing import tensors_of, to_vectors
from airnet_sdr.models.payload import AnalogPayload, Candidates, DigitalPayload
from airnet_sdr.models.plan_config import PlanConfig
from airnet_sdr.rx.receiver import receive
from airnet_sdr.tests.link import on_air, transmit
from airnet_sdr.tx.burst import lay_out
from airnet_sdr.tx.sender import describe

pytest.importorskip("sionna", reason="the digital scheme needs sionna-no-rt")

WIDTHS = (8, 8, 8, 8, 8)
PLANNED_DB = 10.0


@pytest.fixture(scope="module")
def network():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return Checkpoint("fashion", "fashion-mnist", 0.1, tensors_of(build("fashion", WIDTHS)), {}, WIDTHS)


def planned(scheme, network, **options):
    """A scheme's plan for 10 dB, with 3000 payload symbols where it is digital."""
    if scheme is DigitalPayload:
        options = {"payload_uses": 3000} | options
    return scheme.plan(Candidates((network,)), PlanConfig("none", snr_db=PLANNED_DB, **options))


def burst_of(network, *schemes):
    """The network once by each scheme, side by side in one burst."""
    return lay_out(network.card, [scheme.encode(planned(scheme, network)) for scheme in schemes])


def received(burst, snr_db, seed=1):
    return receive(on_air(transmit(burst), snr_db, cfo=0.05, seed=seed), evaluate="none")


def digital_vectors(network):
    """The weights as the digital part carries them."""
    return weights_of(planned(DigitalPayload, network).data, [tensor.size for tensor in network.tensors.values()])


def same(reception, vectors):
    arrived = to_vectors(tensors_of(reception.network))
    return all(np.array_equal(a, b) for a, b in zip(arrived, vectors, strict=True))


def nmse_db(reception, network):
    """Of all weights, each tensor centred and normalised to unit power first."""
    pairs = zip(to_vectors(tensors_of(reception.network)), to_vectors(network.tensors), strict=True)
    errors = [(w.size * np.mean((w_hat - w) ** 2) / np.var(w), w.size) for w_hat, w in pairs if np.var(w)]
    return db(np.divide(*np.sum(errors, axis=0)))


@pytest.mark.parametrize("snr_db, part", [(12, "digital"), (6, "analog")])
def test_the_digital_part_counts_above_its_snr_and_the_analog_one_below(network, snr_db, part):
    reception = received(burst_of(network, AnalogPayload, DigitalPayload), snr_db)
    report = reception.report
    assert (report["scheme"], report["part"], report["frames"]["lost"]) == ("analog+digital", part, 0)
    assert same(reception, digital_vectors(network)) == (part == "digital")
    if part == "analog":
        assert nmse_db(reception, network) == pytest.approx(db(lmmse_nmse(linear(snr_db))), abs=0.5)
        assert report["weights"]["snr_db"] == pytest.approx(snr_db, abs=0.5)
    else:
        assert report["weights"]["snr_db"] is None


@pytest.mark.parametrize("snr_db", [12, 6])
def test_the_last_part_counts_whatever_was_before_it(network, snr_db):
    """An analog part always arrives, and so a digital one before it never counts."""
    reception = received(burst_of(network, DigitalPayload, AnalogPayload), snr_db)
    assert reception.report["part"] == "analog" and reception.report["scheme"] == "digital+analog"
    assert nmse_db(reception, network) == pytest.approx(db(lmmse_nmse(linear(snr_db))), abs=0.5)


def test_parts_that_are_lost_one_and_all_are_nothing(network):
    burst = burst_of(network, DigitalPayload, DigitalPayload)
    assert same(received(burst, 12), digital_vectors(network))
    with pytest.raises(NothingReceivedError, match="arrives whole or not at all"):
        received(burst, 6)


def test_the_stream_and_the_description_have_every_part(network):
    alone = [burst_of(network, scheme) for scheme in (AnalogPayload, DigitalPayload)]
    both = burst_of(network, AnalogPayload, DigitalPayload)
    assert np.array_equal(both.stream, np.concatenate([burst.stream for burst in alone]))
    assert both.part_symbols == tuple(burst.stream.size for burst in alone)
    lines = describe(both).splitlines()
    assert lines[:-1] == [describe(burst).splitlines()[0] for burst in alone]
    assert lines[-1].startswith(f"{both.header.num_frames} frames")


def test_more_parts_than_a_manifest_holds_are_refused(network):
    analog = AnalogPayload.encode(planned(AnalogPayload, network))
    with pytest.raises(InputError, match="parts must be 1 to 16; got 17"):
        lay_out(dataclasses.replace(network.card, widths=WIDTHS), [analog] * 17)
