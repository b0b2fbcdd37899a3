"""Any radio of SoapySDR, by its device string: a sink and a source of one channel, samples as complex float32.

``soapy:driver=lime,serial=…,antenna=LNAW,channel=1``: ``antenna`` and ``channel`` (0 by default) are this program's,
everything else goes to the driver. Both ends of one device string in one program share the device.

Gain is the overall gain in dB that SoapySDR spreads over a device's stages. Where none is asked for, a source listens
for one and a sink takes the least. On every way out a sink's gain is set to its least and its stream is closed.
"""

import math
import time
from typing import Any

import numpy as np

from airnet_sdr.dsp.errors import InputError, RadioError, RadioTimeoutError
from airnet_sdr.dsp.host.stopping import raise_if_stopped
from airnet_sdr.dsp.radio.address import Address
from airnet_sdr.dsp.radio.base import RadioConfig, Sink, Source
from airnet_sdr.dsp.radio.gain import find_gain
from airnet_sdr.dsp.radio.native import bounded
from airnet_sdr.dsp.radio.soapy_library import library, mapped

OWN = ("antenna", "channel")
OPEN_TIMEOUT_S = 30.0  # some devices load firmware
CALL_TIMEOUT_S = 10.0
SLICE_S = 0.2  # of a wait for samples: a signal is seen after so long at most
BLOCK_SAMPLES = 1 << 16
RATE_TOLERANCE = 1e-5  # of the rate, as a device may round it: as much as a crystal is off
FULL_SCALE = 0.999
SETTLE_S = 0.3  # samples that are older than the settings


def parse_target(text: str) -> tuple[str, dict]:
    """A device string ``key=value,…``; ValueError for what is none."""
    keys = [item.partition("=")[0] for item in text.split(",")]
    if not all("=" in item and item.partition("=")[0].strip() for item in text.split(",")):
        raise ValueError("a device string is key=value,...: try soapy:driver=lime; SoapySDRUtil --find lists devices")
    if len(set(keys)) < len(keys):
        raise ValueError("each key once")
    channel = dict(item.split("=", 1) for item in text.split(",")).get("channel", "0")
    if not channel.isdecimal():
        raise ValueError(f"channel is a number from 0 on, got {channel!r}")
    return text, {}


