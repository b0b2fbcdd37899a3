"""Expansion curves known to sender and receiver, and their codes on the air; code 0 means none: weights sent linearly.

`python sim/experiments/expansion.py --design` writes `curves.json`. Its order is part of the on-air format.
"""

import functools
import json
from pathlib import Path

from airnet_sdr.dsp.errors import LinkError
from airnet_sdr.dsp.expansion import Curve

PATH = Path(__file__).with_name("curves.json")


@functools.cache
def expansion_curves() -> tuple[Curve, ...]:
    """All curves; a curve's code is its position, from 1."""
    table = json.loads(PATH.read_text())
    return tuple(
        Curve(
            row["spiral"],
            row["exponent"],
            row["gain"],
            tuple(row["circles"]),
            tuple(map(float, table["snr_db"])),
            tuple(row["nmse_db"]),
        )
        for row in table["curves"]
    )


def code_of(curve: Curve | None) -> int:
    """The code of a curve, 0 for None."""
    return 0 if curve is None else 1 + expansion_curves().index(curve)


def curve_of(code: int) -> Curve | None:
    """The curve of a code, None for 0. Raises LinkError for an unknown code."""
    if not 0 <= code <= len(expansion_curves()):
        raise LinkError(f"manifest: unknown curve {code} of {len(expansion_curves())}; the sender is another version")
    return None if code == 0 else expansion_curves()[code - 1]
