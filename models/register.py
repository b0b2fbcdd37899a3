"""Networks of your own: any `torch.nn.Module` can be sent if both ends have its code.

    register("modulation", modulation, load_data)

makes `modulation()` an architecture of that name beside the shipped ones; so do `--architecture FILE.py:modulation` on
a command line and `architecture="FILE.py:modulation"` in Python. Beside it the file may have `load_data`, `evaluate`,
`loss` and `augment` (`models.task`), which hold for every network in it. Only the name is sent: a receiver builds only
the architectures with which it was started, and a received name never imports or runs anything. The file runs because
the operator of this machine named it (`models.own_file`). A name stands for the network that was named last.
"""

import contextlib
import inspect
import os
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from airnet_sdr.dsp.errors import InputError, one_line
from airnet_sdr.models.card import check_name
from airnet_sdr.models.data import LOADERS
from airnet_sdr.models.nets import ARCHITECTURES, DATASETS, check_shapes
from airnet_sdr.models.own_file import OwnFile, run_file
from airnet_sdr.models.task import OWN, Task

SHIPPED = frozenset(ARCHITECTURES) | frozenset(LOADERS)
TAKEN = {  # by the functions of a user's file beside the one that makes the network
    "load_data": ("split", "data_dir"),
    "evaluate": ("network", "data_dir"),
    "loss": ("network", "batch"),
    "augment": ("batch", "rng"),
}


class Maker:
    """A user's function that makes a network: a new one at each call, since a receiver fills it with what arrived.

    A network may share no weights with the one made before it that are still in memory. At the first call there is none
    before, so that two are made, one after the other. ``address`` is FILE.py:NAME, or a name, for errors.
    """

    def __init__(self, address: str, function: Callable[[], nn.Module], path: Path | None = None):
        self.what, self.call = f"`architecture` {address}", f"{address.rpartition(':')[2]}()"
        self.function, self.path = function, path
        self._before: list[weakref.ref] | None = None  # the weights' memory of the network made last

    def __call__(self) -> nn.Module:
        """A network, compared with the one before, which is made if there is none. Raises as `make`."""
        if self._before is None:
            with torch.random.fork_rng(devices=[]):  # the second is as if it were the first
                self.make()
        return self.make()

    def make(self) -> nn.Module:
        """A network. Raises InputError for whatever the function raises, and for what is no new network."""
        with _own_code(self.what):
            network = self.function()
        if not isinstance(network, nn.Module):
            raise InputError(f"{self.what}: {self.call} must return a torch.nn.Module; got {type(network)}")
        check_shapes(network, self.what, f"in {self.call}")
        weights = [_memory(weight) for weight in network.parameters()]
        before = {id(memory) for memory in (each() for each in self._before or ()) if memory is not None}
        if any(id(each) in before for each in weights):
            raise InputError(
                f"{self.what}: {self.call} must make a new network at each call; it returned weights again that a "
                "reception would overwrite"
            )
        self._before = [weakref.ref(each) for each in weights]
        return network


def register(
    name: str,
    build: Callable[[], nn.Module],
    load_data: Callable | None = None,
    *,
    evaluate: Callable | None = None,
    loss: Callable | None = None,
    augment: Callable | None = None,
) -> str:
    """Make `build()` the architecture `name`, evaluated on the data set of the same name.

    `load_data(split, data_dir)` returns the examples of the split "train" or "test", such as inputs (N, ...) and
    labels, int64 (N,); `models.task.Task` describes the others. Without `load_data` and `evaluate` the network is
    rebuilt and saved, but not evaluated. Returns the name. Raises InputError for a name that is taken or invalid, and
    for a function that does not take what it is called with.
    """
    check_name(name)
    if name in SHIPPED:
        raise InputError(f"the name {name!r} is that of a shipped one; choose another")
    maker = build if isinstance(build, Maker) else Maker(name, build)
    for function, each in (("load_data", load_data), ("evaluate", evaluate), ("loss", loss), ("augment", augment)):
        _check_function(maker.what, function, each)

    ARCHITECTURES[name] = maker
    for table in (DATASETS, LOADERS, OWN):
        table.pop(name, None)
    if load_data is not None or evaluate is not None:
        DATASETS[name], OWN[name] = name, Task(name, load_data, evaluate, loss, augment)
    if load_data is not None:
        LOADERS[name] = load_data
    return name


