"""Virtual boards for tests, and the libraries that talk to them."""

import contextlib

import numpy as np
import pytest

from airnet_sdr.sim.channel import ChannelConfig
from airnet_sdr.sim.virtual_pluto import Air, BoardConfig, BoardServer

try:
    import adi  # noqa: F401
except (ImportError, OSError, AttributeError) as error:
    MISSING = f"pyadi-iio with libiio 0.x is not here: {error}"
else:
    MISSING = None

needs_libiio = pytest.mark.skipif(MISSING is not None, reason=MISSING or "")


def link_snr_db(tx_gain_db, loss_db, rate_hz=2.5e6):
    """SNR per payload symbol that the levels of two virtual boards give: a burst 12 dB below full scale, 7 dBm, over
    -174 dBm/Hz and 3.5 dB of noise figure; of the noise, only what falls on the 800 active of 1024 subcarriers counts.
    """
    noise_dbm = -174 + 10 * np.log10(rate_hz) + 3.5 + 10 * np.log10(800 / 1024)
    return 7 - 12 + tx_gain_db - loss_db - noise_dbm


def becomes_muted(server, timeout_s=5):
    """Whether the board is silent, at the latest when the connections that were just closed have ended there."""
    with server.air.changed:
        return server.air.changed.wait_for(lambda: server.board.muted, timeout_s)


@contextlib.contextmanager
def boards(*configs, air=ChannelConfig(), **options):
    """Running boards, each a BoardConfig or its crystal's error in ppm: their servers; ``server.air`` is the air."""
    made = [
        c if isinstance(c, BoardConfig) else BoardConfig(ppm=c, serial=f"virtual{i}") for i, c in enumerate(configs)
    ]
    shared = Air(made, air, **options)
    servers = [BoardServer(shared, board) for board in shared.boards]
    try:
        yield servers
    finally:
        for server in servers:
            server.close()
        shared.close()
