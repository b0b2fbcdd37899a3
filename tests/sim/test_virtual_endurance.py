"""Half an hour of a link between virtual boards whose crystals drift, through the real libiio: no frame may be lost.

Simulated time, faster than real time. Two minutes by default; AIRNET_ENDURANCE_MINUTES=30 for half an hour.
"""

import os

import numpy as np
import pytest

from airnet_sdr.dsp.burst import FrameReceiver
from airnet_sdr.dsp.frame import frame_samples
from airnet_sdr.dsp.radio import RadioConfig, open_sink, open_source
from airnet_sdr.sim.virtual_pluto import BoardConfig
from airnet_sdr.tests.link import make_burst, transmit
from airnet_sdr.tests.pluto import boards, needs_libiio

pytestmark = pytest.mark.alone

RATE_HZ = 2.5e6
MINUTES = float(os.environ.get("AIRNET_ENDURANCE_MINUTES", "2"))


@needs_libiio
@pytest.mark.slow
def test_no_frame_is_lost_while_crystals_drift():
    """The faster crystal at the sender, 2 ppm of drift in either."""
    sender = BoardConfig(ppm=23, drift_ppm=2, drift_s=300, serial="sender", real=True)
    receiver = BoardConfig(ppm=-21, drift_ppm=-2, drift_s=200, serial="receiver", real=True)
    _, burst = make_burst((150_000,))
    samples = transmit(burst)
    length = frame_samples(burst.header, FrameReceiver().fmt)
    config = RadioConfig(rate_hz=RATE_HZ, timeout_s=60, buffer_samples=1 << 20)
    frames, expected, cfos = 0, None, []
    with boards(sender, receiver) as (first, second):
        with open_sink(f"pluto:{first.uri}", config) as sink:
            sink.repeat(samples)
            with open_source(f"pluto:{second.uri}", RadioConfig(rate_hz=RATE_HZ, gain_db=60, timeout_s=60)) as source:
                listener = FrameReceiver()
                while source.samples < 60 * MINUTES * RATE_HZ:
                    for frame in listener.push(source.read()):
                        if frame.supplement and not frames:
                            continue  # of the frame in which the reception began
                        assert not frame.supplement and not frame.erased.any()
                        assert expected in (None, frame.header.frame), f"frame {expected} is lost after {frames}"
                        expected = (frame.header.frame + 1) % burst.header.num_frames
                        frames += 1
                    if frames:
                        cfos.append(frame.cfo)
                received = source.samples
    assert frames >= received / length - 3 and listener.losses == []
    drift_hz = np.ptp(cfos) * RATE_HZ / (2 * np.pi)  # of 4 ppm in the end
    seconds = received / RATE_HZ
    expected_ppm = 2 * (1 - np.exp(-seconds / 300)) + 2 * (1 - np.exp(-seconds / 200))
    assert drift_hz == pytest.approx(2400 * expected_ppm, rel=0.1)
