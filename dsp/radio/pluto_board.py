"""One board on pyadi-iio: connecting, ranges, settings, buffers, muting; every foreign error mapped to ours."""

import atexit
import contextlib
import functools
import math
import threading

import numpy as np

from airnet_sdr.dsp.errors import InputError, RadioError, RadioTimeoutError
from airnet_sdr.dsp.frame import DEFAULT_FORMAT
from airnet_sdr.dsp.radio.base import RadioConfig
from airnet_sdr.dsp.radio.pluto_library import bounded, library, mapped, versions

STATUS_REGISTER = 0x80000088  # each core, of the receiver and of the transmitter, has its own
RX_OVERFLOW, TX_UNDERFLOW = 4, 1
SILENT_GAIN_DB = -89.75
CRYSTAL_PPM = 25.0  # of each board
OCCUPIED = DEFAULT_FORMAT.num_active / DEFAULT_FORMAT.fft_size  # of the rate, by a burst
PASSED = 0.92  # of the rate, by the filters that pyadi-iio loads: -0.33 dB there at worst
CLOSE_TIMEOUT_S = 6.0
# where the board says what it takes: device channel, its direction, attribute
_RANGES = {
    "rx frequency": ("RX_LO", True, "frequency_available"),
    "tx frequency": ("TX_LO", True, "frequency_available"),
    "rx gain": ("voltage0", False, "hardwaregain_available"),
    "tx gain": ("voltage0", True, "hardwaregain_available"),
    "rx bandwidth": ("voltage0", False, "rf_bandwidth_available"),
    "tx bandwidth": ("voltage0", True, "rf_bandwidth_available"),
}
_FALLBACK = {
    "rx frequency": (325e6, 3.8e9), "tx frequency": (325e6, 3.8e9), "rx gain": (-3, 71), "tx gain": (-89.75, 0),
    "rx bandwidth": (200e3, 56e6), "tx bandwidth": (200e3, 40e6),
}  # fmt: skip
RATES_HZ = (521e3, 61.44e6)


