"""What all pictures share: the format of a file's suffix, colours for every eye, lines that do not hide one another."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.host.files import checked_path, write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 160  # of PNG
FORMATS = {".png": "png", ".pdf": "pdf", ".svg": "svg", "": "png"}  # "": a FIFO or device
# Okabe and Ito, Color Universal Design, 2008: told apart with any colour vision; without their yellow, faint on white
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
NEUTRAL = "#767676"
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
DASHES = ("-", "--", "-.", ":")


def picture_format(path: str | os.PathLike) -> str:
    """The format of a picture's file: png, pdf or svg. InputError for another suffix, or what names no file."""
    checked_path(path)
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise InputError(f"a picture is .png, .pdf or .svg; got {os.fspath(path)!r}")
    return FORMATS[suffix]


def save_figure(figure: Figure, path: str | os.PathLike) -> None:
    """Write a figure, whole or not at all, in the format of the file's suffix. InputError as `picture_format`."""
    kind, picture = picture_format(path), io.BytesIO()
    figure.savefig(picture, format=kind, dpi=DPI)
    write_whole(path, picture.getvalue())


def line_style(index: int, count: int = 1) -> dict:
    """Keywords of the line ``index`` of ``count`` in one panel: its own colour, marker and dashes.

    Earlier lines are wider, later ones lie on them and are narrower: where two coincide both are seen.
    """
    width = 1.3 + 2.2 * (max(count, 1) - 1 - index) / max(count - 1, 1) if count > 1 else 1.5
    return {
        "color": PALETTE[index % len(PALETTE)],
        "marker": MARKERS[index % len(MARKERS)],
        "ls": DASHES[index % len(DASHES)],
        "lw": width,
        "ms": 4.5 + 0.9 * width,
        "markerfacecolor": "none",
        "markeredgewidth": 1.2,
        "zorder": 2 + index / max(count, 1),
    }
