"""The manifest: the parameters that the receiver needs to decode the payload, coded and sent in the frames.

Tensor names and shapes follow from the architecture's code; the manifest has the model card (`models.card`) and the
payload's parts (`models.payload`). After the card come 16 bits: 65535 for one digital payload, 65534 for one hybrid,
and its body; 65533 for a list of parts, its length (8 bits) and, for each part, the length-prefixed name of its kind,
the length of its body (32 bits) and its body. Any other value is
the number of tensors of an analog payload, the start of its body. All big endian.
"""

import dataclasses
import struct

from airnet_sdr.dsp.errors import InputError, LinkError
from airnet_sdr.models.card import ModelCard
from airnet_sdr.models.payload import SCHEMES, AnalogPayload, DigitalPayload, HybridPayload, Payload

_PARTS = 65533
_SINGLE: dict[int, type[Payload]] = {65535: DigitalPayload, 65534: HybridPayload}
_CODES = {scheme.kind: code for code, scheme in _SINGLE.items()}
MAX_PARTS = 16


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The model card, and the parts of the payload in the order of their symbols."""

    card: ModelCard
    parts: tuple[Payload, ...]

    @property
    def scheme(self) -> str:
        """The kinds of the parts, joined by +."""
        return "+".join(part.kind for part in self.parts)

    def num_symbols(self, numels: list[int]) -> int:
        """Payload symbols of all parts."""
        return sum(part.num_symbols(numels) for part in self.parts)

    def to_bytes(self) -> bytes:
        """Encode; InputError if a name or value does not fit."""
        head, kinds = self.card.to_bytes(), [part.kind for part in self.parts]
        if kinds == ["analog"]:
            return head + self.parts[0].to_bytes()
        if len(kinds) == 1 and kinds[0] in _CODES:
            return head + struct.pack(">H", _CODES[kinds[0]]) + self.parts[0].to_bytes()
        if not 1 <= len(kinds) <= MAX_PARTS:
            raise InputError(f"manifest: parts must be 1 to {MAX_PARTS}; got {len(kinds)}")
        return head + struct.pack(">HB", _PARTS, len(kinds)) + b"".join(_part_bytes(part) for part in self.parts)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Manifest":
        """Decode received bytes (zero padding may follow); LinkError if they are invalid."""
        try:
            card, data = ModelCard.from_bytes(data)
            (code,) = struct.unpack_from(">H", data)
            if code == _PARTS:
                return cls(card, _parts(data[2:]))
            scheme, body = (_SINGLE[code], data[2:]) if code in _SINGLE else (AnalogPayload, data)
            payload, _ = scheme.from_bytes(body)
            return cls(card, (payload,))
        except (struct.error, IndexError, UnicodeDecodeError, InputError) as error:
            raise LinkError(
                f"manifest: CRC right but content wrong ({error}); the sender is another version"
            ) from error


def _part_bytes(part: Payload) -> bytes:
    kind, body = part.kind.encode("ascii"), part.to_bytes()
    return bytes([len(kind)]) + kind + struct.pack(">I", len(body)) + body


def _parts(data: bytes) -> tuple[Payload, ...]:
    """The list of parts at the head of ``data``; LinkError for an unknown kind."""
    count, data, parts = data[0], data[1:], []
    if not 1 <= count <= MAX_PARTS:
        raise struct.error(f"{count} parts")
    for _ in range(count):
        length = data[0]
        kind, data = data[1 : 1 + length].decode("ascii"), data[1 + length :]
        (length,) = struct.unpack_from(">I", data)
        body, data = data[4 : 4 + length], data[4 + length :]
        if len(body) < length:
            raise struct.error("a part is cut short")
        if kind not in SCHEMES:
            raise LinkError(f"a part of the payload is {kind!r}, here there are: {', '.join(SCHEMES)}")
        parts.append(SCHEMES[kind].from_bytes(body)[0])
    return tuple(parts)
