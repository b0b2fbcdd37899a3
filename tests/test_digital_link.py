"""The coded chain over the real frames, soft bits by the receiver's own noise estimate: its waterfall beside 3GPP's
figure, and how often a whole model arrives."""

import json

import numpy as np
import pytest
import torch

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.models.checkpoint import Checkpoint, load, save
from airnet_sdr.models.digital import channel_code
from airnet_sdr.models.digital.channel_code import CodedPayload
from airnet_sdr.models.digital.quantise import dequantise
from airnet_sdr.models.digital.rate import best_payload, waterfall
from airnet_sdr.models.digital.scheme import compressed, quantise_to_fit, weights_of
from airnet_sdr.models.known_state import with_state
from airnet_sdr.models.nets import build
from airnet_sdr.models.packing import tensors_of
from airnet_sdr.models.payload import DigitalPayload
from airnet_sdr.models.payload.digital import DigitalPlan, packed
from airnet_sdr.models.payload.state import LARGEST_STEP
from airnet_sdr.models.shipped import ZOO
from airnet_sdr.rx import receive as receive_command
from airnet_sdr.rx.combine import BurstCombiner, rebuild
from airnet_sdr.sim import loopback
from airnet_sdr.tests.command import assert_refused, run, save_few_images
from airnet_sdr.tests.link import on_air, receive, transmit
from airnet_sdr.tx import send
from airnet_sdr.tx.burst import lay_out
from airnet_sdr.tx.sender import make_burst

pytest.importorskip("sionna", reason="the digital scheme needs sionna-no-rt")

# The uplink's fixed reference channel G-FR1-A1-1 of 3GPP TS 38.104 (annex A.1): QPSK, code block of 2168 bits, 3600
# symbols. Its reference sensitivity, -101.7 dBm on 25 resource blocks (table 7.2.2-1) for 95 % of the throughput, less
# thermal noise in 4.5 MHz, and a noise figure of 5 dB and margin of 2 dB as are usual (the standard has neither), is
# -1.2 dB.
REFERENCE = CodedPayload(num_bytes=264, num_symbols=3600, bits_per_symbol=2)
REFERENCE_SNR_DB = -1.2
RECEIVER_LOSS_DB = 0.35  # of frames as short as these, at this SNR: noise and phase are estimated
WIDTHS = (8, 8, 8, 8, 8)


def arrives(payload, snr_db, seed):
    """Whether random bytes come out of the frames, the noise and the receiver as they went in."""
    data = np.random.default_rng(seed).bytes(payload.num_bytes)
    plan = DigitalPlan(Checkpoint("fashion", "none", None, {}), data, payload)
    burst = lay_out(plan.card, [DigitalPayload.encode(plan)], seed)
    frames = receive(on_air(transmit(burst), snr_db, cfo=0.05, seed=seed))
    if not frames:
        return False
    combiner = BurstCombiner(burst.header.burst_key)
    combiner.add(*frames)
    return channel_code.decode(*combiner.soft(0, payload.num_symbols), payload) == data


