"""The air between processes: takes samples from one radio address, puts them through the channel, passes them on.

    python sim/air.py --rx "zmq:tcp://127.0.0.1:5555?bind=1" --tx "zmq:tcp://127.0.0.1:5556?bind=1" --preset room

The sample count is the clock: while the sender pauses, the air waits, so the output depends on input and seed only.
What the channel holds back (some 8,000 samples) comes out with the silence that a sender puts after its last frame,
with ``--idle-s``, or at the end of a recording.
"""

import argparse
import math
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1] / "src")
    from airnet_sdr.dsp.host import environment

    environment.set_defaults()

from airnet_sdr.dsp.errors import RadioTimeoutError
from airnet_sdr.dsp.host.command import CommandParser, run_command
from airnet_sdr.dsp.radio import ADDRESS_HELP, RadioConfig, Sink, Source, open_sink, open_source
from airnet_sdr.dsp.radio.scale import NOMINAL_POWER
from airnet_sdr.sim.channel import Channel, ChannelConfig, add_channel_arguments, channel_config_from_args


def main(argv=None) -> int:
    """Run the air until it is told to stop (SIGINT, SIGTERM), the recording ends or the sender is idle."""
    parser = CommandParser(prog="air", description=__doc__, epilog="addresses:\n" + ADDRESS_HELP)
    add_air_arguments(parser)
    args = parser.parse_args(argv)
    return run_command(parser, lambda: air(args))


def add_air_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of an air between processes, whoever makes it."""
    parser.add_argument("--rx", metavar="ADDRESS", required=True, help="where the sender is")
    parser.add_argument("--tx", metavar="ADDRESS", required=True, help="where the receiver is")
    parser.add_argument("--freq-hz", type=float, default=RadioConfig.freq_hz, help="carrier (default %(default)g)")
    parser.add_argument("--rate-hz", type=float, default=RadioConfig.rate_hz, help="sample rate (default %(default)g)")
    parser.add_argument("--seed", type=int, default=0, help="of everything random (default 0)")
    parser.add_argument(
        "--idle-s",
        type=float,
        default=math.inf,
        metavar="T",
        help="end when no sample has come for so long after the last one (default: never)",
    )
    add_channel_arguments(parser)


def air(args) -> None:
    """Open both ends, relay, and say what passed; being told to stop is a good end."""
    channel_config = channel_config_from_args(args)
    config = RadioConfig(args.freq_hz, args.rate_hz, timeout_s=math.inf, backoff_db=None)  # samples as they come
    with open_source(args.rx, config) as source:
        config = replace(config, freq_hz=source.freq_hz, rate_hz=source.rate_hz)
        with open_sink(args.tx, config) as sink:
            with suppress(KeyboardInterrupt, SystemExit):
                relay(source, sink, channel_config, args.seed, args.idle_s)
    print(f"air: {source.samples} samples in, {sink.samples} out")


def relay(source: Source, sink: Sink, config: ChannelConfig, seed: int = 0, idle_s: float = math.inf) -> None:
    """All samples of `source` through one channel to `sink`, until the source ends, or is idle after a first sample."""
    channel = Channel(config, source.rate_hz, source.freq_hz, seed, signal_power=NOMINAL_POWER)
    patience_s = math.inf
    with suppress(RadioTimeoutError):  # idle; the sink's own patience has no end
        while (block := source.read(patience_s)) is not None:
            sink.send(channel.process(block))
            patience_s = idle_s
    sink.send(channel.flush())


if __name__ == "__main__":
    sys.exit(main())
