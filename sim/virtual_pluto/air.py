"""The air between the boards, and its clock.

Every board hears every board's transmitter, its own too, through its own `sim.channel.Channel`: echoes, fading and the
rest as given, relative to a burst at the nominal back-off, and the two crystals' difference on carrier and sample
clock; attenuated by the path loss. Noise and converter are the receiving board's, not the channel's. Boards hear
each other only at the same sample rate (other rates are not resampled: silence), and as far as a transmitter's
spectrum, shifted by the difference of the two carriers, lies within the receiver's sample rate: what lies outside, its
filters stop. Not modelled: images, spurs, blocking, the shapes of the analog filters.

Two clocks. In lockstep a receiver that reads makes time pass, and a transmitter that streams is waited for: fast and
repeatable. In real time it passes by itself, and who is late loses samples.
"""

import dataclasses
import threading
import time

import numpy as np
from scipy import signal

from airnet_sdr.dsp.radio.scale import NOMINAL_POWER
from airnet_sdr.sim.channel import Channel, ChannelConfig
from airnet_sdr.sim.virtual_pluto.board import RX_OVERFLOW, TX_FULL_SCALE_DBM, TX_UNDERFLOW, Board, BoardConfig

BLOCK = 8192  # samples at a time
MAX_BEHIND_S = 1.0  # of real time
PATIENCE_S = 2.0  # how long lockstep waits for a streaming transmitter, until it is back
SILENCE_SAMPLES = 1 << 16  # after so much, echoes included, a link is left out
SHARP_TAPS = 129


class Link:
    """From one board's transmitter to one board's receiver."""

    def __init__(self, sender: Board, receiver: Board, config: ChannelConfig, loss_db: float, seed: int):
        self._sender, self._receiver, self._loss_db, self._seed = sender, receiver, loss_db, seed
        self._config = dataclasses.replace(config, snr_db=None, bits=None)
        self._tuning, self._channel, self._filter = None, None, None
        self._heard = np.zeros(0, np.complex64)
        self._gain_db = -np.inf
        self._silence = 2 * SILENCE_SAMPLES  # samples since something was sent

    def __call__(self, wave: np.ndarray | None, num: int) -> np.ndarray | None:
        """What arrives, in √mW, of a block sent at full scale 1.0, or of silence; num samples of the receiver's."""
        a, b = self._sender, self._receiver
        if a.rate_hz != b.rate_hz:
            return None
        ours, theirs = (1 + 1e-6 * board.config.ppm for board in (b, a))
        shift_hz = a.lo_hz["TX"] * theirs - b.lo_hz["RX"] * ours
        tuning = (a.rate_hz, shift_hz)
        if tuning != self._tuning:
            self._tuning = tuning
            self._channel = self._filter = None
            if abs(shift_hz) < a.rate_hz:
                sco_ppm = 1e6 * (theirs / ours - 1)
                config = dataclasses.replace(self._config, cfo_hz=shift_hz, sco_ppm=sco_ppm)
                self._channel = Channel(config, a.rate_hz, b.lo_hz["RX"], self._seed, NOMINAL_POWER)
                self._filter = _OverlapFilter(shift_hz / a.rate_hz) if abs(shift_hz) > 0.1 * a.rate_hz else None
            self._heard = np.zeros(BLOCK + 1024, np.complex64)  # what the channel holds back
        self._silence = 0 if wave is not None else self._silence + num
        if wave is not None:  # what the channel still holds when a board is muted left it before
            self._gain_db = TX_FULL_SCALE_DBM + a.tx_gain_db - self._loss_db
        if self._channel is None or self._silence > SILENCE_SAMPLES:
            return None
        wave = np.zeros(num, np.complex64) if wave is None else wave
        if self._filter is not None:
            wave = self._filter(wave)
        self._heard = np.concatenate([self._heard, self._channel.process(wave)])
        heard, self._heard = self._heard[:num], self._heard[num:]
        heard = heard if heard.size == num else np.pad(heard, (0, num - heard.size))
        return heard * np.float32(10 ** (self._gain_db / 20))


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


