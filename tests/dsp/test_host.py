"""Options declared once: checked where the config is made, offered as flags, named in messages."""

import math
import os
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.host import environment
from airnet_sdr.dsp.host.command import CommandParser, run_command
from airnet_sdr.dsp.host.options import add_options, check_fields, config_from, option, split_options, with_options
from airnet_sdr.tests.command import ROOT


@dataclass(frozen=True)
class Config:
    copies: int = option(1, "times every weight is sent", 1, 255)
    snr_db: float | None = option(None, "SNR", -30, 60)
    timeout_s: float = option(60.0, "patience", 0, choices=("inf",))
    scheme: str = option("analog", "how weights travel", choices=("analog", "digital"))
    levels_db: tuple[float, ...] = option((0.0, 5.0), "steps", -90, 90)
    echoes: tuple = option((), "echo", parts=("DELAY", "LEVEL_DB", "PHASE_DEG"), flag="--echo")
    follow: bool = option(False, "go on")

    def __post_init__(self):
        check_fields(self)


def run_with(*words):
    """The config that a command line describes, and how the command ends."""
    parser, made = CommandParser(prog="try"), []
    add_options(parser, Config)
    options = parser.options([str(word) for word in words])
    return run_command(parser, lambda: made.append(config_from(Config, options))), made


def test_an_empty_command_line_is_the_default():
    assert run_with() == (0, [Config()])


def test_options_take_the_types_of_their_fields():
    words = ["--copies", 3, "--snr-db", "-2.5", "--timeout-s", "inf", "--scheme", "digital", "--levels-db", "1", "2"]
    status, (config,) = run_with(*words, "--echo", "1.5:-3", "--echo", "2:-6:90", "--follow")
    assert status == 0
    assert config == Config(3, -2.5, math.inf, "digital", (1.0, 2.0), ((1.5, -3.0, 0.0), (2.0, -6.0, 90.0)), True)
    assert isinstance(config.copies, int) and isinstance(config.snr_db, float)


@pytest.mark.parametrize("word", ["-2.5e0", "-25E-1", "-2.5", "-02.5"])
def test_a_negative_number_may_be_written_in_any_way(word):
    assert run_with("--snr-db", word) == (0, [Config(snr_db=-2.5)])
    assert run_with("--levels-db", "-3.", "-.5", word) == (0, [Config(levels_db=(-3.0, -0.5, -2.5))])


@pytest.mark.parametrize("word", ["-1e9", "-inf", "-nan"])
def test_a_negative_number_out_of_bounds_names_its_field(word, capsys):
    assert run_with("--snr-db", word)[0] == 1
    assert capsys.readouterr().err.endswith(f"; got {word!r}\n")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("copies", 0), ("copies", 256), ("copies", 1.5), ("copies", "many"), ("copies", None), ("snr_db", math.nan),
        ("snr_db", "inf"), ("snr_db", 61), ("timeout_s", -1), ("timeout_s", "nan"), ("scheme", "morse"),
        ("levels_db", (0, 91)), ("echoes", ((1, 2, 3, 4),)), ("echoes", (("late", 0, 0),)), ("echoes", (5,)),
        ("levels_db", 5), ("echoes", 5), ("echoes", True), ("echoes", np.array(5)), ("echoes", "none"),
    ],
)  # fmt: skip
def test_what_is_out_of_bounds_names_its_field(field, value):
    with pytest.raises(InputError, match=f"`{field}` must be .*; got"):
        Config(**{field: value})


def test_a_list_may_be_anything_that_has_items():
    for levels_db in ([1, 2], np.array([1.0, 2.0]), range(1, 3), (level for level in (1, 2))):
        assert Config(levels_db=levels_db).levels_db == (1.0, 2.0)


def test_a_command_names_the_flag_in_one_line(capsys):
    assert run_with("--copies", "0")[0] == 1
    assert capsys.readouterr().err == "try: --copies must be a whole number from 1 to 255; got '0'\n"
    assert run_with("--echo", "0")[0] == 1
    assert capsys.readouterr().err.startswith("try: --echo must be DELAY:LEVEL_DB:PHASE_DEG; got")


def test_unknown_options_are_refused_and_known_ones_sorted():
    assert with_options(Config, None, {"copies": 2}) == Config(2)
    assert with_options(Config, Config(2), {"snr_db": 1}) == Config(2, 1.0)
    with pytest.raises(InputError, match="no option 'copy'; the options are: copies, snr_db"):
        with_options(Config, None, {"copy": 2})
    assert split_options({"copies": 2}, Config, Config) == ({"copies": 2}, {"copies": 2})


def test_the_help_shows_every_default(capsys):
    with pytest.raises(SystemExit):
        run_with("--help")
    shown = capsys.readouterr().out
    for text in ("--copies", "(default 1)", "(default 60)", "(default analog)", "(default 0 5)", "DELAY:LEVEL_DB"):
        assert text in shown


@pytest.mark.parametrize(
    ("given", "policy"), [({}, "passive"), ({"OMP_WAIT_POLICY": "active"}, "active"), ({"GOMP_SPINCOUNT": "9"}, None)]
)
def test_openmp_waits_passively_unless_the_user_says_otherwise(monkeypatch, given, policy):
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OPENBLAS_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    environment.set_defaults()
    assert os.environ.get("OMP_WAIT_POLICY") == policy


def test_importing_the_package_changes_no_environment_and_imports_no_torch():
    program = (
        "import os, sys; before = dict(os.environ); import airnet_sdr; "
        "print(dict(os.environ) == before, 'torch' in sys.modules, 'numpy' in sys.modules)"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ROOT / "src"}
    )
    assert found.stdout.split() == ["True", "False", "False"], found


def test_sender_and_receiver_import_no_more_of_scipy_than_they_use():
    program = "import sys, airnet_sdr.sim.loopback; print({'scipy.stats', 'scipy.optimize'} & sys.modules.keys())"
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ROOT / "src"}
    )
    assert found.stdout.strip() == "set()", found
