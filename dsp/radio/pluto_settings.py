"""Settings of a board, put in order whatever another program left: muted, tuned, read back.

The order matters to a transmitter. ADI's driver calibrates it whenever filter, rate, carrier or bandwidth change, and
can do so only while its oscillator runs: so the oscillator is on, at the least gain, before any of them is set.
"""

import math
import re

from airnet_sdr.dsp.errors import RadioError
from airnet_sdr.dsp.radio.base import RadioConfig
from airnet_sdr.dsp.radio.pluto_context import BoardContext
from airnet_sdr.dsp.radio.pluto_library import number
from airnet_sdr.dsp.radio.pluto_ranges import analog_bandwidth_hz

SILENT_GAIN_DB = -89.75
RATE_TOLERANCE_HZ = 4.0  # a rate reads some Hz off what was set
CARRIER_TOLERANCE_HZ = 100.0
LONGEST_HALFBAND_RATE_HZ = 20e6  # up to here pyadi-iio's filter decimates by 4, above by 2
TRACKING = ("quadrature_tracking_en", "rf_dc_offset_tracking_en", "bb_dc_offset_tracking_en")


def mute(context: BoardContext) -> None:
    """Tones off, every transmitter's gain at its least, oscillator off, and all of it read back.

    All are tried, whatever fails. RadioError where one fails, or reads otherwise than it was set.
    """
    errors = []
    steps = [*_silencing(context), lambda: power(context, "TX", False)]
    for step in steps:
        try:
            step()
        except RadioError as error:
            errors.append(error)
    if not errors and _powered_down(context, "TX") is False:
        errors.append(RadioError("its transmit oscillator is still on"))
    if errors:
        raise RadioError(
            f"the board at {context.uri} could not be muted ({errors[0]}); run tx/send.py --mute, or unplug it"
        ) from errors[0]


def silence(context: BoardContext) -> None:
    """Tones off and every transmitter's gain at its least; the oscillator may run. Read back."""
    for step in _silencing(context):
        step()


def _silencing(context):
    """One step an attribute: a Pluto has one transmitter, a Pluto+ has two."""
    channels = [*context.pluto._txdac.channels, *context.pluto._ctrl.channels]
    for channel in channels:
        if channel.output and channel.id.startswith("altvoltage") and "raw" in channel.attrs:
            yield lambda channel=channel: _set_back(context, channel, "raw", "0")
    for channel in channels:
        if channel.output and channel.id.startswith("voltage") and "hardwaregain" in channel.attrs:
            yield lambda channel=channel: _set_back(context, channel, "hardwaregain", number(SILENT_GAIN_DB))


def _set_back(context, channel, name, value):
    """Set an attribute of a transmitter and read it back."""
    what = f"setting {name} of {channel.name or channel.id}"

    def set_it():
        channel.attrs[name].value = value

    context.ask(what, set_it)
    found = context.number(what, lambda: channel.attrs[name].value)
    if abs(found - float(value)) > 0.01:
        raise RadioError(f"{what}: it is {number(found)} after {value} was written")


def power(context: BoardContext, side: str, on: bool) -> None:
    """An oscillator, "RX" or "TX", on or off."""
    channel = context.pluto._ctrl.find_channel(f"{side}_LO", True)

    def set_it():
        channel.attrs["powerdown"].value = str(int(not on))

    context.ask(f"switching the {side} oscillator", set_it)


def _powered_down(context, side) -> bool | None:
    channel = context.pluto._ctrl.find_channel(f"{side}_LO", True)
    what = f"reading the {side} oscillator"
    return bool(context.number(what, lambda: channel.attrs["powerdown"].value))


def order(context: BoardContext) -> None:
    """What another program may have left otherwise: full duplex, receiver's LO on, tracking on, loopback off."""
    phy = context.pluto._ctrl

    def set_them():
        if "ensm_mode" in phy.attrs and phy.attrs["ensm_mode"].value != "fdd":
            phy.attrs["ensm_mode"].value = "fdd"
        for name in TRACKING:
            attribute = phy.find_channel("voltage0", False).attrs.get(name)
            if attribute is not None and attribute.value != "1":
                attribute.value = "1"

    context.ask("putting the board in order", set_them)
    power(context, "RX", True)
    set_loopback(context, 0)


