"""Samples that were lost on the way, found in the signal: how many, and where, to one OFDM symbol.

Frames follow each other without a gap, so the numbers of two frames say how far apart they were sent; what is missing
between them was lost. Where, the pilots say: up to the loss the OFDM symbols lie where the frame before puts them,
after it where the frame after puts them. How well a symbol fits such a place is the coherence of its pilots p, and
that of its prefix with its end (pilots alone do not tell places 20.48 samples apart: they are 50 subcarriers apart):

    |Σ Y·p*·H*|² / (Σ|Y|²·Σ|H|²)    of noise 1/num_pilots, else about S/(1 + S)
    |Σ y[n]·y*[n+N]|² / (Σ|y[n]|²·Σ|y[n+N]|²)    of noise 1/prefix, else about (S/(1 + S))²

The loss lies where the sum of the coherences before, taken where the one frame puts the symbols, and after, taken
where the other does, is largest. No register of a radio is needed, nor trusted.
"""

import dataclasses

import numpy as np

from airnet_sdr.dsp import ofdm
from airnet_sdr.dsp.estimate import FIRST_PATH_TAP
from airnet_sdr.dsp.frame import FrameFormat, frame_samples
from airnet_sdr.dsp.reception import ReceivedFrame

CLOCK_ERROR = 3e-6  # of a measured clock offset: what may be missing for that alone
MOST_SILENT = 2  # OFDM symbols at the loss that fit neither frame and are silent: with more the sender paused
PIECES = 4  # of an OFDM symbol that are silent or not
MOST_SYMBOLS = 512  # before a frame are examined: a pause may last for hours


@dataclasses.dataclass(frozen=True)
class Loss:
    """``num_samples`` that were lost at the stream index ``start`` of the samples that came, to one OFDM symbol.

    Negative where samples were put in instead, as zeros of a transmitter that ran dry.
    """

    start: int
    num_samples: int


def num_lost(losses: list[Loss]) -> int:
    """Samples that were lost, those that were put in elsewhere not taken off."""
    return sum(max(0, loss.num_samples) for loss in losses)


def as_warnings(losses: list[Loss]) -> list[str]:
    """A line on what was lost, and one on what was put in."""
    lost, put_in = ([loss for loss in losses if sign * loss.num_samples > 0] for sign in (1, -1))
    lines = []
    if lost:
        lines.append(
            f"{num_lost(lost)} samples were lost on the way in {len(lost)} places, the first at sample "
            f"{lost[0].start}; lower the rate, or raise the size of the buffers"
        )
    if put_in:
        lines.append(
            f"the sender ran dry in {len(put_in)} places, the first at sample {put_in[0].start}; lower the rate there"
        )
    return lines


