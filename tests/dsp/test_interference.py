"""Interference for each cell: found where it is, as strong as it is, and not where there is none."""

import numpy as np
import pytest

from airnet_sdr.dsp import interference
from airnet_sdr.dsp.frame import DEFAULT_FORMAT as FMT
from airnet_sdr.dsp.interference import CELL, find_interference, pilot_weights, weigh_slots

SYMBOLS = 24
CHUNK = FMT.slots_per_symbol  # where the second OFDM symbol begins
CELLS = FMT.num_active // CELL
NOISE_VAR = 0.03


def gaussian(rng, *shape):
    parts = rng.standard_normal((*shape, 2)).astype(np.float32)
    return np.float32(np.sqrt(0.5)) * parts.view(np.complex64)[..., 0]


def payload(rng, kind):
    """Unit-power symbols (SYMBOLS, num_active): Gaussian, QPSK, or as heavy-tailed as the weights of a network.

    The first OFDM symbol is QPSK, as a header is.
    """
    qpsk = np.exp(0.5j * np.pi * (rng.integers(0, 4, (SYMBOLS, FMT.num_active)) + 0.5)).astype(np.complex64)
    if kind == "qpsk":
        return qpsk
    spread = {"gaussian": 0.0, "heavy-tailed": 0.6, "mostly small": 1.1}[kind]
    scale = np.exp(rng.normal(0, spread, (SYMBOLS, FMT.num_active)))
    symbols = gaussian(rng, SYMBOLS, FMT.num_active) * scale
    symbols = (symbols / np.sqrt(np.mean(np.abs(symbols) ** 2))).astype(np.complex64)
    return np.concatenate([qpsk[:1], symbols[1:]])


def received(rng, kind="gaussian", levels=None, chunk=0):
    """Spectra (1, SYMBOLS, fft_size) and the channel (1, num_active) of a frame, with interference of ``levels``.

    The first ``chunk`` slots of its second OFDM symbol are QPSK, too.
    """
    h = np.exp(0.01j * FMT.subcarriers).astype(np.complex64)
    sent = payload(rng, kind)
    index = FMT.data_index[1, :chunk]
    sent[1, index] = payload(rng, "qpsk")[1, index]
    np.put_along_axis(sent, FMT.pilot_index[:SYMBOLS], FMT.pilots[:SYMBOLS], axis=1)
    y = h * sent + np.sqrt(NOISE_VAR) * gaussian(rng, SYMBOLS, FMT.num_active)
    if levels is not None:
        y += np.sqrt(np.repeat(levels, CELL, axis=1)) * gaussian(rng, SYMBOLS, FMT.num_active)
    spectra = np.zeros((1, SYMBOLS, FMT.fft_size), np.complex64)
    spectra[0][:, FMT.columns] = y
    return spectra, h[None]


@pytest.mark.parametrize("kind", ["gaussian", "qpsk", "heavy-tailed"])
def test_a_frame_without_interference_is_left_alone(rng, kind):
    """Of the cells of 200 frames none or, of heavy-tailed payloads, less than 1e-5 are taken for hit."""
    found = [find_interference(*received(rng, kind), np.array([NOISE_VAR])) for _ in range(200)]
    hit = sum(np.sum(each > 0) for each in found if each is not None)
    assert hit <= (1e-5 * 200 * SYMBOLS * CELLS if kind == "heavy-tailed" else 0)


def test_the_manifest_chunk_is_no_interference(rng):
    """Its symbols are stronger than most of a heavy-tailed payload, and end within an OFDM symbol."""
    frames = [received(rng, "mostly small", chunk=368) for _ in range(12)]

    def hit(num_control):
        found = [find_interference(*each, np.array([NOISE_VAR]), FMT, num_control, closely=True) for each in frames]
        return sum(int(np.sum(each[0, 1] > 0)) for each in found if each is not None)

    assert hit(CHUNK + 368) == 0 < hit(CHUNK)


def test_a_strong_symbol_alone_is_not_looked_at_closely(rng, monkeypatch):
    """Weights have symbols of a hundred times their power; a weak tone has them all the time, a packet side by side."""
    looked = []
    monkeypatch.setattr(interference, "_of_frame", lambda spectrum, *_: looked.append(1) or np.zeros((SYMBOLS, CELLS)))
    tone, packet = np.zeros((2, SYMBOLS, CELLS))
    tone[:, 70:72], packet[9:13, 40:90] = 2.0, 4.0
    for levels, share in ((np.zeros((SYMBOLS, CELLS)), 0.0), (tone, 0.9), (packet, 0.9)):
        looked.clear()
        for _ in range(20):
            spectra, h = received(rng, "heavy-tailed", levels)
            spectra[0, 15, FMT.columns[600]] = 14  # 23 dB
            find_interference(spectra, h, np.array([NOISE_VAR]), FMT, CHUNK)
        assert len(looked) >= 20 * share and (share or len(looked) <= 2)


@pytest.mark.parametrize("kind", ["gaussian", "qpsk", "heavy-tailed"])
@pytest.mark.parametrize("level", [4.0, 30.0, 1000.0])
def test_interference_is_found_where_it_is_and_as_strong(rng, kind, level):
    levels = np.zeros((SYMBOLS, CELLS))
    levels[3:6, 40:80] = level  # a hop
    levels[10:20, 120:124] = level  # a narrow one
    found = find_interference(*received(rng, kind, levels), np.array([NOISE_VAR]))[0]
    assert np.mean(found[levels > 0] > 0) > 0.97
    assert np.mean(found[levels == 0]) < 0.03  # what is found elsewhere is faint: symbols have power 1
    assert np.mean(found[levels > 0]) == pytest.approx(level, rel=0.4)


def test_weights_lose_little_against_those_of_the_true_levels(rng):
    """Error of the linear estimate over that with the true variances: less than 0.6 dB."""
    levels = np.zeros((SYMBOLS, CELLS))
    levels[5:9] = 10 ** rng.uniform(-1, 2, (1, CELLS // 10)).repeat(10, axis=1)
    spectra, h = received(rng, "gaussian", levels)
    found = find_interference(spectra, h, np.array([NOISE_VAR]))[0]
    factors = [1 / (1 + NOISE_VAR + np.repeat(each, CELL, axis=1)) for each in (found, levels)]
    true = NOISE_VAR + np.repeat(levels, CELL, axis=1)
    errors = [np.mean((1 - factor) ** 2 + factor**2 * true) for factor in factors]
    assert errors[0] < 10**0.06 * errors[1]


def test_pilots_and_slots_count_by_their_cells(rng):
    interference = np.zeros((1, SYMBOLS, CELLS), np.float32)
    interference[0, 2, 10] = 3 * NOISE_VAR
    weights = pilot_weights(interference, np.array([NOISE_VAR]), FMT)
    hit = FMT.pilot_index[:SYMBOLS] // CELL == 10
    hit[np.arange(SYMBOLS) != 2] = False
    np.testing.assert_allclose(weights[0], np.where(hit, 0.25, 1.0), rtol=1e-6)
    matched = np.ones((1, SYMBOLS, FMT.slots_per_symbol), np.complex64)
    inverse = np.ones(matched.shape, np.float32)
    weigh_slots(interference, np.full((1, SYMBOLS), NOISE_VAR), FMT.data_index, matched, inverse)
    cells = FMT.data_index[:SYMBOLS] // CELL
    expected = np.where((cells == 10) & (np.arange(SYMBOLS)[:, None] == 2), 0.25, 1.0)
    np.testing.assert_allclose(inverse[0], expected, rtol=1e-6)
    np.testing.assert_allclose(matched[0].real, expected, rtol=1e-6)
