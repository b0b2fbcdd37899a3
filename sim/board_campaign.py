"""A person's first twenty minutes with boards: `python sim/board_campaign.py --radio A --rx-radio B`.

It is `sim/experiments/campaign.py` by a shorter name.
"""

import importlib
import sys
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1] / "src")
    from airnet_sdr.dsp.host import environment

    environment.begin()


def main(argv=None) -> int:
    """Run the campaign."""
    return importlib.import_module("airnet_sdr.sim.experiments.campaign").main(argv)


if __name__ == "__main__":
    sys.exit(main())
