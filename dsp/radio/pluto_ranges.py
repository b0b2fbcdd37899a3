"""What a board takes: ranges that it says itself, and whether a configuration fits them."""

import re

from airnet_sdr.dsp.errors import InputError, RadioError
from airnet_sdr.dsp.frame import DEFAULT_FORMAT
from airnet_sdr.dsp.radio.base import RadioConfig
from airnet_sdr.dsp.radio.pluto_context import BoardContext
from airnet_sdr.dsp.radio.pluto_library import number

CRYSTAL_PPM = 25.0  # of each board
OCCUPIED = DEFAULT_FORMAT.occupancy  # of the rate, by a burst
PASSED = 0.92  # of the rate, by the filters that pyadi-iio loads: -0.33 dB there at worst
RATES_HZ = (521e3, 61.44e6)
# where the board says what it takes: device channel, its direction, attribute; and what it takes if it does not say
_RANGES = {
    "rx frequency": ("RX_LO", True, "frequency_available", (325e6, 3.8e9)),
    "tx frequency": ("TX_LO", True, "frequency_available", (325e6, 3.8e9)),
    "rx gain": ("voltage0", False, "hardwaregain_available", (-3, 71)),
    "tx gain": ("voltage0", True, "hardwaregain_available", (-89.75, 0)),
    "rx bandwidth": ("voltage0", False, "rf_bandwidth_available", (200e3, 56e6)),
    "tx bandwidth": ("voltage0", True, "rf_bandwidth_available", (200e3, 40e6)),
}
_NUMBER = re.compile(r"-?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?")


def range_of(context: BoardContext, what: str) -> tuple[float, float]:
    """Lowest and highest value, as the board says now; the receive gain's depends on the carrier."""
    name, output, attribute, usual = _RANGES[what]
    channel = context.pluto._ctrl.find_channel(name, output)
    if channel is None or attribute not in channel.attrs:
        return usual
    text = context.ask(f"asking for the range of the {what}", lambda: channel.attrs[attribute].value)
    numbers = [float(part) for part in _NUMBER.findall(text)]
    if len(numbers) != 3 or not numbers[0] <= numbers[2]:
        raise RadioError(f"the board at {context.uri} gives {text!r} as the range of its {what}; check its firmware")
    return numbers[0], numbers[2]


def check_range(context: BoardContext, name: str, value: float, what: str, unit: str) -> None:
    """InputError when the board does not take the value."""
    low, high = RATES_HZ if what == "rate" else range_of(context, what)
    if not low <= value <= high:
        raise InputError(f"{name} must be {number(low)} to {number(high)} {unit} on this board; got {number(value)}")


def analog_bandwidth_hz(context: BoardContext, config: RadioConfig) -> float:
    """Of the analog filters: as asked for, or the sample rate where they get as wide."""
    widest_hz = min(range_of(context, f"{side} bandwidth")[1] for side in ("rx", "tx"))
    return config.bandwidth_hz or min(config.rate_hz, widest_hz)


def check_config(context: BoardContext, config: RadioConfig) -> None:
    """InputError where the board does not take rate, carrier or bandwidth, or a burst does not fit between filters."""
    bandwidth_hz = analog_bandwidth_hz(context, config)
    check_range(context, "`rate_hz`", config.rate_hz, "rate", "Hz")
    for side in ("rx", "tx"):
        check_range(context, "`freq_hz`", config.freq_hz, f"{side} frequency", "Hz")
        check_range(context, "`bandwidth_hz`", bandwidth_hz, f"{side} bandwidth", "Hz")
    needed_hz = OCCUPIED * config.rate_hz + 4e-6 * CRYSTAL_PPM * config.freq_hz
    if needed_hz > PASSED * config.rate_hz:
        least_hz = 4e-6 * CRYSTAL_PPM * config.freq_hz / (PASSED - OCCUPIED)
        raise InputError(
            f"a burst and the offset of two crystals need {needed_hz:.7g} Hz, the filter passes "
            f"{PASSED * config.rate_hz:.7g} of {config.rate_hz:.7g} samples/s; raise `rate_hz` to {least_hz:.7g}, "
            "or lower `freq_hz`"
        )
    if needed_hz > bandwidth_hz:
        remedy = "raise `bandwidth_hz`" if config.bandwidth_hz else "lower `rate_hz`"
        raise InputError(
            f"a burst and the offset of two crystals need {needed_hz:.7g} Hz, the analog filters pass "
            f"{bandwidth_hz:.7g}; {remedy}"
        )