class _Device:
    """One direction of a device: opened, checked against its ranges, tuned, read back."""

    def __init__(self, address: Address, config: RadioConfig, sending: bool):
        self.target, self.config = address.target, config
        self._soapy = library()
        self._direction = self._soapy.SOAPY_SDR_TX if sending else self._soapy.SOAPY_SDR_RX
        given = dict(item.split("=", 1) for item in self.target.split(","))
        self._channel, self._antenna = int(given.get("channel", 0)), given.get("antenna")
        text = ",".join(f"{key}={value}" for key, value in given.items() if key not in OWN)
        self.device = self.call("opening", lambda: self._soapy.Device(text), OPEN_TIMEOUT_S)
        self.stream = None

    def call(self, what: str, function, timeout_s: float = CALL_TIMEOUT_S) -> Any:
        """What a call into the driver gives; errors mapped, and never longer than the timeout."""
        with mapped(what, self.target):
            return bounded(function, min(timeout_s, self.config.timeout_s), f"{what} soapy:{self.target}")

    def ask(self, what: str, name: str, *arguments) -> Any:
        """What a method of the device says of this direction and channel."""
        method = getattr(self.device, name)
        return self.call(what, lambda: method(self._direction, self._channel, *arguments))

    def tune(self) -> None:
        """Antenna, rate, carrier and bandwidth; InputError for what the device does not take."""
        config = self.config
        num_channels = self.call("asking", lambda: self.device.getNumChannels(self._direction))
        if self._channel >= num_channels:
            raise InputError(
                f"soapy:{self.target} has {num_channels} such channels, counted from 0; got {self._channel}"
            )
        if self._antenna is not None:
            known = list(self.ask("asking for antennas", "listAntennas"))
            if self._antenna not in known:
                raise InputError(f"soapy:{self.target} has antennas {', '.join(known)}; got {self._antenna}")
            self.ask("choosing the antenna", "setAntenna", self._antenna)
        self._check("`rate_hz`", config.rate_hz, self.ask("asking for rates", "getSampleRateRange"))
        self._check("`freq_hz`", config.freq_hz, self.ask("asking for carriers", "getFrequencyRange"))
        self.ask("setting the rate", "setSampleRate", config.rate_hz)
        self.ask("tuning", "setFrequency", config.freq_hz)
        widths = self.ask("asking for bandwidths", "getBandwidthRange")
        if len(widths):
            self._check("`bandwidth_hz`", config.bandwidth_hz, widths) if config.bandwidth_hz else None
            wanted_hz = config.bandwidth_hz or config.rate_hz
            wider = [max(each.minimum(), wanted_hz) for each in widths if each.maximum() >= wanted_hz]
            self.ask("setting the bandwidth", "setBandwidth", min(wider, default=max(w.maximum() for w in widths)))
        found_hz = self.ask("reading the rate", "getSampleRate")
        if not abs(found_hz - config.rate_hz) <= RATE_TOLERANCE * config.rate_hz:
            raise InputError(f"soapy:{self.target} makes {found_hz:.12g} samples/s of `rate_hz` {config.rate_hz:.12g}")

    @staticmethod
    def _check(name, value, ranges):
        if len(ranges) and not any(each.minimum() - 0.5 <= value <= each.maximum() + 0.5 for each in ranges):
            allowed = ", ".join(f"{each.minimum():.12g} to {each.maximum():.12g}" for each in ranges)
            raise InputError(f"{name} must be {allowed} on this device; got {value:.12g}")

    @property
    def gain_range_db(self) -> tuple[float, float]:
        """Lowest and highest overall gain."""
        found = self.ask("asking for gains", "getGainRange")
        return found.minimum(), found.maximum()

    def set_gain(self, gain_db: float) -> None:
        """The overall gain, set by hand; InputError out of range."""
        low_db, high_db = self.gain_range_db
        if not low_db <= gain_db <= high_db:
            raise InputError(f"`gain_db` must be {low_db:.12g} to {high_db:.12g} dB on this device; got {gain_db:.12g}")
        if self.ask("asking for gain control", "hasGainMode"):
            self.ask("switching gain control off", "setGainMode", False)
        self.ask("setting the gain", "setGain", gain_db)

    def start(self) -> None:
        """Open the stream."""
        setup = lambda: self.device.setupStream(self._direction, self._soapy.SOAPY_SDR_CF32, [self._channel])  # noqa: E731
        self.stream = self.call("opening a stream", setup)
        if self.call("starting the stream", lambda: self.device.activateStream(self.stream)) < 0:
            raise RadioError(f"soapy:{self.target} does not start its stream; is another program using it?")

    def stop(self) -> None:
        """Close the stream."""
        if self.stream is not None:
            stream, self.stream = self.stream, None
            self.call("stopping the stream", lambda: self.device.deactivateStream(stream))
            self.call("closing the stream", lambda: self.device.closeStream(stream))

    def close(self) -> None:
        """Close the stream and let go of the device."""
        try:
            self.stop()
        finally:
            device, self.device = self.device, None
            self.call("closing", device.close)

    def error(self, what: str, code: int) -> RadioError:
        """An error of a stream."""
        return RadioError(f"{what} failed at soapy:{self.target} ({self._soapy.errToStr(code)}); is it still attached?")

    def describe(self) -> dict:
        """Names and versions, for a report."""
        device = self.call("asking for names", lambda: f"{self.device.getDriverKey()} {self.device.getHardwareKey()}")
        return {"device": device, "libraries": {"SoapySDR": self._soapy.getLibVersion()}}


class SoapySink(Sink):
    """Transmits what it is given, as a stream."""

    def _open(self):
        if self.config.gain_db == "auto":
            raise InputError("`gain_db` auto is for a receiver; give a sender a gain in dB")
        self._device = _Device(self.address, self.config, sending=True)
        self._started_at, self.underflow = None, False
        try:
            self._device.tune()
            low_db, _ = self._device.gain_range_db
            self._gain_db = low_db if self.config.gain_db is None else self.config.gain_db
            self._device.set_gain(self._gain_db)
            self._described = self._device.describe()
            self._device.start()
        except BaseException:
            self._close(failed=True)
            raise

    def _write(self, scaled, label):
        scaled = np.ascontiguousarray(scaled, np.complex64)
        self._started_at = self._started_at or time.monotonic()
        deadline = time.monotonic() + self.config.timeout_s
        done = 0
        while done < scaled.size:
            raise_if_stopped()
            sent = self._push(scaled[done:], 0)
            if sent > 0:
                done += sent
                deadline = time.monotonic() + self.config.timeout_s
            elif time.monotonic() >= deadline:
                raise RadioTimeoutError(
                    f"soapy:{self.address.target} took no samples in {self.config.timeout_s:g} s; is it still there?"
                )

    def _push(self, samples, flags) -> int:
        """Samples that the device has taken; 0 for none in time."""
        device, soapy = self._device, self._device._soapy
        with mapped("transmitting", self.address.target):
            result = device.device.writeStream(device.stream, [samples], samples.size, flags, 0, int(1e6 * SLICE_S))
        if result.ret == soapy.SOAPY_SDR_UNDERFLOW:
            self.underflow = True
        elif result.ret < 0 and result.ret != soapy.SOAPY_SDR_TIMEOUT:
            raise device.error("transmitting", result.ret)
        return max(result.ret, 0)

    def _close(self, failed):
        device = self._device
        try:
            if not failed and self._started_at is not None:
                self._push(np.zeros(1024, np.complex64), device._soapy.SOAPY_SDR_END_BURST)
                left_s = self._started_at + self.samples / self.config.rate_hz + SETTLE_S - time.monotonic()
                time.sleep(max(SETTLE_S, left_s))  # until the last sample has left
        finally:
            try:
                device.set_gain(device.gain_range_db[0])
            finally:
                device.close()

    def describe(self) -> dict:
        """With the device's name and versions, the gain in use, and whether it ran dry."""
        return {**super().describe(), "gain_db": self._gain_db, "underflow": self.underflow, **self._described}


