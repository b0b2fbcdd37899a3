"""From one board's transmitter to one board's receiver: path loss, the channel, and the two boards' crystals.

Each board counts time in samples of its own crystal. A block that lasts dt is n_a samples of the sender's and n_b of
the receiver's; the receiver reads what the sender sent between its samples, at a position that advances by the ratio
of the two clocks. As both counts come from the same time, the samples that wait never run out and never pile up,
however long a link lasts and however the crystals drift.
"""

import dataclasses

import numpy as np
from scipy import signal

from airnet_sdr.dsp.radio.scale import NOMINAL_POWER
from airnet_sdr.sim.channel import Channel, ChannelConfig
from airnet_sdr.sim.channel import impairments as imp
from airnet_sdr.sim.channel.pipeline import BLOCK as CHANNEL_BLOCK
from airnet_sdr.sim.virtual_pluto.board import TX_FULL_SCALE_DBM, Board

SILENCE_SAMPLES = 1 << 16  # after so much, echoes included, a link is left out
SHARP_TAPS = 129
SLACK_SAMPLES = 256  # that wait in front of the receiver: its interpolation's taps and the rounding of two counts


class Link:
    """One direction between two boards. Boards hear each other at the same sample rate only."""

    def __init__(self, sender: Board, receiver: Board, config: ChannelConfig, loss_db: float, seed: int):
        self._sender, self._receiver, self._loss_db, self._seed = sender, receiver, loss_db, seed
        self._config = dataclasses.replace(config, snr_db=None, bits=None, cfo_hz=0.0, sco_ppm=0.0)
        self._tuning, self._channel, self._filter, self._clock = None, None, None, None
        self._amplitude, self._phase = 0.0, 0.0
        self._silence = 2 * SILENCE_SAMPLES  # samples since something was sent

    def __call__(self, wave: np.ndarray | None, num_sent: int, num: int, seconds: float) -> np.ndarray | None:
        """What arrives, in √mW, of a block sent at full scale 1.0, or of num_sent samples of silence.

        Returns num samples of the receiver's, or None where it hears nothing; ``seconds`` is the time since the start.
        """
        a, b = self._sender, self._receiver
        if a.rate_hz * b.fpga["RX"] != b.rate_hz * a.fpga["TX"]:
            return None
        theirs, ours = (1 + 1e-6 * board.config.ppm_at(seconds) for board in (a, b))
        shift_hz = a.lo_hz["TX"] * theirs - b.lo_hz["RX"] * ours
        self._tune((a.rate_hz, a.lo_hz["TX"] - b.lo_hz["RX"]))
        self._silence = 0 if wave is not None else self._silence + num
        if wave is not None:  # what the channel still holds when a board is muted left it before
            self._amplitude = 10 ** ((TX_FULL_SCALE_DBM + a.tx_gain_db - self._loss_db) / 20)
        if self._clock is None or self._silence > SILENCE_SAMPLES:
            return None
        wave = np.zeros(num_sent, np.complex64) if wave is None else wave
        if self._filter is not None:
            wave = self._filter(wave)
        if self._channel is not None:
            wave = self._channel.process(wave)
        heard = self._clock.read(wave, num, theirs / ours)
        cfo = 2 * np.pi * shift_hz / b.rate_hz / ours
        heard = imp.cfo(heard, cfo)
        heard *= np.complex64(self._amplitude * np.exp(1j * self._phase))
        self._phase = (self._phase + cfo * num) % (2 * np.pi)
        return heard

    def _tune(self, tuning):
        if tuning == self._tuning:
            return
        self._tuning = tuning
        rate_hz, shift_hz = tuning
        self._channel = self._filter = self._clock = None
        if abs(shift_hz) >= rate_hz:
            return
        if self._config != dataclasses.replace(ChannelConfig(), sco_ppm=0.0):
            self._channel = Channel(self._config, rate_hz, self._receiver.lo_hz["RX"], self._seed, NOMINAL_POWER)
        self._filter = _OverlapFilter(shift_hz / rate_hz) if abs(shift_hz) > 0.1 * rate_hz else None
        self._clock = _Clock(SLACK_SAMPLES + (2 * CHANNEL_BLOCK if self._channel else 0))


class _Clock:
    """The receiver's clock: reads the sender's samples, ``waiting`` of them late, at its own rate."""

    def __init__(self, waiting: int):
        self._buffer = np.zeros(waiting, np.complex64)
        self._position = float(imp.HALF)  # of the next reading, in samples of the buffer

    def read(self, wave: np.ndarray, num: int, ratio: float) -> np.ndarray:
        """num samples, ``ratio`` of the sender's samples apart, once ``wave`` has been added to those that wait."""
        self._buffer = np.concatenate([self._buffer, wave])
        if ratio == 1.0 and self._position == int(self._position):
            start = int(self._position)
            out = self._buffer[start : start + num].copy()
        else:
            out = imp.read_between(self._buffer, self._position, ratio, num)
        self._position += num * ratio
        done = int(self._position) - imp.HALF
        self._buffer = self._buffer[done:]
        self._position -= done
        return out


class _OverlapFilter:
    """Keeps what of a spectrum stays within the sample rate once it is shifted by ``shift`` of it."""

    def __init__(self, shift: float):
        width = 1 - abs(shift)
        taps = signal.firwin(SHARP_TAPS, max(width, 0.02)) * np.exp(-1j * np.pi * shift * np.arange(SHARP_TAPS))
        self._taps = taps.astype(np.complex64)
        self._state = np.zeros(SHARP_TAPS - 1, np.complex64)

    def __call__(self, wave):
        padded = np.concatenate([self._state, wave])
        self._state = padded[-(SHARP_TAPS - 1) :]
        return signal.oaconvolve(padded, self._taps, "valid").astype(np.complex64)