def find_loss(
    samples: np.ndarray, origin: int, before: ReceivedFrame, after: ReceivedFrame, fmt: FrameFormat
) -> Loss | None:
    """What was lost between two frames of a burst; None for nothing, or for a sender that paused.

    ``origin`` is the stream index of the first of the samples, which reach to ``after``; the last MOST_SYMBOLS of them
    are examined, and what came before counts as silent where the first of these is. What is missing is known but for
    whole cycles of the burst, and found from as many samples on as the channel's delay window is wide: a path may come
    and go in it.
    """
    if before.header.burst_key != after.header.burst_key:
        return None
    sco = (before.sco + after.sco) / 2
    num_frames = before.header.num_frames
    length = frame_samples(before.header, fmt) / (1 + sco)
    came = after.window - before.window
    steps = (after.header.frame - before.header.frame) % num_frames or num_frames
    steps += num_frames * round((came - steps * length) / (num_frames * length))
    if steps < 1:
        steps += num_frames * -((steps - 1) // num_frames)
    num_lost = round(steps * length - came)
    tolerance = max(before.channel.window, after.channel.window) + CLOCK_ERROR * steps * length
    if abs(num_lost) <= tolerance:
        return None
    place, silent = _place(samples, origin, before, after, fmt)
    if silent > MOST_SILENT + max(0, -num_lost) / fmt.symbol_samples:
        return None
    return Loss(place, num_lost)


def _place(samples, origin, before, after, fmt):
    """Stream index of the loss, and how many OFDM symbols around it fit neither frame and are silent.

    What interference hits fits neither, too.
    """
    hop = fmt.symbol_samples
    first = max(before.window, origin, after.window - MOST_SYMBOLS * hop)
    unknown = first - before.window  # samples that came before those examined
    num_symbols = (after.window - first) // hop + 1
    sent_before = _Grid(before, int(unknown * (1 + before.sco)) // hop + np.arange(1, num_symbols + 1), fmt)
    sent_after = _Grid(after, np.arange(-num_symbols, 0), fmt)
    score_before = sent_before.score(samples, origin)
    score_after = sent_after.score(samples, origin)
    # of each place that ends a symbol of the frame before: the symbols up to it, and those that begin after it
    ends = np.concatenate([sent_before.starts[:1], sent_before.starts + hop])
    total = np.concatenate([[0.0], np.cumsum(score_before)])
    later = np.append(np.cumsum(score_after[::-1])[::-1], 0.0)
    total = total + later[np.searchsorted(sent_after.starts, ends - hop // 4)]
    best = int(np.argmax(total))
    place = int(ends[best])
    fits_before = np.flatnonzero(score_before[:best] > 0)
    fits_after = np.flatnonzero((score_after > 0) & (sent_after.starts >= place - hop // 4))
    end = sent_before.starts[fits_before[-1]] + hop if fits_before.size else first
    start = sent_after.starts[fits_after[0]] if fits_after.size else after.window
    halfway = min(frame.noise_var + frame.channel.power * fmt.occupancy / 2 for frame in (before, after))
    is_silent = _powers(samples[end - origin : max(start, end) - origin], hop // PIECES) < halfway
    begins_silent = _powers(samples[first - origin :][:hop], hop) < halfway
    return place, np.count_nonzero(is_silent) / PIECES + (unknown / hop if begins_silent.all() else 0)


def _powers(samples, size):
    """Mean powers of pieces of the samples, of ``size`` samples each."""
    return np.mean(np.abs(samples[: samples.size // size * size].reshape(-1, size)) ** 2, axis=1)


class _Grid:
    """OFDM symbols where a frame puts them: ``numbers`` counts from its preamble, those before it are negative."""

    def __init__(self, frame: ReceivedFrame, numbers: np.ndarray, fmt: FrameFormat):
        self._frame, self._numbers, self._fmt = frame, numbers, fmt
        self.starts = frame.window + np.round(numbers * fmt.symbol_samples / (1 + frame.sco)).astype(np.int64)

    def score(self, samples, origin) -> np.ndarray:
        """Coherences of each symbol, over what is halfway to noise (symbols,)."""
        present = self._frame.snr / (1 + self._frame.snr)
        pilots = self._pilot_coherence(samples, origin) - (present + 1 / self._fmt.num_pilots) / 2
        prefixes = self._prefix_coherence(samples, origin) - (present**2 + 1 / self._fmt.prefix_samples) / 2
        is_preamble = self._numbers % (1 + self._frame.header.num_symbols) == 0
        return np.where(is_preamble, 0.0, pilots) + prefixes

    def _pilot_coherence(self, samples, origin):
        fmt, frame = self._fmt, self._frame
        cfo = np.full(self.starts.size, frame.cfo)
        spectra = ofdm.demodulate(samples, self.starts - origin, cfo, 1, fmt)[:, 0]
        number = self._numbers % (1 + frame.header.num_symbols) - 1  # -1 is a preamble
        index = fmt.pilot_index[number]
        received = np.take_along_axis(spectra[:, fmt.columns], index, axis=1)
        channel = frame.channel.h_hat[index]
        products = np.sum(received * (fmt.pilots[number] * channel).conj(), axis=1)
        energies = np.sum(np.abs(received) ** 2, axis=1) * np.sum(np.abs(channel) ** 2, axis=1)
        return np.abs(products) ** 2 / np.maximum(energies, 1e-30)

    def _prefix_coherence(self, samples, origin):
        begin = self.starts - origin + FIRST_PATH_TAP
        index = begin[:, None] + np.arange(self._fmt.prefix_samples)
        last = samples.size - 1
        prefix, end = samples[np.clip(index, 0, last)], samples[np.clip(index + self._fmt.fft_size, 0, last)]
        energies = np.sum(np.abs(prefix) ** 2, axis=1) * np.sum(np.abs(end) ** 2, axis=1)
        coherence = np.abs(np.sum(prefix * end.conj(), axis=1)) ** 2 / np.maximum(energies, 1e-30)
        return np.where((begin >= 0) & (index[:, -1] + self._fmt.fft_size <= last), coherence, 0.0)
