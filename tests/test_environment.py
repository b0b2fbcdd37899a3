"""pyproject.toml, constraints.txt and environment.yml agree with each other and with what runs."""

import re
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from airnet_sdr.tests.test_architecture import ROOMS, imported

ROOT = Path(__file__).resolve().parents[1]
CONDA_NAMES = {"pytorch": "torch"}
CONDA_ONLY = {"python", "pip", "libiio", "gnuradio"}
IMPORTED_AS = {  # where a package's name is another than what is imported of it
    "PIL": "pillow",
    "adi": "pyadi-iio",
    "iio": "pylibiio",
    "liquid": "liquid-dsp",
    "sionna": "sionna-no-rt",
    "torch_pruning": "torch-pruning",
    "zmq": "pyzmq",
}
OWN = {*ROOMS, "airnet_sdr", *(path.stem for path in (ROOT / "src" / "airnet_sdr").glob("*.py"))}
NOT_IMPORTED = {"python", "pip", "libiio", "ruff", "mypy", "coverage", "pytest-xdist"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def project_requirements() -> dict[str, Requirement]:
    """All requirements of the project, extras included, by name."""
    texts = [*PROJECT["dependencies"], *(text for extra in PROJECT["optional-dependencies"].values() for text in extra)]
    return {requirement.name: requirement for requirement in map(Requirement, texts)}


def conda_requirements() -> dict[str, Requirement]:
    """The list items of environment.yml, conda's and pip's, by the name that pip uses."""
    items = re.findall(r"^ +- ([a-z][\w-]*(?: [<>=].*)?)$", (ROOT / "environment.yml").read_text(), re.MULTILINE)
    requirements = [Requirement(item) for item in items if item != "conda-forge"]
    return {CONDA_NAMES.get(requirement.name, requirement.name): requirement for requirement in requirements}


def pins() -> dict[str, Version]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return {
        name.lower(): Version(pin) for name, pin in (line.split("==") for line in lines if not line.startswith("#"))
    }


def test_conda_and_pip_agree_on_names_and_bounds():
    conda, project = conda_requirements(), project_requirements()
    assert conda.keys() - CONDA_ONLY == project.keys()
    assert {name: conda[name].specifier for name in project} == {name: project[name].specifier for name in project}
    assert str(conda["python"].specifier) == PROJECT["requires-python"]
    assert "1.0" not in conda["libiio"].specifier  # pylibiio 0.x needs it


def packages_imported() -> dict[str, set[str]]:
    """The packages that the tree imports, by name, with the files that do."""
    found = {}
    for path in (path for room in ROOMS for path in (ROOT / room).rglob("*.py")):
        tops = {name.split(".")[0] for name in imported(path)} - {""} - OWN - sys.stdlib_module_names
        for top in tops:
            found.setdefault(IMPORTED_AS.get(top, top), set()).add(str(path.relative_to(ROOT)))
    return found


def test_conda_has_all_that_is_imported_and_no_more():
    conda = conda_requirements().keys() - NOT_IMPORTED
    missing = {name: files for name, files in packages_imported().items() if name not in conda}
    assert not missing
    assert not conda - packages_imported().keys()


def test_only_gnu_radios_own_python_imports_gnu_radio():
    assert packages_imported()["gnuradio"] == {"sim/channel/flowgraphs/headless_air.py"}


def test_every_requirement_is_bounded_and_pinned_within_its_bounds():
    for name, requirement in project_requirements().items():
        assert {spec.operator for spec in requirement.specifier} == {">=", "<"}, name
        assert pins()[name] in requirement.specifier, name


def test_constraints_are_names_and_exact_versions_only():
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        assert line.startswith("#") or re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line), line


@pytest.mark.parametrize("name", [Requirement(text).name for text in PROJECT["dependencies"]])
def test_what_runs_is_within_bounds(name):
    try:
        running = version(name)
    except PackageNotFoundError:
        pytest.fail(f"{name} is not installed; run make test")
    assert Version(running) in project_requirements()[name].specifier
