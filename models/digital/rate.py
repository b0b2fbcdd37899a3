"""Modulation and code rate for an SNR, selected from the measured waterfall of every mode.

A code block, with its noise, decodes above some threshold SNR and not below. The threshold is nearly normally
distributed over blocks, so the block error rate is Q((snr_db - mean)/sd), and a few blocks suffice to predict rates of
one in thousands. `thresholds.json` holds mean and deviation for each modulation, rate and block length in AWGN, made by

    python models/digital/rate.py --write
"""

import contextlib
import functools
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[2] / "src")
    from airnet_sdr.dsp.host import environment

    environment.begin()

import numpy as np
from scipy.special import ndtr, ndtri

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.host.command import CommandParser, run_command
from airnet_sdr.dsp.host.files import write_whole
from airnet_sdr.dsp.units import linear
from airnet_sdr.models.digital.channel_code import BLOCK_CRC_BITS, MODULATIONS, BlockCode, CodedPayload

TABLE = Path(__file__).with_name("thresholds.json")
TARGET_ERROR = 0.01  # of the whole model
PADDING = 0.002  # above the lowest measured rate, as lengths are rounded
SEARCH_DB = (-25.0, 40.0)  # where the least SNR of a payload is sought
# SNR loss of the receiver: mean and deviation over bursts, each as a + b/S. Over bursts of 10,000 to 157,752 symbols
# the means were 0.35 to 0.46 dB at -5 dB, 0.17 to 0.24 at 0, 0.11 at 10 and 20; the deviations 0.15 to 0.22, 0.06 to
# 0.12, 0.02 to 0.05 and 0.05. The means include 0.1 dB of margin, since the waterfalls are measured with few blocks and
# are only nearly normal: without it 9 of 300 bursts were lost at 10 dB, where the target allows 3.
LOSS_DB, SPREAD_DB = (0.2, 0.12), (0.05, 0.05)
_SEARCH = np.linspace(0, 1, 200)[:-1]  # exponents of the trial payload sizes from which bisection starts
QUANTILES = ndtri((np.arange(200) + 0.5) / 200)
RATES = {
    2: (0.10, 0.15, 0.20, 0.25, 0.30, 0.36, 0.43, 0.50, 0.57, 0.64),
    4: (0.34, 0.40, 0.46, 0.52, 0.58, 0.64, 0.70),
    6: (0.46, 0.52, 0.58, 0.64, 0.70, 0.76, 0.82),
    8: (0.58, 0.64, 0.70, 0.76, 0.82, 0.88, 0.93),
}
INFO_BITS = (1024, 3824, 8448)
LEAST_LONG_RATE = 1 / 3  # of the longest blocks, which base graph 1 codes
NUM_BLOCKS, STEPS, RANGE_DB = 24, 8, (-0.3, 4.5)  # of the search, from the capacity of a Gaussian input


def best_payload(num_symbols: int, snr_db: float) -> CodedPayload:
    """The largest payload that arrives whole in 99 % of cases on ``num_symbols`` at ``snr_db`` per symbol."""
    found = [payload for m in MODULATIONS if (payload := _largest(num_symbols, m, snr_db)) is not None]
    if not found:
        raise InputError(f"{num_symbols} symbols at {snr_db:g} dB carry no coded payload; raise the SNR or the budget")
    return max(found, key=lambda payload: payload.num_bytes)


def least_symbols(num_bytes: int, snr_db: float, most: int) -> int:
    """The fewest symbols, at most ``most``, that carry ``num_bytes`` at ``snr_db``; InputError if ``most`` do not."""

    def carry(num_symbols):
        try:
            return best_payload(num_symbols, snr_db).num_bytes >= num_bytes
        except InputError:
            return False

    if not carry(most):
        raise InputError(f"{most} symbols at {snr_db:g} dB do not carry {num_bytes} bytes; raise the SNR or the budget")
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if carry(middle) else (middle, high)
    return high


def most_robust(num_bytes: int, num_symbols: int) -> CodedPayload:
    """The payload of ``num_bytes``, padded to the lowest measured rate of a modulation, that arrives whole in 99 % of
    cases at the lowest SNR.

    Raises InputError if the symbols do not hold the bytes.
    """
    found = []
    for bits_per_symbol in MODULATIONS:
        least = 0 if bits_per_symbol == min(MODULATIONS) else RATES[bits_per_symbol][0] + PADDING
        padded = max(num_bytes, math.ceil(least * num_symbols * bits_per_symbol / 8))
        with contextlib.suppress(InputError):
            payload = CodedPayload(padded, num_symbols, bits_per_symbol)
            found.append((least_snr_db(payload), payload))
    if not found or min(snr_db for snr_db, _ in found) == math.inf:
        raise InputError(f"{num_bytes} bytes do not fit {num_symbols} symbols at any SNR; give more symbols")
    return min(found, key=lambda each: each[0])[1]


def least_snr_db(payload: CodedPayload) -> float:
    """The SNR per symbol from which a payload arrives whole in 99 % of cases, to 0.01 dB; inf if it is not known."""
    low, high = SEARCH_DB
    if arrival(payload, high) < 1 - TARGET_ERROR:
        return math.inf
    while high - low > 0.01:
        middle = (low + high) / 2
        low, high = (low, middle) if arrival(payload, middle) >= 1 - TARGET_ERROR else (middle, high)
    return high


