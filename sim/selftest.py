"""One PlutoSDR as both ends of the link: `python sim/selftest.py --radio pluto:ip:192.168.2.1 --model fashion`.

``--path digital``, the default, sends through the board's digital loopback: driver, USB and converter words, but no
radio. ``--path cable`` sends through the radio: connect TX to RX with 30 dB of attenuation or more. Both send a whole
model and write the receiver's report.
"""

import dataclasses
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1] / "src")
    from airnet_sdr.dsp.host import environment

    environment.begin()

import numpy as np

from airnet_sdr.dsp.host.command import CommandParser, run_command
from airnet_sdr.dsp.host.options import add_options, check_fields, config_from, option
from airnet_sdr.dsp.host.run import Run, command_line, options_of
from airnet_sdr.dsp.radio import ADDRESS_HELP, RadioConfig, open_sink, open_source
from airnet_sdr.dsp.radio.options import add_radio_options, require_pluto
from airnet_sdr.rx.config import ListenConfig, OutputConfig, ReceiveConfig
from airnet_sdr.rx.receive import add_receiver_options
from airnet_sdr.rx.receiver import Reception, check, receive_from
from airnet_sdr.rx.report import summary
from airnet_sdr.tx.burst import Burst, modulate
from airnet_sdr.tx.config import SendConfig
from airnet_sdr.tx.send import add_sender_options
from airnet_sdr.tx.sender import describe, make_burst

LOOPBACK = {"digital": 1, "cable": 0}


@dataclasses.dataclass(frozen=True)
class SelftestConfig:
    """The path through the board, the transmit gain, and the number of cycles."""

    path: str = option("digital", "through the digital loopback, or the radio and a cable", choices=tuple(LOOPBACK))
    tx_gain_db: float = option(-10.0, "transmit gain", -89.75, 0, metavar="G")
    cycles: int = option(2, "number of cycles to combine", 1, 2**31, metavar="K")

    def __post_init__(self):
        check_fields(self)


def through_board(
    burst: Burst,
    address: str,
    radio: RadioConfig,
    listening: ListenConfig,
    receiving: ReceiveConfig,
    config: SelftestConfig,
    run: Run | None = None,
) -> Iterator[Reception]:
    """Repeat a burst on the board's transmitter and receive it on the same board; the reports have ``run``."""
    sending = dataclasses.replace(
        radio, gain_db=config.tx_gain_db, gain_mode="manual", loopback=LOOPBACK[config.path], capture_samples=None
    )
    with open_sink(address, sending) as sink:
        sink.repeat(np.concatenate(list(modulate(burst))))
        yield from receive_from(open_source(address, radio, beside=sink), receiving, listening, run=run)


def selftest(options: dict, command: str, with_flags: Callable[[str], str]) -> None:
    """Send without end, receive, report; the report names ``command``, messages the options by their flags."""
    address = options["radio"]
    require_pluto(address, "a self-test")
    config = config_from(SelftestConfig, options)
    listening = config_from(ListenConfig, options, cycles=config.cycles)
    receiving = config_from(ReceiveConfig, options)
    if receiving.truth is None:
        receiving = dataclasses.replace(receiving, truth=options["model"])
    check(receiving)
    sending = config_from(SendConfig, {"snr_db": 20.0} | options)
    burst = make_burst(options["model"], sending)
    print(describe(burst), flush=True)
    radio = config_from(RadioConfig, options, timeout_s=listening.timeout_s)
    chosen = {"model": options["model"], "radio": address}
    chosen |= options_of(sending, radio, listening, receiving, config)
    run = Run(command, chosen, sending.seed, plan_snr_db=sending.snr_db)
    for reception in through_board(burst, address, radio, listening, receiving, config, run):
        reception.write(config_from(OutputConfig, options))
        print(with_flags(summary(reception.report)), flush=True)
        reception.raise_failure()


def main(argv=None) -> int:
    """Parse and test."""
    argv = sys.argv[1:] if argv is None else argv
    parser = CommandParser(prog="selftest", description=__doc__, epilog="radio addresses:\n" + ADDRESS_HELP)
    add_sender_options(parser)
    add_options(parser, SendConfig, ["snr_db"], {"snr_db": "SNR per payload symbol to plan for (default 20)"})
    add_options(parser, SelftestConfig)
    add_receiver_options(parser, architecture=False)
    radio = add_radio_options(parser, sending=False, bench=False)
    add_options(radio, ListenConfig, ["timeout_s", "max_cfo_hz"])
    options = parser.options(argv)
    return run_command(parser, lambda: selftest(options, command_line("sim/selftest.py", argv), parser.with_flags))


if __name__ == "__main__":
    sys.exit(main())
