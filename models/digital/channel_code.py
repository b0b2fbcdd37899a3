"""5G LDPC code and Gray-mapped QAM through Sionna: bytes to unit-power symbols and back.

The payload of ``num_bytes`` is followed by a CRC-32, zero-padded and cut into equal code blocks, each with the CRC-24A
of 3GPP TS 38.212 section 5.1. Scrambling keeps the mean power at 1: a run of zeros would repeat one QAM point. The
blocks are encoded, rate-matched (sections 5.3.2 and 5.4.2) to equal shares of the symbols and mapped to QPSK, 16-, 64-
or 256-QAM (TS 38.211 section 5.1). The code's lowest rate is 1/5; lower rates repeat the code word cyclically, and the
receiver adds the repeated LLRs. Everything follows from the three numbers of `CodedPayload`, which the manifest
carries.

Sionna is imported where it is used, as its import takes seconds.
"""

import dataclasses
import functools
import hashlib
import math
import zlib
from collections.abc import Callable

import numpy as np

from airnet_sdr.dsp.errors import InputError

MODULATIONS = {2: "QPSK", 4: "16-QAM", 6: "64-QAM", 8: "256-QAM"}
CRC_BYTES, BLOCK_CRC_BITS = 4, 24
MAX_INFO_BITS = 8448  # of base graph 1 (TS 38.212, section 5.2.2)
MAX_INFO_BITS_LOW_RATE = 3824  # of base graph 2, which has the rates below 1/3
LOWEST_RATE = 1 / 5
HIGHEST_RATE = 0.93
NUM_ITERATIONS = 40
CHECK_EVERY = 4  # iterations: blocks whose CRC passes are done
BATCH_BLOCKS = 32  # bounds the decoder's memory
OVER_CAPACITY = 2  # bits for each that the symbols carry by their SNRs, which are estimates: more are not tried
PART_SYMBOLS = 1 << 20  # whose SNRs are summed at a time
PART_REPEATS = 64  # of a code word, whose LLRs are added at a time
MAX_DISTANCES = 1 << 25  # symbol-to-point distances that the demapper holds in memory at a time


