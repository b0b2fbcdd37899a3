"""From acquired preambles to the soft slots of their frames: the receiver's block diagram, some frames at a time."""

import dataclasses
import functools
import math

import numpy as np
from scipy.special import gammainccinv

from airnet_sdr.dsp import control, estimate, ofdm
from airnet_sdr.dsp.equalise import soft_slots
from airnet_sdr.dsp.estimate import FIRST_PATH_TAP, ChannelEstimate, mean_snr
from airnet_sdr.dsp.frame import DEFAULT_FORMAT, FrameFormat, Header, control_slots, frame_samples
from airnet_sdr.dsp.interference import find_interference
from airnet_sdr.dsp.sync import Acquisition
from airnet_sdr.dsp.tracking import MAX_CFO, MAX_SCO, Tracking, track

MIN_TAIL = 4  # OFDM symbols of a frame without preamble that are worth believing
SUSPECT = 1.5  # times the noise of a frame's other symbols, at least...
SUSPECT_CHANCE = 1e-3  # ...and so much that few frames without interference have a symbol of more
LEAKAGE = 0.02  # of the noise: intercarrier interference above it is worth another look
FAINTEST = 1e-20  # power of a channel, of which single precision still holds the square: none is as weak


@dataclasses.dataclass(frozen=True)
class ReceivedFrame:
    """A frame whose header passed its CRC, with the soft values of its slots (see `equalise.soft_slots`).

    start : index of its first sample in the stream, by its strongest path; cfo in rad/sample; sco a ratio; snr per
        payload symbol, linear; channel at the preamble
    window : stream index from which the FFT windows are counted
    erased : (num_symbols,) bool, OFDM symbols of which nothing is usable
    chunk, chunk_information : of the slots of the manifest chunk; statistic, information : of the payload slots
    supplement : these are symbols of a frame without its preamble: of one that was torn, or cut at its beginning
    """

    header: Header
    start: int
    window: int
    cfo: float
    sco: float
    snr: float
    noise_var: float
    channel: ChannelEstimate
    erased: np.ndarray
    chunk: np.ndarray
    chunk_information: np.ndarray
    statistic: np.ndarray
    information: np.ndarray
    supplement: bool = False

    @property
    def erased_symbols(self) -> int:
        """OFDM symbols of which nothing is usable."""
        return int(self.erased.sum())

    @property
    def equalised(self) -> np.ndarray:
        """Equalised payload symbols (num,) complex64, those that are usable."""
        return _equalised(self.statistic, self.information)

    @property
    def equalised_control(self) -> np.ndarray:
        """Equalised symbols (num,) complex64 of the manifest chunk, those that are usable."""
        return _equalised(self.chunk, self.chunk_information)

    def annotation(self, fmt: FrameFormat = DEFAULT_FORMAT) -> tuple[int, int, str]:
        """First sample, number of samples and name, for a recording."""
        name = f"burst {self.header.burst_id} frame {self.header.frame}"
        return self.start, frame_samples(self.header, fmt), name + (" without its preamble" if self.supplement else "")


def _equalised(matched: np.ndarray, inv_noise_var: np.ndarray) -> np.ndarray:
    usable = inv_noise_var > 0
    return matched[usable] / inv_noise_var[usable]


@dataclasses.dataclass(frozen=True)
class Places:
    """Where frames are: first samples and FFT windows in the stream, and carrier offsets in rad/sample; (frames,)."""

    start: np.ndarray
    window: np.ndarray
    cfo: np.ndarray


@dataclasses.dataclass(frozen=True)
class OpenedFrames:
    """Frames by their preambles alone.

    shift : (frames,) from the preambles' starts, of the FFT windows that have the first path on FIRST_PATH_TAP
    spectra : (frames, symbols, fft_size) complex64 of the OFDM symbols after the preambles
    interference : (frames, symbols, cells) of `interference`, None where no frame is hit
    """

    acquisition: Acquisition
    shift: np.ndarray
    spectra: np.ndarray
    channel: ChannelEstimate
    interference: np.ndarray | None

    def __getitem__(self, frames) -> "OpenedFrames":
        """A slice of them."""
        values = (getattr(self, field.name) for field in dataclasses.fields(self))
        return OpenedFrames(*(None if value is None else value[frames] for value in values))


def open_frames(
    samples: np.ndarray, acquisition: Acquisition, num_symbols: int, fmt: FrameFormat, num_control: int | None = None
) -> OpenedFrames:
    """The frames at some preambles, with num_symbols OFDM symbols each; num_control as in `find_interference`."""
    preambles = ofdm.demodulate(samples, acquisition.start - FIRST_PATH_TAP, acquisition.cfo, 1, fmt)[:, 0]
    shift = estimate.first_paths(preambles, fmt) - 2 * FIRST_PATH_TAP
    return look(samples, acquisition, shift, num_symbols, fmt, num_control)


