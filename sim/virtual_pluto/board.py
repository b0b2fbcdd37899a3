"""One virtual board: settings with the ranges of an AD9364, transmit and receive queues, converters.

Levels. A full-scale tone leaves the board at TX_FULL_SCALE_DBM less its attenuation; at gain G a tone of
RX_FULL_SCALE_DBM - G drives the receiver's converter to full scale, ±2048; the receiver's noise is that of a resistor
at 290 K over the sample rate, and a noise figure. Typical figures of the chip, not those of one board.
"""

import threading
from collections import deque
from dataclasses import dataclass

import numpy as np

TX_FULL_SCALE_DBM, RX_FULL_SCALE_DBM = 7.0, 5.0
THERMAL_DBM_HZ = -174.0
TX_WORD, RX_WORD = 32768.0, 2048.0
MAX_TX_SAMPLES = 1 << 24  # of one buffer: 64 MiB
GAIN_MODES = ("manual", "fast_attack", "slow_attack", "hybrid")
AGC_TARGET_DBFS = -15.0
STATUS_REGISTER = 0x80000088
RX_OVERFLOW, TX_UNDERFLOW = 4, 1  # bits of it, in the receiving and in the transmitting core


@dataclass(frozen=True)
class BoardConfig:
    """What the owner of a board can't change: crystal error, noise figure, name."""

    port: int = 0
    ppm: float = 0.0
    noise_figure_db: float = 3.5
    serial: str = "virtual"


class Refused(Exception):
    """The board refuses; the errno that libiio is to be told."""

    def __init__(self, errno: int):
        super().__init__(errno)
        self.errno = errno


