"""PlutoSDR (AD936x) through pyadi-iio: a sink and a source. They do not know whether the board is real.

On every way out buffers are destroyed and a sink mutes: tones off, gain -89.75 dB, transmit oscillator off. A source
beside a sink on the same board shares its context, as a board on USB has but one. Words: ±2^15 is full scale of the
DAC, ±2^11 of the ADC.
"""

import re
import time

import numpy as np

from airnet_sdr.dsp.errors import InputError, RadioError
from airnet_sdr.dsp.host.stopping import raise_if_stopped
from airnet_sdr.dsp.radio import pluto_settings as settings
from airnet_sdr.dsp.radio.address import Address
from airnet_sdr.dsp.radio.base import RadioConfig, Sink, Source
from airnet_sdr.dsp.radio.gain import find_gain
from airnet_sdr.dsp.radio.pluto_board import Board
from airnet_sdr.dsp.radio.pluto_buffers import whole
from airnet_sdr.dsp.radio.scale import to_full_scale

MAX_BUFFER_SAMPLES = 1 << 24  # 64 MiB, what one kernel buffer holds
STREAM_SAMPLES = 1 << 18  # of a buffer when a transmission or a reception goes on
HOLD_SAMPLES = 1 << 22  # bursts up to here leave in one buffer: nothing can run dry
DAC_FULL_SCALE, ADC_FULL_SCALE = 32767.0, 2048.0
TX_GAIN_DB, RX_GAIN_DB = -10.0, 40.0  # where none is asked for
QUIET_DBFS = -50.0
_URI = re.compile(r"ip:.+|usb:\d+\.\d+\.\d+|usb:|local:|serial:.+")


def parse_target(text: str) -> tuple[str, dict]:
    """A libiio URI; ValueError for what is none."""
    if not _URI.fullmatch(text):
        raise ValueError("try pluto:ip:192.168.2.1")
    return text, {}