class SoapySource(Source):
    """Receives a stream, or one capture of ``capture_samples``."""

    _part = np.empty(0, np.complex64)  # of a capture, read before a timeout

    def _open(self):
        config = self.config
        if config.gain_mode != "manual":
            raise InputError(f"`gain_mode` is for a PlutoSDR; give `gain_db` in dB or auto; got {config.gain_mode}")
        self._device = _Device(self.address, config, sending=False)
        self.overflow, self.clipped = False, 0
        try:
            self._device.tune()
            self._described = self._device.describe()
            low_db, high_db = self._device.gain_range_db
            self._gain_db = (low_db + high_db) / 2 if config.gain_db in (None, "auto") else config.gain_db
            self._device.set_gain(self._gain_db)
            self._device.start()
            if config.gain_db in (None, "auto"):
                self._gain_db = find_gain(self._listen, self._gain_db, (low_db, high_db), config.rate_hz)
                self._device.set_gain(self._gain_db)
            self._take(int(SETTLE_S * config.rate_hz), config.timeout_s)
            self.overflow = False  # what was before does not count
        except BaseException:
            self._close()
            raise

    def _listen(self, gain_db, num_samples):
        """Samples (num_samples,) complex64 at a gain."""
        self._device.set_gain(gain_db)
        self._take(int(SETTLE_S * self.config.rate_hz), self.config.timeout_s)
        return self._take(num_samples, self.config.timeout_s)

    def _take(self, num, timeout_s, whole=True):
        """num samples (num,) complex64, each of which came within the timeout of the one before.

        On a timeout fewer, unless they must be ``whole``: the next call goes on with what has come.
        """
        device, soapy = self._device, self._device._soapy
        samples, done = np.empty(num, np.complex64), self._part.size
        samples[:done] = self._part
        deadline = time.monotonic() + timeout_s
        while done < num:
            raise_if_stopped()
            wait_s = min(SLICE_S, max(0.0, deadline - time.monotonic()))
            with mapped("receiving", self.address.target):
                part = samples[done:]
                result = device.device.readStream(device.stream, [part], part.size, 0, math.ceil(1e6 * wait_s))
            if result.ret > 0:
                done += result.ret
                deadline = time.monotonic() + timeout_s
            elif result.ret == soapy.SOAPY_SDR_OVERFLOW:
                self.overflow = True
            elif result.ret not in (0, soapy.SOAPY_SDR_TIMEOUT):
                raise device.error("receiving", result.ret)
            elif time.monotonic() >= deadline:
                if done and not whole:
                    return samples[:done]
                self._part = samples[:done]
                raise RadioTimeoutError(
                    f"no samples came from soapy:{self.address.target} within {timeout_s:g} s; is it still there?"
                )
        return samples

    def _read(self, timeout_s):
        capture = self.config.capture_samples
        if capture and self.samples:
            return None
        samples = self._take(capture or self.config.buffer_samples or BLOCK_SAMPLES, timeout_s, whole=bool(capture))
        self.clipped += int(np.count_nonzero(np.abs(samples.view(np.float32)) >= FULL_SCALE))
        return samples

    def _close(self):
        self._device.close()

    def describe(self) -> dict:
        """With the device's name and versions, what was lost or clipped, and advice on the gain."""
        warnings = list(self.warnings)
        if self.overflow:
            warnings.append("the device lost samples (overflow); lower --rate-hz")
        if self.clipped > 1e-4 * max(self.samples, 1):
            warnings.append(f"the receiver clips ({self.clipped} values); lower --gain-db by 6 dB or more")
        found = {"gain_db": self._gain_db, "clipped": self.clipped, "warnings": warnings}
        return {**super().describe(), **found, **self._described}
