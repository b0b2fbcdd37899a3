import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from airnet_sdr.dsp import control, ofdm, symbols
from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.frame import DEFAULT_FORMAT, frame_samples, payload_slots
from airnet_sdr.dsp.interleave import accumulate, collect
from airnet_sdr.dsp.uep import Protection
from airnet_sdr.dsp.units import db, linear, power
from airnet_sdr.models.manifest import Manifest
from airnet_sdr.models.payload.analog import PART_WEIGHTS
from airnet_sdr.tests.link import burst_of, make_burst, transmit
from airnet_sdr.tx import burst as tx
from airnet_sdr.tx import sender


def test_a_cycle_is_its_frames_of_unit_power():
    _, burst = make_burst(numels=(60_000,))
    frames = list(tx.modulate(burst))
    assert len(frames) == burst.header.num_frames
    assert all(f.dtype == np.complex64 and f.size == frame_samples(burst.header, DEFAULT_FORMAT) for f in frames)
    assert sum(f.size for f in frames) == burst.num_samples
    # symbol slots that the payload leaves empty, less than one OFDM symbol a frame, are all that is missing
    assert 1 - 1 / burst.header.num_symbols < power(np.concatenate(frames)) < 1.01


def test_a_frame_holds_header_chunk_payload_and_pilots_where_they_belong():
    _, burst = make_burst()
    fmt = DEFAULT_FORMAT
    chunks = control.encode_manifest(burst.manifest.to_bytes(), burst.header)
    rows_heard = np.zeros((burst.header.num_frames, payload_slots(burst.header, fmt)), np.complex64)
    for number, samples in enumerate(tx.modulate(burst)):
        header = dataclasses.replace(burst.header, frame=number)
        spectra = ofdm.demodulate(samples, [0], [0.0], 1 + header.num_symbols)[0]
        grid = spectra[:, fmt.columns] / ofdm.amplitude()
        assert np.abs(grid[0] - fmt.preamble).max() < 1e-5
        rows = np.arange(header.num_symbols)
        assert np.abs(grid[1:][rows[:, None], fmt.pilot_index[rows]] - fmt.pilots[rows]).max() < 1e-5
        slots = grid[1:][rows[:, None], fmt.data_index[rows]].reshape(-1)
        assert np.abs(slots[: fmt.header_symbols] - control.encode_header(header)).max() < 1e-5
        end = fmt.header_symbols + chunks.shape[1]
        assert np.abs(slots[fmt.header_symbols : end] - chunks[number]).max() < 1e-5
        accumulate(slots[end:], header, rows_heard)
    assert np.abs(collect(rows_heard, burst.stream.size) - burst.stream).max() < 1e-5


def test_the_stream_holds_each_tensor_centred_scaled_and_repeated():
    vectors, burst = make_burst(numels=(101, 50), copies=3)
    end = 0
    for weights, plan in zip(vectors, burst.manifest.parts[0].tensors, strict=True):
        part = burst.stream[end : end + 3 * ((weights.size + 1) // 2)]
        end += part.size
        assert np.array_equal(part[0::3], part[1::3]) and np.array_equal(part[0::3], part[2::3])
        assert symbols.to_weights(part[0::3], weights.size, plan.mean, plan.scale) == pytest.approx(weights, abs=1e-6)
        assert power(part) == pytest.approx(1, abs=0.03)  # one weight of padding, half a step of the scale
    assert end == burst.stream.size


def test_threads_and_parts_make_the_same_samples():
    """Tensors longer than a part, of odd length, more frames than a group of tiles; the stream as made in one piece."""
    rng = np.random.default_rng(3)
    vectors = [rng.standard_normal(n).astype(np.float32) for n in (PART_WEIGHTS + 1, 5, 3 * PART_WEIGHTS, 70_001)]
    protection = Protection(copies=np.array([2, 1, 3, 1]), power=np.array([0.5, 1, 2, 1]))
    burst = burst_of(vectors, protection)
    assert burst.header.num_frames > tx.TILES_AHEAD * tx.TILE_FRAMES
    whole = [
        symbols.repeat(symbols.to_symbols(w, plan.mean, plan.scale), plan.copies, linear(plan.power_db))
        for w, plan in zip(vectors, burst.manifest.parts[0].tensors, strict=True)
    ]
    assert np.array_equal(burst.stream, np.concatenate(whole))
    with ThreadPoolExecutor(3) as pool:
        same = burst_of(vectors, protection, run=pool.map)
        assert same.header == burst.header and same.manifest == burst.manifest
        assert np.array_equal(list(tx.modulate(same, pool.map)), list(tx.modulate(burst)))


def test_powers_are_the_ones_of_the_manifest():
    """Also those between its steps of 0.25 dB."""
    _, burst = make_burst(numels=(5000, 5000), copies=(1, 2), power=linear(np.array([-4.32, 2.75])))
    manifest = Manifest.from_bytes(burst.manifest.to_bytes())
    assert [t.copies for t in manifest.parts[0].tensors] == [1, 2]
    for part, plan, power_db in zip(
        np.split(burst.stream, [2500]), manifest.parts[0].tensors, [-4.25, 2.75], strict=True
    ):
        assert plan.power_db == power_db and db(power(part)) == pytest.approx(power_db, abs=0.03)


def test_the_burst_id_tells_models_apart():
    (_, a), (_, same), (_, other) = make_burst(seed=1), make_burst(seed=1), make_burst(seed=2)
    assert a.header == same.header and a.header.burst_id != other.header.burst_id


def test_bursts_of_any_size_are_laid_out():
    for numels in [(1,), (2, 1), (5, 1, 1)]:
        _, burst = make_burst(numels=numels)
        assert transmit(burst).size == burst.num_samples


def test_weights_that_are_not_finite_are_an_input_error():
    protection = Protection(copies=np.ones(1, int), power=np.ones(1))
    with pytest.raises(InputError, match="finite"):
        burst_of([np.array([1, np.nan], np.float32)], protection)


@pytest.mark.parametrize("network", [{"weight": np.zeros(3)}, 123])
def test_what_is_neither_path_nor_module_is_refused(network):
    with pytest.raises(InputError, match="`model` must be a name, a path or a torch.nn.Module; got"):
        sender.make_burst(network, architecture="fashion")


def test_cycles_are_the_same_frames_again_between_silence():
    _, burst = make_burst(numels=(500,))
    items = list(tx.transmission(burst, cycles=2))
    assert not items[0][0].any() and not items[-1][0].any()
    assert np.array_equal(np.concatenate([s for s, _ in items[1:-1]]), transmit(burst, cycles=2))
