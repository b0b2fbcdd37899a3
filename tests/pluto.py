"""Virtual boards for tests, and the libraries that talk to them."""

import contextlib

import pytest

from sim.channel import ChannelConfig
from sim.virtual_pluto import Air, BoardConfig, BoardServer

try:
    import adi  # noqa: F401
except (ImportError, OSError, AttributeError) as error:
    MISSING = f"pyadi-iio with libiio 0.x is not here: {error}"
else:
    MISSING = None

needs_libiio = pytest.mark.skipif(MISSING is not None, reason=MISSING or "")


def becomes_muted(server, timeout_s=5):
    """Whether the board is silent, at the latest when the connections that were just closed have ended there."""
    with server.air.changed:
        return server.air.changed.wait_for(lambda: server.board.muted, timeout_s)


@contextlib.contextmanager
def boards(*ppm, air=ChannelConfig(), **options):
    """Running boards with crystals off by so many ppm: their servers; ``server.air`` is the air."""
    shared = Air([BoardConfig(ppm=p, serial=f"virtual{i}") for i, p in enumerate(ppm)], air, **options)
    servers = [BoardServer(shared, board) for board in shared.boards]
    try:
        yield servers
    finally:
        for server in servers:
            server.close()
        shared.close()
