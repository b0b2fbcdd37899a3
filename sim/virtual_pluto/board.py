"""One virtual board: settings with the ranges of an AD9364, crystal, converters.

Levels. A full-scale tone leaves the board at TX_FULL_SCALE_DBM less its attenuation; at gain G a tone of
RX_FULL_SCALE_DBM - G drives the receiver's converter to full scale, ±2048; the receiver's noise is that of a resistor
at 290 K over the sample rate, and a noise figure. Typical figures of the chip, not those of one board.
"""

import math
import threading
from dataclasses import dataclass

import numpy as np

from airnet_sdr.sim.virtual_pluto.queues import RxClient, TxBuffer

TX_FULL_SCALE_DBM, RX_FULL_SCALE_DBM = 7.0, 5.0
THERMAL_DBM_HZ = -174.0
TX_WORD, RX_WORD = 32768.0, 2048.0
DMA_SAMPLES = 4  # a buffer is a multiple of so many
CMA_SAMPLES = 1 << 26  # 256 MiB of contiguous memory; all kernel buffers together must stay below
DEFAULT_TIMEOUT_S = 2.5  # what a device grants a client that has not asked for more: half of libiio's 5 s
GAIN_MODES = ("manual", "fast_attack", "slow_attack", "hybrid")
AGC_TARGET_DBFS = -15.0
STATUS_REGISTER = 0x80000088
RX_OVERFLOW, TX_UNDERFLOW = 4, 1  # bits of it, in the receiving and in the transmitting core


UNCALIBRATED_LEAK = 0.1  # carrier over full scale, of a transmitter that was tuned while its oscillator was off


