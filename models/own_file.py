"""A user's FILE.py, run as Python itself runs it, among its neighbours, which no other file sees.

The file's folder comes first in the module search path, so that it may import its neighbours, whatever they are called.
Afterwards these are out of `sys.modules` again: `layers` beside another file is another module. At each call the file's
functions find theirs in their places (`OwnFile.bound`). Whoever else asks for a neighbour later, as pickle or an import
in `forward`, gets the same module if nothing else has its name.

A folder in which everyone's imports look already, such as that of the program that runs, is shared: its modules stay.
"""

import contextlib
import functools
import hashlib
import importlib
import importlib.abc
import inspect
import os
import re
import sys
from collections.abc import Collection, Iterator
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

OURS = frozenset({"__init__", "__main__", "airnet_sdr"}) | sys.stdlib_module_names  # never a neighbour's


class OwnFile(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """One version of a user's file: its module, the neighbours that it imported, and what was made of its functions.

    It finds its neighbours itself, before all other finders while its code runs, and after them otherwise.
    """

    def __init__(self, path: Path):
        self.path, self.folder, self.module = path, str(path.parent), ModuleType("")
        self.is_shared = self.folder in map(os.path.realpath, sys.path)
        self.names = _names_in(self.folder)
        self.neighbours: dict[str, ModuleType] = {}
        self.versions = {str(path): _version(str(path))}  # of the file and its neighbours
        self.made: dict[str, Any] = {}

    @property
    def is_current(self) -> bool:
        """Whether neither the file nor a neighbour that it imported has changed since."""
        return all(_version(path) == version for path, version in self.versions.items())

    def run(self) -> None:
        """Run the file, as a module of a name of its own. Raises what it raises."""
        stem, digest = re.sub(r"\W", "_", self.path.stem), hashlib.sha256(os.fsencode(self.path)).hexdigest()[:16]
        name = f"airnet_architecture_{stem}_{digest}"
        loader = SourceFileLoader(name, str(self.path))
        self.module = module_from_spec(spec_from_loader(name, loader))
        before = sys.modules.get(name)
        sys.modules[name] = self.module  # where dataclasses and pickle look for it
        try:
            # not what Python has cached of it, which may be of another version of the same second
            code = loader.source_to_code(loader.get_data(str(self.path)), str(self.path))
            with self.at_work():
                exec(code, self.module.__dict__)
        except BaseException:
            sys.modules.pop(name)
            if before is not None:
                sys.modules[name] = before
            raise

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Inside this context imports find the file's neighbours first, and other modules of their names are hidden."""
        apart = [name for name in self.names if not (self.is_shared and self._is_here(name))]
        hidden = _taken_out(apart)
        sys.modules.update(self.neighbours)
        num_modules = len(sys.modules)
        sys.path.insert(0, self.folder)
        sys.meta_path.insert(0, self)
        try:
            yield
        finally:
            sys.meta_path.remove(self)
            with contextlib.suppress(ValueError):  # the user's code may change the path, too
                sys.path.remove(self.folder)
            if len(sys.modules) != num_modules:
                self._keep(_taken_out(apart))
            for name in self.neighbours:  # quick, as a loss has nothing new at each step
                sys.modules.pop(name, None)
            sys.modules.update(hidden)

    def bound(self, function: Any) -> Any:
        """The function, which now runs among the file's neighbours; what is no function stays as it is."""
        if not callable(function):
            return function

        @functools.wraps(function, updated=())
        def run(*given, **named):
            with self.at_work():
                return function(*given, **named)

        return run

    def find_spec(self, name: str, path=None, target=None) -> ModuleSpec | None:
        """Where a module is: a neighbour imported before, or one of the file's folder; None for others."""
        if name in self.neighbours:
            return spec_from_loader(name, self, is_package=hasattr(self.neighbours[name], "__path__"))
        return PathFinder.find_spec(name, [self.folder]) if path is None and name in self.names else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The neighbour that was imported before."""
        return self.neighbours[spec.name]

    def exec_module(self, module: ModuleType) -> None:
        """Put its submodules beside it; they have run already, as it has."""
        inside = f"{module.__name__}."
        sys.modules.update({name: each for name, each in self.neighbours.items() if name.startswith(inside)})

    def _keep(self, found: dict[str, ModuleType]) -> None:
        """Remember neighbours, and the versions of those that are new."""
        for name in found.keys() - self.neighbours.keys():
            path = getattr(found[name], "__file__", None)
            if path is not None:
                self.versions[path] = _version(path)
        self.neighbours |= found

    def _is_here(self, name: str) -> bool:
        """Whether the module of a name is this folder's, or not imported."""
        module, base = sys.modules.get(name), os.path.join(self.folder, name)
        place = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), "")
        return module is None or f"{os.path.realpath(place)}/".startswith((f"{base}.", f"{base}/"))


FILES: dict[Path, OwnFile] = {}  # the latest version of each


def run_file(path: Path) -> OwnFile:
    """The user's file, run unless this version of it and of its neighbours has been run. Raises what it raises.

    path : resolved, of a file that exists
    """
    if path not in FILES or not FILES[path].is_current:
        importlib.invalidate_caches()
        file = OwnFile(path)
        file.run()
        before = [each for each in sys.meta_path if isinstance(each, OwnFile) and each.path == path]
        sys.meta_path[:] = [*(each for each in sys.meta_path if each not in before), file]
        FILES[path] = file
    return FILES[path]


def _names_in(folder: str) -> frozenset[str]:
    """Names by which an import finds modules and packages in a folder, or folders in it that no package has.

    The latter as Python does it, but that a package in the current folder does not count.
    """
    others = [place for place in sys.path if os.path.realpath(place) not in (folder, os.getcwd())]
    try:
        entries = list(os.scandir(folder))
    except OSError:  # it may be run, and not listed
        return frozenset()
    names = {entry.name if entry.is_dir() else inspect.getmodulename(entry.name) or "" for entry in entries} - OURS
    specs = {name: PathFinder.find_spec(name, [folder]) for name in names if name.isidentifier()}
    return frozenset(
        name
        for name, spec in specs.items()
        if spec is not None and (spec.origin is not None or PathFinder.find_spec(name, others) is None)
    )


def _taken_out(names: Collection[str]) -> dict[str, ModuleType]:
    """Modules of these names and their submodules, which are taken out of `sys.modules`."""
    if sys.modules.keys().isdisjoint(names):
        return {}
    tops = set(names)
    return {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] in tops}


def _version(path: str) -> int | None:
    """When a file was changed; None for none."""
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return None