class PlutoSink(Sink):
    """Transmits. Short transmissions leave in one buffer when the sink closes, long ones stream, `repeat` is cyclic."""

    cyclic_samples = MAX_BUFFER_SAMPLES

    def __init__(self, address: Address, config: RadioConfig):
        super().__init__(address, config)
        self.board: Board | None = None
        self._held: list[np.ndarray] = []
        self._num_held = 0
        self._streaming = False
        self._heard = False  # the transmitter is on
        self.underflow: bool | None = False  # None where the board cannot tell

    @property
    def _gain_db(self):
        return TX_GAIN_DB if self.config.gain_db is None else self.config.gain_db

    def _open(self):
        if self.config.gain_db == "auto":
            raise InputError("`gain_db` auto is for a receiver; give a sender dB from -89.75 to 0")
        self.board = Board(self.address.target, self.config)
        try:
            self.board.check_range("transmit gain", self._gain_db, "tx gain", "dB")
            self.board.prepare_to_send()
            self.board.check_range("transmit gain", self._gain_db, "tx gain", "dB")
            settings.set_loopback(self.board.context, self.config.loopback)
        except BaseException:
            self._close(failed=True)
            raise

    def repeat(self, samples: np.ndarray) -> None:
        """Send (n,) complex64 of unit average power without end, until the sink closes.

        Up to 3 samples of silence make n a multiple of 4, as the board's memory wants it.
        """
        scaled, num_clipped = to_full_scale(samples, self.config.backoff_db)
        self.samples += samples.size
        self.clipped += num_clipped
        words = self._words(scaled)
        self._push(np.pad(words, (0, whole(words.size) - words.size)), cyclic=True)
        self._note(self.board.buffers.underflow(), before=True)

    def watch(self, seconds: float) -> None:
        """Stay on the air for so long; RadioError when the board went away."""
        time.sleep(seconds)
        raise_if_stopped()
        self._note(self.board.buffers.underflow())

    def _note(self, ran_dry, before=False):
        """Remember that the board ran dry, or that it cannot tell; what was before the first sample does not count."""
        if ran_dry is None:
            self.underflow = None
        elif not before and self.underflow is not None:
            self.underflow |= ran_dry

    def _words(self, scaled):
        """Whole numbers as complex64 (n,) of samples at full scale 1.0, never beyond the DAC's range: words wrap."""
        rails = scaled.view(np.float32)
        self.clipped += int(np.count_nonzero(np.abs(rails) > 1))
        return np.rint(np.clip(rails, -1, 1) * np.float32(DAC_FULL_SCALE)).view(np.complex64)

    def _write(self, scaled, label):
        self._held.append(self._words(scaled))
        self._num_held += scaled.size
        if self._num_held > (STREAM_SAMPLES if self._streaming else HOLD_SAMPLES):
            self._stream()

    def _stream(self, final=False):
        """Pass what is held on in whole buffers; at the end the last one is filled up with silence."""
        first, self._streaming = not self._streaming, True
        size = whole(self.config.buffer_samples or STREAM_SAMPLES)
        words = np.concatenate(self._held)
        if final:
            words = np.pad(words, (0, -words.size % size))
        passed = words.size // size * size
        for start in range(0, passed, size):
            self._push(words[start : start + size], cyclic=False)
            self._note(self.board.buffers.underflow(), before=first and start == 0)
        self._held, self._num_held = [words[passed:]], words.size - passed

    def _push(self, words, cyclic):
        if not self._heard:
            settings.power(self.board.context, "TX", True)
            settings.set_transmit_gain(self.board.context, self._gain_db)
            self._heard = True
        buffers = self.board.buffers
        duration_s = words.size / self.config.rate_hz
        waiting_s = self.config.timeout_s if self._streaming else 0.0
        buffers.push(words, cyclic, 2 + (buffers.num_buffers + 1) * duration_s + waiting_s)

    def _close(self, failed):
        if self.board is None:
            return
        try:  # the board is silenced whatever happens here
            if not failed and self._num_held:
                held = self._num_held
                if self._streaming:
                    self._stream(final=True)
                    held = self.board.buffers.num_buffers * whole(self.config.buffer_samples or STREAM_SAMPLES)
                else:
                    words = np.concatenate(self._held)
                    self._push(np.pad(words, (0, whole(words.size) - words.size)), cyclic=False)
                time.sleep(held / self.config.rate_hz + 0.5)  # until the last sample has left
        finally:
            try:
                if self.config.loopback and self.board.mutes and not self.board.context.silent:
                    settings.set_loopback(self.board.context, 0)
            finally:
                board, self.board = self.board, None
                board.close()

    def describe(self) -> dict:
        """With the board's name and versions, the gain in use, and whether it ran dry."""
        board = self.board.describe() if self.board else {}
        return {**super().describe(), "gain_db": self._gain_db, "underflow": self.underflow, **board}