def arrival(payload: CodedPayload, snr_db: float) -> float:
    """Probability that the whole payload arrives at this SNR per symbol; 0 for a mode without measurements.

    The receiver loses some SNR by estimating channel and noise from pilots; the loss grows at low SNR and varies from
    burst to burst. The result is the mean, over that loss, of the product over the blocks of Q((mean - snr_db)/sd).
    """
    found = waterfall(payload)
    if found is None:
        return 0.0
    mean, sd = found
    inverse = 1 / linear(snr_db)
    loss_db = LOSS_DB[0] + LOSS_DB[1] * inverse + (SPREAD_DB[0] + SPREAD_DB[1] * inverse) * QUANTILES
    return float(np.mean(ndtr((snr_db - loss_db - mean) / sd) ** payload.num_blocks))


def waterfall(payload: CodedPayload) -> tuple[float, float] | None:
    """Mean and deviation, in dB, of the threshold SNR of a block; None for a mode without measurements."""
    rate = payload.block.rate
    tables = [(length, rows) for length, rows in _tables(payload.bits_per_symbol) if rate <= rows[-1]["rate"]]
    if not tables or (rate < tables[0][1][0]["rate"] and payload.bits_per_symbol != min(MODULATIONS)):
        return None
    # the longest measured length up to this block's: its threshold is slightly too high
    fitting = [rows for length, rows in tables if length <= payload.block.info_bits and rows[0]["rate"] <= rate]
    rows = fitting[-1] if fitting else tables[0][1]
    rates = [row["rate"] for row in rows]
    mean, sd = (float(np.interp(rate, rates, [row[key] for row in rows])) for key in ("mean_db", "sd_db"))
    # below the lowest rate the code word is repeated: the energy per bit stays the same
    return mean + 10 * math.log10(min(rate / rates[0], 1)), sd


def _largest(num_symbols, bits_per_symbol, snr_db) -> CodedPayload | None:
    """The largest payload of a modulation that arrives at this SNR, by bisection over its bytes."""

    def holds(num_bytes):
        try:
            payload = CodedPayload(num_bytes, num_symbols, bits_per_symbol)
        except InputError:
            return None
        return payload if arrival(payload, snr_db) >= 1 - TARGET_ERROR else None

    most = num_symbols * bits_per_symbol // 8
    if not most:
        return None
    # the lowest measured rate of a modulation; QPSK goes below it by repetition
    lowest = 1 if bits_per_symbol == min(MODULATIONS) else RATES[bits_per_symbol][0] * most
    low = next((n for n in map(int, lowest * (most / lowest) ** _SEARCH) if holds(n)), None)
    if low is None:
        return None
    high = most + 1
    while high - low > 1:
        middle = (int(low) + int(high)) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return holds(int(low))


@functools.cache
def _tables(bits_per_symbol: int) -> list[tuple[int, list[dict]]]:
    """(block length, rows) by rising length; the rows by rising rate."""
    rows = [row for row in json.loads(TABLE.read_text())["rows"] if row["bits_per_symbol"] == bits_per_symbol]
    return [(length, [row for row in rows if row["info_bits"] == length]) for length in INFO_BITS]


def measure_threshold(bits_per_symbol: int, rate: float, info_bits: int, seed: int = 1) -> dict:
    """Mean and deviation of the blocks' threshold SNR in AWGN, by bisection with each block's noise fixed."""
    block = BlockCode(info_bits, round(info_bits / rate / bits_per_symbol), bits_per_symbol)
    rng = np.random.default_rng([seed, bits_per_symbol, round(1000 * rate), info_bits])
    data = rng.integers(0, 256, (NUM_BLOCKS, (info_bits - BLOCK_CRC_BITS) // 8), dtype=np.uint8)
    sent = block.encode(data)
    noise = (rng.standard_normal((*sent.shape, 2)) @ [1, 1j] / math.sqrt(2)).astype(np.complex64)
    gaussian_db = 10 * math.log10(2 ** (block.rate * bits_per_symbol) - 1)
    low, high = (np.full(NUM_BLOCKS, gaussian_db + edge) for edge in RANGE_DB)
    for _ in range(STEPS):
        middle = (low + high) / 2
        snr = (10 ** (middle / 10)).astype(np.float32)[:, None]
        received, passed = block.decode(snr * sent + np.sqrt(snr) * noise, np.broadcast_to(snr, sent.shape).copy())
        good = passed & (received == data).all(1)
        low, high = np.where(good, low, middle), np.where(good, middle, high)
    threshold = (low + high) / 2
    return {
        "bits_per_symbol": bits_per_symbol,
        "info_bits": info_bits,
        "rate": round(block.rate, 4),
        "mean_db": round(float(threshold.mean()), 3),
        "sd_db": round(float(threshold.std(ddof=1)), 3),
        "gap_db": round(float(threshold.mean() - gaussian_db), 2),
    }


def measure_thresholds() -> Iterator[dict]:
    """The rows of the table: every modulation, block length and rate."""
    for bits_per_symbol, rates in RATES.items():
        for info_bits in INFO_BITS:
            for rate in rates:
                if info_bits < INFO_BITS[-1] or rate >= LEAST_LONG_RATE:
                    yield measure_threshold(bits_per_symbol, rate, info_bits)


def write_table(write: bool) -> None:
    """Print each row when it is measured; with ``write`` also write the table."""
    rows = []
    for row in measure_thresholds():
        rows.append(row)
        print(row, flush=True)
    if write:
        lines = ",\n".join(json.dumps(row) for row in rows)
        text = f'{{"command": "python models/digital/rate.py --write", "rows": [\n{lines}\n]}}\n'
        write_whole(TABLE, text.encode())


def main(argv=None) -> int:
    """Parse, measure, print and write."""
    parser = CommandParser(prog="rate", description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"write {TABLE.name}; without it, the rows are printed")
    options = parser.options(argv)
    return run_command(parser, lambda: write_table(options["write"]))


if __name__ == "__main__":
    sys.exit(main())
