"""Radios behind one small interface: the only room of `dsp` with input and output.

Example::

    with open_sink("file:capture.sigmf-meta") as sink:
        sink.send(samples, label="cycle 0")
"""

from airnet_sdr.dsp.radio.address import ADDRESS_HELP, Address, parse
from airnet_sdr.dsp.radio.base import RadioConfig, Sink, Source

__all__ = ["ADDRESS_HELP", "Address", "RadioConfig", "Sink", "Source", "open_sink", "open_source", "parse"]


def open_sink(address: str, config: RadioConfig = RadioConfig()) -> Sink:
    """The sending end at `address`; it opens when its `with` block is entered."""
    parsed = parse(address)
    match parsed.scheme:
        case "zmq":
            from airnet_sdr.dsp.radio.zmq_stream import ZmqSink as sink
        case "file":
            from airnet_sdr.dsp.radio.sigmf_file import SigmfSink as sink
        case _:
            from airnet_sdr.dsp.radio.pluto import PlutoSink as sink
    return sink(parsed, config)


def open_source(address: str, config: RadioConfig = RadioConfig()) -> Source:
    """The receiving end at `address`; it opens when its `with` block is entered."""
    parsed = parse(address)
    match parsed.scheme:
        case "zmq":
            from airnet_sdr.dsp.radio.zmq_stream import ZmqSource as source
        case "file":
            from airnet_sdr.dsp.radio.sigmf_file import SigmfSource as source
        case _:
            from airnet_sdr.dsp.radio.pluto import PlutoSource as source
    return source(parsed, config)