def test_the_waterfall_is_within_a_decibel_of_3gpps_reference_channel():
    assert REFERENCE.block.info_bits == 2168 and REFERENCE.num_blocks == 1
    mean, sd = waterfall(REFERENCE)
    half_db, reliable_db = mean + RECEIVER_LOSS_DB, mean + RECEIVER_LOSS_DB + 1.645 * sd
    assert abs(reliable_db - REFERENCE_SNR_DB) < 1.0
    assert sum(arrives(REFERENCE, REFERENCE_SNR_DB, seed) for seed in range(20)) >= 19
    assert 4 <= sum(arrives(REFERENCE, half_db, seed) for seed in range(24)) <= 20  # at its middle
    assert not any(arrives(REFERENCE, REFERENCE_SNR_DB - 2, seed) for seed in range(6))


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A network as it is, a folder of one that was trained for bits, and images."""
    folder = tmp_path_factory.mktemp("digital")
    save_few_images(folder / "few", 100)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = Checkpoint("fashion", "fashion-mnist", 0.1, tensors_of(build("fashion", WIDTHS)), {}, WIDTHS)
    save(folder / "net.safetensors", network)
    tensors = list(network.tensors.values())
    levels = quantise_to_fit(tensors, [2 * weights.std() for weights in tensors], 600)
    codes = ",".join(str(tensor.step_code) for tensor in levels)
    network.metadata = {"bits": "4800", "steps": codes, "validation": "0.1"}
    kept = [dequantise(tensor).reshape(weights.shape) for tensor, weights in zip(levels, tensors, strict=True)]
    network.tensors = dict(zip(network.tensors, kept, strict=True))
    save(folder / "bits" / "5k.safetensors", network)
    return folder


@pytest.mark.parametrize("model, exact", [("net.safetensors", False), ("bits", True)])
def test_from_the_sender_to_the_receiver_through_a_recording(here, tmp_path, model, exact):
    """A network that was trained for bits arrives as it was sent, bit by bit."""
    radio = f"file:{tmp_path / 'capture.sigmf-meta'}"
    plan = ["--snr-db", "10", "--payload-uses", "3000"]
    sent = run(send.main, "--scheme", "digital", "--model", here / model, "--radio", radio, *plan)
    assert (sent.status, sent.err) == (0, "") and "3000 symbols" in sent.out
    files = ["--report", tmp_path / "report.json", "--save", tmp_path / "received.safetensors"]
    got = run(receive_command.main, "--radio", radio, "--data", here / "few", *files)
    assert (got.status, got.err) == (0, "")
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["scheme"] == "digital" and 0 <= report["accuracy"] <= 1
    path = here / "bits/5k.safetensors" if exact else here / "net.safetensors"
    sent, received = load(path).tensors, load(tmp_path / "received.safetensors").tensors
    assert exact == all(np.array_equal(sent[name], received[name]) for name in sent)
    assert all(np.abs(sent[name] - received[name]).max() < 0.5 * np.abs(sent[name]).max() for name in sent)


@pytest.mark.parametrize("snr_db, status", [(10, 0), (6, 2)])
def test_over_the_whole_link_it_arrives_or_it_does_not(here, snr_db, status):
    options = ["--plan-snr-db", "10", "--payload-uses", "3000", "--snr-db", snr_db, "--data", here / "few"]
    result = run(loopback.main, "--scheme", "digital", "--model", here / "bits", *options)
    assert result.status == status, result
    if status:
        assert_refused(result, 2, "arrives whole or not at all")


def test_a_hybrids_base_arrives_exactly_and_what_it_lacks_with_the_noise_of_the_channel(here, tmp_path):
    """The error goes on falling with the SNR, as 1/(1 + copies·S) of what quantisation left; below the base's SNR all
    is lost."""
    plan = [
        "--plan-snr-db",
        5,
        "--payload-uses",
        12_000,
        "--digital-share",
        0.3,
        "--uep",
        "none",
        "--expansion",
        "none",
    ]
    options = ["--scheme", "hybrid", "--model", here / "net.safetensors", *plan, "--data", here / "few"]
    errors = []
    for snr_db in (6, 20):
        result = run(loopback.main, *options, "--snr-db", snr_db, "--report", tmp_path / "report.json")
        assert (result.status, result.err) == (0, "") and "analog refinement" in result.out
        report = json.loads((tmp_path / "report.json").read_text())
        assert report["scheme"] == "hybrid" and report["channel_uses"]["payload"] <= 12_000
        assert report["weights"]["snr_db"] == pytest.approx(-report["weights"]["nmse_db"], abs=0.5)
        errors.append(report["weights"]["nmse_db"])
    (copies,) = {layer["copies"] for layer in report["layers"]}
    assert copies > 1
    by_theory = 10 * np.log10((1 + copies * 10**2.0) / (1 + copies * 10**0.6))
    assert errors[0] - errors[1] == pytest.approx(by_theory, abs=0.6)
    assert_refused(run(loopback.main, *options, "--snr-db", 2), 2, "arrives whole or not at all")


@pytest.mark.slow
@pytest.mark.parametrize("snr_db", [0.0, 10.0])
def test_a_model_arrives_whole_in_99_of_100_trials_at_the_planned_snr(snr_db):
    """300 trials: more than 8 failures have a probability below 0.4 % at 1 %."""
    payload = best_payload(10_000, snr_db)
    failures = sum(not arrives(payload, snr_db, seed) for seed in range(300))
    print(f"{snr_db:g} dB: {failures} of 300 failed")
    assert failures <= 8


@pytest.mark.slow
@pytest.mark.parametrize("snr_db", [0.0, 10.0])
def test_no_model_arrives_two_decibels_below(snr_db):
    payload = best_payload(10_000, snr_db)
    assert not any(arrives(payload, snr_db - 2, seed) for seed in range(20))


@pytest.mark.parametrize("scheme, network", [("digital", "digital/seed-1/38k"), ("hybrid", "hybrid/seed-1/9k")])
def test_batch_norm_travels_among_the_bytes_and_costs_no_level(scheme, network):
    """A network trained for the bits of its budget keeps them: its statistics take what is left, in coarser steps."""
    path, budget = ZOO / "fashion-mnist" / f"{network}.safetensors", 157_752
    burst = make_burst(path, scheme=scheme, snr_db=-5, payload_uses=budget)
    (part,) = burst.manifest.parts
    digital = part if scheme == "digital" else part.digital
    assert digital.state_bytes > 0 and burst.stream.size <= budget
    checkpoint = with_state(load(path))
    levels = weights_of(compressed(checkpoint, 1 << 40), checkpoint.numels)
    frames = receive(on_air(transmit(burst), 1.0))
    combiner = BurstCombiner(burst.header)
    combiner.add(*frames)
    weights = rebuild(combiner, combiner.manifest(), checkpoint.numels)
    if scheme == "digital":
        assert all(np.array_equal(a, b) for a, b in zip(weights.vectors, levels, strict=True))
    apart = np.abs(weights.state.difference - checkpoint.state.difference).max()
    assert 0 < apart <= 0.6 * LARGEST_STEP and weights.state.made_up == checkpoint.state.made_up


def test_a_state_that_fills_the_payload_is_refused():
    path = ZOO / "fashion-mnist" / "digital" / "seed-1" / "38k.safetensors"
    with pytest.raises(InputError, match="batch norm and buffers have .* bytes, .* are carried"):
        packed(with_state(load(path)), 60)
