"""PlutoSDR (AD936x) through pyadi-iio: a sink and a source. They do not know whether the board is real.

Blocking calls of libiio run in a thread of their own, so that Ctrl-C, SIGTERM and the watchdog come through while one
hangs. On every way out buffers are destroyed (before the context: the other way round libiio crashes), and a sink
mutes: DDS off, gain -89.75 dB, transmit oscillator off. Words: ±2^15 is full scale of the DAC, ±2^11 of the ADC.
"""

import time

import numpy as np

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.host.stopping import raise_if_stopped
from airnet_sdr.dsp.radio.address import Address
from airnet_sdr.dsp.radio.base import RadioConfig, Sink, Source
from airnet_sdr.dsp.radio.pluto_board import Board
from airnet_sdr.dsp.radio.scale import to_full_scale

MAX_BUFFER_SAMPLES = 1 << 24  # 64 MiB, what one kernel buffer holds
STREAM_SAMPLES = 1 << 18  # of a buffer when a transmission or a reception goes on
HOLD_SAMPLES = 1 << 22  # bursts up to here leave in one buffer: nothing can run dry
DAC_FULL_SCALE, ADC_FULL_SCALE = 32767.0, 2048.0
TX_GAIN_DB, RX_GAIN_DB = -10.0, 40.0  # where none is asked for
PEAK_DBFS = -6.0  # what --gain-db auto looks for
QUIET_DBFS = -50.0


class PlutoSink(Sink):
    """Transmits. Short transmissions leave in one buffer when the sink closes, long ones stream, `repeat` is cyclic."""

    cyclic_samples = MAX_BUFFER_SAMPLES

    def __init__(self, address: Address, config: RadioConfig):
        super().__init__(address, config)
        self._board: Board | None = None
        self._held: list[np.ndarray] = []
        self._num_held = 0
        self._streaming = False
        self.underflow = False

    def _open(self):
        if self.config.gain_db == "auto":
            raise InputError("--gain-db auto is for a receiver; give a sender dB from -89.75 to 0")
        self._board = Board(self.address.target, self.config)
        try:
            gain_db = TX_GAIN_DB if self.config.gain_db is None else self.config.gain_db
            self._board.check_range("transmit gain", gain_db, "tx gain", "dB")
            self._board.claim()
            self._board.mute()
            self._board.tune()
            self._board.set_loopback(self.config.loopback)
            self._board.unmute(gain_db)
        except BaseException:
            self._close(failed=True)
            raise

    def repeat(self, samples: np.ndarray) -> None:
        """Send (n,) complex64 of unit average power without end, until the sink closes."""
        scaled, num_clipped = to_full_scale(samples, self.config.backoff_db)
        self.samples += samples.size
        self.clipped += num_clipped
        self._push(self._words(scaled), cyclic=True)
        self._board.underflow()  # what was before does not count

    def watch(self, seconds: float) -> None:
        """Stay on the air for so long; RadioError when the board went away."""
        time.sleep(seconds)
        raise_if_stopped()
        self.underflow |= self._board.underflow()

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
        size = self.config.buffer_samples or STREAM_SAMPLES
        words = np.concatenate(self._held)
        if final:
            words = np.pad(words, (0, -words.size % size))
        whole = words.size // size * size
        for start in range(0, whole, size):
            self._push(words[start : start + size], cyclic=False)
            ran_dry = self._board.underflow()
            self.underflow |= ran_dry and not (first and start == 0)  # what was before the first does not count
        self._held, self._num_held = [words[whole:]], words.size - whole

    def _push(self, words, cyclic):
        duration_s = words.size / self.config.rate_hz
        timeout_s = 2 + (self._board.num_buffers + 1) * duration_s + self.config.timeout_s * self._streaming
        self._board.set_timeout(timeout_s)
        self._board.push(words, cyclic, timeout_s)

    def _close(self, failed):
        if self._board is None:
            return
        try:  # the board is silenced whatever happens here
            if not failed and self._num_held:
                held = self._num_held
                if self._streaming:
                    self._stream(final=True)
                    held = self._board.num_buffers * (self.config.buffer_samples or STREAM_SAMPLES)
                else:
                    self._push(np.concatenate(self._held), cyclic=False)
                time.sleep(held / self.config.rate_hz + 0.5)  # until the last sample has left
        finally:
            try:
                if self.config.loopback and self._board.mutes:
                    self._board.set_loopback(0)
            finally:
                self._board.close()
                self._board = None

    def describe(self):
        """With the board's name and versions, the gain in use, and whether it ran dry."""
        gain_db = TX_GAIN_DB if self.config.gain_db is None else self.config.gain_db
        board = self._board.describe() if self._board else {}
        return {**super().describe(), "gain_db": gain_db, "underflow": self.underflow, **board}


