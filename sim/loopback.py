"""The whole link in one process: `python sim/loopback.py --model fashion --snr-db 10 --report R.json`.

It calls the functions of `tx/send.py`, `sim/air.py` and `rx/receive.py`; with the same options and seed the result
equals theirs over ZMQ.
"""

import dataclasses
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1] / "src")
    from airnet_sdr.dsp.host import environment

    environment.begin()

import numpy as np

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.host.command import CommandParser, run_command
from airnet_sdr.dsp.host.files import check_outputs
from airnet_sdr.dsp.host.options import add_options, check_known, checked_number, config_from, with_options
from airnet_sdr.dsp.host.run import Run, command_line, options_of
from airnet_sdr.dsp.radio.config import FREQ_HZ, RATE_HZ, RadioConfig
from airnet_sdr.dsp.radio.scale import NOMINAL_POWER, to_full_scale
from airnet_sdr.rx.config import OutputConfig, ReceiveConfig
from airnet_sdr.rx.listen import Listener
from airnet_sdr.rx.receive import add_receiver_options
from airnet_sdr.rx.receiver import Reception, check, evaluate_burst
from airnet_sdr.rx.report import summary
from airnet_sdr.sim.channel import Channel, ChannelConfig, add_channel_options, channel_config
from airnet_sdr.tx.burst import Burst, transmission
from airnet_sdr.tx.config import SendConfig, TransmissionConfig
from airnet_sdr.tx.send import add_sender_options
from airnet_sdr.tx.sender import describe, make_burst

PLAN_SNR_DB = 10.0  # for a channel without noise


def through_air(burst: Burst, channel: Channel, cycles: int = 1) -> Iterator[tuple[np.ndarray, int]]:
    """A burst sent ``cycles`` times through the channel: blocks complex64 (n,), and the number of values clipped."""
    for samples, _ in transmission(burst, cycles):
        scaled, num_clipped = to_full_scale(samples)
        yield channel.process(scaled), num_clipped
    yield channel.flush(), 0


def transmit(
    burst: Burst,
    config: ChannelConfig | None = None,
    *,
    preset: str | None = None,
    cycles: int = 1,
    seed: int = 0,
    rate_hz: float = RATE_HZ,
    freq_hz: float = FREQ_HZ,
    **options,
) -> np.ndarray:
    """Send a burst through the simulated air; returns the received samples (n,) complex64.

    options : fields of `ChannelConfig`, put over ``config`` or the ``preset``

    Raises InputError for an invalid option.

    >>> from airnet_sdr.tx.sender import make_burst
    >>> transmit(make_burst("fashion"), preset="bench", seed=1).dtype
    dtype('complex64')
    """
    if not isinstance(burst, Burst):
        raise InputError(f"`burst` must be one of make_burst; got {type(burst).__name__}")
    if config is not None and preset is not None:
        raise InputError("the channel is given twice; give `config` or `preset`")
    check_known(options, ChannelConfig)
    base = {} if config is None else dataclasses.asdict(with_options(ChannelConfig, config, {}))
    config = channel_config(base | options, preset)
    cycles = int(checked_number("cycles", cycles, 1, 2**31, whole=True))  # an array has an end
    seed = int(checked_number("seed", seed, 0, 2**63 - 1, whole=True))
    radio = RadioConfig(rate_hz=rate_hz, freq_hz=freq_hz)
    channel = Channel(config, radio.rate_hz, radio.freq_hz, seed, signal_power=NOMINAL_POWER)
    return np.concatenate([samples for samples, _ in through_air(burst, channel, cycles)])


def send_through(burst: Burst, channel: Channel, listener: Listener, cycles: int = 1) -> int:
    """Send a burst through the channel into the listener, in bounded memory; returns the number of values clipped."""
    num_clipped = 0
    for samples, clipped in through_air(burst, channel, cycles):
        listener.push(samples)
        num_clipped += clipped
    listener.finish()
    return num_clipped


@dataclasses.dataclass(frozen=True)
class Link:
    """The configs of a whole link: sender, air and receiver."""

    sending: SendConfig
    channel: ChannelConfig
    receiving: ReceiveConfig
    radio: RadioConfig = RadioConfig()
    cycles: int = 1


