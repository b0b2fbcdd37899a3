"""Radios behind one small interface: the only package of `dsp` with input and output.

Example::

    with open_sink("file:capture.sigmf-meta") as sink:
        sink.send(samples, label="cycle 0")
"""

from airnet_sdr.dsp.radio.address import ADDRESS_HELP, RADIOS, Address, parse
from airnet_sdr.dsp.radio.base import RadioConfig, Sink, Source

__all__ = ["ADDRESS_HELP", "Address", "RadioConfig", "Sink", "Source", "open_sink", "open_source", "parse"]


def open_sink(address: str, config: RadioConfig = RadioConfig()) -> Sink:
    """The sending end at `address`; it opens when its `with` block is entered."""
    parsed = parse(address)
    radio = RADIOS[parsed.scheme]
    return radio.load(radio.sink)(parsed, config)


def open_source(address: str, config: RadioConfig = RadioConfig(), beside: Sink | None = None) -> Source:
    """The receiving end at `address`; it opens when its `with` block is entered.

    ``beside`` is a sink that is open while the source is: where both are at the same address and the device serves one
    program at a time, as a PlutoSDR on USB does, they share it::

        with open_sink(address, sending) as sink, open_source(address, receiving, beside=sink) as source:
    """
    parsed = parse(address)
    radio = RADIOS[parsed.scheme]
    return radio.load(radio.source)(parsed, config, beside)
