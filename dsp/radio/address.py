"""Radio addresses: one grammar for devices, streams and recordings, parsed in one place."""

import re
from dataclasses import dataclass, field

from airnet_sdr.dsp.errors import InputError

SINK_PATTERNS = ("push", "pub", "rep", "srsran")
SOURCE_PATTERNS = ("pull", "sub", "req", "srsran")

ADDRESS_HELP = """\
pluto:ip:192.168.2.1        a PlutoSDR; everything after pluto: is the libiio URI (ip:HOST[:PORT], usb:B.D.I, local:)
zmq:tcp://HOST:PORT         complex64 samples over ZMQ (or zmq:ipc://PATH), with options ?pattern=P&bind=1
                            P is push, pub, rep or srsran to send, pull, sub, req or srsran to receive
                            (push and pull by default); bind=1 binds, otherwise it connects
file:PATH.sigmf-meta        a SigMF recording, cf32_le; ci16_le is read as well"""

_PLUTO_URI = re.compile(r"ip:.+|usb:\d+\.\d+\.\d+|usb:|local:|serial:.+")
_ZMQ_ENDPOINT = re.compile(r"tcp://(\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+):(?P<port>\d{1,5})|ipc://\S+")


@dataclass(frozen=True)
class Address:
    """A parsed address: `pluto` with its URI, `zmq` with its endpoint, or `file` with the path of its metadata."""

    scheme: str
    target: str
    options: dict = field(default_factory=dict)  # zmq only: pattern (absent: the default) and bind ("0", "1")

    def __str__(self):
        query = "&".join(f"{name}={value}" for name, value in self.options.items())
        return f"{self.scheme}:{self.target}" + (f"?{query}" if query else "")


def parse(text: str) -> Address:
    """The address that `text` names; raises InputError, with one line, for anything that makes no sense.

    >>> parse("zmq:tcp://127.0.0.1:5555?pattern=push&bind=1").options
    {'pattern': 'push', 'bind': '1'}
    """
    scheme, colon, target = text.partition(":")
    if not colon or scheme not in ("pluto", "zmq", "file"):
        raise _senseless(text, "an address begins with pluto:, zmq: or file:")
    if scheme == "pluto":
        if not _PLUTO_URI.fullmatch(target):
            raise _senseless(text, "try pluto:ip:192.168.2.1")
        return Address(scheme, target)
    if scheme == "file":
        if not target.endswith(".sigmf-meta") or target.endswith("/.sigmf-meta") or target == ".sigmf-meta":
            raise _senseless(text, "the path of a recording ends in .sigmf-meta")
        return Address(scheme, target)
    endpoint, _, query = target.partition("?")
    match = _ZMQ_ENDPOINT.fullmatch(endpoint)
    if not match or (match["port"] and not 0 < int(match["port"]) < 65536):
        raise _senseless(text, "try zmq:tcp://127.0.0.1:5555 or zmq:ipc:///tmp/air")
    return Address(scheme, endpoint, _options(text, query))


def _options(text, query):
    options = {}
    for item in filter(None, query.split("&")):
        name, _, value = item.partition("=")
        if name not in ("pattern", "bind") or name in options:
            raise _senseless(text, f"got option {name!r}; the options are pattern and bind, each once")
        options[name] = value
    if options.get("pattern", "push") not in SINK_PATTERNS + SOURCE_PATTERNS:
        raise _senseless(text, f"a pattern is one of {', '.join(dict.fromkeys(SINK_PATTERNS + SOURCE_PATTERNS))}")
    if options.get("bind", "0") not in ("0", "1"):
        raise _senseless(text, f"bind is 0 or 1, got {options['bind']!r}")
    return options


def _senseless(text, hint):
    return InputError(f"radio address {text!r} makes no sense: {hint}")