class Board:
    """A connected board. With ``config`` its settings are checked against the board's ranges at once.

    ``mutes`` says whether it is silenced when it closes. What was never closed, because a signal came where no `with`
    block could see it, is closed at exit.
    """

    def __init__(self, uri: str, config: RadioConfig | None):
        self.uri, self._config = uri, config
        self.mutes = self._closed = False
        self._closing = threading.Lock()
        adi = library()
        try:
            self._pluto = bounded(lambda: adi.Pluto(uri), 15.0, f"connecting to {uri}")
        except RadioError:
            raise
        except Exception as error:  # pyadi-iio raises bare Exceptions
            reason = getattr(error, "strerror", None) or str(error)
            raise RadioError(
                f"no PlutoSDR at {uri} ({reason}); check cable, power and address: iio_info -s lists boards"
            ) from error
        self.num_buffers = 4 if config is None else config.num_buffers
        self._rx_buffer = None
        self._hanging: list = []  # buffers that a call is in
        atexit.register(self._close_at_exit)
        if config is not None:
            try:
                self._check()
            except BaseException:
                self.close()
                raise

    def _errors(self, what):
        return mapped(what, self.uri)

    # what it takes

    def range_of(self, what: str) -> tuple[float, float]:
        """Lowest and highest value, as the board says."""
        channel, output, name = _RANGES[what]
        with contextlib.suppress(KeyError, ValueError, OSError, AttributeError):
            low, _, high = self._pluto._ctrl.find_channel(channel, output).attrs[name].value.strip("[] ").split()
            return float(low), float(high)
        return _FALLBACK[what]

    def check_range(self, name: str, value: float, what: str, unit: str) -> None:
        """InputError when the board does not take the value."""
        low, high = RATES_HZ if what == "rate" else self.range_of(what)
        if not low <= value <= high:
            raise InputError(f"{name} must be {low:g} to {high:g} {unit} on this board; got {value:g}")

    def _check(self):
        config = self._config
        bandwidth_hz = self._bandwidth_hz()
        self.check_range("--rate-hz", config.rate_hz, "rate", "Hz")
        for side in ("rx", "tx"):
            self.check_range("--freq-hz", config.freq_hz, f"{side} frequency", "Hz")
            self.check_range("--bandwidth-hz", bandwidth_hz, f"{side} bandwidth", "Hz")
        needed_hz = OCCUPIED * config.rate_hz + 4e-6 * CRYSTAL_PPM * config.freq_hz
        if needed_hz > PASSED * config.rate_hz:
            least_hz = 4e-6 * CRYSTAL_PPM * config.freq_hz / (PASSED - OCCUPIED)
            raise InputError(
                f"a burst and the offset of two crystals need {needed_hz:.4g} Hz, the filter passes "
                f"{PASSED * config.rate_hz:.4g} of {config.rate_hz:.4g} samples/s; raise --rate-hz to {least_hz:.4g}, "
                "or lower --freq-hz"
            )
        if needed_hz > bandwidth_hz:
            remedy = "raise --bandwidth-hz" if config.bandwidth_hz else "lower --rate-hz"
            raise InputError(
                f"a burst and the offset of two crystals need {needed_hz:.4g} Hz, the analog filters pass "
                f"{bandwidth_hz:.4g}; {remedy}"
            )

    def _bandwidth_hz(self):
        """Of the analog filters: as asked for, or the sample rate where they get as wide."""
        widest_hz = min(self.range_of(f"{side} bandwidth")[1] for side in ("rx", "tx"))
        return self._config.bandwidth_hz or min(self._config.rate_hz, widest_hz)

    def describe(self) -> dict:
        """Names and versions, for a report."""
        attributes = self._pluto._ctx.attrs
        return {
            "device": attributes.get("hw_model", "unknown"),
            "serial": attributes.get("hw_serial"),
            "firmware": attributes.get("fw_version"),
            "libraries": {**versions(), "libiio of the board": ".".join(map(str, self._pluto._ctx.version[:2]))},
        }

    # settings

    def tune(self) -> None:
        """Rate, both carriers and both bandwidths; a rate that is there already is left alone: a change interrupts."""
        config, pluto = self._config, self._pluto
        bandwidth_hz = int(self._bandwidth_hz())
        with self._errors("tuning"):
            if abs(int(pluto.sample_rate) - config.rate_hz) > 1:
                pluto.sample_rate = int(config.rate_hz)
            pluto.rx_lo = pluto.tx_lo = int(config.freq_hz)
            pluto.rx_rf_bandwidth = pluto.tx_rf_bandwidth = bandwidth_hz

    def set_receive_gain(self, mode: str, gain_db: float) -> None:
        """Gain control mode, and the gain where that is manual."""
        with self._errors("setting the receive gain"):
            self._pluto.gain_control_mode_chan0 = mode
            if mode == "manual":
                self._pluto.rx_hardwaregain_chan0 = int(round(gain_db))

    def set_loopback(self, mode: int) -> None:
        """0 none, 1 digital: what is sent is received, without the radio; 2 radio frequency."""
        with self._errors("setting the loopback"):
            self._pluto.loopback = mode

    def unmute(self, gain_db: float) -> None:
        """Transmit oscillator on, at this gain."""
        with self._errors("setting the transmit gain"):
            self._power_down(False)
            self._pluto.tx_hardwaregain_chan0 = math.floor(4 * gain_db) / 4

    def mute(self) -> None:
        """DDS off, least gain, transmit oscillator off; all are tried, whatever fails."""
        errors = []
        for step in (self._stop_tones, self._least_gain, lambda: self._power_down(True)):
            try:
                step()
            except Exception as error:  # the next one may still work
                errors.append(error)
        if errors:
            raise RadioError(
                f"the board at {self.uri} could not be muted ({errors[0]}); run tx/send.py --mute, or unplug it"
            ) from errors[0]

    def _stop_tones(self):
        self._pluto.disable_dds()

    def _least_gain(self):
        self._pluto.tx_hardwaregain_chan0 = SILENT_GAIN_DB

    def _power_down(self, down):
        self._pluto._ctrl.find_channel("TX_LO", True).attrs["powerdown"].value = str(int(down))

    # samples

    def set_timeout(self, timeout_s: float) -> None:
        """How long libiio itself waits; takes effect for buffers created afterwards."""
        with self._errors("setting the timeout"):
            self._pluto._ctx.set_timeout(int(1000 * min(timeout_s, 1e6)))

    def start_receiving(self, num_samples: int) -> None:
        """The next refills give so many samples each."""
        with self._errors("starting the reception"):
            self._destroy(self._rx_buffer)
            self._pluto.rx_destroy_buffer()
            self._pluto._rxadc.set_kernel_buffers_count(self.num_buffers)
            self._pluto.rx_buffer_size = num_samples
            self._pluto._rx_init_channels()
            self._rx_buffer = self._pluto._rxbuf

    def refill(self, timeout_s: float) -> np.ndarray:
        """The next buffer, whole numbers as complex."""
        with self._errors("receiving"):
            return self._in_buffer(self._rx_buffer, self._pluto.rx, timeout_s, f"receiving from {self.uri}")

    def push(self, words: np.ndarray, cyclic: bool, timeout_s: float) -> None:
        """Whole numbers within ±32767 as complex (n,) to the transmit buffer."""
        with self._errors("transmitting"):
            if self._pluto._txbuf is None:
                self._pluto.tx_cyclic_buffer = cyclic
                self._pluto._txdac.set_kernel_buffers_count(1 if cyclic else self.num_buffers)
            push = functools.partial(self._pluto.tx, words)
            self._in_buffer(self._pluto._txbuf, push, timeout_s, f"transmitting to {self.uri}")

    def _in_buffer(self, buffer, call, timeout_s, what):
        """A call that may hang in a buffer; one that does is woken here, or, after a signal, when the board closes."""
        self._hanging.append(buffer)
        try:
            found = bounded(call, timeout_s, what)
        except RadioTimeoutError:
            self._cancel(buffer)
            raise
        self._hanging.remove(buffer)
        return found

    def stop_sending(self) -> None:
        """Destroy the transmit buffer."""
        buffer = self._pluto._txbuf
        self._pluto.tx_destroy_buffer()
        self._destroy(buffer)

    @staticmethod
    def _cancel(buffer):
        """Wake a call that hangs in a buffer."""
        with contextlib.suppress(Exception):
            buffer.cancel()

    @staticmethod
    def _destroy(buffer):
        """Destroy a buffer now. Left to the garbage collector, it might go after its context, which crashes libiio."""
        if buffer is not None and buffer._buffer is not None:
            buffer.__del__()
            buffer._buffer = None

    def overflow(self) -> bool:
        """Whether received samples were lost since the last look."""
        return self._status(self._pluto._rxadc, RX_OVERFLOW)

    def underflow(self) -> bool:
        """Whether the transmitter ran dry since the last look."""
        return self._status(self._pluto._txdac, TX_UNDERFLOW)

    def _status(self, core, bit):
        with self._errors("reading the status"):
            raised = bool(core.reg_read(STATUS_REGISTER) & bit)
            if raised:
                core.reg_write(STATUS_REGISTER, bit)
            return raised

    def claim(self) -> None:
        """Make sure that nobody else transmits, before a setting disturbs them; it mutes from now on."""
        import iio

        with self._errors("transmitting"):
            self._pluto._txdac.set_kernel_buffers_count(1)
            for channel in ("voltage0", "voltage1"):
                self._pluto._txdac.find_channel(channel, True).enabled = True
            self._destroy(iio.Buffer(self._pluto._txdac, 1024, False))
        self.mutes = True

    def close(self) -> None:
        """Destroy the buffers, mute if it transmitted, and let go; never longer than CLOSE_TIMEOUT_S."""
        tx_buffer = self._pluto._txbuf
        for buffer in self._hanging:
            self._cancel(buffer or tx_buffer)  # the first push makes its buffer

        def work():
            with self._closing:
                if self._closed:
                    return
                with contextlib.suppress(Exception):
                    self._pluto._ctx.set_timeout(1000)
                for buffer in (self._rx_buffer, tx_buffer):
                    self._destroy(buffer)
                self._pluto.rx_destroy_buffer()
                self._pluto.tx_destroy_buffer()
                if self.mutes:
                    self.mute()
                self._closed = True

        try:
            bounded(work, CLOSE_TIMEOUT_S, f"closing {self.uri}")
        except Exception:
            self._closed = True  # it was tried; a signal that interrupts it is no reason not to
            raise
        finally:
            if self._closed:
                atexit.unregister(self._close_at_exit)

    def _close_at_exit(self):
        with contextlib.suppress(Exception):
            self.close()
