"""Receive a network over a radio, rebuild and evaluate it: `python rx/receive.py --radio ADDRESS --report R.json`."""

import dataclasses
import sys
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1] / "src")

from airnet_sdr.dsp.host.command import CommandParser, run_command
from airnet_sdr.dsp.host.files import check_outputs
from airnet_sdr.dsp.host.options import add_options, config_from
from airnet_sdr.dsp.radio.address import ADDRESS_HELP
from airnet_sdr.dsp.radio.config import RadioConfig
from airnet_sdr.dsp.radio.options import add_radio_options, check_board, recorded_files, required_address
from airnet_sdr.rx.config import ListenConfig, OutputConfig, ReceiveConfig


def add_receiver_options(parser: CommandParser, architecture: bool = True) -> None:
    """Add the options of the receiver, shared with the simulations.

    ``architecture``: add that option, too; False if the command has it from the sender.
    """
    group = parser.add_argument_group("receiver")
    add_options(group, OutputConfig)
    names = [field.name for field in dataclasses.fields(ReceiveConfig)]
    add_options(group, ReceiveConfig, [name for name in names if architecture or name != "architecture"])


def main(argv=None) -> int:
    """Parse, and check the board or receive."""
    parser = CommandParser(prog="receive", description=__doc__, epilog="radio addresses:\n" + ADDRESS_HELP)
    add_receiver_options(parser)
    radio = add_radio_options(parser, sending=False)
    add_options(radio, ListenConfig)
    radio.add_argument("--record", metavar="FILE.sigmf-meta", help="also record the received samples")
    options = parser.options(argv)
    return run_command(parser, lambda: dispatch(options))


def dispatch(options: dict) -> None:
    """Check the board or receive, by the options."""
    radio = config_from(RadioConfig, options)
    if options["check"]:
        check_board(options["radio"], radio)
        return
    address = required_address(options["radio"])
    listening, config = config_from(ListenConfig, options), config_from(ReceiveConfig, options)
    radio, files = dataclasses.replace(radio, timeout_s=listening.timeout_s), config_from(OutputConfig, options)
    from airnet_sdr.dsp.radio import open_source  # here, as a help text needs neither NumPy nor torch
    from airnet_sdr.rx.receiver import receive_from
    from airnet_sdr.rx.report import summary

    recorded = [] if options["record"] is None else recorded_files(f"file:{options['record']}")
    check_outputs([*dataclasses.astuple(files), *recorded], [config.truth, *recorded_files(address)])
    refused = warn if listening.follow else lambda error: None
    for reception in receive_from(open_source(address, radio), config, listening, options["record"], refused):
        reception.write(files)
        print(summary(reception.report), flush=True)


def warn(error: Exception) -> None:
    """Warn that a burst was skipped."""
    print(f"receive: warning: burst skipped: {error}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