def from_file(address: str) -> str:
    """Run FILE.py and register the function of `address` FILE.py:NAME under its own name, which is returned.

    The file may import its neighbours, whatever they are called, as when Python runs it. It runs again only where it
    or a neighbour has changed. Raises InputError if the file cannot be run, the function does not make a network, or
    another function of the file does not take what it is called with.
    """
    path, colon, function = address.rpartition(":")
    if not colon or not path.endswith(".py") or not os.path.isfile(path):
        raise InputError(f"`architecture` must be FILE.py:NAME, a file that exists; got {address!r}")
    with _own_code(f"`architecture` {address}"):
        file = run_file(Path(path).resolve())
    if function not in file.made:
        file.made[function] = _functions_of(file, function, address)
    maker, functions = file.made[function]
    return register(function, maker, **functions)


def resolve_architecture(architecture: str | None) -> str | None:
    """The name of an architecture given as FILE.py:NAME, which is registered, or by name; None for None.

    Raises InputError for a name that is not known.
    """
    if architecture is None or architecture in ARCHITECTURES:
        return architecture
    if ".py" in architecture:
        return from_file(architecture)
    raise InputError(f"`architecture` must be FILE.py:NAME or one of {', '.join(ARCHITECTURES)}; got {architecture!r}")


def check_apart(name: str, other: str | None) -> None:
    """Raise InputError where ``other``, FILE.py:NAME, would take the place of the architecture ``name`` while both are
    in use, as a teacher's would take its student's."""
    path, colon, function = (other or "").rpartition(":")
    there = getattr(ARCHITECTURES.get(name), "path", None)
    if colon and function == name and there != Path(path).resolve():
        raise InputError(f"{name} is two networks, of {there or 'this program'} and of {path}; rename one")


def _functions_of(file: OwnFile, function: str, address: str) -> tuple[Maker, dict[str, Any]]:
    """What makes the network, which has been tried, and the functions beside it."""
    with _own_code(f"`architecture` {address}"), file.at_work():
        make = getattr(file.module, function)
        functions = {name: file.bound(getattr(file.module, name, None)) for name in TAKEN}
    maker = Maker(address, file.bound(make), file.path)
    for name, each in functions.items():
        _check_function(maker.what, name, each)
    maker.make()
    return maker, functions


def _check_function(what: str, name: str, function: Any) -> None:
    """InputError for what is neither None nor a function that takes what it is called with."""
    if function is not None and not (callable(function) and _takes(function, TAKEN[name])):
        raise InputError(f"{what}: {name} must be a function that takes ({', '.join(TAKEN[name])})")


def _takes(function: Callable, given: tuple[str, ...]) -> bool:
    """Whether a function can be called with these arguments; True where Python cannot tell."""
    try:
        inspect.signature(function).bind(*given)
    except TypeError:
        return False
    except ValueError:  # of a builtin
        return True
    return True


@contextlib.contextmanager
def _own_code(what: str) -> Iterator[None]:
    """Run a user's own code; whatever it raises becomes an InputError, an exit, too."""
    try:
        yield
    except (Exception, SystemExit) as error:
        raise InputError(f"{what}: {type(error).__name__}: {one_line(error)}") from error


def _memory(weight: nn.Parameter) -> Any:
    """What holds a parameter's numbers, the same object as long as they are there."""
    try:
        return weight.untyped_storage()
    except (NotImplementedError, RuntimeError):  # of a kind that has none
        return weight
