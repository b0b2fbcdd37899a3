"""The on-air format, its only home: numerology, preamble, pilots, header, interleaver and the layout of a burst.

A burst (one cycle) is ``num_frames`` frames back to back; every frame stands alone::

    preamble | OFDM symbol 0 | ... | OFDM symbol D-1        each: cyclic prefix (32) + body (1024 samples)

All subcarriers but DC of the middle 801 are active: at 2.5 MS/s they fill 1.95 MHz, and with ±150 kHz of carrier offset
stay inside the 0.9 of the rate that a radio's filters pass. The preamble is one known QPSK symbol on every active
subcarrier. In each OFDM symbol 16 of the 800 active subcarriers are pilots, moved from symbol to symbol so that
together they visit the whole band; the other 784, symbol after symbol, are the frame's data slots::

    header (576 slots) | manifest chunk (64·c slots) | payload

The trade of frame length. A frame pays one preamble and one header, 800 + 576 = 1376 uses; a hit frame loses its
payload. With up to 24 data-bearing symbols of 784 slots the fixed cost is 1376/18816 = 7.3 % (0.31 dB) and one lost
frame costs a tenth of a network of 350,000 weights; half as long frames would cost 0.60 dB and lose a twentieth,
twice as long 0.15 dB and a fifth. Prefix (3.1 %, 0.13 dB) and pilots (2 %, 0.09 dB) are the same for all. Drift
bounds the length too: 50 ppm of clock offset move 24 symbols by 1.3 samples, well inside the prefix.
"""

import dataclasses
import functools
import math
import operator

import numpy as np

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.sequences import gold, qpsk

VERSION = 2
HEADER_BYTES = 10
HEADER_BITS = 8 * HEADER_BYTES + 16  # with its CRC
MANIFEST_CRC_BITS = 32
MANIFEST_USES_PER_BIT = 6
MAX_MANIFEST_USES = 1 << 18  # uses beyond are repetition; bounds what a hostile header can make a receiver allocate


@dataclasses.dataclass(frozen=True)
class FrameFormat:
    """Numerology of the frame; derived tables are computed once per format and read-only."""

    fft_size: int = 1024
    prefix_samples: int = 32
    num_active: int = 800
    num_pilots: int = 16
    pilot_shift: int = 19
    header_symbols: int = 576
    chunk_step: int = 64
    max_symbols_per_frame: int = 24
    min_frames: int = 4
    preamble_seed: int = 662
    pilot_seed: int = 2
    scramble_seed: int = 3
    order_seed: int = 4

    def __post_init__(self):
        if self.num_active % 2 or self.num_active >= self.fft_size or self.num_active % self.num_pilots:
            raise InputError(
                f"frame format: num_active must be even, below fft_size, multiple of num_pilots; got {self.num_active}"
            )

    @property
    def symbol_samples(self) -> int:
        """Samples of one OFDM symbol with its prefix."""
        return self.fft_size + self.prefix_samples

    @property
    def occupancy(self) -> float:
        """Share of the sampling bandwidth that the active subcarriers fill."""
        return self.num_active / self.fft_size

    @property
    def slots_per_symbol(self) -> int:
        """Data slots of one OFDM symbol."""
        return self.num_active - self.num_pilots

    @functools.cached_property
    def subcarriers(self) -> np.ndarray:
        """Signed indices of the active subcarriers (num_active,), rising, without DC."""
        half = self.num_active // 2
        return _frozen(np.r_[-half:0, 1 : half + 1])

    @functools.cached_property
    def bins(self) -> np.ndarray:
        """DFT bins of the active subcarriers (num_active,)."""
        return _frozen(self.subcarriers % self.fft_size)

    @functools.cached_property
    def columns(self) -> np.ndarray:
        """Columns of the active subcarriers (num_active,) in a spectrum that begins at the lowest: DC is between."""
        return _frozen(self.subcarriers - self.subcarriers[0])

    @functools.cached_property
    def preamble(self) -> np.ndarray:
        """The preamble's unit-power QPSK on the active subcarriers (num_active,) complex64."""
        return _frozen(qpsk(gold(self.preamble_seed, 2 * self.num_active)))

    @functools.cached_property
    def pilots(self) -> np.ndarray:
        """Unit-power QPSK pilots (max_symbols, num_pilots) complex64, one row an OFDM symbol."""
        rows = MAX_SYMBOLS
        return _frozen(qpsk(gold(self.pilot_seed, 2 * rows * self.num_pilots)).reshape(rows, self.num_pilots))

    @functools.cached_property
    def pilot_index(self) -> np.ndarray:
        """Which active subcarriers are pilots (max_symbols, num_pilots), one row an OFDM symbol."""
        spacing = self.num_active // self.num_pilots
        start = np.arange(MAX_SYMBOLS) * self.pilot_shift % spacing
        return _frozen(start[:, None] + spacing * np.arange(self.num_pilots))

    @functools.cached_property
    def data_index(self) -> np.ndarray:
        """Which active subcarriers are data slots (max_symbols, slots_per_symbol), one row an OFDM symbol."""
        is_data = np.ones((MAX_SYMBOLS, self.num_active), bool)
        np.put_along_axis(is_data, self.pilot_index, False, axis=1)
        return _frozen(np.nonzero(is_data)[1].reshape(MAX_SYMBOLS, -1))

    @functools.cached_property
    def scramble(self) -> np.ndarray:
        """Scrambling bits of the control channel (4096,) uint8, repeated; every code word starts at its start."""
        return _frozen(gold(self.scramble_seed, 4096))