@dataclass(frozen=True)
class BoardConfig:
    """What the owner of a board can't change: crystal, noise figure, name, how it is attached, what it gets wrong.

    drift_ppm, drift_s : how far a warming crystal moves in the end, and the time constant: after t seconds the error is
        ppm + drift_ppm·(1 - exp(-t/drift_s))
    transmitters : 2 as a Pluto+ has
    exclusive : one context at a time, as over USB
    real : what a real board does otherwise: exclusive, firmware whose overflow and underflow bits always read 1, both
        oscillators off and the loopback left on by whoever came before, a rate that reads 3 Hz low, stale buffers, and
        a carrier leak where the transmitter was tuned with its oscillator off
    iiod : version of libiio's server on the board
    """

    port: int = 0
    ppm: float = 0.0
    noise_figure_db: float = 3.5
    serial: str = "virtual"
    drift_ppm: float = 0.0
    drift_s: float = 120.0
    transmitters: int = 1
    exclusive: bool = False
    real: bool = False
    iiod: str = "0.24"

    @property
    def firmware(self) -> str:
        """Its version, as the board tells it."""
        return "v0.39 (virtual)" if self.real else "v0.38 (virtual)"

    def ppm_at(self, seconds: float) -> float:
        """The crystal's error so long after the start."""
        return self.ppm + self.drift_ppm * (1 - math.exp(-seconds / self.drift_s))


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
        self.fir, self.fir_config = False, None  # taps and decimation, once a filter is loaded
        self.fpga = {"RX": 1, "TX": 1}  # decimation and interpolation behind the chip
        self.lo_hz = {"RX": 2_400_000_000, "TX": 2_450_000_000}
        self.powerdown = {"RX": config.real, "TX": config.real}
        self.bandwidth_hz = {"RX": 18_000_000, "TX": 18_000_000}
        self.rx_gain_db, self.tx_gains_db = 71.0, [-10.0] * config.transmitters
        self.gain_mode = "slow_attack"
        self.loopback = int(config.real)
        self.tx_calibrated = False
        self.plain: dict[str, str] = {}  # attributes that are only remembered
        self.dds = [dict(raw=0, frequency=1_000_000, scale=0.0, phase=0) for _ in range(4 * config.transmitters)]
        self.status = {"RX": 0, "TX": 0}  # a register of each core
        self.lost = {"RX": 0, "TX": 0}  # samples not taken in time, or not there in time
        self.num_buffers = {"RX": 4, "TX": 4}
        self.rx_clients: list[RxClient] = []
        self.tx: TxBuffer | None = None
        self.level_dbfs = -200.0  # of what the receiver heard last
        self.stalled = False
        self.silent = False  # answers nothing any more
        self.deaf: set[str] = set()  # attributes that take no value, though they say they do
        self.answers: dict[str, str] = {}  # what attributes say instead of the truth
        self.timeout_s = DEFAULT_TIMEOUT_S  # of buffers that are opened from now on
        self.contexts = 0  # clients that hold a context
        self.position = 0  # samples since the start
        self._phase = 0.0  # of the next sample, in samples
        self._register = {"RX": 0, "TX": 0}

    # what the owner wants

    @property
    def muted(self) -> bool:
        """Nothing leaves the board: no buffer, no tone, LO off, gain at its least."""
        tones = any(tone["raw"] and tone["scale"] for tone in self.dds)
        return self.tx is None and not tones and self.powerdown["TX"] and max(self.tx_gains_db) <= -89.75

    @property
    def tx_gain_db(self) -> float:
        """Of the first transmitter, the one that buffers go to."""
        return self.tx_gains_db[0]

    @property
    def exclusive(self) -> bool:
        """Whether it serves one context at a time."""
        return self.config.exclusive or self.config.real

    @property
    def rx_gain_range_db(self) -> tuple[float, float]:
        """An AD936x's, which depends on the carrier."""
        freq_hz = self.lo_hz["RX"]
        return (-1.0, 73.0) if freq_hz <= 1.3e9 else (-3.0, 71.0) if freq_hz <= 4e9 else (-10.0, 62.0)

    def set_rate(self, rate_hz: int) -> None:
        lowest = 520_833 if self.fir else 2_083_333
        if not lowest <= rate_hz <= 61_440_000:
            raise Refused(22)
        self.rate_hz = int(rate_hz) - 3 * self.config.real
        self._calibrate()

    def set_fir(self, on: bool) -> None:
        if on and not self.fir_config or not on and self.rate_hz < 2_083_330:
            raise Refused(22)
        self.fir = on
        self._calibrate()

    def set_fpga(self, side: str, rate_hz: int) -> None:
        if rate_hz not in (self.rate_hz, self.rate_hz // 8):
            raise Refused(22)
        self.fpga[side] = 1 if rate_hz == self.rate_hz else 8

    def _calibrate(self):
        """As ADI's driver does when the transmitter's filter, rate, carrier or width changes; it needs the LO."""
        self.tx_calibrated = not self.powerdown["TX"]

    def set_lo(self, side: str, freq_hz: int) -> None:
        if not 325_000_000 <= freq_hz <= 3_800_000_000:
            raise Refused(22)
        self.lo_hz[side] = int(freq_hz)
        if side == "TX":
            self._calibrate()

    def set_bandwidth(self, side: str, bandwidth_hz: int) -> None:
        if not 200_000 <= bandwidth_hz <= (56_000_000 if side == "RX" else 40_000_000):
            raise Refused(22)
        self.bandwidth_hz[side] = int(bandwidth_hz)
        if side == "TX":
            self._calibrate()

    def set_rx_gain(self, gain_db: float) -> None:
        low, high = self.rx_gain_range_db
        if not low <= gain_db <= high or self.gain_mode != "manual":
            raise Refused(22)
        self.rx_gain_db = float(round(gain_db))

    def set_tx_gain(self, number: int, gain_db: float) -> None:
        if not -89.75 <= gain_db <= 0:
            raise Refused(22)
        self.tx_gains_db[number] = 0.25 * round(gain_db / 0.25)

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
        stuck = (RX_OVERFLOW if side == "RX" else TX_UNDERFLOW) * self.config.real
        return self.status[side] | stuck if self._register[side] == STATUS_REGISTER else 0

    def check_buffer(self, num_samples: int, num_buffers: int) -> None:
        """Refused where the DMA or the memory for it does not take a buffer of that size."""
        if num_samples < 1 or num_samples % DMA_SAMPLES:
            raise Refused(22)
        others = sum(client.capacity for client in self.rx_clients) + (self.tx.capacity if self.tx else 0)
        if others + num_samples * num_buffers >= CMA_SAMPLES:
            raise Refused(12)

    # samples

    def due(self, seconds: float, dt_s: float) -> int:
        """Samples of the board's crystal that fall into the next dt_s; asked again, the same."""
        return int(self._next_phase(seconds, dt_s))

    def pass_time(self, seconds: float, dt_s: float) -> None:
        """The samples that are due have passed."""
        whole, self._phase = divmod(self._next_phase(seconds, dt_s), 1.0)
        self.position += int(whole)

    def _next_phase(self, seconds, dt_s):
        return self._phase + dt_s * self.rate_hz * (1 + 1e-6 * self.config.ppm_at(seconds))

    def transmit(self, num: int) -> tuple[np.ndarray | None, np.ndarray | None]:
        """The next words (num, 2) int16 of the transmit buffer, and the wave at full scale 1.0, (num,) complex64.

        None for either where there is nothing. The wave leaves the antenna with TX_FULL_SCALE_DBM and the gain.
        """
        words, missing = (None, 0) if self.tx is None else self.tx.take(num)
        if missing:
            self.status["TX"] |= TX_UNDERFLOW
            self.lost["TX"] += missing * self.tx.started
        wave = None if words is None else words.astype(np.float32).view(np.complex64)[:, 0] / np.float32(TX_WORD)
        tone = self._tones(num) if self.tx is None else None
        wave = tone if wave is None else wave
        if self.config.real and not self.tx_calibrated and wave is not None:
            wave = wave + np.complex64(UNCALIBRATED_LEAK)
        return words, None if self.powerdown["TX"] else wave

    def _tones(self, num):
        active = [tone for tone in self.dds if tone["raw"] and tone["scale"]]
        if not active:
            return None
        n = self.position + np.arange(num)
        total = np.zeros(num, np.complex64)
        for i, tone in enumerate(self.dds):
            if tone["raw"] and i < 4:  # the second transmitter's antenna is not modelled
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
            low, high = self.rx_gain_range_db
            self.rx_gain_db = min(max(self.rx_gain_db + step, low), high)
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
