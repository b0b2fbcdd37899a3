"""Keys, seals and counters of a link."""

import dataclasses
import os
import secrets
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from airnet_sdr.dsp.errors import InputError, LinkError
from airnet_sdr.dsp.frame import Header
from airnet_sdr.models.seal import KEYED, SEAL_BYTES, Key, Seal, SealError

HEADER = Header(burst_id=77, frame=0, num_frames=9, num_symbols=24, num_chunk_steps=8, flags=KEYED)
MANIFEST = b"a manifest".ljust(200, b"\0")


@pytest.fixture
def key(tmp_path):
    path = tmp_path / "link.key"
    path.write_text(secrets.token_hex(32))
    return Key(path)


def test_a_seal_is_16_bytes_and_holds_for_every_frame(key):
    seal = key.seal(HEADER, MANIFEST, 5)
    assert len(seal.to_bytes()) == SEAL_BYTES == 16 and Seal.from_bytes(seal.to_bytes() + MANIFEST) == seal
    key.check(dataclasses.replace(HEADER, frame=3), MANIFEST, seal)
    with pytest.raises(LinkError, match="without a seal"):
        Seal.from_bytes(b"too short")


def test_a_seal_of_anything_else_is_refused(key, tmp_path):
    seal = key.seal(HEADER, MANIFEST, 5)
    (tmp_path / "other.key").write_text(secrets.token_hex(32))
    changed = [
        (key, dataclasses.replace(HEADER, burst_id=78), MANIFEST, seal),
        (key, dataclasses.replace(HEADER, num_frames=8), MANIFEST, seal),
        (key, HEADER, b"A" + MANIFEST[1:], seal),
        (key, HEADER, MANIFEST, dataclasses.replace(seal, counter=6)),
        (key, HEADER, MANIFEST, dataclasses.replace(seal, tag=bytes(12))),
        (key, HEADER, MANIFEST, None),
        (Key(tmp_path / "other.key"), HEADER, MANIFEST, seal),
    ]
    for which, header, manifest, claimed in changed:
        with pytest.raises(SealError):
            which.check(header, manifest, claimed)


def test_counters_are_never_used_again_not_even_by_two_at_once(key):
    with ThreadPoolExecutor(4) as executor:
        given = list(executor.map(lambda _: Key(key.path).next_counter(), range(40)))
    assert sorted(given) == list(range(1, 41))
    assert Key(key.path).next_counter() == 41
    key.path.with_name("link.key.sent").write_text(str(2**32 - 1))
    with pytest.raises(InputError, match="2\\^32"):
        key.next_counter()


def test_a_burst_is_accepted_once_and_none_before_it(key):
    old, new = key.seal(HEADER, MANIFEST, 5), key.seal(HEADER, MANIFEST, 9)
    key.accept(new)
    for seal in (new, old):
        with pytest.raises(SealError, match="replay"):
            Key(key.path).accept(seal)  # as after a restart
    key.accept(key.seal(HEADER, MANIFEST, 10))


def test_keystreams_differ_by_counter_header_block_and_key(key):
    streams = {
        key.keystream(HEADER, 1)(0, 64),
        key.keystream(HEADER, 1)(1, 64),
        key.keystream(HEADER, 2)(0, 64),
        key.keystream(dataclasses.replace(HEADER, burst_id=78), 1)(0, 64),
    }
    assert len(streams) == 4
    assert key.keystream(dataclasses.replace(HEADER, frame=4), 1)(0, 64) in streams


def test_a_keystream_is_chacha20s():
    """Against the vectors of RFC 8439, section 2.3.2, through the same library calls: block 1 of key 00…1f."""
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

    nonce = bytes.fromhex("01000000" + "000000090000004a00000000")
    stream = Cipher(algorithms.ChaCha20(bytes(range(32)), nonce), None).encryptor().update(bytes(16))
    assert stream.hex() == "10f1e7e4d13b5915500fdd1fa32071c4"


@pytest.mark.parametrize("content", [b"", b"short", b" " * 100, b"x" * 5000])
def test_files_that_are_no_key(tmp_path, content):
    (tmp_path / "bad.key").write_bytes(content)
    with pytest.raises(InputError, match="must hold 32 to 4096 bytes"):
        Key(tmp_path / "bad.key")
    for name in (tmp_path, tmp_path / "missing", "", "a\0b"):
        with pytest.raises(InputError, match="cannot be read"):
            Key(name)


@pytest.mark.parametrize("text", ["many", "", "-7"])
def test_a_counter_that_is_none_is_said(key, text):
    key.path.with_name("link.key.sent").write_text(text)
    with pytest.raises(InputError, match="holds no number"):
        key.next_counter()


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_a_counter_that_cannot_be_stored_is_said(key):
    key.path.parent.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        with pytest.raises(InputError, match="cannot be"):
            key.next_counter()
    finally:
        key.path.parent.chmod(stat.S_IRWXU)
