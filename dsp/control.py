"""The coded control channel: header and manifest under a polar code with CRC, as scrambled QPSK.

Both are decodable at -6.5 dB a symbol, where QPSK's capacity is 0.28 bit a use: the header's 96 bits use 576 symbols
and fail once in 1,500 there, the manifest uses 6 symbols a bit. The manifest's code word is repeated cyclically over
the chunks of all frames, so that some frames may be lost. Its bits are sent in pseudo-random order: in natural order
a frame is one block of the code word, and some sets of half the frames would not be decodable at any SNR.
"""

import binascii
import functools
import zlib

import numpy as np
from numba import njit

from airnet_sdr.dsp import polar
from airnet_sdr.dsp.frame import (
    DEFAULT_FORMAT,
    HEADER_BITS,
    MANIFEST_CRC_BITS,
    VERSION,
    FrameFormat,
    Header,
    manifest_capacity,
    manifest_uses,
)
from airnet_sdr.dsp.sequences import gold, qpsk

FIRST_HEADER_BITS, FIRST_HEADER_SYMBOLS = 72, 512  # of format version 1
LIST_SIZES = (1, 8, 32)  # tried in turn until the CRC passes: strong signals cost little


def encode_header(header: Header, fmt: FrameFormat = DEFAULT_FORMAT) -> np.ndarray:
    """Header to its unit-power QPSK symbols (header_symbols,) complex64."""
    return encode_headers([header], fmt)[0]


def encode_headers(headers: list[Header], fmt: FrameFormat = DEFAULT_FORMAT) -> np.ndarray:
    """Headers to their unit-power QPSK symbols (frames, header_symbols) complex64."""
    words = [header.to_bytes() for header in headers]
    info = _bits(b"".join(data + binascii.crc_hqx(data, 0xFFFF).to_bytes(2, "big") for data in words))
    code = polar.encode(info.reshape(-1, HEADER_BITS), word_bits(fmt.header_symbols))
    return _modulate(code, fmt.header_symbols, fmt)


def decode_headers(statistic: np.ndarray, fmt: FrameFormat = DEFAULT_FORMAT) -> list[Header | None]:
    """Soft symbols conj(h)·y/noise_var (frames, header_symbols) to headers; None where CRC or fields are wrong.

    A header of another format version is returned, too; the caller reports it.
    """
    block_bits = word_bits(fmt.header_symbols)
    llr = np.zeros((len(statistic), block_bits), np.float32)
    _add_soft_bits(statistic.view(np.float32), 0, _order(block_bits, fmt), fmt.scramble, llr)
    words = np.packbits(polar.decode_rows(llr, HEADER_BITS), axis=1)
    headers = [_checked_header(word.tobytes(), fmt) for word in words]
    for i in [i for i, header in enumerate(headers) if header is None]:
        candidates = (word for size in LIST_SIZES[1:] for word in polar.decode(llr[i], HEADER_BITS, size))
        found = (_checked_header(np.packbits(word).tobytes(), fmt) for word in candidates)
        headers[i] = next((header for header in found if header is not None), None) or _first_version(statistic[i], fmt)
    return headers


def _first_version(statistic: np.ndarray, fmt: FrameFormat) -> Header | None:
    """A header of format version 1, of which only the version is read; None where there is none."""
    llr = np.zeros(word_bits(FIRST_HEADER_SYMBOLS), np.float32)
    add_llr(statistic[:FIRST_HEADER_SYMBOLS], 0, llr, fmt)
    (word,) = np.packbits(polar.decode_rows(llr[None], FIRST_HEADER_BITS), axis=1)
    data = word.tobytes()
    valid = binascii.crc_hqx(data[:-2], 0xFFFF) == int.from_bytes(data[-2:], "big") and data[0] >> 4 == 1
    return Header(0, 0, 1, 1, 0, version=1) if valid else None


def _checked_header(data: bytes, fmt) -> Header | None:
    if binascii.crc_hqx(data[:-2], 0xFFFF) != int.from_bytes(data[-2:], "big"):
        return None
    header = Header.from_bytes(data[:-2])
    return header if header.version != VERSION or header.consistent(fmt) else None


