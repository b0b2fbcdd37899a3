"""Imports run one way: dsp <- models <- tx, rx <- sim <- tests; no torch in dsp, I/O in dsp/radio and dsp/host."""

import ast
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
    anything but `sim/bench.py` import a benchmark."""
    names = imported(path)
    assert not names & {f"sim.experiments.{name}" for name in EXPERIMENTS}
    if "experiments" not in path.parts:
        assert not any(name.startswith("sim.experiments") for name in names)
    if "benchmarks" not in path.parts and path.name != "bench.py":
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