def loopback(
    model: str,
    link: Link,
    on_rebuilt: Callable[[Reception], None] = lambda reception: None,
    command: str | None = None,
) -> Reception:
    """Run the link; returns the reception of its burst, for which `on_rebuilt` is called before it is evaluated.

    command : the command line that the report names
    """
    started = time.perf_counter()
    check(link.receiving)
    burst = make_burst(model, link.sending)
    rate_hz, freq_hz = link.radio.rate_hz, link.radio.freq_hz
    channel = Channel(link.channel, rate_hz, freq_hz, link.sending.seed, signal_power=NOMINAL_POWER)
    listener = Listener()
    print(describe(burst), flush=True)
    num_clipped = send_through(burst, channel, listener, link.cycles)
    radio = {
        "address": "simulated, in one process",
        "rate_hz": rate_hz,
        "freq_hz": freq_hz,
        "gain_db": None,
        "overflow": None,
        "clipped": num_clipped,
    }
    run = Run(command, _options(model, link), link.sending.seed, impairments(link.channel), link.sending.snr_db)
    return evaluate_burst(listener.best, listener, link.receiving, radio, started, on_rebuilt, run)


def _options(model: str, link: Link) -> dict:
    """The options of a link by their flags' names: those of the air are apart, and --snr-db is among them."""
    options = options_of(link.sending, link.receiving)
    options["plan_snr_db"] = options.pop("snr_db")
    radio = {"freq_hz": link.radio.freq_hz, "rate_hz": link.radio.rate_hz}
    return {"model": model, **options, "cycles": link.cycles, **radio}


def impairments(channel: ChannelConfig) -> dict:
    """The fields of a channel that differ from those of an air without impairments."""
    clear, fields = ChannelConfig(), dataclasses.asdict(channel)
    return {name: value for name, value in fields.items() if value != getattr(clear, name)}


def link_from(options: dict) -> Link:
    """The link of a command's options; by default the plan is for the channel's SNR.

    The default truth is the sent model; there is none for a folder or a transmission of several.
    """
    channel = channel_config(options, options["preset"])
    plan_snr_db = PLAN_SNR_DB if channel.snr_db is None else channel.snr_db
    if options["plan_snr_db"] is not None:
        low, high = (SendConfig.__dataclass_fields__["snr_db"].metadata[end] for end in ("low", "high"))
        plan_snr_db = checked_number("plan_snr_db", options["plan_snr_db"], low, high)
    sending = config_from(SendConfig, options, snr_db=plan_snr_db)
    receiving = config_from(ReceiveConfig, options)
    of_several = options["model"] and (os.path.isdir(options["model"]) or options["model"].endswith(".json"))
    if receiving.truth is None and options["model"] and not of_several:
        receiving = dataclasses.replace(receiving, truth=options["model"])
    cycles = int(checked_number("cycles", config_from(TransmissionConfig, options).cycles, 1, whole=True))
    return Link(sending, channel, receiving, config_from(RadioConfig, options), cycles)


def main(argv=None) -> int:
    """Parse, run the link, write and print what arrived."""
    argv = sys.argv[1:] if argv is None else argv
    parser = CommandParser(prog="loopback", description=__doc__)
    add_sender_options(parser)
    add_options(parser, TransmissionConfig, ["cycles"], {"cycles": "cycles of the burst to send"})
    parser.add_argument("--plan-snr-db", metavar="D", help="SNR to plan for (default: the channel's, 10 without noise)")
    add_channel_options(parser)
    add_receiver_options(parser, architecture=False)
    add_options(parser, RadioConfig, ["freq_hz", "rate_hz"])
    options = parser.options(argv)

    def work():
        link, files = link_from(options), config_from(OutputConfig, options)
        check_outputs(dataclasses.astuple(files), [link.receiving.truth])
        command = command_line("sim/loopback.py", argv)
        reception = loopback(options["model"], link, lambda rebuilt: files.save and rebuilt.save(files.save), command)
        reception.write(files)
        print(parser.with_flags(summary(reception.report)))
        reception.raise_failure()

    return run_command(parser, work)


if __name__ == "__main__":
    sys.exit(main())
