"""The sender's choices: which network within, and how each tensor of it is protected."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.power_range import MOST_POWER_DB
from airnet_sdr.dsp.units import linear
from airnet_sdr.models.checkpoint import Checkpoint, save
from airnet_sdr.models.digital.quantise import dequantise, steps_of
from airnet_sdr.models.digital.rate import best_payload
from airnet_sdr.models.digital.scheme import quantise_to_fit
from airnet_sdr.models.ensemble import SNR_GRID_DB, Member, extract, from_metadata, narrow, to_metadata
from airnet_sdr.models.manifest import Manifest
from airnet_sdr.models.nets import FASHION_WIDTHS, build
from airnet_sdr.models.packing import tensors_of
from airnet_sdr.models.payload.budget import payload_room
from airnet_sdr.models.payload.digital import select_digital
from airnet_sdr.models.payload.hybrid import HybridPayload, plan_hybrid
from airnet_sdr.models.payload.protection import protect, select_member
from airnet_sdr.models.plan_config import PlanConfig
from airnet_sdr.models.transmission import read_transmission
from airnet_sdr.tx.burst import lay_out
from airnet_sdr.tx.sender import make_burst

WIDTHS = (8, 12, 16, 20, 24)
STEADY, GOOD = np.full(len(SNR_GRID_DB), 0.88), np.minimum(np.linspace(0.2, 1.2, len(SNR_GRID_DB)), 0.93)
MEMBERS = [Member(FASHION_WIDTHS, 0.93, tuple(1 - GOOD)), Member(WIDTHS, 0.89, tuple(1 - STEADY))]


@pytest.fixture(scope="module")
def nested():
    torch.manual_seed(1)
    return Checkpoint("fashion", "fashion-mnist", 0.93, tensors_of(build("fashion")), to_metadata(MEMBERS))


def num_symbols(checkpoint):
    return np.array([(tensor.size + 1) // 2 for tensor in checkpoint.tensors.values()])


def test_the_network_within_is_picked_for_the_channel_and_sent_as_often_as_fits(nested):
    good, config = select_member(nested, PlanConfig("none", snr_db=20))
    assert good.widths == FASHION_WIDTHS and config.copies == 1
    steady, config = select_member(nested, PlanConfig("none", snr_db=-5))
    assert (steady.widths, steady.accuracy) == (WIDTHS, 0.89)
    wanted = narrow(nested.tensors, "fashion", WIDTHS)
    assert all(np.array_equal(steady.tensors[name], tensor) for name, tensor in wanted.items())
    spent = protect(steady, config, None).num_sent(num_symbols(steady))
    one_copy = num_symbols(steady).sum()
    assert 157_752 - one_copy < spent <= 157_752


def test_a_layer_has_the_network_within_that_fits_its_symbols(nested, tmp_path):
    save(tmp_path / "nested.safetensors", nested)
    layer = {
        "network": "nested.safetensors",
        "scheme": "analog",
        "start": 0,
        "uses": 20_000,
        "snr_db": 5,
        "power_db": 0,
    }
    (tmp_path / "layers.json").write_text(json.dumps({"layers": [layer]}))
    (planned,), _ = read_transmission(tmp_path / "layers.json")
    sent = planned.plan.checkpoint
    assert sent.widths == WIDTHS and planned.plan.protection.num_sent(num_symbols(sent)) <= 20_000


def test_budgets_are_held(nested):
    with pytest.raises(InputError, match="payload symbols"):
        select_member(nested, PlanConfig("size", snr_db=20, payload_uses=1000))
    small, config = select_member(nested, PlanConfig("size", snr_db=20, payload_uses=20_000))
    assert small.widths == WIDTHS
    assert protect(small, config, None).num_sent(num_symbols(small)) <= 20_000
    small, config = select_member(nested, PlanConfig("size", snr_db=20, channel_uses=40_000))
    assert small.widths == WIDTHS and protect(small, config, None).num_sent(num_symbols(small)) < 40_000


def test_a_budget_beyond_the_longest_burst_has_its_room():
    assert payload_room(1 << 29, 100) >= payload_room(1 << 28, 100) > 0


def test_a_network_alone_is_sent_as_it_is(nested):
    alone, config = Checkpoint("fashion", "fashion-mnist", 0.9, nested.tensors), PlanConfig("none", copies=3)
    assert select_member(alone, config) == (alone, config)


@pytest.mark.parametrize("snr_db", [-5, 0, 10])
def test_by_size_alone_the_sum_of_relative_errors_is_least(nested, snr_db):
    """Less than without protection, and than with the square-root rule, of which it is the bounded, exact form."""
    plan = protect(nested, PlanConfig("size", snr_db=snr_db, payload_uses=4 * 157_752, expansion="none"), None)
    sizes = num_symbols(nested)

    def errors(energy):
        return (1 / (1 + energy * linear(snr_db))).sum()

    energy = plan.copies * plan.power
    assert energy @ sizes == pytest.approx(4 * 157_752, rel=0.02)
    assert errors(energy) < 0.8 * errors(np.full(len(sizes), 4.0))
    root = sizes**-0.5 * 4 * 157_752 / np.sqrt(sizes).sum()
    assert errors(energy) < 1.02 * errors(root)
    assert np.all(np.diff(energy[np.argsort(sizes)]) <= 0.06 * energy[np.argsort(sizes)][:-1])  # steps of 0.25 dB


@pytest.mark.parametrize("max_power_db", [4, 15, MOST_POWER_DB])
def test_powers_up_to_the_plans_most_travel_in_the_manifest(nested, max_power_db):
    sent = dataclasses.replace(nested, metadata={})
    burst = make_burst(sent.module(), architecture="fashion", uep="size", snr_db=-10, max_power_db=max_power_db)
    (payload,) = Manifest.from_bytes(burst.manifest.to_bytes()).parts
    assert max(plan.power_db for plan in payload.tensors) == min(max_power_db, 22)
    assert abs(10 * np.log10(np.mean(np.abs(burst.stream) ** 2))) < 0.2


@pytest.mark.parametrize("snr_db", [0, 5, 10])
def test_curves_leave_less_of_the_relative_errors_than_copies(nested, snr_db):
    sizes, snr, left = num_symbols(nested), float(linear(snr_db)), {}
    for expansion in ("none", "auto"):
        config = PlanConfig("size", snr_db=snr_db, payload_uses=4 * 157_752, expansion=expansion)
        plan = protect(nested, config, None)
        assert 0.9 * config.payload_uses < plan.num_sent(sizes) <= config.payload_uses
        left[expansion] = (1 / (1 + plan.snr(snr))).sum()
    assert left["auto"] < 0.9 * left["none"]


def test_without_protection_every_tensor_goes_along_the_same_curve_where_asked(nested):
    small = extract(nested, from_metadata(nested.metadata, nested.arch)[1])
    plan = protect(small, PlanConfig("none", 4, 10.0, expansion="auto"), None)
    assert plan.curves[0].dims == 4 and len(set(plan.curves)) == 1 and set(plan.power) == {1.0}
    assert protect(small, PlanConfig("none", 4, 10.0), None).curves == (None,) * 6


def test_many_copies_of_a_small_network_spend_a_large_budget(nested):
    small, config = select_member(nested, PlanConfig("size", snr_db=-10, payload_uses=40 * 5_000))
    spent = protect(small, config, None).num_sent(num_symbols(small))
    assert 0.97 * 200_000 < spent <= 200_000


def trained_for(num_bits, validation):
    small = Checkpoint("fashion", "fashion-mnist", 0.9, tensors_of(build("fashion", WIDTHS)), {}, WIDTHS)
    small.metadata = {"bits": str(num_bits), "validation": str(validation)}
    return small


@pytest.mark.parametrize("with_loss", [False, True])
@pytest.mark.parametrize("snr_db, bits", [(-5, 900), (5, 3000), (20, 8000)])
def test_of_networks_trained_for_bits_the_best_that_fits_is_sent(snr_db, bits, with_loss):
    networks = [trained_for(900, 0.8), trained_for(3000, 0.9), trained_for(4000, 0.85), trained_for(8000, 0.92)]
    for network in networks if with_loss else ():
        network.metadata["validation_loss"] = str(1 - float(network.metadata.pop("validation")))
    picked, config = select_digital(networks, PlanConfig("none", 1, snr_db, 4000))
    assert picked.metadata["bits"] == str(bits) and config.payload_uses == 4000
    assert bits <= 8 * best_payload(4000, snr_db).num_bytes


def test_without_a_network_that_fits_it_is_said_what_to_raise():
    with pytest.raises(InputError, match="50000 bits.*`payload_uses`"):
        select_digital([trained_for(50_000, 0.9)], PlanConfig("none", 1, 0, 4000))
    with pytest.raises(InputError, match="--bits"):
        select_digital([], PlanConfig())


@pytest.fixture(scope="module")
def divided():
    """A network whose weights lie near the levels of 400 bytes."""
    torch.manual_seed(1)
    small = Checkpoint("fashion", "fashion-mnist", 0.9, tensors_of(build("fashion", WIDTHS)), {}, WIDTHS)
    tensors = list(small.tensors.values())
    codes = ",".join(
        str(level.step_code) for level in quantise_to_fit(tensors, [3 * tensor.std() for tensor in tensors], 2000)
    )
    small.metadata = {"bits": "16000", "steps": codes}
    return small


@pytest.mark.parametrize("snr_db, budget", [(0, 40_000), (5, 20_000), (5, 80_000)])
def test_a_hybrids_base_takes_no_more_symbols_than_its_bits_need(divided, snr_db, budget):
    hybrid = plan_hybrid(divided, PlanConfig("size", 1, snr_db, budget))
    assert len(hybrid.digital.data) <= 2000 <= hybrid.digital.coded.num_bytes
    assert best_payload(hybrid.digital.coded.num_symbols - 1, snr_db).num_bytes < 2000
    sent = hybrid.digital.coded.num_symbols + hybrid.protection.num_sent(num_symbols(divided))
    assert budget - num_symbols(divided).sum() < sent <= budget
    for weights, base, left in zip(divided.tensors.values(), hybrid.base, hybrid.residual, strict=True):
        assert np.allclose(base + left, weights.reshape(-1), atol=1e-6) and np.mean(left**2) < np.mean(weights**2)


def test_a_hybrids_share_is_what_was_asked_for(divided):
    hybrid = plan_hybrid(divided, PlanConfig("none", 1, 10, 30_000, digital_share=0.25))
    assert hybrid.digital.coded.num_symbols == 7500 and set(hybrid.protection.power) == {1.0}
    divided = Checkpoint("fashion", "fashion-mnist", 0.9, divided.tensors, {}, WIDTHS)
    assert (
        plan_hybrid(divided, PlanConfig("size", 1, 10, 30_000, digital_share=0.5)).digital.coded.num_symbols == 15_000
    )


@pytest.mark.parametrize("metadata, config, told", [
    ({}, {"payload_uses": 30_000}, "`digital_share`"),
    ({"bits": "16000"}, {"payload_uses": 12_000}, "`payload_uses`"),
    ({"bits": "16000"}, {"payload_uses": 3000}, "budget"),
    ({}, {"payload_uses": 30_000, "digital_share": 0.95}, "lower `digital_share`"),
    ({}, {"payload_uses": 30_000, "digital_share": 0.5, "uep": "auto"}, "`uep` size"),
])  # fmt: skip
def test_what_no_hybrid_can_be_made_of_is_refused(divided, metadata, config, told):
    network = Checkpoint("fashion", "fashion-mnist", 0.9, divided.tensors, metadata, WIDTHS)
    with pytest.raises(InputError, match=told):
        plan_hybrid(network, PlanConfig(**{"uep": "size", "snr_db": 5, **config}))
    with pytest.raises(InputError, match="`digital_share`"):
        PlanConfig(digital_share=1.0)


def test_of_a_network_on_its_levels_nothing_is_left_to_refine(divided):
    levels = quantise_to_fit(list(divided.tensors.values()), steps_of(divided.metadata), 2000)
    kept = [dequantise(level).reshape(old.shape) for level, old in zip(levels, divided.tensors.values(), strict=True)]
    network = dataclasses.replace(divided, tensors=dict(zip(divided.tensors, kept, strict=True)))
    with pytest.raises(InputError, match="`scheme` digital"):
        plan_hybrid(network, PlanConfig("size", 1, 5, 40_000))


@pytest.mark.parametrize("channel_uses", [60_000, 200_000])
def test_a_hybrid_stays_within_a_budget_of_everything_on_the_air(divided, channel_uses):
    hybrid = plan_hybrid(divided, PlanConfig("size", 1, 15, channel_uses=channel_uses))
    burst = lay_out(hybrid.card, [HybridPayload.encode(hybrid)])
    assert 0.5 * channel_uses < burst.num_samples <= channel_uses