class PlutoSource(Source):
    """Receives, as a stream of buffers, or one contiguous capture of ``capture_samples``.

    ``beside`` is a sink whose board it shares where that is the same one; it must be open then, and stay so.
    """

    def __init__(self, address: Address, config: RadioConfig, beside: Sink | None = None):
        super().__init__(address, config, beside)
        self._beside = beside if isinstance(beside, PlutoSink) and beside.address == address else None
        self._board: Board | None = None
        self.overflow: bool | None = False
        self.clipped = 0
        self._power = 0.0
        self._captured = False
        self._described: dict = {}

    def _open(self):
        config = self.config
        if config.gain_db is not None and config.gain_mode != "manual":
            raise InputError(f"`gain_db` {config.gain_db} needs `gain_mode` manual; got {config.gain_mode}")
        self._size = config.capture_samples or config.buffer_samples or STREAM_SAMPLES
        if self._size > MAX_BUFFER_SAMPLES:
            raise InputError(f"a capture holds at most {MAX_BUFFER_SAMPLES} samples; got {self._size}")
        if self._beside is not None and self._beside.board is None:
            raise RadioError(f"the sink at {self.address} is not open; open it before the source that shares its board")
        self._board = self._beside.board if self._beside else Board(self.address.target, config)
        try:
            self._tune()
            self._described = self._board.describe()
            gain_db = RX_GAIN_DB if config.gain_db in (None, "auto") else config.gain_db
            self._board.check_range("receive gain", gain_db, "rx gain", "dB")  # the carrier's range
            settings.set_receive_gain(self._board.context, config.gain_mode, gain_db)
            if config.gain_db == "auto":
                gain_db = find_gain(self._listen, gain_db, self._board.range_of("rx gain"), config.rate_hz)
            self._gain_db = gain_db if config.gain_mode == "manual" else None
            self._start()
        except BaseException:
            self._close()
            raise

    def _tune(self):
        context = self._board.context
        if self._beside is None:
            self._board.prepare_to_receive()
            return
        if abs(self._beside.config.rate_hz - self.config.rate_hz) > settings.RATE_TOLERANCE_HZ:
            self._board.check_rate(
                self.config.rate_hz, f"the sink of this program runs at {self._beside.config.rate_hz:.12g}"
            )
        settings.power(context, "RX", True)
        settings.tune(context, self.config, "rx")

    def _start(self):
        """Buffers that hold nothing from before: of a capture the only one is made now, of a stream all are passed."""
        num_buffers = 1 if self.config.capture_samples else self.config.num_buffers
        self._start_receiving(self._size, num_buffers)
        if not self.config.capture_samples:
            for _ in range(num_buffers):
                self._refill(self.config.timeout_s)
        if self._board.buffers.overflow() is None:  # what was before does not count
            self.overflow = None

    def _start_receiving(self, size, num_buffers):
        duration_s = size / self.config.rate_hz
        self._patience_s = 2 + (num_buffers + 1) * duration_s
        timeout_s = max(self.config.timeout_s, self._patience_s)
        self._board.buffers.start_receiving(whole(size), num_buffers, 2 * timeout_s)  # the board grants half of it

    def _listen(self, gain_db, num_samples):
        """Samples (n,) complex64, n ≥ num_samples, at a gain, none of them from before."""
        settings.set_receive_gain(self._board.context, "manual", gain_db)
        self._start_receiving(STREAM_SAMPLES, self.config.num_buffers)
        for _ in range(self.config.num_buffers):
            self._refill(self.config.timeout_s)
        parts = [self._refill(self.config.timeout_s) for _ in range(-(-num_samples // STREAM_SAMPLES))]
        return np.concatenate(parts)

    def _refill(self, timeout_s):
        samples = self._board.buffers.refill(max(timeout_s, self._patience_s))
        return (samples * np.float32(1 / ADC_FULL_SCALE)).astype(np.complex64)

    def _read(self, timeout_s):
        if self._captured:
            return None
        samples = self._refill(timeout_s)
        self._captured = self.config.capture_samples is not None
        if self._captured:
            samples = samples[: self._size]
        lost = self._board.buffers.overflow()
        if self.overflow is not None:
            self.overflow = None if lost is None and not self.overflow else self.overflow | bool(lost)
        rails = samples.view(np.float32)
        self.clipped += int(np.count_nonzero((rails >= 2047 / 2048) | (rails <= -1)))
        self._power += float(np.vdot(samples, samples).real)
        return samples

    def _close(self):
        board, self._board = self._board, None
        if board is None:
            return
        if self._beside is None:
            board.close()
        elif not board.context.silent:
            board.buffers.stop_receiving()

    def describe(self) -> dict:
        """With the board's name and versions, what was lost or clipped, and advice on the gain."""
        warnings = list(self.warnings)
        num = max(self.samples, 1)
        level_dbfs = 10 * np.log10(self._power / num + 1e-20)
        if self.overflow:
            warnings.append("the board lost samples (overflow); lower --rate-hz or raise --buffer-samples")
        if self.clipped > 1e-4 * num:
            warnings.append(f"the receiver clips ({self.clipped} values); lower --gain-db by 6 dB or more")
        elif self.samples and level_dbfs < QUIET_DBFS:
            warnings.append(f"the receiver hears {level_dbfs:.0f} dB below full scale; raise --gain-db")
        return {
            **super().describe(),
            "gain_db": getattr(self, "_gain_db", None),
            "clipped": self.clipped,
            "warnings": warnings,
            **self._described,
        }


def silence(address: Address) -> str:
    """Mute a board and put it in order, whatever state a crash left it in; the board's name.

    Every setting is read back: RadioError where the board is not muted afterwards.
    """
    board = Board(address.target, None)
    try:
        settings.mute(board.context)
        settings.order(board.context)
        return board.describe()["device"]
    finally:
        board.close()