@dataclasses.dataclass(frozen=True)
class BlockCode:
    """One code block: information bits k with the CRC, payload symbols, coded bits per symbol."""

    info_bits: int
    num_symbols: int
    bits_per_symbol: int

    @property
    def rate(self) -> float:
        """Information bits per coded bit."""
        return self.info_bits / (self.num_symbols * self.bits_per_symbol)

    @property
    def code_bits(self) -> int:
        """Bits of the code word before repetition: n."""
        most = int(self.info_bits / LOWEST_RATE)
        return min(self.num_symbols * self.bits_per_symbol, most // self.bits_per_symbol * self.bits_per_symbol)

    def encode(self, rows: np.ndarray) -> np.ndarray:
        """Bytes (blocks, (k - 24)/8) uint8 to unit-power symbols (blocks, num_symbols) complex64."""
        import torch

        bits = torch.from_numpy(np.unpackbits(rows, axis=1).astype(np.float32))
        word = self._parts.encoder(self._parts.add_crc(bits))  # (blocks, code_bits)
        sent = torch.arange(self.num_symbols * self.bits_per_symbol) % self.code_bits
        return self._parts.mapper(word[:, sent]).numpy()

    def decode(self, statistic: np.ndarray, information: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Equalised symbols over noise_var (blocks, num_symbols) complex64 and their SNRs, float32, to bytes.

        Returns bytes (blocks, (k - 24)/8) uint8 and whether each block's CRC passed (blocks,) bool.
        """
        import torch

        outcomes = []
        for first in range(0, len(statistic), BATCH_BLOCKS):
            snr = torch.from_numpy(information[first : first + BATCH_BLOCKS]).clamp(min=1e-9)
            received = torch.from_numpy(statistic[first : first + BATCH_BLOCKS]) / snr
            step = PART_REPEATS * self.code_bits // self.bits_per_symbol
            parts = zip(received.split(step, 1), snr.split(step, 1), strict=True)
            outcomes.append(self._iterate(functools.reduce(torch.add, (self._word(*part) for part in parts))))
        bits, passed = (torch.cat(part).numpy() for part in zip(*outcomes, strict=True))
        return np.packbits(bits.astype(np.uint8), axis=1), passed

    def _iterate(self, word):
        """Belief propagation on LLRs (blocks, code_bits) until the CRC of each block passes, NUM_ITERATIONS at most.

        Returns bits (blocks, k - 24) float32 and whether the CRC passed (blocks,) bool.
        """
        import torch

        bits, passed = torch.empty(len(word), self.info_bits - BLOCK_CRC_BITS), torch.zeros(len(word), dtype=bool)
        left, messages = torch.arange(len(word)), None
        for _ in range(0, NUM_ITERATIONS, CHECK_EVERY):
            decided, messages = self._parts.decoder(word[left], num_iter=CHECK_EVERY, msg_v2c=messages)
            bits[left], passes = self._parts.check_crc(decided)
            passed[left] = passes[:, 0]
            left, messages = left[~passes[:, 0]], messages[~passes[:, 0]]
            if not len(left):
                break
        return bits, passed

    def _word(self, received, snr):
        """LLRs (blocks, code_bits) of the code words in symbols (blocks, n), those of repeats added."""
        import torch

        llr = self._demap(received, snr)  # (blocks, n * bits_per_symbol)
        repeats = -(-llr.shape[1] // self.code_bits)
        padded = torch.nn.functional.pad(llr, (0, repeats * self.code_bits - llr.shape[1]))
        return padded.reshape(len(llr), repeats, self.code_bits).sum(1)

    def _demap(self, received, snr):
        """LLRs (blocks, num_symbols * bits_per_symbol) of equalised symbols (blocks, num_symbols), part by part."""
        import torch

        columns = max(1, MAX_DISTANCES // (len(received) << self.bits_per_symbol))
        parts = zip(received.split(columns, 1), snr.split(columns, 1), strict=True)
        return torch.cat([self._parts.demapper(symbols, 1 / each) for symbols, each in parts], 1)

    @property
    def _parts(self):
        return _sionna(self.info_bits, self.code_bits, self.bits_per_symbol)


@dataclasses.dataclass(frozen=True)
class CodedPayload:
    """Bytes, payload symbols and coded bits per symbol: they determine the code of sender and receiver."""

    num_bytes: int
    num_symbols: int
    bits_per_symbol: int

    def __post_init__(self):
        if self.bits_per_symbol not in MODULATIONS:
            raise InputError(f"bits_per_symbol must be one of {sorted(MODULATIONS)}; got {self.bits_per_symbol}")
        if self.num_bytes < 1 or self.num_symbols < self.num_blocks:
            raise InputError(f"a payload needs bytes and symbols; got {self.num_bytes} and {self.num_symbols}")
        if self.block.rate > HIGHEST_RATE:
            raise InputError(
                f"{self.num_bytes} bytes do not fit {self.num_symbols} symbols of {MODULATIONS[self.bits_per_symbol]}; "
                "send fewer, or more symbols"
            )

    @property
    def num_bits(self) -> int:
        """Bits carried, with the payload's CRC."""
        return 8 * (self.num_bytes + CRC_BYTES)

    @property
    def num_blocks(self) -> int:
        """Code blocks, all of equal size."""
        low_rate = 3 * self.num_bits < self.num_symbols * self.bits_per_symbol
        largest = (MAX_INFO_BITS_LOW_RATE if low_rate else MAX_INFO_BITS) - BLOCK_CRC_BITS
        return -(-self.num_bits // largest)

    @property
    def block(self) -> BlockCode:
        """One of the equal blocks; leftover symbols repeat the first block."""
        info_bits = -(-self.num_bits // (8 * self.num_blocks)) * 8 + BLOCK_CRC_BITS
        return BlockCode(info_bits, self.num_symbols // self.num_blocks, self.bits_per_symbol)


def encode(data: bytes, payload: CodedPayload) -> np.ndarray:
    """Bytes, at most ``payload.num_bytes``, to unit-power symbols (num_symbols,) complex64."""
    if len(data) > payload.num_bytes:
        raise InputError(f"{len(data)} bytes do not fit a payload of {payload.num_bytes}")
    data = data.ljust(payload.num_bytes, b"\0")
    data += zlib.crc32(data).to_bytes(CRC_BYTES, "big")
    rows = np.zeros((payload.num_blocks, (payload.block.info_bits - BLOCK_CRC_BITS) // 8), np.uint8)
    rows.reshape(-1)[: len(data)] = np.frombuffer(data, np.uint8)
    rows ^= _scrambler(rows.shape)
    return np.resize(payload.block.encode(rows).reshape(-1), payload.num_symbols).astype(np.complex64)


def decode(statistic: np.ndarray, information: np.ndarray, payload: CodedPayload) -> bytes | None:
    """Equalised symbols over noise_var (num_symbols,) complex64 and their SNRs (num_symbols,) float32 to bytes.

    ``statistic`` is conj(h)·y/noise_var and ``information`` |h|²/noise_var, both 0 for erased symbols. None if a CRC
    fails, or the symbols cannot carry the bits: a digital model arrives whole or not at all.
    """
    return decode_from(lambda start, num: (statistic[start : start + num], information[start : start + num]), payload)


def decode_from(soft: Callable, payload: CodedPayload) -> bytes | None:
    """`decode` of symbols that ``soft(start, num)`` gives in parts, as `models.payload.SoftSymbols` does."""
    parts = range(0, payload.num_symbols, PART_SYMBOLS)
    most = sum(capacity(soft(i, min(PART_SYMBOLS, payload.num_symbols - i))[1]) for i in parts)
    rows = _decode_blocks(soft, payload) if payload.num_bits <= OVER_CAPACITY * most else None
    if rows is None:
        return None
    data = (rows ^ _scrambler(rows.shape)).tobytes()[: payload.num_bytes + CRC_BYTES]
    return data[:-CRC_BYTES] if zlib.crc32(data[:-CRC_BYTES]).to_bytes(CRC_BYTES, "big") == data[-CRC_BYTES:] else None


def capacity(information: np.ndarray) -> float:
    """The most bits that symbols of these SNRs (n,) carry, Σ log2(1 + SNR) (Shannon 1948)."""
    with np.errstate(invalid="ignore"):
        return float(np.log1p(information).sum(dtype=np.float64)) / math.log(2)


def _decode_blocks(soft: Callable, payload: CodedPayload) -> np.ndarray | None:
    """The bytes of all blocks (blocks, (k - 24)/8), None once one is not decoded.

    Batches grow from one block on, so that noise takes little more time than what was decoded before it.
    """
    block, rows, first, size = payload.block, [], 0, 1
    while first < payload.num_blocks:
        size = min(size, payload.num_blocks - first, BATCH_BLOCKS)
        received = soft(first * block.num_symbols, size * block.num_symbols)
        found, passed = block.decode(*(each.reshape(size, block.num_symbols) for each in received))
        if not passed.all():
            return None
        rows.append(found)
        first, size = first + size, 2 * size
    return np.concatenate(rows)


def _scrambler(shape: tuple[int, int]) -> np.ndarray:
    """Fixed pseudo-random bytes."""
    return np.frombuffer(hashlib.shake_256(b"airnet-sdr").digest(shape[0] * shape[1]), np.uint8).reshape(shape)


class _Sionna:
    """Sionna's encoder, decoder, mapper, demapper and CRC for one block size."""

    def __init__(self, info_bits: int, code_bits: int, bits_per_symbol: int):
        from sionna.phy.fec.crc import CRCDecoder, CRCEncoder
        from sionna.phy.fec.ldpc import LDPC5GDecoder, LDPC5GEncoder
        from sionna.phy.mapping import Constellation, Demapper, Mapper

        constellation = Constellation("qam", bits_per_symbol)
        self.mapper, self.demapper = Mapper(constellation=constellation), Demapper("app", constellation=constellation)
        self.add_crc = CRCEncoder("CRC24A")
        self.check_crc = CRCDecoder(self.add_crc)
        self.encoder = LDPC5GEncoder(info_bits, code_bits, num_bits_per_symbol=bits_per_symbol)
        self.decoder = LDPC5GDecoder(self.encoder, return_state=True)


_sionna = functools.lru_cache(maxsize=8)(_Sionna)
