"""The demonstration: sender, simulated air and receiver as three processes over ZMQ: `python sim/demo.py`.

Writes report.json and report.png. The simulated air has 15 dB, a carrier offset of 40 kHz with the matching clock
offset, and two echoes; this program's channel makes it, or with ``--air gnuradio`` a GNU Radio flowgraph.
"""

import contextlib
import dataclasses
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1] / "src")
    from airnet_sdr.dsp.host import environment

    environment.begin()

from airnet_sdr.dsp.errors import LinkError
from airnet_sdr.dsp.host.command import CommandParser, run_command
from airnet_sdr.dsp.host.options import add_options, check_fields, config_from, option

ROOT = Path(__file__).resolve().parents[1]
AIR = ["--snr-db", "15", "--cfo-hz", "40e3", "--echo", "2.3:-8:60", "--echo", "6.1:-14:-130"]
AIRS = {"python": ("sim/air.py", False), "gnuradio": ("sim/gnuradio_air.py", True)}  # command; whether the sender binds


@dataclasses.dataclass(frozen=True)
class DemoConfig:
    """The model, the air, and the folder of the report."""

    model: str = option("fashion", "a shipped model or a checkpoint", metavar="NAME|PATH")
    architecture: str | None = option(
        None, "your own architecture, FILE.py:NAME or a registered name", metavar="FILE.py:NAME"
    )
    air: str = option("python", "implementation of the channel", choices=tuple(AIRS))
    out: Path = option(Path("out/demo"), "output folder", metavar="DIR")
    seed: int = option(1, "seed of the air", 0, 2**63 - 1, metavar="S")
    timeout_s: float = option(120.0, "give up after T seconds", 1e-3, 1e9, metavar="T")

    def __post_init__(self):
        check_fields(self)


def free_ports(count: int) -> list[int]:
    """TCP ports that are free now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]


@contextlib.contextmanager
def started(name: str, command: list[str]) -> Iterator[subprocess.Popen]:
    """Start a process, print its command, and end it when the context is left."""
    argv = [sys.executable, str(ROOT / command[0]), *command[1:]]
    process = subprocess.Popen(argv, start_new_session=True)  # Ctrl-C goes to the demo only, which ends all
    try:
        print(f"[{name}] python {' '.join(command)}", flush=True)
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()


def demo(config: DemoConfig) -> None:
    """Run the three processes and print the result."""
    report, picture = config.out / "report.json", config.out / "report.png"
    report.unlink(missing_ok=True)
    own = [] if config.architecture is None else ["--architecture", config.architecture]
    first, second = (f"zmq:tcp://127.0.0.1:{port}" for port in free_ports(2))
    receive = ["rx/receive.py", "--radio", second, "--truth", config.model, *own]
    receive += ["--report", str(report), "--picture", str(picture)]
    command, sender_binds = AIRS[config.air]
    air = [command, "--rx", first if sender_binds else f"{first}?bind=1", "--tx", f"{second}?bind=1"]
    air += ["--seed", str(config.seed), *AIR]
    radio = f"{first}?bind=1" if sender_binds else first
    send = ["tx/send.py", "--model", config.model, *own, "--radio", radio, "--snr-db", "15", "--seed", str(config.seed)]
    with started("receiver", receive) as receiver, started("air", air) as between, started("sender", send) as sender:
        deadline = time.monotonic() + config.timeout_s
        while receiver.poll() is None or (receiver.returncode == 0 and sender.poll() is None):
            if between.poll():
                raise LinkError(f"the air ended with {between.returncode}; see its line above")
            if time.monotonic() >= deadline:
                raise LinkError(f"not finished after {config.timeout_s:g} s; see the lines above")
            time.sleep(0.05)
    if status := receiver.returncode or sender.returncode:
        raise LinkError(f"the receiver or the sender ended with {status}; see its line above")
    result = json.loads(report.read_text())
    print(f"\n{result['model']} crossed a simulated air as analog IQ samples{score(result)}\n{report}\n{picture}")


def score(result: dict) -> str:
    """What the network of a report is worth, as received and as sent; nothing where it was not evaluated."""
    if result["accuracy"] is not None:
        got, sent = f"accuracy {100 * result['accuracy']:.2f} %", result["accuracy_sent"]
        return f": {got}" + ("" if sent is None else f", {100 * sent:.2f} % as sent")
    name, value = next(iter((result["metrics"] or {}).items()), (None, None))
    if value is None:
        return ""
    sent = (result["metrics_sent"] or {}).get(name)
    return f": {name} {value:.5g}" + ("" if sent is None else f", {sent:.5g} as sent")


def main(argv=None) -> int:
    """Parse and run the demo."""
    parser = CommandParser(prog="demo", description=__doc__)
    add_options(parser, DemoConfig)
    options = parser.options(argv)
    return run_command(parser, lambda: demo(config_from(DemoConfig, options)))


if __name__ == "__main__":
    sys.exit(main())
