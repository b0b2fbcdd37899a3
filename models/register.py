"""Networks of your own: any `torch.nn.Module` can be sent if both ends have its code.

    register("modulation", modulation, load_data)

makes `modulation()` an architecture of that name beside the shipped ones; so do `--architecture FILE.py:modulation` on
a command line and `architecture="FILE.py:modulation"` in Python. Only the name is sent: a receiver builds only the
architectures with which it was started, and a received name never imports or runs anything. The file runs because the
operator of this machine named it.
"""

import functools
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

from torch import Tensor, nn

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.models.card import check_name
from airnet_sdr.models.data import LOADERS
from airnet_sdr.models.nets import ARCHITECTURES, DATASETS

SHIPPED = frozenset(ARCHITECTURES) | frozenset(LOADERS)


def register(
    name: str,
    build: Callable[[], nn.Module],
    load_data: Callable[[str, str | None], tuple[Tensor, Tensor]] | None = None,
) -> str:
    """Make `build()` the architecture `name`, evaluated on the data set of the same name.

    `load_data(split, data_dir)` returns the inputs (N, ...) and labels, int64 (N,), of the split "train" or "test";
    without it the network is rebuilt and saved, but not evaluated. Returns the name. Raises InputError for a
    name that is taken or invalid.
    """
    check_name(name)
    if name in SHIPPED:
        raise InputError(f"the name {name!r} is that of a shipped one; choose another")

    def checked(split, data_dir=None):
        inputs, labels = load_data(split, data_dir)
        if not len(inputs) == len(labels) > 0 or labels.ndim != 1:
            raise InputError(
                f"the {split} data of {name} must be N inputs and N labels; got {tuple(inputs.shape)} and "
                f"{tuple(labels.shape)}"
            )
        return inputs, labels

    ARCHITECTURES[name] = build
    DATASETS.pop(name, None)
    LOADERS.pop(name, None)
    if load_data is not None:
        DATASETS[name], LOADERS[name] = name, checked
    return name


@functools.cache
def from_file(address: str) -> str:
    """Run FILE.py and register the function of `address` FILE.py:NAME under its own name, which is returned.

    The file may import its neighbours, whatever they are called: its folder goes into the module search path, as when
    Python runs the file itself. Raises InputError if the file cannot be run or the function does not return a module.
    """
    path, colon, function = address.rpartition(":")
    if not colon or not path.endswith(".py") or not Path(path).is_file():
        raise InputError(f"`architecture` must be FILE.py:NAME, a file that exists; got {address!r}")
    folder = str(Path(path).resolve().parent)
    if folder not in sys.path:
        sys.path.insert(1, folder)
    spec = importlib.util.spec_from_file_location(f"airnet_architecture_{Path(path).stem}", path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        build = getattr(module, function)
        made = build()
    except Exception as error:  # the user's code may raise anything
        raise InputError(f"`architecture` {address}: {type(error).__name__}: {_one_line(error)}") from error
    if not isinstance(made, nn.Module):
        raise InputError(f"`architecture` {address}: {function}() must return a torch.nn.Module; got {type(made)}")
    return register(function, build, getattr(module, "load_data", None))


def resolve_architecture(architecture: str | None) -> str | None:
    """The name of an architecture given as FILE.py:NAME, which is registered, or by name; None for None.

    Raises InputError for a name that is not known.
    """
    if architecture is None or architecture in ARCHITECTURES:
        return architecture
    if ".py" in architecture:
        return from_file(architecture)
    raise InputError(f"`architecture` must be FILE.py:NAME or one of {', '.join(ARCHITECTURES)}; got {architecture!r}")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