def look(
    samples,
    acquisition: Acquisition,
    shift,
    num_symbols: int,
    fmt: FrameFormat = DEFAULT_FORMAT,
    num_control: int | None = None,
) -> OpenedFrames:
    """The same through FFT windows at given shifts (frames,)."""
    starts = acquisition.start + shift
    channel = estimate.estimate_channels(ofdm.demodulate(samples, starts, acquisition.cfo, 1, fmt)[:, 0], fmt)
    known = (channel.power >= FAINTEST) & (channel.noise_var > 0)
    if not known.all():  # a preamble that is hardly one, or hostile
        channel = dataclasses.replace(channel, noise_var=np.where(known, channel.noise_var, np.inf))
    spectra = ofdm.demodulate(samples, starts, acquisition.cfo, num_symbols, fmt, first=1)
    interference = find_interference(spectra, channel.h_hat, channel.noise_var, fmt, num_control)
    return OpenedFrames(acquisition, shift, spectra, channel, interference)


def header_symbols(fmt: FrameFormat) -> int:
    """OFDM symbols that hold the header."""
    return math.ceil(fmt.header_symbols / fmt.slots_per_symbol)


def read_headers(opened: OpenedFrames, fmt: FrameFormat) -> list[Header | None]:
    """Headers from the first OFDM symbols, with the preambles' channel and carrier offset alone."""
    num = header_symbols(fmt)
    interference = None if opened.interference is None else opened.interference[:, :num]
    statistic, _ = soft_slots(
        np.ascontiguousarray(opened.spectra[:, :num]), opened.channel, fmt=fmt, interference=interference
    )
    return control.decode_headers(np.ascontiguousarray(statistic[:, : fmt.header_symbols]), fmt)


def read_frames(
    samples, origin: int, opened: OpenedFrames, headers: list[Header], fmt: FrameFormat, sco: float | None = None
) -> list[ReceivedFrame | None]:
    """Frames of equal length, their headers known, and their clock offset sco where it is nearly known.

    None instead of one that `frames_of` refuses. ``origin`` is the stream index of the first of the samples.
    """
    num_control = control_slots(headers[0], fmt)
    opened, tracking = _track_closely(opened, fmt, sco, num_control)
    leakage = (tracking.residual_cfo * fmt.fft_size / 2) ** 2 / 3 * opened.channel.power
    turned = leakage > LEAKAGE * opened.channel.noise_var  # Moose 1994: correct and look again
    if turned.any():
        cfo = opened.acquisition.cfo + np.where(turned, tracking.residual_cfo, 0)
        acquisition = dataclasses.replace(opened.acquisition, cfo=cfo)
        opened = look(samples, acquisition, opened.shift, opened.spectra.shape[1], fmt, num_control)
        opened, tracking = _track_closely(opened, fmt, sco, num_control)
    soft = soft_slots(opened.spectra, opened.channel, tracking, fmt, opened.interference)
    start, cfo = origin + opened.acquisition.start, opened.acquisition.cfo
    return frames_of(headers, Places(start, start + opened.shift, cfo), opened.channel, tracking, soft, fmt)


def _track_closely(
    opened: OpenedFrames, fmt: FrameFormat, sco: float | None, num_control: int
) -> tuple[OpenedFrames, Tracking]:
    """Track frames; where pilots of a symbol have more noise than others, interference is looked for in the frame."""
    tracking = track(opened.spectra, opened.channel, fmt, sco, interference=opened.interference)
    quietest = tracking.noise_var.min(axis=1)
    suspects = (tracking.noise_var.max(axis=1) > _suspect(fmt.num_pilots, opened.spectra.shape[1]) * quietest) & (
        np.isfinite(quietest)
    )
    if opened.interference is not None:
        suspects &= (opened.interference == 0).all(axis=(1, 2))
    if not suspects.any():
        return opened, tracking
    spectra, channel = opened.spectra, opened.channel
    found = find_interference(
        spectra[suspects], channel.h_hat[suspects], channel.noise_var[suspects], fmt, num_control, closely=True
    )
    if found is None:
        return opened, tracking
    before = opened.interference
    interference = np.zeros((len(spectra), *found.shape[1:]), np.float32) if before is None else before.copy()
    interference[suspects] = found
    opened = dataclasses.replace(opened, interference=interference)
    return opened, track(spectra, channel, fmt, sco, interference=interference)