MAX_SYMBOLS = 64  # six bits of the header


def _frozen(array):
    array.setflags(write=False)
    return array


DEFAULT_FORMAT = FrameFormat()


@dataclasses.dataclass(frozen=True)
class Header:
    """The header of every frame: 80 bits and a CRC-16 on the air.

    ``burst_id``, a hash of the content, tells bursts apart, so that only cycles of the same burst are combined;
    ``num_symbols`` is the number of OFDM symbols after the preamble, ``num_chunk_steps`` the manifest chunk; ``flags``
    say how the payload is scrambled: by a key (`models.seal`), by quarter turns (`dsp.scrambling`), not at all (0).
    """

    burst_id: int
    frame: int
    num_frames: int
    num_symbols: int
    num_chunk_steps: int
    flags: int = 0
    version: int = VERSION

    # (field, bits, offset): a field holds value - offset
    _LAYOUT = (
        ("version", 4, 0),
        ("flags", 4, 0),
        ("burst_id", 32, 0),
        ("frame", 14, 0),
        ("num_frames", 14, 1),
        ("num_symbols", 6, 1),
        ("num_chunk_steps", 6, 0),
    )
    _OF_BURST = operator.attrgetter(*(name for name, _, _ in _LAYOUT if name != "frame"))

    def to_bytes(self) -> bytes:
        """The 80 bits, most significant first."""
        word = 0
        for name, bits, offset in self._LAYOUT:
            value = getattr(self, name) - offset
            if not 0 <= value < 1 << bits:
                raise InputError(
                    f"frame header: {name} must fit {bits} bits; got {value + offset}; send a smaller model"
                )
            word = word << bits | value
        return word.to_bytes(HEADER_BYTES, "big")

    @classmethod
    def from_bytes(cls, data: bytes) -> "Header":
        """The inverse of `to_bytes`; any 10 bytes give a header."""
        word = int.from_bytes(data, "big")
        return cls(**{name: (word >> shift & mask) + offset for name, shift, mask, offset in _HEADER_FIELDS})

    @property
    def burst_key(self) -> "Header":
        """The header of the burst's frame 0: the same for all frames of a burst."""
        return dataclasses.replace(self, frame=0)

    def same_burst(self, other: "Header") -> bool:
        """Whether a header is that of another frame of the same burst, or of the same frame."""
        return self._OF_BURST(self) == self._OF_BURST(other)

    @property
    def layout(self) -> tuple[int, int, int]:
        """Version and sizes: frames of one layout, and no others, can be received together."""
        return self.version, self.num_symbols, self.num_chunk_steps

    def consistent(self, fmt: FrameFormat) -> bool:
        """Whether the fields make sense together; a header off the air is hostile until this holds."""
        return self.frame < self.num_frames and payload_slots(self, fmt) > 0 and manifest_capacity(self, fmt) > 0


