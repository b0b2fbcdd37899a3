"""The air between the boards, and its clock.

Every board hears every board's transmitter, its own too, through its own `sim.channel.Channel`: echoes, fading and the
rest as given, relative to a burst at the nominal back-off, and the two crystals' difference on carrier and sample
clock (`link`); attenuated by the path loss. Noise and converter are the receiving board's, not the channel's. Boards
hear each other only at the same sample rate (other rates are not resampled: silence), and as far as a transmitter's
spectrum, shifted by the difference of the two carriers, lies within the receiver's sample rate: what lies outside, its
filters stop. Not modelled: images, spurs, blocking, the shapes of the analog filters.

Two clocks. In lockstep a receiver that reads makes time pass, and a transmitter that streams is waited for: fast and
repeatable. In real time it passes by itself, and who is late loses samples.
"""

import threading
import time

import numpy as np

from airnet_sdr.sim.channel import ChannelConfig
from airnet_sdr.sim.virtual_pluto.board import RX_OVERFLOW, TX_UNDERFLOW, Board, BoardConfig
from airnet_sdr.sim.virtual_pluto.link import Link

BLOCK = 8192  # samples at a time, of the board that is read
BLOCK_S = 0.003  # of real time at a time, at most
MAX_BEHIND_S = 1.0  # of real time
PATIENCE_S = 2.0  # how long lockstep waits for a streaming transmitter, until it is back


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
        self.seconds = 0.0  # since the start
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
                dt_s = BLOCK / board.rate_hz
                self._wait_for_transmitters(dt_s, min(left, PATIENCE_S))
                self.advance(dt_s)
                self._yield()
        if not self.realtime:  # the kernel's buffers behind this one are full, too
            dt_s = BLOCK / board.rate_hz
            while all(c.size + BLOCK < c.capacity for c in board.rx_clients) and not self._streaming():
                self.advance(dt_s)
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

    def advance(self, dt_s: float) -> None:
        """Let so much time pass: on every board, as many samples as its own crystal makes of it."""
        nums = [board.due(self.seconds, dt_s) for board in self.boards]
        sent = [board.transmit(num) for board, num in zip(self.boards, nums, strict=True)]
        for j, board in enumerate(self.boards):
            if board.rx_clients and nums[j]:
                board.deliver(self._receive(j, sent, nums))
        for board in self.boards:
            board.pass_time(self.seconds, dt_s)
        self.seconds += dt_s
        self.changed.notify_all()

    def _receive(self, j, sent, nums):
        board, num = self.boards[j], nums[j]
        words = sent[j][0]
        if board.loopback == 1:  # digital: 16 bits to 12, exactly
            return np.zeros((num, 2), np.int16) if words is None else words >> 4
        total = np.zeros(num, np.complex64)
        for i in range(len(self.boards)):
            heard = self._links[i, j](sent[i][1], nums[i], num, self.seconds)
            if heard is not None and not board.powerdown["RX"]:
                total += heard
        return board.receive(total, self._rngs[j])[:: board.fpga["RX"]]

    def _needs(self, dt_s):
        """Transmitters that push buffer after buffer, and what each sends in the next dt_s."""
        pushed = [b for b in self.boards if b.tx is not None and b.tx.started and not (b.tx.cyclic or b.tx.late)]
        return [(board.tx, board.due(self.seconds, dt_s)) for board in pushed]

    def _streaming(self):
        return bool(self._needs(0.0))

    def _wait_for_transmitters(self, dt_s, timeout_s):
        deadline = time.monotonic() + timeout_s
        while hungry := [tx for tx, num in self._needs(dt_s) if tx.size < num]:
            left = deadline - time.monotonic()
            if left <= 0 or not self.changed.wait(left):
                for tx in hungry:
                    tx.late = True
                return

    def _run(self):
        """Real time: the blocks that are due. The lock is left after each, so that clients get their turn."""
        start, passed = time.monotonic(), 0.0
        while True:
            with self.changed:
                if self._closing:
                    return
                active = [board for board in self.boards if board.rx_clients or board.tx]
                period = min([BLOCK_S, *(BLOCK / board.rate_hz for board in active)])
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
                    self.advance(period)
                    passed += period
                    behind -= period
            time.sleep(max(0.0, period - behind) if behind < period else 2e-5)
