"""The tour: the knobs turned by themselves, for an unattended stand."""

import asyncio
import time
from collections.abc import Callable

from airnet_sdr.sim.page.hub import Hub

PAUSE_S = 60.0  # the tour waits so long for a visitor who turns knobs

Step = tuple[str, float, Callable[[Hub], None]]  # what is said, seconds, what is done


def _snr(snr_db: float) -> Callable[[Hub], None]:
    return lambda hub: hub.lab.turn_receiver(0, {"snr_db": snr_db})


def _air(**changes) -> Callable[[Hub], None]:
    return lambda hub: hub.lab.turn_air(changes)


def _sender(**changes) -> Callable[[Hub], None]:
    return lambda hub: hub.lab.turn_sender(changes)


def _feedback(on: bool) -> Callable[[Hub], None]:
    def switch(hub: Hub) -> None:
        hub.lab.feedback = on

    return switch


STEPS: list[Step] = [
    ("15 dB: all schemes arrive as they were planned", 12, _snr(15.0)),
    ("10 dB: the channel that all were planned for", 10, _snr(10.0)),
    ("7 dB: below its plan, the digital network is lost; the analog one still works", 12, _snr(7.0)),
    ("3 dB: the analog network loses a little more", 12, _snr(3.0)),
    ("0 dB: fewer pictures are right, most still are", 12, _snr(0.0)),
    ("sixteen cycles combined: the network gets better while one listens", 20, _sender(cycles=16)),
    ("with feedback the sender plans for the worst receiver", 20, _feedback(True)),
    ("back to 15 dB, without feedback", 8, _feedback(False)),
    ("the plan is for 10 dB again", 8, _sender(cycles=4, plan_snr_db=10.0)),
    ("15 dB, with echoes: the channel has notches", 12, _snr(15.0)),
    ("a room's echoes", 12, _air(echoes="room")),
    ("interference: hit symbols are given less weight", 12, _air(echoes="none", interference="strong")),
    ("lost samples: hit frames are erased, the rest is combined", 12, _air(interference="off", drops="often")),
    ("a carrier offset of 80 kHz", 10, _air(drops="none", cfo_hz=80e3)),
    ("and back", 4, _air(cfo_hz=12e3)),
]


async def guide(hub: Hub) -> None:
    """Go round `STEPS` for ever; pause while a visitor turns knobs."""
    touched, paused_until = hub.touched, 0.0
    while True:
        for text, seconds, step in STEPS:
            while hub.lab.config.mode != "simulated" or time.monotonic() < paused_until:
                await asyncio.sleep(1.0)
            hub.tour = text
            step(hub)
            hub.refresh()
            await asyncio.sleep(seconds)
            if hub.touched != touched:
                touched, paused_until = hub.touched, time.monotonic() + PAUSE_S
                hub.tour = ""
