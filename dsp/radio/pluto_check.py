"""What is attached, what it takes, and whether it works: a board looked over before it is used."""

from collections.abc import Iterator

import numpy as np
from scipy import fft

from airnet_sdr.dsp.errors import RadioError
from airnet_sdr.dsp.ofdm import preamble_samples
from airnet_sdr.dsp.radio import pluto_settings as settings
from airnet_sdr.dsp.radio.address import Address
from airnet_sdr.dsp.radio.base import RadioConfig
from airnet_sdr.dsp.radio.pluto import ADC_FULL_SCALE
from airnet_sdr.dsp.radio.pluto_board import Board
from airnet_sdr.dsp.radio.pluto_library import number
from airnet_sdr.dsp.radio.pluto_ranges import RATES_HZ
from airnet_sdr.dsp.radio.scale import to_full_scale
from airnet_sdr.dsp.units import db

NUM_SAMPLES = 1 << 16
WORST_EVM_DB = -40.0  # through the digital loopback; 16 bits cut to 12, at 12 dB of back-off, give -56 dB
TIMEOUT_S = 10.0
LISTEN_GAIN_DB = 40.0
NOISE_ALONE_DBFS = -50.0


def check(address: Address, config: RadioConfig) -> Iterator[str]:
    """Lines on the board: name, versions, ranges, the digital loopback's EVM, and what is heard; it is left muted.

    Raises RadioError when the loopback does not give back what was sent.
    """
    board = Board(address.target, config)
    try:
        found = board.describe()
        yield f"{found['device']}, serial {found['serial']}, firmware {found['firmware']}"
        yield ", ".join(f"{name} {version}" for name, version in found["libraries"].items())
        for side in ("rx", "tx"):
            lo, gain, width = (board.range_of(f"{side} {what}") for what in ("frequency", "gain", "bandwidth"))
            yield (
                f"{side}: {number(lo[0] / 1e6)} to {number(lo[1] / 1e6)} MHz, gain {gain[0]:g} to {gain[1]:g} dB, "
                f"bandwidth {number(width[0] / 1e6)} to {number(width[1] / 1e6)} MHz"
            )
        yield f"rate: {RATES_HZ[0] / 1e6:g} to {RATES_HZ[1] / 1e6:g} MS/s"
        board.prepare_to_send()
        settings.tune(board.context, config, "rx")
        evm_db = loopback_evm_db(board)
        yield f"digital loopback: EVM {evm_db:.1f} dB (at most {WORST_EVM_DB:g})"
        if not evm_db <= WORST_EVM_DB:
            raise RadioError(
                f"the digital loopback of {address.target} gives back something else (EVM {evm_db:.1f} dB); "
                "power the board off and on, and check its firmware"
            )
        yield from hear(board)
    finally:
        board.close()


def loopback_evm_db(board: Board) -> float:
    """Error vector magnitude, dB over the signal's power, of a known signal through the digital loopback.

    A repeated preamble; the delay is found by correlation over one period, one complex factor is fitted.
    """
    sent, _ = to_full_scale(np.tile(preamble_samples(), 8))
    settings.set_loopback(board.context, 1)
    try:
        words = np.rint(sent.view(np.float32) * np.float32(32767)).view(np.complex64)
        board.buffers.push(words, True, TIMEOUT_S)
        samples = _capture(board)
    finally:
        board.buffers.stop_sending()
        settings.set_loopback(board.context, 0)
    period = preamble_samples().size
    one = samples[:period]
    correlation = np.abs(fft.ifft(fft.fft(one) * fft.fft(sent[:period]).conj()))
    reference = np.resize(np.roll(sent[:period], int(np.argmax(correlation))), samples.size)
    factor = np.vdot(reference, samples) / np.vdot(reference, reference)
    power = float(np.vdot(reference, reference).real) * abs(factor) ** 2
    error = samples - factor * reference
    return float(db(float(np.vdot(error, error).real) / max(power, 1e-30)))


def hear(board: Board) -> Iterator[str]:
    """What is on the air now at a middling gain, and what that says about the gain to choose."""
    settings.set_receive_gain(board.context, "manual", LISTEN_GAIN_DB)
    samples = _capture(board)
    level_dbfs = float(db(np.mean(np.abs(samples) ** 2) + 1e-12))
    peak_dbfs = float(2 * db(np.abs(samples.view(np.float32)).max() + 1e-6))
    yield f"heard at gain {LISTEN_GAIN_DB:g} dB: {level_dbfs:.1f} dB over full scale, peaks {peak_dbfs:.1f} dB"
    if level_dbfs < NOISE_ALONE_DBFS:
        yield "advice: little is on the air; with the sender on, use --gain-db auto"
    else:
        low, high = board.range_of("rx gain")
        wanted = min(max(LISTEN_GAIN_DB - 6 - round(peak_dbfs), low), high)
        yield f"advice: for what is on the air now, --gain-db {wanted:g}"


def _capture(board):
    """Samples (n,) complex64 at full scale 1.0, none of them older than the settings."""
    buffers = board.buffers
    buffers.start_receiving(NUM_SAMPLES, buffers.num_buffers, 2 * TIMEOUT_S)
    for _ in range(buffers.num_buffers):
        buffers.refill(TIMEOUT_S)
    return (buffers.refill(TIMEOUT_S) / ADC_FULL_SCALE).astype(np.complex64)
