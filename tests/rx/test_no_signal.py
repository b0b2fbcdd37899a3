"""Frames whose pilots contradict their preamble have an SNR of 0, which no report, picture or page stumbles over."""

import dataclasses
import json

import numpy as np
import pytest

from airnet_sdr.dsp.errors import LinkError
from airnet_sdr.dsp.frame import DEFAULT_FORMAT, FrameFormat
from airnet_sdr.dsp.radio import RadioConfig
from airnet_sdr.rx.listen import Listener
from airnet_sdr.rx.live import Display
from airnet_sdr.rx.live_message import Message, pack
from airnet_sdr.rx.receiver import receive
from airnet_sdr.rx.report import summary
from airnet_sdr.rx.samples import ArraySource
from airnet_sdr.tests.fuzz import seeds
from airnet_sdr.tests.link import on_air, transmit


def contradicting(burst):
    """The burst with pilots of 21 dB beside such of 19 dB and the other sign."""
    fmt = FrameFormat()
    fmt.__dict__["pilots"] = DEFAULT_FORMAT.pilots * np.float32(1 + 10 * np.tile([1, -1, -1, 1], 4))
    return dataclasses.replace(burst, fmt=fmt)


@pytest.fixture(scope="module")
def samples():
    return on_air(transmit(contradicting(seeds.burst_of("analog", uep="none")), 2), 40)


def test_a_report_and_a_picture_of_no_signal(samples, tmp_path):
    reception = receive(samples, evaluate="none", architecture=seeds.TINY)
    assert reception.report["sync"]["snr_db"] is None and json.dumps(reception.report, allow_nan=False)
    assert "cycle(s), no signal, CFO " in summary(reception.report)
    nothing = {**reception.report, "sync": {"snr_db": None, "cfo_hz": None, "sco_ppm": None}}
    assert "no signal, CFO - Hz, clock - ppm" in summary(nothing)
    for report in (reception.report, nothing):
        dataclasses.replace(reception, report=report).draw(tmp_path / "p.svg")


def test_a_display_of_no_signal_is_sent(samples):
    class Feed:
        messages = []

        def show(self, values, arrays):
            self.messages.append(pack(Message(values, arrays)))

    source, listener, feed = ArraySource([samples], RadioConfig()), Listener(), Feed()
    display = Display(feed, listener, source)
    listener.on_frame = display.frame
    listener.push(source.read(1.0))
    display.show()
    assert display.heard and b'"snr_db": null' in feed.messages[-1]


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_a_number_that_is_not_finite_is_no_message(value):
    with pytest.raises(LinkError, match="finite"):
        pack(Message({"snr_db": value}, {}))
