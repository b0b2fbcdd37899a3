"""One board on pyadi-iio: connecting, ranges, settings, buffers, muting; every foreign error mapped to ours."""

import contextlib
import importlib.metadata
import math
import threading

import numpy as np

from dsp.errors import InputError, RadioError, RadioTimeoutError
from dsp.radio.base import RadioConfig

STATUS_REGISTER = 0x80000088
RX_OVERFLOW, TX_UNDERFLOW = 4, 1
SILENT_GAIN_DB = -89.75
CRYSTAL_PPM = 25.0  # of each board
OCCUPIED = 800 / 1024  # of the rate, by a burst
PASSED = 0.92  # of the rate, by the filter that pyadi-iio loads
CLOSE_TIMEOUT_S = 3.0
INSTALL = "pip install -e '.[pluto]', and Debian's libiio0"
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


def library():
    """pyadi-iio's module; RadioError with what to install where a part is missing or of the wrong version."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        version = importlib.metadata.version("pylibiio")
        if int(version.split(".")[0]) >= 1:
            raise RadioError(f"pylibiio {version} needs libiio 1.x, this program 0.x; pip install 'pylibiio<1'")
    try:
        import adi
    except ModuleNotFoundError as error:
        raise RadioError(f"the Python package {error.name} is missing for a PlutoSDR; {INSTALL}") from error
    except (ImportError, OSError, AttributeError) as error:
        raise RadioError(f"libiio is missing or of the wrong version ({error}); {INSTALL}") from error
    return adi


def bounded(call, timeout_s: float, what: str):
    """``call()`` in a thread of its own; RadioTimeoutError when it takes longer. Ctrl-C comes through."""
    outcome = {}

    def work():
        try:
            outcome["value"] = call()
        except BaseException as error:  # handed to the caller
            outcome["error"] = error

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(timeout_s)
    if thread.is_alive():
        raise RadioTimeoutError(f"{what} took longer than {timeout_s:g} s; is the board still there?")
    if "error" in outcome:
        raise outcome["error"]
    return outcome["value"]


class Board:
    """A connected board. With ``config`` its settings are checked against the board's ranges at once."""

    def __init__(self, uri: str, config: RadioConfig | None):
        self.uri, self._config = uri, config
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
        if config is not None:
            self._check()

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
        bandwidth_hz = config.bandwidth_hz or config.rate_hz
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
            raise InputError(
                f"a burst and the offset of two crystals need {needed_hz:.4g} Hz; raise --bandwidth-hz, got "
                f"{bandwidth_hz:g}"
            )

    def describe(self) -> dict:
        """Names and versions, for a report."""
        import iio

        attributes = self._pluto._ctx.attrs
        found = {"pyadi-iio": "pyadi-iio", "pylibiio": "pylibiio"}
        libraries = {}
        for name, package in found.items():
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                libraries[name] = importlib.metadata.version(package)
        libraries["libiio"] = ".".join(map(str, iio.version[:2]))
        return {
            "device": attributes.get("hw_model", "unknown"),
            "serial": attributes.get("hw_serial"),
            "firmware": attributes.get("fw_version"),
            "libraries": libraries,
        }

    # settings

    def tune(self) -> None:
        """Rate, both carriers and both bandwidths; a rate that is there already is left alone: a change interrupts."""
        config, pluto = self._config, self._pluto
        bandwidth_hz = int(config.bandwidth_hz or config.rate_hz)
        with self._mapped("tuning"):
            if abs(int(pluto.sample_rate) - config.rate_hz) > 1:
                pluto.sample_rate = int(config.rate_hz)
            pluto.rx_lo = pluto.tx_lo = int(config.freq_hz)
            pluto.rx_rf_bandwidth = pluto.tx_rf_bandwidth = bandwidth_hz

    def set_receive_gain(self, mode: str, gain_db: float) -> None:
        """Gain control mode, and the gain where that is manual."""
        with self._mapped("setting the receive gain"):
            self._pluto.gain_control_mode_chan0 = mode
            if mode == "manual":
                self._pluto.rx_hardwaregain_chan0 = int(round(gain_db))

    def set_loopback(self, mode: int) -> None:
        """0 none, 1 digital: what is sent is received, without the radio; 2 radio frequency."""
        with self._mapped("setting the loopback"):
            self._pluto.loopback = mode

    def unmute(self, gain_db: float) -> None:
        """Transmit oscillator on, at this gain."""
        with self._mapped("setting the transmit gain"):
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
        with self._mapped("setting the timeout"):
            self._pluto._ctx.set_timeout(int(1000 * min(timeout_s, 1e6)))

    def start_receiving(self, num_samples: int) -> None:
        """The next refills give so many samples each."""
        with self._mapped("starting the reception"):
            self._destroy(self._rx_buffer)
            self._pluto.rx_destroy_buffer()
            self._pluto._rxadc.set_kernel_buffers_count(self.num_buffers)
            self._pluto.rx_buffer_size = num_samples
            self._pluto._rx_init_channels()
            self._rx_buffer = self._pluto._rxbuf

    def refill(self, timeout_s: float) -> np.ndarray:
        """The next buffer, whole numbers as complex."""
        with self._mapped("receiving"):
            try:
                return bounded(self._pluto.rx, timeout_s, f"receiving from {self.uri}")
            except RadioTimeoutError:
                self._cancel(self._rx_buffer)
                raise

    def push(self, words: np.ndarray, cyclic: bool, timeout_s: float) -> None:
        """Whole numbers within ±32767 as complex (n,) to the transmit buffer."""
        with self._mapped("transmitting"):
            if self._pluto._txbuf is None:
                self._pluto.tx_cyclic_buffer = cyclic
                self._pluto._txdac.set_kernel_buffers_count(1 if cyclic else self.num_buffers)
            try:
                bounded(lambda: self._pluto.tx(words), timeout_s, f"transmitting to {self.uri}")
            except RadioTimeoutError:
                self._cancel(self._pluto._txbuf)
                raise

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

    def clear_status(self) -> None:
        """Forget overflow and underflow so far."""
        with self._mapped("clearing the status"):
            self._pluto._rxadc.reg_write(STATUS_REGISTER, RX_OVERFLOW | TX_UNDERFLOW)

    def overflow(self) -> bool:
        """Whether received samples were lost since the last look."""
        return self._status(RX_OVERFLOW)

    def underflow(self) -> bool:
        """Whether the transmitter ran dry since the last look."""
        return self._status(TX_UNDERFLOW)

    def _status(self, bit):
        with self._mapped("reading the status"):
            raised = bool(self._pluto._rxadc.reg_read(STATUS_REGISTER) & bit)
            if raised:
                self._pluto._rxadc.reg_write(STATUS_REGISTER, bit)
            return raised

    def close(self, mute: bool) -> None:
        """Destroy the buffers, mute if asked for, and let go; never longer than CLOSE_TIMEOUT_S."""
        tx_buffer = self._pluto._txbuf
        self._cancel(self._rx_buffer)
        self._cancel(tx_buffer)

        def work():
            with contextlib.suppress(Exception):
                self._pluto._ctx.set_timeout(1000)
            for buffer in (self._rx_buffer, tx_buffer):
                self._destroy(buffer)
            self._pluto.rx_destroy_buffer()
            self._pluto.tx_destroy_buffer()
            if mute:
                self.mute()

        bounded(work, CLOSE_TIMEOUT_S, f"closing {self.uri}")

    @contextlib.contextmanager
    def _mapped(self, what):
        try:
            yield
        except OSError as error:
            if error.errno == 16:
                raise RadioError(
                    f"the board at {self.uri} is busy: another program transmits; stop it first"
                ) from error
            if error.errno == 110:
                raise RadioTimeoutError(f"{what}: no answer from {self.uri} in time; is it still there?") from error
            reason = error.strerror or str(error)
            raise RadioError(
                f"{what} failed at {self.uri} ({reason}); check cable and power, then run --mute"
            ) from error
