"""The air as a GNU Radio flowgraph: what `sim/air.py` does, by GNU Radio's own channel blocks, over ZMQ or recordings.

    python sim/gnuradio_air.py --rx zmq:tcp://127.0.0.1:5555 --tx "zmq:tcp://127.0.0.1:5556?bind=1" --preset room

GNU Radio's sources connect and its sinks bind: the sender needs ?bind=1, the receiver none. It runs under its own
Python (this environment's, else /usr/bin/python3) in a process of its own; `sim/channel/flowgraphs/headless_air.py`
runs there, and says what of GNU Radio's is in the way of exactness. What it can't do is refused. Results are
repeatable with a seed, but are other draws than those of `sim/air.py`, and depend on it but for phase noise, whose seed
GNU Radio fixes.
"""

import json
import math
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1] / "src")
    from airnet_sdr.dsp.host import environment

    environment.set_defaults()

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.host.command import CommandParser, run_command
from airnet_sdr.dsp.radio import ADDRESS_HELP, RadioConfig
from airnet_sdr.sim.air import add_air_arguments
from airnet_sdr.sim.channel import channel_config_from_args
from airnet_sdr.sim.channel.gnuradio_ends import record, recorded, sink_of, source_of
from airnet_sdr.sim.channel.gnuradio_process import HEADLESS_AIR, Flowgraph, find_python
from airnet_sdr.sim.channel.gnuradio_settings import settings


def main(argv=None) -> int:
    """Run the air until it is told to stop (SIGINT, SIGTERM), the recording ends or the sender is idle."""
    parser = CommandParser(prog="gnuradio_air", description=__doc__, epilog="addresses:\n" + ADDRESS_HELP)
    add_air_arguments(parser)
    parser.add_argument("--gnuradio-python", metavar="PATH", help="the Python that has GNU Radio (default: found)")
    parser.add_argument(
        "--timeout-s",
        type=float,
        default=20.0,
        metavar="T",
        help="give up on a GNU Radio that says nothing for so long",
    )
    args = parser.parse_args(argv)
    return run_command(parser, lambda: air(args))


def air(args) -> None:
    """Translate, start GNU Radio, and say what passed; being told to stop is a good end."""
    config = RadioConfig(args.freq_hz, args.rate_hz, timeout_s=args.timeout_s, backoff_db=None)  # samples as they come
    ends, config = {"rx": source_of(args.rx), "tx": sink_of(args.tx)}, recorded(args.rx, config)
    channel = settings(channel_config_from_args(args), config.rate_hz, config.freq_hz, args.seed)
    if not args.idle_s > 0:
        raise InputError(f"--idle-s must be positive; got {args.idle_s:g}")
    python = find_python(args.gnuradio_python)
    with tempfile.TemporaryDirectory(prefix="airnet-") as folder:
        raw = None
        if "recording" in ends["tx"]:
            raw = Path(folder) / "out.cf32"
            ends["tx"] = {"path": str(raw)}
        idle_s = None if args.idle_s == math.inf else args.idle_s
        argument = json.dumps({**ends, **channel, "idle_s": idle_s})
        with (
            Flowgraph(python, HEADLESS_AIR, argument, args.timeout_s) as flowgraph,
            suppress(KeyboardInterrupt, SystemExit),
        ):
            flowgraph.follow()
        if raw is not None:
            record(raw, args.tx, config)
    print(f"gnuradio_air: {flowgraph.samples_in} samples in, {flowgraph.samples_out} out")


if __name__ == "__main__":
    sys.exit(main())
