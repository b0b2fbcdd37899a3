"""The air between processes: samples from one radio address, through the channel, to another address.

    python sim/air.py --rx "zmq:tcp://127.0.0.1:5555?bind=1" --tx "zmq:tcp://127.0.0.1:5556?bind=1" --preset room

The sample count is the clock: while the sender pauses, the air waits, so the output depends on input and seed only.
The channel delays some 8,000 samples; the silence after a sender's last frame, ``--idle-s``, or the end of a recording
flushes them.

With ``--control tcp://HOST:PORT`` the channel is changed while samples flow: a ZMQ request (REQ), a JSON object of
channel options such as {"snr_db": 3, "echoes": ["2.3:-8:60"]}, is answered with "ok" or with what is wrong. The new
channel begins where the old one ends: the frame in which that happens is hit.
"""

import dataclasses
import itertools
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1] / "src")
    from airnet_sdr.dsp.host import environment

    environment.begin()

import numpy as np

from airnet_sdr.dsp.errors import RadioTimeoutError
from airnet_sdr.dsp.host.command import CommandParser, run_command
from airnet_sdr.dsp.host.options import add_options, check_fields, check_known, config_from, option
from airnet_sdr.dsp.radio import ADDRESS_HELP, RadioConfig, Sink, Source, open_sink, open_source
from airnet_sdr.dsp.radio.config import FREQ_HZ, RATE_HZ
from airnet_sdr.dsp.radio.scale import NOMINAL_POWER
from airnet_sdr.sim.channel import Channel, ChannelConfig, add_channel_options, channel_config
from airnet_sdr.sim.channel.control import Control, ControlConfig


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
    add_options(parser, ControlConfig)
    options = parser.options(argv)

    def work() -> None:
        channel = channel_config(options, options["preset"])
        air(config_from(AirConfig, options), channel, config_from(ControlConfig, options))

    return run_command(parser, work)


def air(config: AirConfig, channel: ChannelConfig, control: ControlConfig = ControlConfig()) -> None:
    """Open both ends, relay, and print the sample counts; a stop signal is success."""
    radio = config.radio(timeout_s=math.inf)
    with open_source(config.rx, radio) as source:
        radio = dataclasses.replace(radio, freq_hz=source.freq_hz, rate_hz=source.rate_hz)
        with open_sink(config.tx, radio) as sink, Control(control) as asked:
            with suppress(KeyboardInterrupt, SystemExit):
                relay(source, sink, channel, config.seed, config.idle_s, asked)
    print(f"air: {source.samples} samples in, {sink.samples} out")


def relay(
    source: Source,
    sink: Sink,
    config: ChannelConfig,
    seed: int = 0,
    idle_s: float = math.inf,
    control: Control = Control(ControlConfig()),
) -> None:
    """All samples of `source` through one channel to `sink`, until the source ends, or is idle after a first sample.

    Each channel that `control` is asked for has random numbers of its own, from the same seed.
    """
    seeds = itertools.count(seed)

    def make(config: ChannelConfig) -> Channel:
        return Channel(config, source.rate_hz, source.freq_hz, next(seeds), signal_power=NOMINAL_POWER)

    channel = make(config)

    def change(options: dict) -> None:
        nonlocal channel
        check_known(options, ChannelConfig)
        changed = make(dataclasses.replace(channel.config, **options))
        sink.send(channel.flush())
        channel = changed

    for block in _blocks(source, idle_s, lambda: control.serve(change), control.poll_s if control.used else math.inf):
        sink.send(channel.process(block))
    sink.send(channel.flush())


def _blocks(source: Source, idle_s: float, between: Callable[[], None], poll_s: float) -> Iterator[np.ndarray]:
    """The source's blocks, until its end, or ``idle_s`` without one after the first.

    ``between`` is called before each block, and every ``poll_s`` while none comes.
    """
    deadline = math.inf
    while True:
        try:
            block = source.read(max(0.0, min(poll_s, deadline - time.monotonic())))
        except RadioTimeoutError:
            if time.monotonic() >= deadline:
                return
            between()
            continue
        if block is None:
            return
        between()
        yield block
        deadline = time.monotonic() + idle_s


if __name__ == "__main__":
    sys.exit(main())
