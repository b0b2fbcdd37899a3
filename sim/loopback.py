"""The whole link in one process: `python sim/loopback.py --model fashion --snr-db 10 --report R.json`.

Sender, `sim.channel` and receiver are the very functions of `tx/send.py`, `sim/air.py` and `rx/receive.py`; with the
same options and seed the result is the same as theirs over ZMQ.
"""

import sys
import time
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1] / "src")
    from airnet_sdr.dsp.host import environment

    environment.set_defaults()

from airnet_sdr.dsp.host.command import CommandParser, run_command
from airnet_sdr.dsp.radio.scale import NOMINAL_POWER, to_full_scale
from airnet_sdr.models.register import add_architecture_argument
from airnet_sdr.rx.pipeline import Listener
from airnet_sdr.rx.receive import add_receiver_arguments, check_receiver_arguments, conclude, summary
from airnet_sdr.sim.channel import Channel, add_channel_arguments, channel_config_from_args
from airnet_sdr.tx.pipeline import Burst, transmission
from airnet_sdr.tx.send import add_sender_arguments, describe, make_burst


def through_air(burst: Burst, cycles: int, channel: Channel, listener: Listener) -> tuple[int, float]:
    """Send a burst through the channel into the listener; values clipped by the sender and seconds of receiver work."""
    clipped, seconds = 0, 0.0
    for samples, _ in transmission(burst, cycles):
        scaled, count = to_full_scale(samples)
        clipped += count
        received = channel.process(scaled)
        started = time.perf_counter()
        listener.push(received)
        seconds += time.perf_counter() - started
    received = channel.flush()
    started = time.perf_counter()
    listener.push(received)
    listener.finish()
    return clipped, seconds + time.perf_counter() - started


def loopback(args) -> dict:
    """Run the link that the options describe; its report."""
    check_receiver_arguments(args)
    start = time.perf_counter()
    config = channel_config_from_args(args)
    if args.truth is None and args.model is not None and not Path(args.model).is_dir():
        args.truth = args.model
    plan_snr_db = args.plan_snr_db if args.plan_snr_db is not None else 10.0 if config.snr_db is None else config.snr_db
    burst = make_burst(args, plan_snr_db)
    channel = Channel(config, args.rate_hz, args.freq_hz, args.seed, signal_power=NOMINAL_POWER)
    listener = Listener()
    print(describe(burst), flush=True)
    clipped, seconds_dsp = through_air(burst, max(1, args.cycles), channel, listener)
    radio = {
        "address": "simulated, in one process",
        "rate_hz": args.rate_hz,
        "freq_hz": args.freq_hz,
        "gain_db": None,
        "overflow": None,
        "clipped": clipped,
    }
    return conclude(listener.best, listener, args, radio, {"start": start, "dsp": seconds_dsp})


def main(argv=None) -> int:
    parser = CommandParser(prog="loopback", description=__doc__)
    add_sender_arguments(parser)
    parser.add_argument("--plan-snr-db", type=float, metavar="D", help="SNR the plan is for (default: the channel's)")
    add_channel_arguments(parser)
    add_receiver_arguments(parser)
    add_architecture_argument(parser)
    parser.add_argument("--freq-hz", type=float, default=2.4e9, metavar="F")
    parser.add_argument("--rate-hz", type=float, default=2.5e6, metavar="R")
    args = parser.parse_args(argv)
    return run_command(parser, lambda: print(summary(loopback(args))))


if __name__ == "__main__":
    sys.exit(main())
