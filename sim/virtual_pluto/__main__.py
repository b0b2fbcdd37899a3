"""Run virtual PlutoSDRs until stopped: `python -m sim.virtual_pluto --board 40431 --board 40432:ppm=-21`."""

import contextlib
import json
import re
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.host.command import CommandParser, run_command
from airnet_sdr.dsp.host.options import add_options, check_fields, config_from, option
from airnet_sdr.sim.channel import ChannelConfig, add_channel_options, channel_config
from airnet_sdr.sim.virtual_pluto import Air, BoardConfig, BoardServer

OWN = ("snr_db", "cfo_hz", "sco_ppm", "bits", "full_scale_db")  # of the air's options; those of a preset do nothing
FAULTS = ("drop", "stall", "silent", "disconnect")
BOARD_OPTIONS: dict[str, Callable] = {
    "ppm": float, "noise_figure_db": float, "serial": str, "drift_ppm": float, "drift_s": float, "transmitters": int,
    "exclusive": lambda text: bool(int(text)), "real": lambda text: bool(int(text)), "iiod": str,
}  # fmt: skip


def board_config(text: str) -> BoardConfig:
    """``PORT[:OPTION=VALUE,…]`` as a BoardConfig, whose fields the options are."""
    port, _, options = text.partition(":")
    fields: dict = {}
    try:
        fields["port"] = int(port)
        for assignment in filter(None, options.split(",")):
            name, _, value = assignment.partition("=")
            fields[name] = BOARD_OPTIONS[name](value)
    except (KeyError, ValueError) as error:
        raise InputError(
            f"--board takes PORT[:OPTION=VALUE,...], of {', '.join(BOARD_OPTIONS)}; got {text!r}"
        ) from error
    config = BoardConfig(**fields)
    if not 0 <= config.port < 65536 or not abs(config.ppm) + abs(config.drift_ppm) <= 1000:
        raise InputError(f"--board: ports are 0 to 65535, crystals within ±1000 ppm; got {text!r}")
    if not config.drift_s > 0 or config.transmitters not in (1, 2):
        raise InputError(f"--board: drift_s must be above 0, transmitters 1 or 2; got {text!r}")
    return config


def fault(text: str) -> tuple[float, int, str, int]:
    """``KIND[:NUM]@T[:BOARD]`` as (seconds, board, kind, samples)."""
    match = re.fullmatch(r"(\w+)(?::(\d+))?@([\d.]+)(?::(\d+))?", text)
    if not match or match[1] not in FAULTS:
        raise InputError(f"--fault takes KIND[:SAMPLES]@SECONDS[:BOARD], KIND of {', '.join(FAULTS)}; got {text!r}")
    return float(match[3]), int(match[4] or 0), match[1], int(match[2] or 10_000)


def cause(kind: str, server: BoardServer, num_samples: int) -> None:
    """A fault, now."""
    board = server.board
    if kind == "disconnect":
        server.disconnect()
        return
    with server.air.changed:
        if kind == "stall":
            board.stalled = True
        elif kind == "silent":
            board.silent = True
        else:
            for client in board.rx_clients:
                client.drop(num_samples)
        server.air.changed.notify_all()


@dataclass(frozen=True)
class ServeConfig:
    """The boards, where they are served, the paths between them, their clock, and what goes wrong when."""

    boards: tuple[BoardConfig, ...]
    faults: tuple[tuple[float, int, str, int], ...] = ()
    host: str = option("127.0.0.1", "address to listen at", metavar="HOST")
    loss_db: float = option(60.0, "path loss between any two ports", metavar="L")
    clock: str = option(
        "realtime", "samples at their rate, or as fast as they are taken", choices=("lockstep", "realtime")
    )
    seed: int = option(0, "of everything random", 0)
    show_state: bool = option(False, "print the boards' state as JSON when it changes")

    def __post_init__(self):
        check_fields(self)
        for _, number, _, _ in self.faults:
            if number >= len(self.boards):
                raise InputError(f"`fault` names board {number}; there are {len(self.boards)}, counted from 0")


def serve(config: ServeConfig, channel: ChannelConfig) -> None:
    """Serve until Ctrl-C or SIGTERM."""
    air = Air(list(config.boards), channel, config.loss_db, config.clock == "realtime", config.seed)
    with contextlib.suppress(KeyboardInterrupt, SystemExit), contextlib.ExitStack() as stack:
        stack.callback(air.close)
        servers = []
        for board in air.boards:
            try:
                servers.append(BoardServer(air, board, config.host))
            except OSError as error:
                raise InputError(f"cannot listen at port {board.config.port}: {error.strerror}; try another") from error
            stack.callback(servers[-1].close)
            print(f"virtual Pluto at {servers[-1].uri}, crystal {board.config.ppm:+g} ppm", flush=True)
        for seconds, number, kind, num in config.faults:
            timer = threading.Timer(seconds, cause, (kind, servers[number], num))
            timer.daemon = True
            timer.start()
        shown = None
        while True:
            time.sleep(0.02)
            states = [state(board) | {"late_s": round(air.late_s, 3)} for board in air.boards]
            if config.show_state and states != shown:
                shown = states
                print(json.dumps(states), flush=True)


def state(board) -> dict:
    """What an onlooker could see of a board."""
    return {
        "muted": board.muted,
        "transmitting": board.tx is not None,
        "receiving": len(board.rx_clients),
        "tx_gain_db": board.tx_gain_db,
        "lost": dict(board.lost),
    }


def main(argv=None) -> int:
    """Parse and serve."""
    parser = CommandParser(prog="virtual_pluto", description=__doc__)
    parser.add_argument(
        "--board",
        action="append",
        required=True,
        metavar="PORT[:ppm=P,…]",
        help=f"a board; repeatable; port 0: any; options: {', '.join(BOARD_OPTIONS)}",
    )
    add_options(parser, ServeConfig)
    parser.add_argument(
        "--fault", action="append", default=[], metavar="KIND[:SAMPLES]@SECONDS[:BOARD]",
        help=f"{', '.join(FAULTS)} so long after the start; repeatable",
    )  # fmt: skip
    add_channel_options(parser)
    options = parser.options(argv)

    def work():
        for name in OWN:
            if name in options:
                raise InputError(f"`{name}` is the boards' own: set --loss-db, or ppm and noise_figure_db of --board")
        boards, faults = tuple(map(board_config, options["board"])), tuple(sorted(map(fault, options["fault"])))
        config = config_from(ServeConfig, options, boards=boards, faults=faults)
        serve(config, channel_config(options, options["preset"]))

    return run_command(parser, work)


if __name__ == "__main__":
    sys.exit(main())