_HEADER_FIELDS = tuple(
    (name, sum(later for _, later, _ in Header._LAYOUT[i + 1 :]), (1 << bits) - 1, offset)
    for i, (name, bits, offset) in enumerate(Header._LAYOUT)
)  # what to shift and mask the word by


def control_slots(header: Header, fmt: FrameFormat) -> int:
    """Slots of header and manifest chunk, with which each frame of the header's burst begins."""
    return fmt.header_symbols + fmt.chunk_step * header.num_chunk_steps


def payload_slots(header: Header, fmt: FrameFormat) -> int:
    """Payload slots of each frame of the header's burst."""
    return header.num_symbols * fmt.slots_per_symbol - control_slots(header, fmt)


def frame_samples(header: Header, fmt: FrameFormat) -> int:
    """Samples of one frame: preamble and OFDM symbols, with their prefixes."""
    return (1 + header.num_symbols) * fmt.symbol_samples


def manifest_slots(num_bytes: int) -> int:
    """Channel uses of a manifest with its CRC, at 1/6 bit a use (decodable at -6.5 dB a symbol)."""
    return MANIFEST_USES_PER_BIT * (8 * num_bytes + MANIFEST_CRC_BITS)


def layout_burst(num_payload: int, manifest_bytes: int, burst_id: int, fmt: FrameFormat = DEFAULT_FORMAT) -> Header:
    """Divide payload and manifest over frames: the header of frame 0.

    As few frames as ``max_symbols_per_frame`` allows but at least ``min_frames``, each with as few OFDM symbols as hold
    its share.
    """
    control = manifest_slots(manifest_bytes)
    if control > MAX_MANIFEST_USES:
        raise InputError(
            f"a manifest of {manifest_bytes} bytes is too long, {MAX_MANIFEST_USES // MANIFEST_USES_PER_BIT // 8 - 4} "
            "is the most; send a model of fewer tensors"
        )
    room = fmt.max_symbols_per_frame * fmt.slots_per_symbol - fmt.header_symbols
    num_frames = max(fmt.min_frames, math.ceil((num_payload + control) / room))
    while True:
        steps = math.ceil(control / (num_frames * fmt.chunk_step))
        slots = fmt.header_symbols + steps * fmt.chunk_step + math.ceil(num_payload / num_frames)
        num_symbols = math.ceil(slots / fmt.slots_per_symbol)
        if num_symbols <= fmt.max_symbols_per_frame and steps < 64:  # six bits of the header
            header = Header(burst_id, 0, num_frames, num_symbols, steps)
            header.to_bytes()  # raises InputError when a field does not fit
            return header
        num_frames += 1


def manifest_uses(header: Header, fmt: FrameFormat = DEFAULT_FORMAT) -> int:
    """Channel uses of the burst's manifest that determine its code; any more repeat the code word."""
    return min(header.num_frames * header.num_chunk_steps * fmt.chunk_step, MAX_MANIFEST_USES)


def manifest_capacity(header: Header, fmt: FrameFormat = DEFAULT_FORMAT) -> int:
    """Bytes of manifest, CRC excluded, that the burst carries; the sender pads to it."""
    return max(0, (manifest_uses(header, fmt) // MANIFEST_USES_PER_BIT - MANIFEST_CRC_BITS) // 8)
