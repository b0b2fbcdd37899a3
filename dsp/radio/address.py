"""Radio addresses: one grammar, ``SCHEME:TARGET``, and the table of radios.

Adding a radio is one file and one entry. The file has a `Sink` and a `Source` (see `base`) and ``parse_target(text)``,
which gives the target and its options as a dict, or raises ValueError with a hint.
"""

import importlib
from dataclasses import dataclass, field
from typing import Any

from airnet_sdr.dsp.errors import InputError


@dataclass(frozen=True)
class Radio:
    """Where a scheme's radio is: its module, imported when it is used, the names of its two ends, and its help."""

    module: str
    sink: str
    source: str
    help: tuple[tuple[str, str], ...]

    def load(self, name: str) -> Any:
        """A name of the module."""
        return getattr(importlib.import_module(f"airnet_sdr.dsp.radio.{self.module}"), name)


RADIOS = {
    "pluto": Radio("pluto", "PlutoSink", "PlutoSource", (
        ("pluto:ip:192.168.2.1", "a PlutoSDR; after pluto: the libiio URI (ip:HOST[:PORT], usb:B.D.I, local:)"),
    )),
    "soapy": Radio("soapy", "SoapySink", "SoapySource", (
        ("soapy:driver=lime", "any radio of SoapySDR, by its device string; SoapySDRUtil --find lists them"),
    )),
    "zmq": Radio("zmq_stream", "ZmqSink", "ZmqSource", (
        ("zmq:tcp://HOST:PORT", "complex64 samples over ZMQ (or zmq:ipc://PATH), with options ?pattern=P&bind=1"),
        ("", "P is push, pub, rep or srsran to send, pull, sub, req or srsran to receive"),
        ("", "(push and pull by default); bind=1 binds, otherwise it connects"),
        ("", "curve=OWN.key_secret&peer=OTHER.key encrypts, and takes no peer but that one"),
    )),
    "file": Radio("sigmf_file", "SigmfSink", "SigmfSource", (
        ("file:PATH.sigmf-meta", "a SigMF recording, cf32_le; ci16_le, ci8 and cu8 are read as well"),
    )),
}  # fmt: skip

ADDRESS_HELP = "\n".join(f"{form:<27} {text}" for radio in RADIOS.values() for form, text in radio.help)


@dataclass(frozen=True)
class Address:
    """A parsed address: the scheme of a radio, its target, and its options."""

    scheme: str
    target: str
    options: dict = field(default_factory=dict)

    def __str__(self):
        query = "&".join(f"{name}={value}" for name, value in self.options.items())
        return f"{self.scheme}:{self.target}" + (f"?{query}" if query else "")


def parse(text: str) -> Address:
    """The address that `text` names; raises InputError, with one line, for an invalid address.

    >>> parse("zmq:tcp://127.0.0.1:5555?pattern=push&bind=1").options
    {'pattern': 'push', 'bind': '1'}
    """
    scheme, colon, target = text.partition(":")
    if not colon or scheme not in RADIOS:
        schemes = [f"{name}:" for name in RADIOS]
        raise _senseless(text, f"an address begins with {', '.join(schemes[:-1])} or {schemes[-1]}")
    try:
        target, options = RADIOS[scheme].load("parse_target")(target)
    except ValueError as error:
        raise _senseless(text, str(error)) from error
    return Address(scheme, target, options)


def _senseless(text, hint):
    return InputError(f"radio address {text!r} makes no sense: {hint}")
