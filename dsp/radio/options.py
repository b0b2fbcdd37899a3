"""The options of a command that opens a radio, and the configuration they describe."""

import argparse
import subprocess
import sys
from pathlib import Path

from airnet_sdr.dsp.errors import InputError, RadioError
from airnet_sdr.dsp.radio.address import parse
from airnet_sdr.dsp.radio.base import GAIN_MODES, RadioConfig

SELFTEST = Path(__file__).resolve().parents[2] / "sim" / "selftest.py"


def add_radio_arguments(parser: argparse.ArgumentParser, sending: bool) -> argparse._ArgumentGroup:
    """The radio's options; those of one end only are left to the command."""
    group = parser.add_argument_group("radio")
    what = "send" if sending else "listen"
    group.add_argument("--radio", metavar="ADDRESS", help=f"where to {what}; see below")
    group.add_argument("--freq-hz", type=float, default=2.4e9, metavar="F", help="carrier (default 2.4e9)")
    group.add_argument("--rate-hz", type=float, default=2.5e6, metavar="R", help="samples a second (default 2.5e6)")
    gain = "transmit gain, -89.75 to 0 dB (default -10)" if sending else "receive gain in dB, or auto (default 40)"
    group.add_argument("--gain-db", type=_gain, metavar="G", help=f"PlutoSDR: {gain}")
    group.add_argument("--bandwidth-hz", type=float, metavar="B", help="PlutoSDR: analog filters (default: the rate)")
    group.add_argument("--buffer-samples", type=int, metavar="N", help="PlutoSDR: samples of a buffer (default 262144)")
    group.add_argument("--num-buffers", type=int, default=4, metavar="N", help="PlutoSDR: kernel buffers (default 4)")
    if not sending:
        group.add_argument("--gain-mode", choices=GAIN_MODES, default="manual", help="PlutoSDR: who sets the gain")
        group.add_argument(
            "--capture-samples", type=int, metavar="N", help="PlutoSDR: one contiguous capture of so many, then end"
        )
    return group


def add_bench_arguments(group: argparse._ArgumentGroup) -> None:
    """What the two commands, sender and receiver, offer beside their work."""
    group.add_argument("--record", metavar="FILE.sigmf-meta", help="also write down what goes over the radio")
    group.add_argument(
        "--check", action="store_true", help="PlutoSDR: what is attached, a self-test and advice on gain, then end"
    )


def radio_config(args) -> RadioConfig:
    """What the options say."""
    return RadioConfig(
        freq_hz=args.freq_hz,
        rate_hz=args.rate_hz,
        gain_db=args.gain_db,
        timeout_s=args.timeout_s,
        bandwidth_hz=args.bandwidth_hz,
        gain_mode=getattr(args, "gain_mode", "manual"),
        buffer_samples=args.buffer_samples,
        num_buffers=args.num_buffers,
        capture_samples=getattr(args, "capture_samples", None),
    )


def print_check(args) -> None:
    """What --check prints of the board at the address, and what the self-test prints: the whole link through it."""
    check_pluto(args.radio, "--check")
    from airnet_sdr.dsp.radio.pluto_check import check

    for line in check(parse(args.radio), radio_config(args)):
        print(line, flush=True)
    # a process: nothing here may import what is further to the right
    command = [sys.executable, str(SELFTEST), "--radio", args.radio, "--model", "fashion", "--evaluate", "none"]
    command += ["--freq-hz", str(args.freq_hz), "--rate-hz", str(args.rate_hz)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as selftest:
        try:
            out, err = selftest.communicate()
        except BaseException:
            selftest.terminate()  # it mutes the board
            raise
    print(out, end="", flush=True)
    if selftest.returncode:
        raise RadioError(f"the self-test through the digital loopback failed: {err.strip().splitlines()[-1:]}")


def check_pluto(address: str | None, option: str) -> None:
    """InputError unless the address is a PlutoSDR's, which the option is for."""
    if address is None or not address.startswith("pluto:"):
        raise InputError(f"{option} is for a PlutoSDR: give --radio pluto:ip:192.168.2.1 or another; got {address}")


def _gain(text: str) -> float | str:
    return text if text == "auto" else float(text)
