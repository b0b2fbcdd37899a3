"""Noise and interference for each cell of time and frequency: CELL subcarriers of one OFDM symbol.

A cell's symbols and pilots count by noise_var/(noise_var + interference). A frame is looked at closely (`cell_levels`)
only where a cell's energies fire a test that noise and heavy-tailed payloads pass, or its pilots differ in noise from
symbol to symbol; all others are received as if there were no interference, bit for bit.

The test is on the geometric mean of a cell's energies over the expected ones: interference lifts all of them, a strong
symbol only one. Lone energies fire it, too, as a tone may lie on a subcarrier: very strong ones and those in two OFDM
symbols in a row at once, others, which may be the payload's, where neighbouring cells together or one all the time are
above what they vary by.
"""

import numpy as np
from numba import njit
from scipy.ndimage import uniform_filter

from airnet_sdr.dsp.cell_levels import INTERFERENCE, level_probabilities
from airnet_sdr.dsp.frame import DEFAULT_FORMAT, FrameFormat

CELL = 4  # subcarriers
TESTED = 8  # subcarriers that are tested together
FIRE = 3.0  # geometric mean over the expected energy
FIRE_SUM = 20.0  # arithmetic mean over the expected energy
AREA = (3, 4)  # symbols and tested cells; the mean of their log2 energies...
LEAST_RISE, LOW_QUANTILE = 1.7, 0.05  # ...is so much above this quantile of all...
LEAST_TONE = 0.6  # ...or that of one cell above the median; 5 to 9 deviations of Gaussian payloads
LEAST_BELIEF, LEAST_BELIEF_ALONE = 0.5, 1e-5  # that a cell is clean, with and without neighbours that are not
LEAST_CELLS, LEAST_LEVEL = 2, 1.0  # of a frame; interference of the strongest over signal and noise
ONE_SYMBOL = 0.7  # of a cell's energy: where one symbol has more, it may be the payload's...
LONE = 1000.0  # ...unless it is so many times as strong as expected
COHERENT = 0.5  # of the pilots' energy: less does not tell the gain of a symbol
VECTORS = {"reassoc", "contract", "nsz", "arcp"}


