"""Lab sweep: steps the transmit attenuation of a board and measures the received network at each step.

    python sim/experiments/attenuation.py --radio pluto:ip:192.168.2.1 --rx-radio pluto:ip:192.168.3.1

`sim/sweep.py --radio` is an alias.

The burst is sent endlessly; at each step the receiver listens anew until every frame has arrived --cycles times,
rebuilds the network, and measures accuracy and the weights' error. Rounds of all steps are repeated, so that drift
affects all steps equally. For comparison, `theory_nmse` is the NMSE of linear MMSE at the measured SNR, 1/(1 + n·S) for
weights received n times. `short_db` is the measured SNR's shortfall against following the attenuation dB for dB, with
the best step as reference: large where converter, clipping or leakage, not noise, limits the SNR.

Writes attenuation.json (every trial, means and deviations of each step), attenuation.csv (every trial) and
attenuation.png, also after an error or Ctrl-C.
"""

import dataclasses
import shlex
import sys
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[2] / "src")
    from airnet_sdr.dsp.host import environment

    environment.begin()

from rich.console import Console

from airnet_sdr.dsp.host.command import CommandParser, run_command
from airnet_sdr.dsp.host.options import add_options, config_from
from airnet_sdr.dsp.radio import ADDRESS_HELP, RadioConfig
from airnet_sdr.dsp.radio.options import add_radio_options
from airnet_sdr.rx.config import ReceiveConfig
from airnet_sdr.rx.receiver import check
from airnet_sdr.sim.experiments.library.board_sweep import AttenuationConfig, Sweep
from airnet_sdr.sim.experiments.library.steps import steps_table, write_steps
from airnet_sdr.tx.config import SendConfig
from airnet_sdr.tx.send import add_sender_options
from airnet_sdr.tx.sender import describe, make_burst


def sweep_boards(sweep: Sweep, command: str) -> None:
    """Sweep, write and print; also after an error the measurements are written."""
    complete = False
    try:
        sweep.step_through()
        complete = True
    finally:
        if sweep.trials:
            steps = write_steps(sweep.config.out, command, sweep.trials, sweep.boards, complete)
            Console(width=None if sys.stdout.isatty() else 160).print(steps_table(steps))


def main(argv=None) -> int:
    """Parse and sweep."""
    argv = sys.argv[1:] if argv is None else [str(word) for word in argv]
    parser = CommandParser(prog="attenuation", description=__doc__, epilog="radio addresses:\n" + ADDRESS_HELP)
    add_sender_options(parser)
    add_options(parser, SendConfig, ["snr_db"], {"snr_db": "SNR per payload symbol to plan for (default 20)"})
    add_options(parser, ReceiveConfig, ["evaluate", "estimator", "data_dir"])
    radio = add_radio_options(parser, sending=False, bench=False)
    names = [field.name for field in dataclasses.fields(AttenuationConfig) if field.name != "radio"]
    add_options(radio, AttenuationConfig, names)
    options = parser.options(argv)
    command = shlex.join(["python", "sim/experiments/attenuation.py", *argv])

    def work():
        config = config_from(AttenuationConfig, options)
        receiving = config_from(ReceiveConfig, options, truth=options["model"])
        sending = config_from(SendConfig, {"snr_db": 20.0, "uep": "none"} | options)
        radio = config_from(RadioConfig, {"gain_db": "auto"} | options, timeout_s=config.timeout_s)
        check(receiving)
        burst = make_burst(options["model"], sending)
        print(describe(burst), flush=True)
        sweep_boards(Sweep(burst, config, radio, receiving), command)

    return run_command(parser, work)


if __name__ == "__main__":
    sys.exit(main())
