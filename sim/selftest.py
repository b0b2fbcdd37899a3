"""One PlutoSDR as both ends of the link: `python sim/selftest.py --radio pluto:ip:192.168.2.1 --model fashion`.

``--path digital``, the default, sends through the board's digital loopback: driver, USB and converters' words, but no
radio. ``--path cable`` sends through the radio: connect TX to RX with 30 dB of attenuation or more. Either way the
model goes the whole way, and the report is the receiver's.
"""

import sys
import time
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1] / "src")
    from airnet_sdr.dsp.host import environment

    environment.set_defaults()

import dataclasses

import numpy as np

from airnet_sdr.dsp.host.command import CommandParser, run_command
from airnet_sdr.dsp.radio import ADDRESS_HELP, open_sink, open_source
from airnet_sdr.dsp.radio.options import add_radio_arguments, check_pluto, radio_config
from airnet_sdr.models.register import add_architecture_argument
from airnet_sdr.rx.pipeline import Listener
from airnet_sdr.rx.receive import add_receiver_arguments, check_receiver_arguments, conclude, listen, summary
from airnet_sdr.tx.pipeline import modulate
from airnet_sdr.tx.send import add_sender_arguments, describe, make_burst

LOOPBACK = {"digital": 1, "cable": 0}


def selftest(args) -> None:
    """Send without end, receive, report."""
    check_pluto(args.radio, "a self-test")
    check_receiver_arguments(args)
    args.truth, args.follow = args.truth or args.model, False
    seconds = {"start": time.perf_counter(), "dsp": 0.0}
    burst = make_burst(args, args.snr_db)
    print(describe(burst), flush=True)
    config = radio_config(args)
    sending = dataclasses.replace(config, gain_db=args.tx_gain_db, gain_mode="manual", loopback=LOOPBACK[args.path])
    with open_sink(args.radio, sending) as sink:
        sink.repeat(np.concatenate(list(modulate(burst))))
        with open_source(args.radio, config) as source:
            listener = Listener()
            for found in listen(source, listener, args, seconds):
                print(summary(conclude(found, listener, args, source.describe(), seconds)), flush=True)


def main(argv=None) -> int:
    parser = CommandParser(prog="selftest", description=__doc__, epilog="radio addresses:\n" + ADDRESS_HELP)
    add_sender_arguments(parser)
    parser.add_argument("--snr-db", type=float, default=20.0, metavar="D", help="SNR per symbol the plan is for")
    parser.add_argument("--path", choices=list(LOOPBACK), default="digital", help="through the words, or the radio")
    parser.add_argument("--tx-gain-db", type=float, default=-10.0, metavar="G", help="transmit gain (default -10)")
    add_receiver_arguments(parser)
    add_architecture_argument(parser)
    radio = add_radio_arguments(parser, sending=False)
    radio.add_argument(
        "--timeout-s", type=float, default=30.0, metavar="T", help="give up after so long without a frame"
    )
    parser.set_defaults(cycles=2)
    args = parser.parse_args(argv)
    return run_command(parser, lambda: selftest(args))


if __name__ == "__main__":
    sys.exit(main())
