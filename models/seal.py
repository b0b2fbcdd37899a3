"""A shared key for a link: who has it tells the sender's bursts from others', and nobody else reads their payload.

Sender and receiver have the same file of secret bytes. A sealed burst says so in its header (`KEYED`); before its
manifest stand a counter (32 bits) and a tag (96 bits): HMAC-SHA-256, cut, over the header, the counter and the
manifest as it is padded. Its payload is scrambled (`dsp.privacy`) by ChaCha20. Both keys of a burst come from the file
by HKDF-SHA-256, their salt the counter and the header. `docs/security.md` says what this protects from.

The sender keeps the last counter in FILE.sent, and counts on before anything is sent; the receiver keeps the last one
that it has accepted in FILE.heard, and accepts none twice.
"""

import contextlib
import dataclasses
import fcntl
import hmac
import os
import struct
from collections.abc import Iterator
from pathlib import Path

from airnet_sdr.dsp.errors import InputError, LinkError
from airnet_sdr.dsp.frame import Header
from airnet_sdr.dsp.host.files import write_whole
from airnet_sdr.dsp.privacy import Keystream
from airnet_sdr.models.plan_config import SEAL_BYTES

KEYED = 1  # flag of the header
TAG_BYTES, KEY_BYTES = 12, 32
LEAST_SECRET, MOST_SECRET = 32, 4096  # bytes of the file
LAST_COUNTER = 2**32 - 1
HOW_TO = 'make one: python -c "import secrets; print(secrets.token_hex(32))" > FILE, and give both ends the same'


class SealError(LinkError):
    """A burst that does not come from a holder of the key, or came before."""


@dataclasses.dataclass(frozen=True)
class Seal:
    """The counter and tag of a burst, as they stand before its manifest."""

    counter: int
    tag: bytes

    def to_bytes(self) -> bytes:
        """The 16 bytes."""
        return struct.pack(">I", self.counter) + self.tag

    @classmethod
    def from_bytes(cls, data: bytes) -> "Seal":
        """The inverse; LinkError for fewer bytes."""
        if len(data) < SEAL_BYTES:
            raise LinkError("a sealed manifest without a seal; the sender is another version")
        return cls(struct.unpack_from(">I", data)[0], data[4:SEAL_BYTES])


class Key:
    """The secret of a file, with the counters beside it. Raises InputError for what is no key file."""

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        try:
            with open(path, "rb") as file:
                self._secret = file.read(MOST_SECRET + 1).strip()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise InputError(f"`key` {os.fspath(path)!r} cannot be read: {reason}; {HOW_TO}") from error
        if not LEAST_SECRET <= len(self._secret) <= MOST_SECRET:
            raise InputError(
                f"`key` {self.path} must hold {LEAST_SECRET} to {MOST_SECRET} bytes; got {len(self._secret)}; {HOW_TO}"
            )

    def next_counter(self) -> int:
        """A counter that was never used under this key; it is stored before it is returned."""
        with self._counter("sent") as (last, store):
            if last >= LAST_COUNTER:
                raise InputError(f"`key` {self.path} has sealed 2^32 bursts, all that it can; {HOW_TO}")
            store(last + 1)
            return last + 1

    def seal(self, header: Header, manifest: bytes, counter: int) -> Seal:
        """The seal of a manifest, padded to the header's capacity, under a counter."""
        return Seal(counter, self._tag(header, manifest, counter))

    def check(self, header: Header, manifest: bytes, seal: Seal | None) -> None:
        """Raise SealError unless the seal is this key's over header and padded manifest."""
        if seal is None:
            raise SealError("the burst is not sealed, and `key` takes none but sealed ones; it is somebody else's")
        if not hmac.compare_digest(self._tag(header, manifest, seal.counter), seal.tag):
            raise SealError("the burst was sealed with another key, or changed on its way; give both ends one file")

    def accept(self, seal: Seal) -> None:
        """Store that the burst of this seal was received; SealError if it, or a later one, was received before."""
        with self._counter("heard") as (last, store):
            if seal.counter <= last:
                raise SealError(
                    f"burst {seal.counter} of this key was received before, the last was {last}: a replay; send again"
                )
            store(seal.counter)

    def keystream(self, header: Header, counter: int) -> Keystream:
        """The keystream of a burst's payload, by block."""
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

        key = self._derived(header, counter, b"payload")

        def of_block(number: int, num_bytes: int) -> bytes:
            nonce = bytes(4) + struct.pack(">Q", number).rjust(12, b"\0")  # the block counter starts at 0
            return Cipher(algorithms.ChaCha20(key, nonce), None).encryptor().update(bytes(num_bytes))

        return of_block

    def _tag(self, header: Header, manifest: bytes, counter: int) -> bytes:
        said = header.burst_key.to_bytes() + struct.pack(">I", counter) + manifest
        return hmac.digest(self._derived(header, counter, b"manifest"), said, "sha256")[:TAG_BYTES]

    def _derived(self, header: Header, counter: int, purpose: bytes) -> bytes:
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        salt = struct.pack(">I", counter) + header.burst_key.to_bytes()
        return HKDF(SHA256(), KEY_BYTES, salt, b"airnet-sdr " + purpose).derive(self._secret)

    @contextlib.contextmanager
    def _counter(self, what: str) -> Iterator[tuple]:
        """The counter in FILE.what, 0 where there is none, and a function that stores it, for one process at a time."""
        path = self.path.with_name(f"{self.path.name}.{what}")
        try:
            with open(self.path, "rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                last = int(path.read_text()) if path.exists() else 0
                if last < 0:
                    raise ValueError(last)
                yield last, lambda counter: write_whole(path, f"{counter}\n".encode())
        except OSError as error:
            raise InputError(
                f"the counter {path} cannot be stored: {error.strerror}; keep `key` where it can"
            ) from error
        except ValueError as error:
            raise InputError(f"the counter {path} holds no number; make a new `key` for both ends") from error
