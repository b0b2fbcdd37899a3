"""One import name: from a checkout that is not installed, beside another one, from a wheel, and beside a user's own
packages of any name."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from airnet_sdr.commands import MODULES
from airnet_sdr.tests.command import PATIENCE_S, ROOT, environment

ROOMS = ("dsp", "models", "tx", "rx", "sim")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
COMMANDS = sorted(
    str(path.relative_to(ROOT))
    for room in ROOMS
    for path in (ROOT / room).rglob("*.py")
    if "sys.path[0] = " in path.read_text(encoding="utf-8") and path.name != "__init__.py"
)


def files_of(room: str) -> list[Path]:
    """Source and data of a room, relative to the checkout."""
    found = (path for path in (ROOT / room).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return [path.relative_to(ROOT) for path in found if not path.name.endswith(".part")]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """The rooms and `src` in another folder, without networks but the shipped one."""
    tree = tmp_path_factory.mktemp("checkout")
    for room in (*ROOMS, "src"):
        shutil.copytree(ROOT / room, tree / room, ignore=shutil.ignore_patterns("__pycache__", "cifar10-jpeg"))
    return tree


def run(*words, cwd, **variables):
    """A Python process elsewhere than in this checkout."""
    command = [sys.executable, *map(str, words)]
    env = {**environment(), **variables}
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=PATIENCE_S)


def imported_from(result) -> set[Path]:
    """Folders that the package's modules came from, as `python -v` tells."""
    found = re.findall(r"code object from '?([^'\n]*?\.pyc?)'?$", result.stderr, re.MULTILINE)
    return {Path(path) for path in found if re.search(rf"/(src/airnet_sdr|{'|'.join(ROOMS)})/", path)}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_run_by_path_is_all_of_its_own_checkout(checkout, tmp_path, command):
    """Though this checkout is installed in the environment, and the user stands elsewhere."""
    result = run("-v", checkout / command, "--help", cwd=tmp_path)
    assert result.returncode == 0, result.stderr[-500:]
    ours = {path for path in imported_from(result) if "site-packages" not in path.parts}
    assert ours and all(path.is_relative_to(checkout) for path in ours), sorted(ours)[:3]


def test_the_virtual_board_runs_as_a_module_of_a_checkout(checkout):
    result = run("-v", "-m", "sim.virtual_pluto", "--help", cwd=checkout)
    assert result.returncode == 0, result.stderr[-500:]
    ours = {path for path in imported_from(result) if "site-packages" not in path.parts}
    assert ours and all(path.is_relative_to(checkout) for path in ours), sorted(ours)[:3]


def test_commands_put_neither_the_root_nor_their_folder_into_the_search_path():
    for command in COMMANDS:
        source = (ROOT / command).read_text(encoding="utf-8")
        level = len(Path(command).parts) - 1
        assert f'sys.path[0] = str(Path(__file__).resolve().parents[{level}] / "src")' in source, command


