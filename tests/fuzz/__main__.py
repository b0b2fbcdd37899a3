"""Attack the parsers and the receiver for long: `python -m tests.fuzz --inputs 38400000 --attacks 100000`.

Started again, it goes on where it stopped: counts, corpus and findings are in out/fuzz.
"""

import sys

from airnet_sdr.dsp.host import environment
from airnet_sdr.dsp.host.command import CommandParser, run_command
from airnet_sdr.dsp.host.options import add_options, config_from


def main(argv=None) -> int:
    """Parse, attack, and say what was found; status 1 with findings."""
    from airnet_sdr.tests.fuzz.campaign import FuzzConfig, run

    parser = CommandParser(prog="fuzz", description=__doc__)
    add_options(parser, FuzzConfig)
    options = parser.options(argv)

    def work():
        found = run(config_from(FuzzConfig, options), lambda line: print(line, flush=True))
        return int(any(counts["findings"] for counts in found.values()))

    return run_command(parser, work)


if __name__ == "__main__":
    environment.begin()
    sys.exit(main())
