"""Send a network's weights over a radio as analog IQ samples: `python tx/send.py --model fashion --radio ADDRESS`."""

import functools
import sys
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1] / "src")
    from airnet_sdr.dsp.host import environment

    environment.begin()

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.host.command import CommandParser, run_command
from airnet_sdr.dsp.host.files import check_outputs
from airnet_sdr.dsp.host.options import add_options, config_from
from airnet_sdr.dsp.host.progress import Progress
from airnet_sdr.dsp.radio.address import ADDRESS_HELP
from airnet_sdr.dsp.radio.config import RadioConfig
from airnet_sdr.dsp.radio.options import add_radio_options, check_board, mute_board, recorded_files, required_address
from airnet_sdr.models import shipped
from airnet_sdr.tx.config import SendConfig, TransmissionConfig


def add_sender_options(parser: CommandParser) -> None:
    """Add the options of the sender, shared with the simulations."""
    group = parser.add_argument_group("sender")
    group.add_argument(
        "--model",
        metavar="NAME|PATH.safetensors",
        help="a shipped model or a checkpoint; for digital also a folder of checkpoints trained with --bits, for "
        "layered a transmission file",
    )
    add_options(group, SendConfig, [name for name in SendConfig.__dataclass_fields__ if name not in OWN])


OWN = ("snr_db", "dataset")  # --snr-db is the channel's in the simulations; a checkpoint names its data set


def main(argv=None) -> int:
    """Parse the options, then list models, check or mute the board, or send."""
    parser = CommandParser(prog="send", description=__doc__, epilog="radio addresses:\n" + ADDRESS_HELP)
    add_sender_options(parser)
    add_options(parser, SendConfig, ["snr_db"])
    add_options(parser, TransmissionConfig, ["cycles"])
    parser.add_argument("--list", action="store_true", help="list the shipped models")
    radio = add_radio_options(parser, sending=True)
    add_options(radio, TransmissionConfig, ["record"])
    radio.add_argument("--mute", action="store_true", help="PlutoSDR: mute the board, e.g. after a crash, and exit")
    options = parser.options(argv)
    return run_command(parser, lambda: dispatch(options))


def dispatch(options: dict) -> None:
    """List models, check or mute the board, or send, by the options."""
    if options["list"]:
        list_models()
    elif options["check"]:
        check_board(options["radio"], config_from(RadioConfig, options))
    elif options["mute"]:
        mute_board(options["radio"])
    else:
        address = required_address(options["radio"])
        radio, transmission = config_from(RadioConfig, options), config_from(TransmissionConfig, options)
        send(options["model"], address, config_from(SendConfig, options), radio, transmission)


def list_models() -> None:
    """Print a line for each shipped model."""
    for name, facts in shipped.describe().items():
        print(f"{name:16} {facts.num_weights:>10,} weights  {100 * facts.accuracy:.2f} % on {facts.dataset}")


def send(model: str, address: str, config: SendConfig, radio: RadioConfig, transmission: TransmissionConfig) -> None:
    """Make the burst of a model and put it on the air."""
    from airnet_sdr.dsp.radio import open_sink  # imported here, as a help text needs neither NumPy nor torch
    from airnet_sdr.tx.sender import describe, make_burst
    from airnet_sdr.tx.transmit import put_on_air

    sink = open_sink(address, radio)
    records = [address] if transmission.record is None else [address, f"file:{transmission.record}"]
    check_outputs([path for each in records for path in recorded_files(each)], [model])
    if not transmission.cycles and recorded_files(address):
        raise InputError("`cycles` 0 sends until stopped, and a recording has an end; say how many cycles")
    if model is None:
        raise InputError(f"`model` is missing; try one of: {', '.join(shipped.paths())}, or PATH.safetensors")
    with Progress() as progress:
        progress.stage("planning and encoding")
        burst = make_burst(model, config)
    print(describe(burst), flush=True)
    with Progress() as progress:
        progress.stage("sending", burst.header.num_frames * transmission.cycles or None)
        on_air = functools.partial(print, "on the air until stopped", flush=True)
        put_on_air(burst, sink, transmission, on_air, progress.advance)
    done = sink.describe()
    print(f"sent {done['samples']} samples to {done['address']}, {done['clipped']} values clipped")
    for text in done["warnings"]:
        print(f"warning: {text}")
    if done.get("underflow"):
        print("warning: the board ran dry (underflow); lower --rate-hz or raise --buffer-samples")


if __name__ == "__main__":
    sys.exit(main())