class Air:
    """Boards on one air; `changed` guards all of it and is notified of every change."""

    def __init__(
        self,
        boards: list[BoardConfig],
        config: ChannelConfig = ChannelConfig(),
        loss_db: float = 60.0,
        realtime: bool = False,
        seed: int = 0,
    ):
        self.changed = threading.Condition()
        self.boards = [Board(board, self.changed) for board in boards]
        self.realtime = realtime
        self.seed = seed
        self._links = {
            (i, j): Link(a, b, config, loss_db, 1000 * seed + 32 * i + j)
            for i, a in enumerate(self.boards)
            for j, b in enumerate(self.boards)
        }
        self._rngs = [np.random.default_rng([seed, 7, i]) for i in range(len(self.boards))]
        self.late_s = 0.0  # of real time, which this machine did not make pass
        self._closing = False
        self._thread = threading.Thread(target=self._run, daemon=True) if realtime else None
        if self._thread:
            self._thread.start()

    def close(self) -> None:
        """Stop the clock."""
        with self.changed:
            self._closing = True
            self.changed.notify_all()
        if self._thread:
            self._thread.join()

    def wait_for_samples(self, board: Board, client, num: int, timeout_s: float) -> bool:
        """Let time pass until ``client`` has num samples; the caller holds the lock. Whether it has."""
        deadline = time.monotonic() + timeout_s
        while client.size < num or board.stalled:
            left = deadline - time.monotonic()
            if left <= 0 or self._closing or client not in board.rx_clients:
                return False
            if self.realtime or board.stalled:
                self.changed.wait(left)
            else:
                self._wait_for_transmitters(min(left, PATIENCE_S))
                self.advance(BLOCK)
                self._yield()
        if not self.realtime:  # the kernel's buffers behind this one are full, too
            while all(c.size + BLOCK <= c.capacity for c in board.rx_clients) and not self._streaming():
                self.advance(BLOCK)
                self._yield()
                if client not in board.rx_clients:
                    return False
        return True

    def _yield(self):
        """Leave the lock for a moment: a loop that takes it again at once would let nobody else in."""
        self.changed.wait(1e-5)

    def hear_out(self, tx) -> None:
        """In lockstep, what a transmitter has pushed is sent before it closes, as long as somebody makes time pass."""
        tx.late = True  # nobody needs to wait for more
        self.changed.notify_all()
        while not self.realtime and not tx.cyclic and tx.size and any(board.rx_clients for board in self.boards):
            left = tx.size
            self.changed.wait_for(lambda: tx.size < left, PATIENCE_S / 2)  # noqa: B023
            if tx.size == left:
                return

    def advance(self, num: int) -> None:
        """Let num samples of time pass on every board."""
        sent = [board.transmit(num) for board in self.boards]
        for j, board in enumerate(self.boards):
            if board.rx_clients:
                board.deliver(self._receive(j, sent, num))
            board.position += num
        self.changed.notify_all()

    def _receive(self, j, sent, num):
        board = self.boards[j]
        words = sent[j][0]
        if board.loopback == 1:  # digital: 16 bits to 12, exactly
            return np.zeros((num, 2), np.int16) if words is None else words >> 4
        total = np.zeros(num, np.complex64)
        for i in range(len(self.boards)):
            heard = self._links[i, j](sent[i][1], num)
            if heard is not None and not board.powerdown["RX"]:
                total += heard
        return board.receive(total, self._rngs[j])

    def _streaming(self):
        """Transmitters that push buffer after buffer."""
        buffers = [b.tx for b in self.boards if b.tx is not None]
        return [tx for tx in buffers if not tx.cyclic and tx.started and not tx.late]

    def _wait_for_transmitters(self, timeout_s):
        deadline = time.monotonic() + timeout_s
        while any(tx.size < BLOCK for tx in self._streaming()):
            left = deadline - time.monotonic()
            if left <= 0 or not self.changed.wait(left):
                for tx in self._streaming():
                    tx.late = tx.size < BLOCK
                return

    def _run(self):
        """Real time: the blocks that are due. The lock is left after each, so that clients get their turn."""
        start, passed = time.monotonic(), 0.0
        while True:
            with self.changed:
                if self._closing:
                    return
                period = BLOCK / max(board.rate_hz for board in self.boards)
                behind = time.monotonic() - start - passed
                if behind > MAX_BEHIND_S:  # this machine was away: that time is lost, and said to be
                    for board in self.boards:
                        board.status["RX"] |= RX_OVERFLOW * bool(board.rx_clients)
                        board.status["TX"] |= TX_UNDERFLOW * bool(board.tx)
                        board.lost["RX"] += int(behind * board.rate_hz) * bool(board.rx_clients)
                        board.lost["TX"] += int(behind * board.rate_hz) * bool(board.tx)
                    self.late_s += behind
                    passed += behind
                elif behind >= period:
                    self.advance(BLOCK)
                    passed += period
                    behind -= period
            time.sleep(max(0.0, period - behind) if behind < period else 2e-5)
