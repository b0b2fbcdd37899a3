"""The commands of the lab's processes."""

import dataclasses

from airnet_sdr.sim.page.config import LabConfig
from airnet_sdr.sim.page.knobs import BoardKnobs, SenderKnobs

_REPEATABLE = {"echoes": "echo", "bursts": "burst", "drops": "drop"}  # options of the channel, and their flags


@dataclasses.dataclass(frozen=True)
class Places:
    """Where the sender reaches the page and is reached itself, and its port for a simulated air."""

    feed: str
    control: str
    port: int


def sender_command(config: LabConfig, knobs: SenderKnobs, boards: BoardKnobs, places: Places) -> list[str]:
    """The sender: to a board, or to all simulated airs at once."""
    values = dataclasses.asdict(knobs)
    radio = config.radio or f"zmq:tcp://127.0.0.1:{places.port}?pattern=pub&bind=1"
    command = ["sim/page/sender.py", f"--radio={radio}", f"--feed={places.feed}", f"--control={places.control}"]
    command += _flags({"model": config.model, "architecture": config.architecture})
    command += ["--muted"] * values.pop("muted")
    command += ["--schemes", *values.pop("schemes")]
    command += _flags(values)
    return command + (_flags({"freq_hz": boards.freq_hz, "gain_db": boards.tx_gain_db}) if config.radio else [])


def air_command(options: dict, control: str, port: int, to_port: int) -> list[str]:
    """The simulated air of one receiver, with these options of the channel."""
    command = ["sim/air.py", f"--rx={heard_at(port)}", f"--control={control}"]
    command += [f"--tx=zmq:tcp://127.0.0.1:{to_port}?pattern=pub&bind=1"]
    for name, flag in _REPEATABLE.items():
        command += [f"--{flag}={':'.join(map(str, item))}" for item in options[name]]
    return command + _flags({name: value for name, value in options.items() if name not in _REPEATABLE})


def receiver_command(config: LabConfig, radio: str, feed: str, name: str) -> list[str]:
    """A receiver that feeds the page."""
    command = ["rx/receive.py", f"--radio={radio}", "--timeout-s=inf", f"--live={feed}", f"--live-name={name}"]
    return command + _flags({"live_images": config.images, "architecture": config.architecture})


def heard_at(port: int) -> str:
    """Where a process of this machine hears another one."""
    return f"zmq:tcp://127.0.0.1:{port}?pattern=sub"


def _flags(values: dict) -> list[str]:
    return [f"--{name.replace('_', '-')}={value}" for name, value in values.items() if value is not None]