def find_interference(
    spectra: np.ndarray,
    h_hat: np.ndarray,
    noise_var: np.ndarray,
    fmt: FrameFormat = DEFAULT_FORMAT,
    num_control: int | None = None,
    closely: bool = False,
) -> np.ndarray | None:
    """Variances of the interference (frames, symbols, cells) float32, 0 where there is none; None: no frame is hit.

    Parameters
    ----------
    spectra : (frames, symbols, fft_size) complex64, columns as in `FrameFormat.columns`; of the OFDM symbols that
        follow the preamble (`FrameFormat.pilots` begins with the first)
    h_hat, noise_var : (frames, num_active) complex64 and (frames,), from the preamble
    num_control : slots of header and manifest chunk; all of the first OFDM symbol while that is not known
    closely : look at all frames closely, whatever their energies are
    """
    frames, symbols, _ = spectra.shape
    num_control = fmt.slots_per_symbol if num_control is None else num_control
    products = np.empty((frames, symbols, fmt.num_active // TESTED), np.float32)
    fires, may_be_payload = np.zeros(frames, np.bool_), np.zeros(frames, np.bool_)
    _fires(spectra.view(np.float32), h_hat.view(np.float32), noise_var, TESTED, products, fires, may_be_payload)
    for m in np.nonzero(may_be_payload)[0]:
        fires[m] = _is_wide(products[m, -(-num_control // fmt.slots_per_symbol) :])
    fires |= closely
    if not fires.any():
        return None
    found = np.zeros((frames, symbols, fmt.num_active // CELL), np.float32)
    for m in np.nonzero(fires)[0]:
        found[m] = _of_frame(spectra[m], h_hat[m], float(noise_var[m]), fmt, num_control)
    return found if found.any() else None


def _is_wide(products: np.ndarray) -> bool:
    """Whether the energies rise where neighbours do, or all the time in one cell, by their products in each."""
    if len(products) < AREA[0]:
        return True
    octaves = np.log2(np.maximum(products, np.finfo(np.float32).tiny)) / TESTED
    areas = uniform_filter(octaves, AREA, mode="nearest")
    if areas.max() - np.quantile(areas, LOW_QUANTILE) > LEAST_RISE:
        return True
    return octaves.mean(axis=0).max() - np.median(octaves) > LEAST_TONE


def _of_frame(spectrum, h, noise_var, fmt, num_control) -> np.ndarray:
    """The interference of one frame (symbols, cells)."""
    symbols, cells = len(spectrum), fmt.num_active // CELL
    gain = _gains(spectrum, h, fmt.pilot_index[:symbols], fmt.pilots[:symbols])
    power = np.mean(np.abs(h.reshape(cells, CELL)) ** 2, axis=1, dtype=np.float64)  # (cells,)
    expected = np.maximum(gain[:, None] * power + noise_var, 1e-30)  # (symbols, cells)
    energies = np.abs(spectrum[:, fmt.columns]) ** 2
    pilots = np.take_along_axis(energies, fmt.pilot_index[:symbols], axis=1)
    np.put_along_axis(energies, fmt.pilot_index[:symbols], -pilots, axis=1)
    slots = np.arange(min(num_control, symbols * fmt.slots_per_symbol))
    symbol, slot = np.divmod(slots, fmt.slots_per_symbol)
    energies[symbol, fmt.data_index[symbol, slot]] *= -1
    energies = energies.reshape(symbols, cells, CELL) / expected[:, :, None].astype(np.float32)
    belief = level_probabilities(energies, noise_var / np.maximum(power, 1e-30))
    # the linear estimate's factor 1/(1 + N) is averaged over what N may be
    level = 1 / (belief @ (1 / (1 + INTERFERENCE)).astype(np.float32)) - 1
    found = np.where(_hit_cells(belief[:, :, 0], np.abs(energies)), np.maximum(level, 0), 0)
    return found * expected if found.max() > LEAST_LEVEL else np.zeros_like(found)


def _hit_cells(clean: np.ndarray, energies: np.ndarray) -> np.ndarray:
    """Which cells are hit, given the beliefs that they are clean (symbols, cells) and energies (symbols, cells, CELL).

    Among cells that are not, one alone must be surely so, and by more than one strong symbol; and few make no
    interference.
    """
    hit = clean < LEAST_BELIEF
    beside = np.pad(hit, 1)
    around = sum(
        beside[1 + t : 1 + t + hit.shape[0], 1 + c : 1 + c + hit.shape[1]]
        for t in (-1, 0, 1)
        for c in (-1, 0, 1)
        if t or c
    )
    largest = energies.max(axis=2)
    one_symbol = (largest > ONE_SYMBOL * energies.sum(axis=2)) & (largest < LONE)
    hit &= (around > 0) | ((clean < LEAST_BELIEF_ALONE) & ~one_symbol)
    return hit if hit.sum() >= LEAST_CELLS or (hit & (largest >= LONE)).any() else np.zeros_like(hit)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=VECTORS)
def _fires(spectra, h, noise_var, cell, products, fires, may_be_payload):
    """Products of the energies of each cell of a frame, and whether any cell exceeds a threshold, or only one that a
    strong symbol of the payload reaches, too; parts of complex numbers are neighbours."""
    num_cells, width = h.shape[1] // (2 * cell), 2 * cell
    scale, before = np.empty(num_cells, np.float32), np.empty(num_cells, np.bool_)
    most = np.float32(FIRE**cell)
    for m in range(spectra.shape[0]):
        for c in range(num_cells):
            total = np.float32(0)
            part = h[m, width * c : width * (c + 1)]
            for i in range(width):
                total += part[i] * part[i]
            scale[c] = np.float32(cell) / (total + np.float32(cell * noise_var[m]) + np.float32(1e-30))
        fired, strong = False, False
        before[:] = False
        for t in range(spectra.shape[1]):
            for c in range(num_cells):
                first = width * c + (0 if 2 * c < num_cells else 2)
                part = spectra[m, t, first : first + width]
                total, product = np.float32(0), np.float32(1)
                for i in range(cell):
                    energy = (part[2 * i] * part[2 * i] + part[2 * i + 1] * part[2 * i + 1]) * scale[c]
                    total += energy
                    product *= energy
                products[m, t, c] = product
                here = total > np.float32(FIRE_SUM * cell)
                fired |= (product > most) | (total > np.float32(LONE)) | (here & before[c])
                strong |= here
                before[c] = here
        fires[m] = fired
        may_be_payload[m] = strong & (not fired)


@njit(cache=True, nogil=True, error_model="numpy")
def _gains(spectrum, h, pilot_index, pilots):
    """Power gain of each symbol since the preamble, by its pilots; where they do not agree, that of the nearest one."""
    num = spectrum.shape[0]
    half = h.size // 2
    gain, known = np.ones(num), np.zeros(num, np.bool_)
    for t in range(num):
        together, weight, energy = 0j, 0.0, 0.0
        for i in range(pilot_index.shape[1]):
            k = pilot_index[t, i]
            y = np.complex128(spectrum[t, k + (k >= half)])
            x = np.complex128(h[k] * pilots[t, i])
            together += x.conjugate() * y
            weight += x.real**2 + x.imag**2
            energy += y.real**2 + y.imag**2
        power = together.real**2 + together.imag**2
        if power > COHERENT * weight * energy:
            gain[t], known[t] = power / weight**2, True
    for t in range(num):
        for away in range(1, num):
            if known[t]:
                break
            if t >= away and known[t - away]:
                gain[t] = gain[t - away]
                break
            if t + away < num and known[t + away]:
                gain[t] = gain[t + away]
                break
    return gain


def pilot_weights(interference: np.ndarray, noise_var: np.ndarray, fmt: FrameFormat) -> np.ndarray:
    """noise_var/(noise_var + interference) where the pilots lie (frames, symbols, num_pilots) float64."""
    cells = np.broadcast_to(fmt.pilot_index[: interference.shape[1]] // CELL, (*interference.shape[:2], fmt.num_pilots))
    noise = noise_var[:, None, None] + 1e-30
    return noise / (noise + np.take_along_axis(interference, cells, axis=2))


@njit(cache=True, nogil=True, error_model="numpy")
def weigh_slots(interference, noise_var, data_index, statistic, information):
    """Multiply the soft values (frames, symbols, slots) by noise_var/(noise_var + interference) of their cells."""
    for m in range(interference.shape[0]):
        for t in range(interference.shape[1]):
            hit = False
            for c in range(interference.shape[2]):
                hit |= interference[m, t, c] > 0
            if not hit or np.isinf(noise_var[m, t]):
                continue
            for i in range(data_index.shape[1]):
                here = interference[m, t, data_index[t, i] // CELL]
                if here > 0:
                    weight = np.float32(noise_var[m, t] / (noise_var[m, t] + here))
                    statistic[m, t, i] *= weight
                    information[m, t, i] *= weight
