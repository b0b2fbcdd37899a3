"""The air between processes: samples from one radio address, through the channel, to another address.

    python sim/air.py --rx "zmq:tcp://127.0.0.1:5555?bind=1" --tx "zmq:tcp://127.0.0.1:5556?bind=1" --preset room

The sample count is the clock: while the sender pauses, the air waits, so the output depends on input and seed only.
The channel delays some 8,000 samples; the silence after a sender's last frame, ``--idle-s``, or the end of a recording
flushes them.
"""

import dataclasses
import math
import sys
from contextlib import suppress
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1] / "src")
    from airnet_sdr.dsp.host import environment

    environment.set_defaults()

from airnet_sdr.dsp.errors import RadioTimeoutError
from airnet_sdr.dsp.host.command import CommandParser, run_command
from airnet_sdr.dsp.host.options import add_options, check_fields, config_from, option
from airnet_sdr.dsp.radio import ADDRESS_HELP, RadioConfig, Sink, Source, open_sink, open_source
from airnet_sdr.dsp.radio.config import FREQ_HZ, RATE_HZ
from airnet_sdr.dsp.radio.scale import NOMINAL_POWER
from airnet_sdr.sim.channel import Channel, ChannelConfig, add_channel_options, channel_config


@dataclasses.dataclass(frozen=True)
class AirConfig:
    """The two ends of an air between processes, its clock and its seed."""

    rx: str = option(None, "address that receives from the sender", metavar="ADDRESS")
    tx: str = option(None, "address that sends to the receiver", metavar="ADDRESS")
    freq_hz: float = option(FREQ_HZ, "carrier frequency", 1e-3, 1e12, metavar="F")
    rate_hz: float = option(RATE_HZ, "samples a second", 1e-3, 1e12, metavar="R")
    seed: int = option(0, "seed of all random numbers", 0, 2**63 - 1, metavar="S")
    idle_s: float = option(
        math.inf,
        "end T seconds after the last sample",
        1e-3,
        1e9,
        choices=("inf",),
        metavar="T",
    )

    def __post_init__(self):
        check_fields(self)

    def radio(self, **settings) -> RadioConfig:
        """The radios' config, without scaling of samples."""
        return RadioConfig(self.freq_hz, self.rate_hz, backoff_db=None, **settings)


def main(argv=None) -> int:
    """Run the air until SIGINT or SIGTERM, the end of the recording, or an idle sender."""
    parser = CommandParser(prog="air", description=__doc__, epilog="addresses:\n" + ADDRESS_HELP)
    add_options(parser, AirConfig)
    parser.require("rx", "tx")
    add_channel_options(parser)
    options = parser.options(argv)
    return run_command(parser, lambda: air(config_from(AirConfig, options), channel_config(options, options["preset"])))


def air(config: AirConfig, channel: ChannelConfig) -> None:
    """Open both ends, relay, and print the sample counts; a stop signal is success."""
    radio = config.radio(timeout_s=math.inf)
    with open_source(config.rx, radio) as source:
        radio = dataclasses.replace(radio, freq_hz=source.freq_hz, rate_hz=source.rate_hz)
        with open_sink(config.tx, radio) as sink:
            with suppress(KeyboardInterrupt, SystemExit):
                relay(source, sink, channel, config.seed, config.idle_s)
    print(f"air: {source.samples} samples in, {sink.samples} out")


def relay(source: Source, sink: Sink, config: ChannelConfig, seed: int = 0, idle_s: float = math.inf) -> None:
    """All samples of `source` through one channel to `sink`, until the source ends, or is idle after a first sample."""
    channel = Channel(config, source.rate_hz, source.freq_hz, seed, signal_power=NOMINAL_POWER)
    patience_s = math.inf
    with suppress(RadioTimeoutError):  # idle: the end
        while (block := source.read(patience_s)) is not None:
            sink.send(channel.process(block))
            patience_s = idle_s
    sink.send(channel.flush())


if __name__ == "__main__":
    sys.exit(main())
