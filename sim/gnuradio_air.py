"""The air as a GNU Radio flowgraph: `sim/air.py` with GNU Radio's channel blocks, over ZMQ or recordings.

    python sim/gnuradio_air.py --rx zmq:tcp://127.0.0.1:5555 --tx "zmq:tcp://127.0.0.1:5556?bind=1" --preset room

GNU Radio's sources connect and its sinks bind: the sender needs ?bind=1, the receiver none. The flowgraph,
`sim/channel/flowgraphs/headless_air.py`, runs in a separate process under a Python with GNU Radio (this environment's,
else /usr/bin/python3); its docstring lists the limits of GNU Radio's accuracy. Unsupported options are refused. A seed
makes results repeatable, but its draws differ from those of `sim/air.py`; GNU Radio fixes the seed of phase noise.
"""

import dataclasses
import json
import math
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1] / "src")
    from airnet_sdr.dsp.host import environment

    environment.begin()

from airnet_sdr.dsp.host.command import CommandParser, run_command
from airnet_sdr.dsp.host.options import add_options, config_from, option
from airnet_sdr.dsp.radio import ADDRESS_HELP
from airnet_sdr.sim.air import AirConfig
from airnet_sdr.sim.channel import ChannelConfig, add_channel_options, channel_config
from airnet_sdr.sim.channel.gnuradio_ends import record, recorded, sink_of, source_of
from airnet_sdr.sim.channel.gnuradio_process import HEADLESS_AIR, Flowgraph, find_python
from airnet_sdr.sim.channel.gnuradio_settings import settings


@dataclasses.dataclass(frozen=True)
class GnuRadioAirConfig(AirConfig):
    """The GNU Radio air: its Python and its timeout."""

    gnuradio_python: str | None = option(None, "Python with GNU Radio (default: search)", metavar="PATH")
    timeout_s: float = option(
        20.0, "give up if GNU Radio does not report for T seconds", 1e-3, 1e9, choices=("inf",), metavar="T"
    )


def main(argv=None) -> int:
    """Run the air until SIGINT or SIGTERM, the end of the recording, or an idle sender."""
    parser = CommandParser(prog="gnuradio_air", description=__doc__, epilog="addresses:\n" + ADDRESS_HELP)
    add_options(parser, GnuRadioAirConfig)
    parser.require("rx", "tx")
    add_channel_options(parser)
    options = parser.options(argv)
    return run_command(
        parser, lambda: air(config_from(GnuRadioAirConfig, options), channel_config(options, options["preset"]))
    )


def air(config: GnuRadioAirConfig, channel: ChannelConfig) -> None:
    """Translate the settings, run GNU Radio, and print the sample counts; a stop signal is success."""
    ends = {"rx": source_of(config.rx), "tx": sink_of(config.tx)}
    radio = recorded(config.rx, config.radio(timeout_s=config.timeout_s))
    translated = settings(channel, radio.rate_hz, radio.freq_hz, config.seed)
    python = find_python(config.gnuradio_python)
    with tempfile.TemporaryDirectory(prefix="airnet-") as folder:
        raw = None
        if "recording" in ends["tx"]:
            raw = Path(folder) / "out.cf32"
            ends["tx"] = {"path": str(raw)}
        idle_s = None if config.idle_s == math.inf else config.idle_s
        argument = json.dumps({**ends, **translated, "idle_s": idle_s})
        with (
            Flowgraph(python, HEADLESS_AIR, argument, config.timeout_s) as flowgraph,
            suppress(KeyboardInterrupt, SystemExit),
        ):
            flowgraph.follow()
        if raw is not None:
            record(raw, config.tx, radio)
    print(f"gnuradio_air: {flowgraph.samples_in} samples in, {flowgraph.samples_out} out")


if __name__ == "__main__":
    sys.exit(main())
