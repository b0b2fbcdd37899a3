"""Averages of two layers' networks: where they count, which they are, and their weights, as the manifest has them."""

import dataclasses
import struct
from collections.abc import Collection

from airnet_sdr.dsp.errors import InputError

MAX_AVERAGES = 64
_BODY = struct.Struct(">BBBBbb")


@dataclasses.dataclass(frozen=True)
class Average:
    """The answer where layer ``best`` is the last that arrived: numbers of two layers, and the weight of the first
    one's logits in the mean (1: its network alone).

    It counts at SNRs from ``least_db`` to below ``below_db`` per payload symbol of unit power.
    """

    best: int
    first: int
    second: int
    weight: float
    least_db: int = -128
    below_db: int = 127

    def counts(self, arrived: Collection[int], snr_db: float) -> bool:
        """Whether the receiver answers with this mean, if these layers arrived at this SNR."""
        needed = {self.first} if self.weight == 1 else {self.first, self.second}
        return self.best == max(arrived) and needed <= set(arrived) and self.least_db <= snr_db < self.below_db

    def to_bytes(self) -> bytes:
        """Best, first and second layer, weight in 1/255 (8 bits each), SNRs (8 bits each, signed)."""
        try:
            weight = round(255 * self.weight)
            return _BODY.pack(self.best, self.first, self.second, weight, self.least_db, self.below_db)
        except struct.error as error:
            raise InputError(f"manifest: an average of layers {self.first} and {self.second} ({error})") from error

    @classmethod
    def split(cls, data: bytes, num_layers: int) -> tuple[tuple["Average", ...], bytes]:
        """The averages at the head of ``data``, after their number (8 bits), and the rest."""
        count, data, found = data[0], data[1:], []
        if count > MAX_AVERAGES:
            raise struct.error(f"{count} averages")
        for i in range(count):
            best, first, second, weight, least_db, below_db = _BODY.unpack_from(data, i * _BODY.size)
            if max(best, first, second) >= num_layers:
                raise struct.error(f"an average of layers {first} and {second}")
            found.append(cls(best, first, second, weight / 255, least_db, below_db))
        return tuple(found), data[count * _BODY.size :]
