"""Virtual PlutoSDRs: a server of libiio's network protocol, boards like an AD9364's, and the air between them.

    python -m sim.virtual_pluto --board 40431:ppm=23 --board 40432:ppm=-21 --loss-db 60 --clock lockstep

The real libiio, pyadi-iio and GNU Radio connect with ``ip:127.0.0.1:40431`` as to hardware. This proves the path
through driver and libraries, not radio fidelity: the air between the boards is the channel model of `sim.channel`.
"""

from airnet_sdr.sim.virtual_pluto.air import Air
from airnet_sdr.sim.virtual_pluto.board import Board, BoardConfig
from airnet_sdr.sim.virtual_pluto.server import BoardServer

__all__ = ["Air", "Board", "BoardConfig", "BoardServer"]
