"""The frozen golden frame: what this format version puts on the air, sample by sample.

`frame_vN.npy` (samples complex64) and `control_vN.npy` (header and manifest symbols complex64), N the version, were
made by ``python -m tests.golden.test_golden`` from the repository root. A frame that differs is another format: give
`dsp.frame.VERSION` a new number and make new files, which take the old ones' place.
"""

from pathlib import Path

import numpy as np

from airnet_sdr.dsp import control, ofdm
from airnet_sdr.dsp.frame import DEFAULT_FORMAT, VERSION, Header, payload_slots
from airnet_sdr.dsp.units import nmse
from airnet_sdr.tests.link import on_air, receive
from airnet_sdr.tx.burst import modulate_frame

HERE = Path(__file__).parent
HEADER = Header(burst_id=0xABC, frame=1, num_frames=4, num_symbols=2, num_chunk_steps=3)
MANIFEST = b"golden frame"


def payload():
    """A chirp of growing amplitude and unit power: every slot differs from every other."""
    n = np.arange(payload_slots(HEADER, DEFAULT_FORMAT))
    chirp = np.sqrt((1 + 2 * n / n.size) / 2) * np.exp(1j * np.pi * n * n / n.size)
    return chirp.astype(np.complex64)


def control_symbols():
    """Header and manifest chunk of the frame."""
    chunk = control.encode_manifest(MANIFEST, HEADER)[HEADER.frame]
    return np.concatenate([control.encode_header(HEADER), chunk])


def samples():
    return modulate_frame(HEADER, control_symbols()[DEFAULT_FORMAT.header_symbols :], payload(), DEFAULT_FORMAT)


def load(name):
    return np.load(HERE / f"{name}_v{VERSION}.npy", allow_pickle=False)


def test_control_symbols_are_the_frozen_ones_bit_for_bit():
    assert np.array_equal(control_symbols(), load("control"))


def test_samples_are_the_frozen_ones():
    """Within 1e-5: transforms may round differently."""
    frozen = load("frame")
    assert frozen.dtype == np.complex64 and frozen.shape == (3 * 1056,)
    assert np.abs(samples() - frozen).max() < 1e-5


def test_the_frozen_frame_is_received():
    (frame,) = receive(on_air(load("frame"), before=100, after=100))
    assert frame.header == HEADER and frame.start == 100
    estimate = frame.statistic / (frame.information + 1)
    assert nmse(estimate, payload()) < 1e-4


def test_the_frame_begins_with_the_preamble():
    assert np.abs(load("frame")[:1056] - ofdm.preamble_samples()).max() < 1e-5


if __name__ == "__main__":
    for name, array in (("frame", samples()), ("control", control_symbols())):
        path = HERE / f"{name}_v{VERSION}.npy"
        if path.exists():
            raise SystemExit(f"{path} is frozen; give dsp.frame.VERSION a new number first")
        np.save(path, array, allow_pickle=False)