def test_rays_workers_are_of_the_same_checkout(checkout, tmp_path):
    pytest.importorskip("ray")
    program = tmp_path / "where.py"
    program.write_text(
        "import sys\nsys.path[0] = sys.argv[1] + '/src'\n"
        "from airnet_sdr.dsp.host.workers import Workers\n"
        "def where(_):\n    import airnet_sdr.dsp.units as units\n    return units.__file__\n"
        "with Workers(1) as workers:\n    print(*[file for _, file in workers.map(where, [(0,)])])\n"
    )
    result = run(program, checkout, cwd=tmp_path)
    assert result.stdout.split() == [str(checkout / "dsp" / "units.py")], result.stderr[-500:]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    tree = folder / "tree"
    tree.mkdir()
    for name in (*ROOMS, "src"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "LICENSE", "README.md"):
        shutil.copy(ROOT / name, tree / name)
    build = run("-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, tree, cwd=folder)
    assert build.returncode == 0, build.stderr[-800:]
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_the_wheel_has_one_name_and_every_file_of_the_rooms(wheel):
    names = {path.name for path in wheel.iterdir()}
    assert {name for name in names if not name.endswith(".dist-info")} == {"airnet_sdr"}
    missing = [path for room in ROOMS for path in files_of(room) if not (wheel / "airnet_sdr" / path).is_file()]
    assert not missing, missing[:5]


def test_the_wheel_runs_without_the_checkout(wheel, tmp_path):
    """Every module of it can be imported, all from the wheel."""
    program = (
        "import importlib, pkgutil, sys, airnet_sdr\n"
        "names = [found.name for found in pkgutil.walk_packages(airnet_sdr.__path__, 'airnet_sdr.')]\n"
        "names = [name for name in names if 'flowgraphs' not in name]\n"
        "modules = [importlib.import_module(name) for name in names]\n"
        "print(len(modules), *{module.__file__ for module in modules})\n"
        "from airnet_sdr.tx import send\n"
        "sys.exit(send.main(['--list']))\n"
    )
    result = run("-c", program, cwd=tmp_path, PYTHONPATH=str(wheel))
    assert result.returncode == 0 and "fashion" in result.stdout, result.stderr[-500:]
    num_modules, *files = result.stdout.splitlines()[0].split()
    assert int(num_modules) > 100 and all(Path(file).is_relative_to(wheel) for file in files)


def test_every_entry_point_is_a_command():
    scripts = PROJECT["project"]["scripts"]
    assert scripts.keys() == MODULES.keys() and set(scripts.values()) == {"airnet_sdr.commands:main"}
    for module in MODULES.values():
        tree = ast.parse((ROOT / (module.replace(".", "/") + ".py")).read_text(encoding="utf-8"))
        assert any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body), module


def test_entry_points_print_version_and_completion(tmp_path):
    for name in ("airnet-send", "airnet-receive"):
        program = f"import sys; sys.argv[0] = '/bin/{name}'; from airnet_sdr.commands import main; sys.exit(main())"
        shown = run("-c", program, "--version", cwd=tmp_path, PYTHONPATH=str(ROOT / "src"))
        assert shown.returncode == 0 and re.fullmatch(r"\w+ \S.*\n", shown.stdout), shown
        shown = run("-c", program, "--print-completion", "bash", cwd=tmp_path, PYTHONPATH=str(ROOT / "src"))
        assert shown.returncode == 0 and name in shown.stdout and "--radio" in shown.stdout, shown.stderr


NETS = """
from torch import nn

class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(9, 4)

    def forward(self, x):
        return self.layer(x)
"""


@pytest.mark.parametrize("package", ["models", "data"])
def test_a_users_file_imports_its_neighbours_whatever_they_are_called(tmp_path, package):
    """At both ends: the sender's, and the receiver's, started in another folder."""
    repository = tmp_path / "theirs"
    (repository / package).mkdir(parents=True)
    (repository / package / "__init__.py").write_text("")
    (repository / package / "mine.py").write_text(NETS)
    (repository / "helpers.py").write_text(f"from {package}.mine import Tiny\n")
    (repository / "net.py").write_text("from helpers import Tiny\n\ndef tiny():\n    return Tiny()\n")
    program = (
        "import torch\nfrom safetensors.torch import save_file\nfrom net import tiny\n"
        "torch.manual_seed(1)\nsave_file(tiny().state_dict(), 'tiny.safetensors')\n"
    )
    assert run("-c", program, cwd=repository).returncode == 0
    architecture = ["--architecture", repository / "net.py:tiny"]
    radio = f"file:{tmp_path / 'tiny.sigmf-meta'}"
    sent = run(
        ROOT / "tx/send.py", *architecture, "--model", repository / "tiny.safetensors", "--radio", radio, cwd=tmp_path
    )
    assert (sent.returncode, sent.stderr) == (0, "")
    got = run(ROOT / "rx/receive.py", *architecture, "--radio", radio, cwd=tmp_path)
    assert (got.returncode, got.stderr) == (0, "") and "tiny: " in got.stdout


def test_two_names_of_one_thing_do_not_mix(tmp_path):
    """A user's `models` stays theirs after ours was imported."""
    (tmp_path / "models.py").write_text("THEIRS = True\n")
    program = "import airnet_sdr.models.nets, models; print(models.THEIRS, airnet_sdr.models.nets.__name__)"
    shown = run("-c", program, cwd=tmp_path, PYTHONPATH=os.pathsep.join([str(ROOT / "src"), str(tmp_path)]))
    assert shown.stdout.split() == ["True", "airnet_sdr.models.nets"], shown.stderr