def encode_manifest(manifest: bytes, header: Header, fmt: FrameFormat = DEFAULT_FORMAT) -> np.ndarray:
    """Manifest, zero-padded to the burst's capacity, to QPSK (num_frames, chunk) complex64: one row a frame."""
    data, chunk = manifest.ljust(manifest_capacity(header, fmt), b"\0"), header.num_chunk_steps * fmt.chunk_step
    symbols = encode_block(data, header.num_frames * chunk, manifest_block_bits(header, fmt), fmt)
    return symbols.reshape(header.num_frames, chunk)


def decode_manifest(
    llr: np.ndarray, header: Header, fmt: FrameFormat = DEFAULT_FORMAT, thorough: bool = True
) -> bytes | None:
    """Combined LLRs (block_bits,) of the code word to the padded manifest, or None when the CRC fails."""
    return decode_block(llr, manifest_capacity(header, fmt), thorough)


def encode_block(
    data: bytes, num_uses: int, num_bits: int | None = None, fmt: FrameFormat = DEFAULT_FORMAT
) -> np.ndarray:
    """Bytes with a CRC-32, as one code word of ``num_bits`` (default: the most that fit), to QPSK (num_uses,)."""
    info = _bits(data + zlib.crc32(data).to_bytes(4, "big"))
    return _modulate(polar.encode(info, num_bits or word_bits(num_uses)), num_uses, fmt)


def decode_block(llr: np.ndarray, num_bytes: int, thorough: bool = True) -> bytes | None:
    """LLRs (block_bits,) of the code word, from `add_llr`, to its bytes, or None when the CRC fails.

    Where it is not ``thorough``, with the shortest list alone.
    """
    for list_size in LIST_SIZES if thorough else LIST_SIZES[:1]:
        for word in np.packbits(polar.decode(llr, 8 * num_bytes + MANIFEST_CRC_BITS, list_size), axis=1):
            data = word.tobytes()
            if zlib.crc32(data[:-4]) == int.from_bytes(data[-4:], "big"):
                return data[:-4]
    return None


def manifest_block_bits(header: Header, fmt: FrameFormat = DEFAULT_FORMAT) -> int:
    """Bits of the manifest's code word: the largest power of two that its channel uses hold whole."""
    return word_bits(manifest_uses(header, fmt))


def add_llr(statistic, first_use: int, llr: np.ndarray, fmt: FrameFormat = DEFAULT_FORMAT) -> None:
    """Add soft QPSK conj(h)·y/noise_var at uses first_use… of the repeated code word to its LLRs (block_bits,) float32.

    With unit-power QPSK the LLR of the bit on I is 2·√2·Re(conj(h)·y/noise_var), on Q with Im.
    """
    soft = np.ascontiguousarray(statistic, np.complex64).view(np.float32)
    _add_soft_bits(soft[None], 2 * first_use, _order(llr.size, fmt), fmt.scramble, llr[None])


def _modulate(words, num_uses, fmt):
    """Code words (..., block_bits), scrambled and repeated cyclically, on num_uses QPSK symbols each."""
    block_bits = words.shape[-1]
    words = words[..., _order(block_bits, fmt)] ^ np.resize(fmt.scramble, block_bits)
    return qpsk(words if block_bits == 2 * num_uses else words[..., np.arange(2 * num_uses) % block_bits])


@functools.lru_cache(maxsize=8)
def _order(block_bits: int, fmt: FrameFormat) -> np.ndarray:
    """The code word's bit at each place on the air (block_bits,): a stable sort of 16-bit words of a Gold sequence."""
    keys = np.packbits(gold(fmt.order_seed, 16 * block_bits)).view(">u2")
    return np.argsort(keys, kind="stable")


@njit(cache=True, nogil=True)
def _add_soft_bits(soft, first_bit, order, scramble, llr):
    for row in range(soft.shape[0]):
        place, bit = first_bit % order.size, first_bit % order.size % scramble.size
        for i in range(soft.shape[1]):
            value = np.float32(2 * np.sqrt(2)) * soft[row, i]
            llr[row, order[place]] += -value if scramble[bit] else value
            place, bit = place + 1, bit + 1
            if place == order.size:
                place = bit = 0
            if bit == scramble.size:
                bit = 0


def _bits(data: bytes) -> np.ndarray:
    return np.unpackbits(np.frombuffer(data, np.uint8))


def word_bits(uses: int) -> int:
    """Bits of the longest code word that ``uses`` QPSK symbols hold whole, a power of two."""
    return 1 << (2 * uses).bit_length() - 1
