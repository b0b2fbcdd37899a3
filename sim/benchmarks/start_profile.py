"""Where the processor time of a command's start goes: `python sim/benchmarks/start_profile.py R.json UNTIL COMMAND …`.

Runs a command in this fresh process and writes its processor and wall time, and the processor time of each stage: the
imports of each large package, and functions of the program, without the stages inside them. UNTIL is a function,
MODULE:NAME, at whose first call the process ends, or - for the command's own end. Only the standard library is
imported here, so that nothing is loaded before the command loads it.
"""

import builtins
import functools
import json
import os
import runpy
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

PACKAGES = ("numpy", "scipy", "numba", "torch", "zmq", "airnet_sdr")  # the time of others is that of who imports them
STAGES = {  # owner, by module and perhaps class, and function
    "kernels from numba's cache": ["numba.core.dispatcher:Dispatcher.compile"],
    "load checkpoint": ["airnet_sdr.models.checkpoint:load"],
    "load images": ["airnet_sdr.models.data:load"],
    "evaluate": ["airnet_sdr.models.evaluate:evaluate"],
    "sender": ["airnet_sdr.tx.sender:make_burst", "airnet_sdr.sim.loopback:describe"],
    "air": ["airnet_sdr.sim.channel:Channel.process", "airnet_sdr.sim.channel:Channel.flush"],
    "receiver": [
        "airnet_sdr.rx.listen:Listener.__init__",
        "airnet_sdr.rx.listen:Listener.push",
        "airnet_sdr.rx.listen:Listener.finish",
        "airnet_sdr.rx.combine:rebuild",
    ],
}


class StartProfile:
    """Self times of nested stages, over the processor time of all threads."""

    def __init__(self):
        self.spent: dict[str, float] = defaultdict(float)
        self._inner: list[float] = []  # of each running stage, the time of the stages inside it

    def timed(self, stage: str, function: Callable) -> Callable:
        """The function, its time counted for ``stage``."""

        def wrapper(*values, **options):
            self._inner.append(0.0)
            started = time.process_time()
            try:
                return function(*values, **options)
            finally:
                taken = time.process_time() - started
                self.spent[stage] += taken - self._inner.pop()
                if self._inner:
                    self._inner[-1] += taken

        return wrapper

    def watch_imports(self, on_import) -> None:
        """Count imports for their package; ``on_import`` is called after each, before the importer takes names."""
        plain, running = builtins.__import__, ["the program"]

        def timed_import(name, scope=None, local=None, fromlist=(), level=0):
            package = name if level == 0 else (scope or {}).get("__package__") or ""
            package = package.partition(".")[0]
            if package not in PACKAGES or package == running[-1]:
                found = plain(name, scope, local, fromlist, level)
            else:
                running.append(package)
                try:
                    import_it = self.timed(f"import {package}", plain)
                    found = import_it(name, scope, local, fromlist, level)
                finally:
                    running.pop()
            on_import()
            return found

        builtins.__import__ = timed_import

    def wrap_stages(self, waiting: dict[str, str]) -> None:
        """Wrap those functions, {MODULE:NAME: stage}, whose module is loaded by now, and forget them."""
        for place in list(waiting):
            module, _, names = place.partition(":")
            *owners, name = names.split(".")
            owner = functools.reduce(lambda each, inner: getattr(each, inner, None), owners, sys.modules.get(module))
            function = getattr(owner, name, None)
            if owner is not None and callable(function):
                setattr(owner, name, self.timed(waiting.pop(place), function))


def profile(report: Path, until: str, command: list[str]) -> None:
    """Run the command, a file and its options; the profile is written to ``report``."""
    spent = StartProfile()
    waiting = {place: stage for stage, places in STAGES.items() for place in places if place != until}

    def end(*values, **options):
        total = time.process_time()
        stages = {**spent.spent, "Python and rest": total - sum(spent.spent.values())}
        report.write_text(json.dumps({"cpu": total, "since": time.monotonic(), "stages": stages}))
        sys.stdout.flush()
        os._exit(0)

    def on_import():
        spent.wrap_stages(waiting)
        module, _, name = until.partition(":")
        if getattr(sys.modules.get(module), name or " ", end) is not end:
            setattr(sys.modules[module], name, end)

    spent.watch_imports(on_import)
    sys.argv = command
    try:
        runpy.run_path(command[0], run_name="__main__")
    except SystemExit as stop:
        if stop.code:
            raise
    end()


if __name__ == "__main__":
    profile(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
