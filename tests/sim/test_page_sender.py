"""The page's sender: rounds, silence, and the plan that fits the channel."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.rx.listen import Listener
from airnet_sdr.sim.page.knobs import NETWORKS, SCHEMES, SenderKnobs
from airnet_sdr.sim.page.sender import LEAST_SAMPLES, PageSender, Planner
from airnet_sdr.tests.command import wait_for

EXAMPLES = Path(__file__).resolve().parents[2] / "models" / "examples"
KNOBS = SenderKnobs(schemes=("analog",), cycles=2, pace_hz=50e3)


class Nobody:
    """A feed to no page."""

    def result(self, values, arrays):
        pass


@pytest.fixture(scope="module")
def planner():
    return Planner(None)


def planned(planner, knobs):
    """The plan for some knobs."""
    planner.ask(knobs)
    wait_for(lambda: not planner.busy)
    return planner.plans


def test_the_plan_has_the_member_for_its_channel(planner):
    """The nested network has few, well protected weights for a bad channel, and many for a good one."""
    good, bad = (planned(planner, SenderKnobs(schemes=("analog",), plan_snr_db=snr)) for snr in (20.0, -5.0))
    assert sum(good["analog"]["widths"]) > sum(bad["analog"]["widths"])
    assert good["analog"]["accuracy"] > bad["analog"]["accuracy"]


def test_a_network_of_ones_own_has_a_plan():
    own = Planner(str(EXAMPLES / "modulation.safetensors"), f"{EXAMPLES / 'modulation.py'}:modulation")
    plans = planned(own, SenderKnobs(network="own", schemes=("analog",)))
    assert not own.errors and plans["analog"]["accuracy"] == pytest.approx(0.994, abs=0.01)


def test_a_plan_that_cannot_be_is_told(planner):
    small = SenderKnobs(network="full", schemes=("analog",), payload_uses=15_000)
    assert planned(planner, small) == {} and "payload_uses" in planner.errors["analog"]


@pytest.mark.parametrize("network", NETWORKS)
def test_every_scheme_of_the_page_has_a_plan_of_every_network(planner, network):
    plans = planned(planner, SenderKnobs(network=network, payload_uses=400_000))
    assert set(plans) == set(SCHEMES) and not planner.errors


def test_a_planner_that_ended_ends_the_sender(monkeypatch):
    """What is no error of the user's must not leave a sender silent for ever."""
    planner = Planner(None)
    monkeypatch.setattr(planner, "_burst", lambda *_: {}["none"])
    sender = PageSender(KNOBS, planner, Nobody(), paced=True)
    with pytest.raises(KeyError, match="none"):
        wait_for(lambda: next(sender.samples()).any())


def test_rounds_are_bursts_of_their_own_and_muted_is_silence(planner):
    planned(planner, KNOBS)
    sender = PageSender(KNOBS, planner, Nobody(), paced=True)
    wait_for(lambda: not planner.busy)
    listener = Listener()
    for samples in itertools.islice(sender.samples(), 120):
        assert 0 < samples.size <= LEAST_SAMPLES
        listener.push(samples)
    cycles = [burst.cycles for burst in listener.bursts.values()]
    assert len(cycles) > 1 and cycles[0] == KNOBS.cycles
    sender.change({"muted": True})
    assert not np.any(next(sender.samples()))


def test_a_knob_begins_a_new_round_when_asked(planner):
    planned(planner, KNOBS)
    sender = PageSender(KNOBS, planner, Nobody(), paced=True)
    wait_for(lambda: not planner.busy)
    samples, listener = sender.samples(), Listener()
    listener.push(np.concatenate(list(itertools.islice(samples, 30))))
    sender.change({"restart": True})
    listener.push(np.concatenate(list(itertools.islice(samples, 30))))
    listener.finish()
    assert len(listener.bursts) == 2
    with pytest.raises(InputError, match="cycles"):
        sender.change({"cycles": 0})
