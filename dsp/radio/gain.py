"""Receive gain from a measurement on the air, robust against bursts of other users of the band."""

from collections.abc import Callable

import numpy as np

from airnet_sdr.dsp.units import db

LOOK_S = 1.0  # long against the bursts and beacons of WiFi
PART_S = 1e-3
OCCUPANCY = 0.3  # share of time: signals on the air for less are other users'
LEVEL_DBFS = -16.0  # rms of both rails over full scale 1.0: peaks of OFDM are some 10 dB above
CLIPPED_DBFS = -4.0  # above this level peaks are clipped, and the level is not known
TOLERANCE_DB = 2.0
MAX_STEP_DB = 20.0


def find_gain(
    listen: Callable[[float, int], np.ndarray], gain_db: float, range_db: tuple[float, float], rate_hz: float
) -> float:
    """The gain at which the signal has LEVEL_DBFS; ``listen(gain_db, num)`` gives samples (n,) received with a gain.

    The level is that which the power of 1 ms exceeds for OCCUPANCY of one second: a sender that repeats its burst is on
    the air nearly always, a WiFi network in the same band some of the time, however strong it is.
    """
    low_db, high_db = range_db
    for _ in range(8):
        level_dbfs = occupied_level_db(listen(gain_db, int(LOOK_S * rate_hz)), rate_hz)
        step_db = -MAX_STEP_DB if level_dbfs > CLIPPED_DBFS else LEVEL_DBFS - level_dbfs
        wanted_db = float(np.clip(np.round(gain_db + np.clip(step_db, -MAX_STEP_DB, MAX_STEP_DB)), low_db, high_db))
        if abs(wanted_db - gain_db) < TOLERANCE_DB:
            break
        gain_db = wanted_db
    return gain_db


def occupied_level_db(samples: np.ndarray, rate_hz: float) -> float:
    """The level in dB that the mean power of 1 ms of samples (n,) complex64 exceeds for OCCUPANCY of the time."""
    part = max(1, min(int(PART_S * rate_hz), samples.size))
    whole = samples[: samples.size // part * part].reshape(-1, part)
    powers = np.mean(np.abs(whole) ** 2, axis=1)
    return float(db(np.quantile(powers, 1 - OCCUPANCY) + 1e-12))