class PlutoSource(Source):
    """Receives, as a stream of buffers, or one contiguous capture of ``capture_samples``."""

    def __init__(self, address: Address, config: RadioConfig):
        super().__init__(address, config)
        self._board: Board | None = None
        self.overflow = False
        self.clipped = 0
        self._power = 0.0
        self._captured = False
        self._described: dict = {}

    def _open(self):
        config = self.config
        if config.gain_db is not None and config.gain_mode != "manual":
            raise InputError(f"--gain-db {config.gain_db} needs --gain-mode manual; got {config.gain_mode}")
        self._board = Board(self.address.target, config)
        try:
            gain_db = RX_GAIN_DB if config.gain_db in (None, "auto") else config.gain_db
            self._board.check_range("receive gain", gain_db, "rx gain", "dB")
            self._board.tune()
            self._board.set_receive_gain(config.gain_mode, gain_db)
            self._size = config.capture_samples or config.buffer_samples or STREAM_SAMPLES
            if self._size > MAX_BUFFER_SAMPLES:
                raise InputError(f"a capture holds at most {MAX_BUFFER_SAMPLES} samples; got {self._size}")
            self._described = self._board.describe()
            if config.gain_db == "auto":
                gain_db = self._find_gain(gain_db)
            self._gain_db = gain_db if config.gain_mode == "manual" else None
            self._board.start_receiving(self._size)
            if not config.capture_samples:
                for _ in range(self._board.num_buffers):  # they may hold samples from before
                    self._refill(config.timeout_s)
            self._board.overflow()  # what was before does not count
        except BaseException:
            self._close()
            raise

    def _find_gain(self, gain_db):
        """The gain at which the peaks are near PEAK_DBFS: what is on the air now decides."""
        for _ in range(8):
            self._board.start_receiving(STREAM_SAMPLES)
            for _ in range(self._board.num_buffers):
                self._refill(self.config.timeout_s)
            peak = float(np.abs(self._refill(self.config.timeout_s).view(np.float32)).max())
            step_db = PEAK_DBFS - 20 * np.log10(max(peak, 1e-4))
            if peak >= 2047 / 2048:  # clipped: by how much, it does not say
                step_db = -20.0
            wanted = gain_db + np.clip(step_db, -20, 20)
            low, high = self._board.range_of("rx gain")
            wanted = float(np.clip(np.round(wanted), low, high))
            if abs(wanted - gain_db) < 2:
                break
            gain_db = wanted
            self._board.set_receive_gain("manual", gain_db)
        return gain_db

    def _refill(self, timeout_s):
        duration_s = self._size / self.config.rate_hz
        self._board.set_timeout(max(timeout_s, 2 + 3 * duration_s))
        samples = self._board.refill(max(timeout_s, 1 + 3 * duration_s))
        return (samples * np.float32(1 / ADC_FULL_SCALE)).astype(np.complex64)

    def _read(self, timeout_s):
        if self._captured:
            return None
        samples = self._refill(timeout_s)
        self._captured = self.config.capture_samples is not None
        self.overflow |= self._board.overflow()
        rails = samples.view(np.float32)
        self.clipped += int(np.count_nonzero((rails >= 2047 / 2048) | (rails <= -1)))
        self._power += float(np.vdot(samples, samples).real)
        return samples

    def _close(self):
        if self._board is not None:
            self._board.close()
            self._board = None

    def describe(self):
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
    """Mute a board, whatever state a crash left it in; the board's name."""
    board = Board(address.target, None)
    try:
        return board.describe()["device"]
    finally:
        board.mutes = True
        board.close()
