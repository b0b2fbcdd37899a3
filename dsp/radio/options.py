"""Options of commands that open a radio, and their side tasks: check and mute a board."""

import argparse

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.host.options import add_options
from airnet_sdr.dsp.radio.address import ADDRESS_HELP, parse
from airnet_sdr.dsp.radio.config import RadioConfig

_BOTH = ["freq_hz", "rate_hz", "gain_db", "bandwidth_hz", "buffer_samples", "num_buffers"]
_SENDING = [*_BOTH, "timeout_s"]
_RECEIVING = [*_BOTH, "gain_mode", "capture_samples"]
_HELPS = {
    True: {
        "gain_db": "PlutoSDR: transmit gain, -89.75 to 0 dB (default -10)",
        "timeout_s": "longest wait for a receiver",
    },
    False: {"gain_db": "PlutoSDR: receive gain in dB, or auto (default 40)"},
}


def add_radio_options(parser: argparse.ArgumentParser, sending: bool, bench: bool = True) -> argparse._ArgumentGroup:
    """The radio's address and `RadioConfig`; with ``bench`` also --check."""
    group = parser.add_argument_group("radio")
    group.add_argument("--radio", metavar="ADDRESS", help=f"where to {'send' if sending else 'listen'}; see below")
    add_options(group, RadioConfig, _SENDING if sending else _RECEIVING, _HELPS[sending])
    if bench:
        group.add_argument(
            "--check", action="store_true", help="PlutoSDR: describe and test the board, advise on gain, and exit"
        )
    return group


def required_address(address: str | None) -> str:
    """The address; without one, print the address schemes and raise InputError."""
    if address is None:
        print("radio addresses:\n" + ADDRESS_HELP)
        raise InputError("`radio` is missing; give one of the addresses above")
    return address


def recorded_files(address: str) -> list[str]:
    """The two files of a recording's address; none for other radios."""
    kind, _, path = address.partition(":")
    return [path, path.removesuffix("-meta") + "-data"] if kind == "file" else []


def check_board(address: str | None, config: RadioConfig) -> None:
    """Print what --check finds of the board at the address, and the command that sends a model through it."""
    require_pluto(address, "--check")
    from airnet_sdr.dsp.radio.pluto_check import check

    for line in check(parse(address), config):
        print(line, flush=True)
    print(f"a model through its loopback: python sim/selftest.py --radio {address} --model fashion")


def mute_board(address: str | None) -> None:
    """Mute the board at the address, also after a crash."""
    require_pluto(address, "--mute")
    from airnet_sdr.dsp.radio.pluto import silence

    print(f"muted: {silence(parse(address))}")


def require_pluto(address: str | None, what: str) -> None:
    """InputError unless the address is a PlutoSDR's, which ``what`` is for."""
    if address is None or not address.startswith("pluto:"):
        raise InputError(f"{what} is for a PlutoSDR: give --radio pluto:ip:192.168.2.1 or another; got {address}")