def set_loopback(context: BoardContext, mode: int) -> None:
    """0 none, 1 digital: what is sent is received, without the radio; 2 radio frequency."""

    def set_it():
        if int(context.pluto.loopback) != mode:
            context.pluto.loopback = mode

    context.ask("setting the loopback", set_it)


def rate_is(context: BoardContext, rate_hz: float) -> bool:
    """Whether the board has the rate, a filter such as pyadi-iio loads for it, and none in the FPGA."""
    pluto = context.pluto
    if abs(context.number("reading the rate", lambda: pluto.sample_rate) - rate_hz) > RATE_TOLERANCE_HZ:
        return False
    enabled = context.number("reading the filter", lambda: pluto._get_iio_attr("out", "voltage_filter_fir_en", False))
    loaded = context.ask("reading the filter", lambda: pluto._get_iio_dev_attr_str("filter_fir_config"))
    wanted = "4" if rate_hz <= LONGEST_HALFBAND_RATE_HZ else "2"
    match = re.search(r"Rx: (\d+),(\d+) Tx: (\d+),(\d+)", loaded)
    fits = match is not None and int(match[1]) > 0 and match[2] == match[4] == wanted
    return bool(enabled) and fits and not any(_fpga_filters(context))


def _fpga_filters(context):
    """Whether the FPGA decimates what is received, and interpolates what is sent, by 8."""
    pluto = context.pluto
    found = []
    for core, name in ((pluto._rxadc, "rx_dec8_filter_en"), (pluto._txdac, "tx_int8_filter_en")):
        channel = core.find_channel("voltage0", name.startswith("tx"))
        there = channel is not None and "sampling_frequency_available" in channel.attrs
        found.append(there and context.ask("reading the FPGA's filters", lambda name=name: getattr(pluto, name)))
    return found


def set_rate(context: BoardContext, rate_hz: float) -> None:
    """Rate and filters, read back; what is so already is left alone: a change interrupts."""
    if rate_is(context, rate_hz):
        return

    def set_it():
        context.pluto.sample_rate = int(rate_hz)

    context.ask("setting the rate", set_it)
    for on, name in zip(_fpga_filters(context), ("rx_dec8_filter_en", "tx_int8_filter_en"), strict=True):
        if on:
            context.ask("switching the FPGA's filters off", lambda name=name: setattr(context.pluto, name, False))
    if not rate_is(context, rate_hz):
        found = context.number("reading the rate", lambda: context.pluto.sample_rate)
        raise RadioError(
            f"the board at {context.uri} does not take {number(rate_hz)} samples/s: it reads {number(found)}, or its "
            "filters are not as they were set; power it off and on"
        )


def tune(context: BoardContext, config: RadioConfig, side: str) -> None:
    """Carrier and analog bandwidth of one side, "rx" or "tx", read back."""
    pluto = context.pluto
    bandwidth_hz = int(analog_bandwidth_hz(context, config))

    def set_it():
        setattr(pluto, f"{side}_lo", int(config.freq_hz))
        setattr(pluto, f"{side}_rf_bandwidth", bandwidth_hz)

    context.ask(f"tuning the {side} side", set_it)
    found = context.number("reading the carrier", lambda: getattr(pluto, f"{side}_lo"))
    if abs(found - config.freq_hz) > CARRIER_TOLERANCE_HZ:
        raise RadioError(f"the board at {context.uri} is at {number(found)} Hz after {number(config.freq_hz)} was set")


def set_transmit_gain(context: BoardContext, gain_db: float) -> None:
    """Of the first transmitter, the one that samples go to."""

    def set_it():
        context.pluto.tx_hardwaregain_chan0 = math.floor(4 * gain_db) / 4

    context.ask("setting the transmit gain", set_it)


def set_receive_gain(context: BoardContext, mode: str, gain_db: float) -> None:
    """Gain control mode, and the gain where that is manual."""

    def set_it():
        context.pluto.gain_control_mode_chan0 = mode
        if mode == "manual":
            context.pluto.rx_hardwaregain_chan0 = int(round(gain_db))

    context.ask("setting the receive gain", set_it)
