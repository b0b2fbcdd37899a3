"""Receive a network over a radio, rebuild and evaluate it: `python rx/receive.py --radio ADDRESS --report R.json`."""

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1] / "src")
    from airnet_sdr.dsp.host import environment

    environment.begin()

from airnet_sdr.dsp.host.command import CommandParser, run_command
from airnet_sdr.dsp.host.files import check_outputs
from airnet_sdr.dsp.host.options import add_options, config_from
from airnet_sdr.dsp.host.progress import Progress
from airnet_sdr.dsp.host.run import Run, command_line, options_of
from airnet_sdr.dsp.radio.address import ADDRESS_HELP
from airnet_sdr.dsp.radio.config import RadioConfig
from airnet_sdr.dsp.radio.options import add_radio_options, check_board, recorded_files, required_address
from airnet_sdr.rx.config import ListenConfig, LiveConfig, OutputConfig, ReceiveConfig


def add_receiver_options(parser: CommandParser, architecture: bool = True) -> None:
    """Add the options of the receiver, shared with the simulations.

    ``architecture``: add that option and the key, too; False if the command has them from the sender.
    """
    group = parser.add_argument_group("receiver")
    add_options(group, OutputConfig)
    names = [field.name for field in dataclasses.fields(ReceiveConfig)]
    add_options(group, ReceiveConfig, [name for name in names if architecture or name not in ("architecture", "key")])


def main(argv=None) -> int:
    """Parse, and check the board or receive."""
    argv = sys.argv[1:] if argv is None else argv
    parser = CommandParser(prog="receive", description=__doc__, epilog="radio addresses:\n" + ADDRESS_HELP)
    add_receiver_options(parser)
    radio = add_radio_options(parser, sending=False)
    add_options(radio, ListenConfig)
    add_options(parser.add_argument_group("lab page"), LiveConfig)
    radio.add_argument("--record", metavar="FILE.sigmf-meta", help="also record the received samples")
    options = parser.options(argv)
    return run_command(parser, lambda: dispatch(options, command_line("rx/receive.py", argv), parser.with_flags))


def dispatch(options: dict, command: str, with_flags: Callable[[str], str]) -> None:
    """Check the board or receive, by the options; ``with_flags`` names them in a message as the command does."""
    radio = config_from(RadioConfig, options)
    if options["check"]:
        check_board(options["radio"], radio)
        return
    address = required_address(options["radio"])
    listening, config = config_from(ListenConfig, options), config_from(ReceiveConfig, options)
    live = config_from(LiveConfig, options)
    radio, files = dataclasses.replace(radio, timeout_s=listening.timeout_s), config_from(OutputConfig, options)
    from airnet_sdr.dsp.radio import open_source  # here, as a help text needs neither NumPy nor torch
    from airnet_sdr.rx.receiver import receive_from
    from airnet_sdr.rx.report import summary

    recorded = [] if options["record"] is None else recorded_files(f"file:{options['record']}")
    check_outputs([*dataclasses.astuple(files), *recorded], [config.truth, *recorded_files(address)])

    def refused(error):
        if listening.follow:
            warning = with_flags(f"receive: warning: burst skipped: {error}")
            print(warning, file=sys.stderr, flush=True)

    source, record, progress = open_source(address, radio), options["record"], Progress()
    source.on_block = lambda num: progress.advance(num, source.num_samples)

    def save(reception):
        if files.save is not None:  # before the evaluation, which may fail or take long
            progress.stage("saving")
            reception.save(files.save)
        progress.stage("evaluating")

    def report(reception):
        reception.write(files)
        print(with_flags(summary(reception.report)), flush=True)

    run = Run(command, {"radio": address, **options_of(radio, listening, config, files)})
    if live.live is not None:
        from airnet_sdr.rx.live import receive_live

        receive_live(source, config, listening, live, record, report, run)
        return
    with progress:
        progress.stage("receiving")
        for reception in receive_from(source, config, listening, record, refused, save, run):
            report(reception)
            if not listening.follow:
                reception.raise_failure()
            progress.stage("receiving")


if __name__ == "__main__":
    sys.exit(main())
