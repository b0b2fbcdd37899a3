"""Received payload symbols, from which the parts of a payload are decoded."""

import dataclasses
from collections.abc import Callable
from typing import Protocol

import numpy as np

MOST_MISSING = 8  # symbols decoded for each received one: of fewer nothing useful arrives; bounds time and memory


class SoftSymbols(Protocol):
    """Received payload symbols, from frames or from a simulation in white noise."""

    @property
    def run(self) -> Callable:
        """Maps a function over parts of the work: `map`, or an executor's."""

    @property
    def capacity(self) -> int:
        """Payload symbols available to `soft`."""

    @property
    def symbols_received(self) -> int:
        """Payload symbols received; bounds the work that a manifest can request."""

    def soft(self, start: int, num: int) -> tuple[np.ndarray, np.ndarray]:
        """For ``num`` symbols from ``start``: equalised symbols over their noise_var (num,) complex64, and 1/noise_var
        (num,) float32; both 0 for symbols not received."""


@dataclasses.dataclass(frozen=True)
class Section:
    """The symbols of one part among those of a burst, from symbol ``start`` on."""

    symbols: SoftSymbols
    start: int

    @property
    def run(self) -> Callable:
        """That of the burst."""
        return self.symbols.run

    @property
    def capacity(self) -> int:
        """Symbols from ``start`` to the end of the burst."""
        return self.symbols.capacity - self.start

    @property
    def symbols_received(self) -> int:
        """That of the burst."""
        return self.symbols.symbols_received

    def soft(self, start: int, num: int) -> tuple[np.ndarray, np.ndarray]:
        """As `SoftSymbols.soft`, counted from the section's start."""
        return self.symbols.soft(self.start + start, num)
