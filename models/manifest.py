"""The manifest: the parameters that the receiver needs to decode the payload, coded and sent in the frames.

Tensor names and shapes follow from the architecture's code. The manifest has the model card (`models.card`); the dtypes
of the tensors, in runs: their number (8 bits), and for each a code (8 bits, 0: the module's own) and a number of
tensors (16 bits); a checksum of the exact buffers (32 bits); and the list of parts: its length (8 bits), and for each
the code of its kind (8 bits; of a kind without one 128 plus the length of its name, and the name), the length of its
body (16 bits) and its body. All big endian.
"""

import dataclasses
import struct
from collections.abc import Iterable

from airnet_sdr.dsp.errors import InputError, LinkError
from airnet_sdr.models.card import ModelCard
from airnet_sdr.models.packing import DTYPES
from airnet_sdr.models.payload import KINDS, Part, part_kinds

MAX_PARTS = 16
_NAMED = 128
_LENGTH = struct.Struct(">H")
_RUN = struct.Struct(">BH")


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The model card, and the parts of the payload in the order of their symbols.

    `dtypes` are runs of dtype names, "" for the module's own, over the tensors that are sent and then the statistics;
    () if all are the module's own. `checksum` is that of the exact buffers (`models.packing.checksum`).
    """

    card: ModelCard
    parts: tuple[Part, ...]
    dtypes: tuple[tuple[str, int], ...] = ()
    checksum: int = 0

    @property
    def scheme(self) -> str:
        """The kinds of the parts that carry weights, joined by +."""
        return "+".join(part.kind for part in self.parts if part.role == "weights")

    def num_symbols(self, numels: list[int]) -> int:
        """Payload symbols of all parts."""
        return sum(part.num_symbols(numels) for part in self.parts)

    def dtypes_of(self, names: list[str]) -> dict[str, str]:
        """Dtypes by name where they are not the module's own, of the tensors sent and then the statistics."""
        each = [dtype for dtype, count in self.dtypes for _ in range(min(count, len(names)))]
        return {name: dtype for name, dtype in zip(names, each, strict=False) if dtype}

    def to_bytes(self) -> bytes:
        """Encode; InputError if a name or value does not fit."""
        if not 1 <= len(self.parts) <= MAX_PARTS:
            raise InputError(f"manifest: parts must be 1 to {MAX_PARTS}; got {len(self.parts)}")
        if len(self.dtypes) > 255:
            raise InputError("manifest: dtypes change more than 254 times along the tensors; make them of one dtype")
        codes = ["", *DTYPES]
        runs = b"".join(_RUN.pack(codes.index(dtype), count) for dtype, count in self.dtypes)
        head = (
            self.card.to_bytes() + bytes([len(self.dtypes)]) + runs + struct.pack(">IB", self.checksum, len(self.parts))
        )
        return head + b"".join(map(_part_bytes, self.parts))

    @classmethod
    def from_bytes(cls, data: bytes) -> "Manifest":
        """Decode received bytes (zero padding may follow); LinkError if they are invalid."""
        try:
            card, data = ModelCard.from_bytes(data)
            num_runs, data, codes = data[0], data[1:], ["", *DTYPES]
            runs = [_RUN.unpack_from(data, _RUN.size * i) for i in range(num_runs)]
            checksum, num_parts = struct.unpack_from(">IB", data, _RUN.size * num_runs)
            data = data[_RUN.size * num_runs + 5 :]
            if not 1 <= num_parts <= MAX_PARTS:
                raise struct.error(f"{num_parts} parts")
            parts = []
            for _ in range(num_parts):
                part, data = _split_part(data)
                parts.append(part)
            _check_roles([part.role for part in parts])
            return cls(card, tuple(parts), tuple((codes[code], count) for code, count in runs), checksum)
        except (struct.error, IndexError, UnicodeDecodeError, InputError) as error:
            raise LinkError(
                f"manifest: CRC right but content wrong ({error}); the sender is another version"
            ) from error


def dtype_runs(names: Iterable[str], dtypes: dict[str, str]) -> tuple[tuple[str, int], ...]:
    """Runs of the dtypes along ``names``, () where all are the module's own."""
    runs: list[tuple[str, int]] = []
    for name in names if dtypes else ():
        dtype = dtypes.get(name, "")
        if runs and runs[-1][0] == dtype and runs[-1][1] < 65535:
            runs[-1] = (dtype, runs[-1][1] + 1)
        else:
            runs.append((dtype, 1))
    return tuple(runs)


def _check_roles(roles: list[str]) -> None:
    """Raise struct.error unless each weights part has at most one part of each other role behind it."""
    if roles[0] != "weights":
        raise struct.error("no weights")
    beside: set[str] = set()
    for role in roles:
        if role == "weights":
            beside.clear()
        elif role in beside:
            raise struct.error(f"{role} twice behind its weights")
        else:
            beside.add(role)


def _part_bytes(part: Part) -> bytes:
    name, body = part.kind.encode("ascii"), part.to_bytes()
    if len(body) > 65535 or len(name) >= _NAMED:
        raise InputError(f"manifest: a part of {len(body)} bytes does not fit; send a model of fewer tensors")
    kind = bytes([KINDS.index(part.kind)]) if part.kind in KINDS else bytes([_NAMED + len(name)]) + name
    return kind + _LENGTH.pack(len(body)) + body


def _split_part(data: bytes) -> tuple[Part, bytes]:
    """The part at the head of ``data``, and the rest; LinkError for an unknown kind."""
    code, data = data[0], data[1:]
    if code >= _NAMED:
        kind, data = data[: code - _NAMED].decode("ascii"), data[code - _NAMED :]
    else:
        kind = KINDS[code]
    (length,) = _LENGTH.unpack_from(data)
    body, data = data[2 : 2 + length], data[2 + length :]
    if len(body) < length:
        raise struct.error("a part is cut short")
    kinds = part_kinds()
    if kind not in kinds:
        raise LinkError(f"a part of the payload is {kind!r}, here there are: {', '.join(kinds)}")
    return kinds[kind].from_bytes(body)[0], data