class Board:
    """State of one board. All of it is guarded by the air's lock, ``changed``."""

    def __init__(self, config: BoardConfig, changed: threading.Condition):
        self.config, self.changed = config, changed
        self.rate_hz = 30_720_000
        self.fir = self.fir_config = False
        self.lo_hz = {"RX": 2_400_000_000, "TX": 2_450_000_000}
        self.powerdown = {"RX": False, "TX": False}
        self.bandwidth_hz = {"RX": 18_000_000, "TX": 18_000_000}
        self.rx_gain_db, self.tx_gain_db = 71.0, -10.0
        self.gain_mode = "slow_attack"
        self.loopback = 0
        self.plain: dict[str, str] = {}  # attributes that are only remembered
        self.dds = [dict(raw=0, frequency=1_000_000, scale=0.0, phase=0) for _ in range(4)]
        self.status = {"RX": 0, "TX": 0}  # a register of each core
        self.lost = {"RX": 0, "TX": 0}  # samples not taken in time, or not there in time
        self.num_buffers = {"RX": 4, "TX": 4}
        self.rx_clients: list[RxClient] = []
        self.tx: TxBuffer | None = None
        self.level_dbfs = -200.0  # of what the receiver heard last
        self.stalled = False
        self.position = 0  # samples since the start
        self._register = {"RX": 0, "TX": 0}

    # what the owner wants

    @property
    def muted(self) -> bool:
        """Nothing leaves the board: no buffer, no tone, LO off, gain at its least."""
        tones = any(tone["raw"] and tone["scale"] for tone in self.dds)
        return self.tx is None and not tones and self.powerdown["TX"] and self.tx_gain_db <= -89.75

    def set_rate(self, rate_hz: int) -> None:
        lowest = 520_833 if self.fir else 2_083_333
        if not lowest <= rate_hz <= 61_440_000:
            raise Refused(22)
        self.rate_hz = int(rate_hz)

    def set_fir(self, on: bool) -> None:
        if on and not self.fir_config or not on and self.rate_hz < 2_083_333:
            raise Refused(22)
        self.fir = on

    def set_lo(self, side: str, freq_hz: int) -> None:
        if not 325_000_000 <= freq_hz <= 3_800_000_000:
            raise Refused(22)
        self.lo_hz[side] = int(freq_hz)

    def set_bandwidth(self, side: str, bandwidth_hz: int) -> None:
        if not 200_000 <= bandwidth_hz <= (56_000_000 if side == "RX" else 40_000_000):
            raise Refused(22)
        self.bandwidth_hz[side] = int(bandwidth_hz)

    def set_gain(self, side: str, gain_db: float) -> None:
        low, high, step = (-3.0, 71.0, 1.0) if side == "RX" else (-89.75, 0.0, 0.25)
        if not low <= gain_db <= high or (side == "RX" and self.gain_mode != "manual"):
            raise Refused(22)
        if side == "RX":
            self.rx_gain_db = step * round(gain_db / step)
        else:
            self.tx_gain_db = step * round(gain_db / step)

    def set_gain_mode(self, mode: str) -> None:
        if mode not in GAIN_MODES:
            raise Refused(22)
        self.gain_mode = mode

    def set_loopback(self, mode: int) -> None:
        if mode not in (0, 1, 2):
            raise Refused(22)
        self.loopback = mode

    def access_register(self, side: str, text: str) -> None:
        """An address to be read next, or an address and what is written there: ones clear status bits."""
        numbers = [int(word, 0) for word in text.split()]
        if not 1 <= len(numbers) <= 2:
            raise Refused(22)
        self._register[side] = numbers[0]
        if len(numbers) == 2 and numbers[0] == STATUS_REGISTER:
            self.status[side] &= ~numbers[1]

    def read_register(self, side: str) -> int:
        return self.status[side] if self._register[side] == STATUS_REGISTER else 0

    # samples

    def transmit(self, num: int) -> tuple[np.ndarray | None, np.ndarray | None]:
        """The next words (num, 2) int16 of the transmit buffer, and the wave at full scale 1.0, (num,) complex64.

        None for either where there is nothing. The wave leaves the antenna with TX_FULL_SCALE_DBM and the gain.
        """
        words = None if self.tx is None else self.tx.take(num)
        if words is None and self.tx is not None:
            self.status["TX"] |= TX_UNDERFLOW
            self.lost["TX"] += num * self.tx.started
        wave = None if words is None else words.astype(np.float32).view(np.complex64)[:, 0] / np.float32(TX_WORD)
        tone = self._tones(num) if self.tx is None else None
        wave = tone if wave is None else wave
        return words, None if self.powerdown["TX"] else wave

    def _tones(self, num):
        active = [tone for tone in self.dds if tone["raw"] and tone["scale"]]
        if not active:
            return None
        n = self.position + np.arange(num)
        total = np.zeros(num, np.complex64)
        for i, tone in enumerate(self.dds):
            if tone["raw"]:
                phase = 2 * np.pi * (tone["frequency"] / self.rate_hz * n + tone["phase"] / 360e3)
                total += (tone["scale"] * np.sin(phase) * (1j if i >= 2 else 1)).astype(np.complex64)
        return total

    def receive(self, heard: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """What arrives at the antenna in √mW (n,) complex64 to words (n, 2) int16, noise and gain control included."""
        noise_dbm = THERMAL_DBM_HZ + 10 * np.log10(self.rate_hz) + self.config.noise_figure_db
        noise = rng.standard_normal((heard.size, 2), dtype=np.float32).view(np.complex64)[:, 0]
        wave = noise
        wave *= np.float32(10 ** (noise_dbm / 20) / np.sqrt(2))
        wave += heard
        if self.gain_mode != "manual":
            wanted = np.round(AGC_TARGET_DBFS + RX_FULL_SCALE_DBM - _power_db(wave))
            step = float(np.clip(wanted - self.rx_gain_db, -6, 6))
            self.rx_gain_db = min(max(self.rx_gain_db + step, -3.0), 71.0)
        wave *= np.float32(10 ** ((self.rx_gain_db - RX_FULL_SCALE_DBM) / 20))
        self.level_dbfs = _power_db(wave)
        np.multiply(wave, np.float32(RX_WORD), out=wave)
        words = np.rint(wave.view(np.float32).reshape(-1, 2))
        return np.clip(words, -RX_WORD, RX_WORD - 1, out=words).astype(np.int16)

    def deliver(self, words: np.ndarray) -> None:
        """Words (n, 2) int16 to everybody who receives; what their buffers cannot hold is lost and noted."""
        for client in self.rx_clients:
            if num_lost := client.put(words):
                self.status["RX"] |= RX_OVERFLOW
                self.lost["RX"] += num_lost


def _power_db(wave):
    """Mean power of (n,) complex64 in dB over 1."""
    return float(10 * np.log10(np.vdot(wave, wave).real / max(wave.size, 1) + 1e-30))


class RxClient:
    """One open receive buffer: a queue of words, as long as the kernel's buffers."""

    def __init__(self, num_samples: int, num_buffers: int):
        self.num_samples, self.capacity = num_samples, num_samples * num_buffers
        self._blocks, self.size = deque(), 0

    def put(self, words: np.ndarray) -> int:
        """Take words (n, 2) as far as there is room; how many are lost."""
        room = min(len(words), max(0, self.capacity - self.size))
        if room:
            self._blocks.append(words[:room])
            self.size += room
        return len(words) - room

    def take(self, num: int) -> np.ndarray:
        """The oldest num words (num, 2) int16, which must be there."""
        parts, left = [], num
        while left:
            block = self._blocks[0]
            parts.append(block[:left])
            if len(block) > left:
                self._blocks[0] = block[left:]
            else:
                self._blocks.popleft()
            left -= len(parts[-1])
        self.size -= num
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def drop(self, num: int) -> None:
        """Lose the oldest samples without a trace."""
        self.take(min(num, self.size))


class TxBuffer:
    """An open transmit buffer: one block for ever when it is cyclic, else a queue as long as the kernel's buffers."""

    def __init__(self, num_samples: int, cyclic: bool, num_buffers: int):
        self.cyclic, self.num_samples = cyclic, num_samples
        self._queue = RxClient(num_samples, num_buffers)
        self._loop, self._position = None, 0
        self.started = self.late = False

    @property
    def size(self) -> int:
        """Samples waiting to be sent."""
        return self._queue.size

    def has_room(self) -> bool:
        """Whether a block would fit."""
        return self.cyclic or self._queue.size + self.num_samples <= self._queue.capacity

    def put(self, words: np.ndarray) -> None:
        """A block (n, 2) int16 of the client's."""
        self.started, self.late = True, False
        if self.cyclic:
            self._loop, self._position = words, 0
        else:
            self._queue.put(words)

    def take(self, num: int) -> np.ndarray | None:
        """The next words (num, 2); zeros where the client did not keep up, None when that is all of them."""
        if self.cyclic:
            if self._loop is None or not len(self._loop):
                return None
            parts, left = [], num
            while left:
                parts.append(self._loop[self._position :][:left])
                left -= len(parts[-1])
                self._position = (self._position + len(parts[-1])) % len(self._loop)
            return parts[0] if len(parts) == 1 else np.concatenate(parts)
        there = min(num, self._queue.size)
        if not there:
            return None
        words = self._queue.take(there)
        return words if there == num else np.concatenate([words, np.zeros((num - there, 2), np.int16)])
