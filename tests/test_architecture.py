"""Imports run one way: dsp <- models <- tx, rx <- sim <- tests; no torch in dsp, I/O in dsp/radio and dsp/host.

Likewise held here: the size of functions and modules, where a command's options end, and what loads without torch.
"""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAY_IMPORT = {
    "dsp": {"dsp"},
    "models": {"dsp", "models"},
    "tx": {"dsp", "models", "tx"},
    "rx": {"dsp", "models", "rx"},
    "sim": {"dsp", "models", "tx", "rx", "sim"},
}
ROOMS = {*MAY_IMPORT, "tests"}
FILES = [path for room in MAY_IMPORT for path in sorted((ROOT / room).rglob("*.py"))]
CODE = [*FILES, *sorted((ROOT / "src").rglob("*.py"))]


def imported(path) -> set[str]:
    """Dotted names of all modules that a file imports, anywhere in it; `from a import b` gives a and a.b."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = path.relative_to(ROOT).parent.parts[: -node.level + 1 or None] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            names.update([module, *(f"{module}.{alias.name}" for alias in node.names)])
    return {name.removeprefix("airnet_sdr.") for name in names}


def name_of(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_run_one_way(path):
    room = path.relative_to(ROOT).parts[0]
    rooms = {name.split(".")[0] for name in imported(path)} & ROOMS
    assert rooms <= MAY_IMPORT[room], f"{name_of(path)} imports {sorted(rooms - MAY_IMPORT[room])}"


@pytest.mark.parametrize("path", sorted((ROOT / "dsp").rglob("*.py")), ids=name_of)
def test_dsp_is_arrays_in_arrays_out(path):
    names = imported(path)
    tops = {name.split(".")[0] for name in names}
    assert "torch" not in tops
    if not {ROOT / "dsp" / "radio", ROOT / "dsp" / "host"} & set(path.parents):
        assert not tops & {"zmq", "sigmf", "adi", "iio", "socket", "pathlib", "os"}
        assert not any(name.startswith("dsp.radio") for name in names)


def test_rooms_are_packages_and_no_folder_shadows_one():
    assert all((ROOT / room / "__init__.py").exists() for room in MAY_IMPORT)
    assert not list(ROOT.glob("**/sim/gnuradio")) and FILES


def test_the_walk_sees_every_form_of_import(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    (tmp_path / "sim" / "deep").mkdir(parents=True)
    path = tmp_path / "sim" / "deep" / "module.py"
    path.write_text(
        "import airnet_sdr.tx.send\nfrom . import near\nfrom ..far import thing\n"
        "def f():\n    from airnet_sdr.rx import receive\n"
    )
    assert imported(path) >= {"tx.send", "sim.deep.near", "sim.far.thing", "rx.receive"}


EXPERIMENTS = {path.stem for path in (ROOT / "sim" / "experiments").glob("*.py")} - {"__init__"}


@pytest.mark.parametrize(
    "path", [path for path in FILES if path.name != "sweep.py" or path.parent.name != "sim"], ids=name_of
)
def test_nothing_imports_an_experiment(path):
    """What experiments share is in `sim.experiments.library`; `grid` is above it, for `sim/sweep.py` alone. Nor does
    anything but `sim/bench.py` and `sim/endurance.py` import a benchmark."""
    names = imported(path)
    assert not names & {f"sim.experiments.{name}" for name in EXPERIMENTS}
    if "experiments" not in path.parts:
        assert not any(name.startswith("sim.experiments") for name in names)
    if "benchmarks" not in path.parts and path.name not in ("bench.py", "endurance.py"):
        assert not any(name.startswith("sim.benchmarks") for name in names)
    elif "grid" not in path.parts:
        assert not any(name.startswith("sim.experiments.grid") for name in names)


def arguments_of(function) -> list[str]:
    arguments = function.args
    return [each.arg for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]


@pytest.mark.parametrize("path", [path for path in FILES if ROOT / "dsp" not in path.parents], ids=name_of)
def test_functions_take_what_they_use_and_modules_are_short(path):
    """No namespace of options below `main`, at most eight parameters but in kernels, at most 300 lines."""
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            kernel = any("njit" in ast.unparse(decorator) for decorator in node.decorator_list)
            assert kernel or len(arguments_of(node)) <= 8, node.name
            assert not {"args", "namespace"} & set(arguments_of(node)) or node.name == "__call__", node.name


STARTERS = {"subprocess", "runpy"}  # modules whose every call starts or loads a file or module that it is given
STARTING = {"os.system", "os.popen", "importlib.import_module", "import_module", "__import__"}
NAMED = re.compile(
    rf"(?:^|/)({'|'.join(sorted(ROOMS))})/[\w/]+\.py$|^(?:airnet_sdr\.)?({'|'.join(sorted(ROOMS))})(?:\.\w+)+$"
)


def starts(call: ast.Call) -> bool:
    """Whether a call starts a process, or loads a file or module by its name."""
    called = ast.unparse(call.func)
    started = called.startswith(("os.exec", "os.spawn", "os.posix_spawn")) or called in STARTING
    return started or called.split(".")[0] in STARTERS


def rooms_named(tree: ast.Module) -> set[str]:
    """Rooms of which a string names a file or module: whole strings anywhere, words of strings in calls that start it.

    A message that names a command for a person is several words and no argument of such a call. Where the module has
    such a call, a string that is a room's name alone counts too, as in ``ROOT / "sim" / "selftest.py"``.
    """
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and starts(node)]
    found = set()
    for top in [tree, *calls]:
        for node in ast.walk(top):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                words = node.value.split() if top is not tree else [node.value]
                matches = filter(None, map(NAMED.search, words))
                found |= {match[1] or match[2] for match in matches}
                found |= {word for word in words if calls and word in ROOMS}
    return found


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_nothing_starts_a_file_of_a_room_above(path):
    room = path.relative_to(ROOT).parts[0]
    above = rooms_named(ast.parse(path.read_text(encoding="utf-8"))) - MAY_IMPORT[room]
    assert not above, f"{name_of(path)} names files or modules of {sorted(above)}"


@pytest.mark.parametrize(
    ("source", "rooms"),
    [
        ("import subprocess\nsubprocess.run(['python', 'sim/selftest.py'])", {"sim"}),
        ("import subprocess\ncommand = [python, ROOT / 'rx' / 'receive.py']\nsubprocess.Popen(command)", {"rx"}),
        ("import os\nos.system('python tx/send.py --mute')", {"tx"}),
        ("import os\nos.execv(python, ['-m', 'airnet_sdr.sim.virtual_pluto'])", {"sim"}),
        ("import runpy\nrunpy.run_path(f'{ROOT}/sim/loopback.py')", {"sim"}),
        ("from importlib import import_module\nimport_module('airnet_sdr.rx.receive')", {"rx"}),
        ("start('sim/selftest.py')", {"sim"}),
        ("def f():\n    '''See `sim/selftest.py`.'''\n    print('run python sim/selftest.py')", set()),
        ("board.attrs['tx'] = 'rx'", set()),
    ],
)
def test_the_walk_sees_every_start(source, rooms):
    assert rooms_named(ast.parse(source)) == rooms


MOST_PARAMETERS = 8


def functions(path) -> list[ast.FunctionDef]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]


def num_parameters(function) -> int:
    """Parameters of all kinds, without those that a method has by itself."""
    each = function.args
    names = [a.arg for a in (*each.posonlyargs, *each.args, *each.kwonlyargs, each.vararg, each.kwarg) if a is not None]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def is_kernel(function) -> bool:
    return any(ast.unparse(decorator).startswith("njit") for decorator in function.decorator_list)


def test_no_function_has_more_than_eight_parameters_but_numba_kernels():
    wide = {
        f"{name_of(path)}:{function.name}"
        for path in CODE
        for function in functions(path)
        if num_parameters(function) > MOST_PARAMETERS and not is_kernel(function)
    }
    assert not wide


MOST_LINES = 300


def test_no_module_is_longer_than_300_lines():
    long = {name_of(path) for path in CODE if len(path.read_text(encoding="utf-8").splitlines()) > MOST_LINES}
    assert not long


def names_outside_main(tree: ast.AST) -> set[str]:
    """Names read or bound in a module, but for those in `main` and in functions that add options."""
    found = set()
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef) and (node.name == "main" or node.name.startswith("add_")):
            continue
        found |= names_outside_main(node)
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.Attribute) and node.attr in {"Namespace", "parse_args", "parse_known_args"}:
            found.add(node.attr)
    return found


@pytest.mark.parametrize("path", [path for path in CODE if name_of(path) != "dsp/host/command.py"], ids=name_of)
def test_only_main_and_what_adds_options_see_a_namespace(path):
    names = names_outside_main(ast.parse(path.read_text(encoding="utf-8")))
    assert not names & {"args", "namespace", "Namespace", "parse_args", "parse_known_args"}


def test_the_walk_sees_a_namespace_below_main():
    allowed = "def main():\n    args = parser.parse_args()\ndef add_options(args):\n    args.x = 1"
    assert "args" not in names_outside_main(ast.parse(allowed))
    for source in ("def run(args):\n    pass", "def run(x):\n    args = x", "class A:\n    def f(self, *args): pass"):
        assert "args" in names_outside_main(ast.parse(source))
    assert "parse_args" in names_outside_main(ast.parse("options = vars(parser.parse_args())"))


LIGHT = [
    "airnet_sdr",
    "airnet_sdr.dsp.radio",
    "airnet_sdr.models.plan_config",
    "airnet_sdr.models.shipped",
    "airnet_sdr.rx.config",
    "airnet_sdr.rx.receive",
    "airnet_sdr.tx.config",
    "airnet_sdr.tx.send",
    *(f"airnet_sdr.dsp.host.{path.stem}" for path in sorted((ROOT / "dsp" / "host").glob("[a-z]*.py"))),
]


def test_configs_and_commands_help_load_no_heavy_library():
    """One process for each module, as what one of them loads is there for the next."""
    heavy = {"torch", "numba", "scipy", "matplotlib"}
    code = f"import sys, importlib; importlib.import_module(sys.argv[1]); print(sorted({heavy} & set(sys.modules)))"
    for module in LIGHT:
        run = subprocess.run(
            [sys.executable, "-c", code, module], capture_output=True, text=True, check=True, cwd=ROOT / "src"
        )
        assert run.stdout.strip() == "[]", f"{module} loads {run.stdout}"


FORMULAS = {"dsp/theory.py", "dsp/units.py"}  # numbers or arrays alike: each returns what it is given
FOREIGN = {"sim/channel/flowgraphs/headless_air.py", "sim/virtual_pluto/server.py"}  # GNU Radio's types, socketserver's


def public_functions(body: list[ast.stmt]) -> list[ast.FunctionDef]:
    """Functions of a module and methods of its classes whose names are public."""
    found = []
    for node in body:
        if isinstance(node, ast.ClassDef):
            found += public_functions(node.body)
        elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            found.append(node)
    return found


@pytest.mark.parametrize("path", [path for path in CODE if name_of(path) not in FORMULAS | FOREIGN], ids=name_of)
def test_public_functions_say_what_they_return(path):
    """mypy checks the body of a function only where its signature has a type."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    untyped = [f.name for f in public_functions(body) if f.returns is None and not is_kernel(f)]
    assert not untyped
