"""What the endurance run counts with: taps between processes, and the account of lost samples."""

import time

import numpy as np
import pytest

from airnet_sdr.dsp.radio import RadioConfig, open_sink, open_source
from airnet_sdr.sim.benchmarks.endurance import SAMPLES_UNSURE, Account
from airnet_sdr.sim.benchmarks.tap import Tap
from airnet_sdr.tests.command import wait_for


def test_a_tap_passes_every_sample_in_order_and_counts_them():
    sent = np.arange(10_000).astype(np.complex64)
    with Tap() as tap, open_sink(tap.entry, RadioConfig(backoff_db=None)) as sink:
        for part in np.split(sent, 10):
            sink.send(part)
        wait_for(lambda: tap.taken >= 1000)
        assert tap.given == 0  # nobody takes them yet
        with open_source(tap.exit, RadioConfig()) as source:
            received = np.concatenate([source.read(10.0) for _ in range(10)])
        np.testing.assert_array_equal(received, sent)
        assert tap.taken == tap.given == sent.size


def test_a_tap_is_no_faster_than_asked_for():
    block, num = np.ones(1000, np.complex64), 20
    with Tap(most_hz=20_000) as tap, open_sink(tap.entry, RadioConfig(backoff_db=None)) as sink:
        began = time.monotonic()
        with open_source(tap.exit, RadioConfig()) as source:
            for _ in range(num):
                sink.send(block)
                assert source.read(10.0).size == block.size
    assert time.monotonic() - began > 0.95


@pytest.mark.parametrize(
    "found, explained", [(9000, True), (9000 + SAMPLES_UNSURE + 1, False), (500, True), (0, False)]
)
def test_lost_samples_must_be_those_expected(found, explained):
    account = Account()
    account.check(3, found, {9000, 510}, 1)
    assert (account.unexplained == []) == explained and account.found_samples == found
