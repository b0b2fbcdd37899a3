"""The lab page: the link, live, in a browser: `python sim/lab.py`, then open the address that it prints.

Starts a sender, a simulated air and one to five receivers as processes of their own, and serves a page that shows what
is on the air, what arrives, and how well the network works, with knobs for all of it. With --radio and --rx-radio,
radios take the place of the simulated air; with --feed it shows receivers that were started elsewhere with --live.
"""

import sys
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1] / "src")
    from airnet_sdr.dsp.host import environment

    environment.begin()

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.host.command import CommandParser, run_command
from airnet_sdr.dsp.host.options import add_options, config_from
from airnet_sdr.sim.page.config import LabConfig


def main(argv=None) -> int:
    """Run the lab until SIGINT or SIGTERM."""
    parser = CommandParser(prog="lab", description=__doc__)
    add_options(parser, LabConfig)
    options = parser.options(argv)
    return run_command(parser, lambda: run(config_from(LabConfig, options)))


def run(config: LabConfig) -> None:
    """Start the processes, serve the page until a stop signal, which is success, and end the processes again."""
    try:
        from airnet_sdr.sim.page.lab import Lab
        from airnet_sdr.sim.page.server import listen_at, serve
    except ImportError as error:
        raise InputError(f"the page needs {error.name}; install the extra `lab`: pip install -e .[lab]") from error

    with listen_at(config.host, config.port) as listening:
        host, port = listening.getsockname()[:2]
        lab = Lab(config)
        try:
            if config.mode != "feed":
                lab.start()
            shown = f"[{host}]" if ":" in host else host

            def tell() -> None:
                print(f"the lab page is at http://{shown}:{port}/", flush=True)
                if config.mode == "feed":
                    print(f"receivers feed it with --live {lab.feed_address}", flush=True)

            serve(lab, listening, tell)
        finally:
            lab.close()


if __name__ == "__main__":
    sys.exit(main())