@functools.lru_cache(maxsize=64)
def _suspect(num_pilots: int, num_symbols: int) -> float:
    """Times the noise that makes a symbol suspect: the mean energy of few pilots spreads, as a gamma variable does."""
    return max(SUSPECT, gammainccinv(num_pilots, SUSPECT_CHANCE / num_symbols) / num_pilots)


def read_backwards(
    samples, origin: int, frame: ReceivedFrame, last: ReceivedFrame | None, fmt: FrameFormat
) -> list[ReceivedFrame]:
    """What can be read backwards from a frame: the end of its predecessor, which was torn by lost or repeated samples,
    or whose preamble was cut off or hit. A list of one supplement, or of none.

    ``last`` is the frame received before, ``origin`` the stream index of the first of the samples.
    """
    if frame.header.frame == 0:
        return []
    header = dataclasses.replace(frame.header, frame=frame.header.frame - 1)
    length = frame_samples(header, fmt)
    torn = last is not None and last.header == header and abs(frame.start - last.start - length) < length
    if torn and not last.erased.any():
        return []
    if not torn and last is not None and last.start > frame.start - 2 * length + fmt.symbol_samples:
        return []
    back = header.num_symbols * fmt.symbol_samples
    spectra = ofdm.demodulate(samples, [frame.window - back - origin], [frame.cfo], header.num_symbols, fmt)
    spectra *= np.complex64(np.exp(1j * frame.cfo * back))
    channel = ChannelEstimate(
        frame.channel.h_hat[None], np.array([frame.channel.noise_var]), np.array([frame.channel.window])
    )
    interference = find_interference(spectra, channel.h_hat, channel.noise_var, fmt, control_slots(header, fmt))
    tracking = track(spectra, channel, fmt, frame.sco, before=True, interference=interference)
    present = np.isfinite(tracking.noise_var[0])
    if torn:
        present &= last.erased
    else:  # what is there reaches up to this preamble; noise may look like a symbol or two
        first = np.max(np.nonzero(~present)[0], initial=-1) + 1
        present[: first if header.num_symbols - first >= MIN_TAIL else None] = False
    if not present.any():
        return []
    tracking.noise_var[0, ~present] = np.inf
    soft = soft_slots(spectra, channel, tracking, fmt, interference)
    places = Places(*(np.array([value]) for value in (frame.start - length, frame.window - length, frame.cfo)))
    return [frame for frame in frames_of([header], places, channel, tracking, soft, fmt, supplement=True) if frame]


def frames_of(
    headers, places: Places, channel: ChannelEstimate, tracking: Tracking, soft, fmt: FrameFormat, supplement=False
) -> list[ReceivedFrame | None]:
    """Frames of their estimates and the soft slots of the symbols there are; the rest counts as erased.

    None instead of a frame whose estimates are not those of a radio's signal: preambles and pilots may be hostile.
    """
    statistic, information = soft
    num_symbols = headers[0].num_symbols
    missing = num_symbols - tracking.noise_var.shape[1]
    erased = np.pad(np.isinf(tracking.noise_var), ((0, 0), (0, missing)), constant_values=True)
    if missing:
        slots = ((0, 0), (0, missing * fmt.slots_per_symbol))
        statistic, information = np.pad(statistic, slots), np.pad(information, slots)
    noise_var = tracking.noise_var.min(axis=1)  # the frame's: symbols that were hit have more
    noise_var = np.where(np.isinf(noise_var), channel.noise_var, noise_var)
    estimates = np.stack(
        [places.cfo + tracking.residual_cfo, tracking.sco, mean_snr(channel, noise_var), noise_var], axis=1
    )
    sound = _are_sound(estimates)
    body = control_slots(headers[0], fmt)
    parts = slice(fmt.header_symbols, body), slice(body, None)
    rows = zip(places.start.tolist(), places.window.tolist(), estimates.tolist(), strict=True)
    return [
        ReceivedFrame(
            header, first, early, *of_frame, channel[i], erased[i],
            *(slots[i, part] for part in parts for slots in (statistic, information)), supplement,
        ) if sound[i] else None
        for i, (header, (first, early, of_frame)) in enumerate(zip(headers, rows, strict=True))
    ]  # fmt: skip


def _are_sound(estimates: np.ndarray) -> np.ndarray:
    """Which frames have an offset of carrier and clock, an SNR and a noise that can be (frames,) bool.

    What is no number is in no range.
    """
    cfo, sco, snr, noise_var = estimates.T
    return (np.abs(cfo) <= MAX_CFO) & (np.abs(sco) <= MAX_SCO) & np.isfinite(snr) & np.isfinite(noise_var)
