"""Recipes: what is missing is trained in order, and the zoo's is that of its commands."""

import dataclasses
import shlex

import pytest
import torch
from safetensors.torch import save_file

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.host.command import CommandParser
from airnet_sdr.dsp.host.options import add_options, config_from
from airnet_sdr.models import train as training
from airnet_sdr.models.recipe import UNFINISHED, is_finished, missing, read_recipe
from airnet_sdr.models.shipped import ZOO
from airnet_sdr.models.train_config import TrainConfig
from airnet_sdr.tests.command import assert_refused, finish, run, start
from airnet_sdr.tests.models.own import IMAGES

RECIPE = """
out = "made"

[defaults]
architecture = "{file}:spot"
epochs = 1
batch_size = 64
learning_rate = 0.03

[training.clean]
max_snr_db = inf

[training."noise-{{seed}}"]
seeds = [1, 2]
init = "clean"
teacher = ["clean"]
output = "spot/noise/seed-{{seed}}/spot.safetensors"
"""


@pytest.fixture
def recipe(tmp_path):
    (tmp_path / "spot.py").write_text(IMAGES)
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE.format(file=tmp_path / "spot.py"))
    return path


def test_names_seeds_and_needs(recipe):
    out, trainings = read_recipe(recipe)
    assert str(out) == "made" and list(trainings) == ["clean", "noise-1", "noise-2"]
    second = trainings["noise-2"]
    assert (second.output, second.options["seed"]) == ("spot/noise/seed-2/spot.safetensors", 2)
    assert second.needs == ["clean", "clean"] and trainings["clean"].output == "clean/spot.safetensors"


def test_what_is_needed_and_not_there_is_run_first(recipe):
    _, trainings = read_recipe(recipe)
    assert missing(trainings, ["noise-1"], lambda name, before: False) == {"noise-1": {"clean"}, "clean": set()}
    assert missing(trainings, ["spot/noise"], lambda name, before: name == "clean") == {
        "noise-1": set(),
        "noise-2": set(),
    }
    assert missing(trainings, ["noise-1"], lambda name, before: before) == {"noise-1": set()}  # made before
    assert missing(trainings, [], lambda name, before: True) == {}


@pytest.mark.parametrize(
    "change, word",
    [
        (("[defaults]", "[defaults"), "TOML"),
        (("[defaults]", "[default]"), "default"),
        (("epochs = 1", "epoch = 1"), "no option 'epoch'"),
        (('init = "clean"', 'init = "noise-{seed}"'), "need each other"),
        (('"noise-{seed}"', '"noise"'), "two trainings"),
    ],
)
def test_what_makes_no_sense_is_refused(recipe, change, word):
    recipe.write_text(recipe.read_text().replace(*change))
    with pytest.raises(InputError, match=word):
        missing(read_recipe(recipe)[1], [], lambda name, before: False)


def test_it_runs_goes_on_and_is_done(recipe, tmp_path):
    pytest.importorskip("ray", reason="recipes run on Ray")
    command = ["models/train.py", "--recipe", recipe, "--recipe-out", tmp_path / "out", "--only", "spot/noise/seed-1"]
    result = finish(start(*command), 300)
    assert (result.status, result.err) == (0, ""), result
    assert "2 of them to run" in result.out and "2 of 2: noise-1: test accuracy" in result.out
    made = tmp_path / "out" / "spot" / "noise" / "seed-1" / "spot.safetensors"
    assert made.read_bytes() == (tmp_path / "out" / "noise-1" / "spot.safetensors").read_bytes()
    assert "--only noise-1" in (tmp_path / "out" / "noise-1" / "command.txt").read_text()
    again = run(training.main, *command[1:])
    assert again.status == 0 and "0 of them to run" in again.out
    assert is_finished(made) and not is_finished(tmp_path / "nothing.safetensors")
    save_file({"a": torch.zeros(1)}, made, {UNFINISHED: "the test"})
    assert not is_finished(made)
    made.write_bytes(b"no network")
    with pytest.raises(InputError, match="no result"):
        is_finished(made)
    refused = run(training.main, "--recipe", recipe, "--only", "nosuch")
    assert_refused(refused, 1, "nosuch", "clean")


def test_the_zoos_recipe_is_that_of_its_commands():
    """Each command line of the folders, but for where networks are read and written, and float16."""
    _, trainings = read_recipe(ZOO / "recipe.toml")
    parser = CommandParser(prog="train")
    add_options(parser, TrainConfig)
    training.add_nested_options(parser)
    training.add_run_options(parser)
    lines = [line for path in sorted(ZOO.glob("*/*/*/command.txt")) for line in path.read_text().splitlines() if line]
    assert len(lines) == len(trainings)
    for line in lines:
        options = parser.options(shlex.split(line)[2:])
        name = options["out"].removeprefix("out/")
        made, told = trainings[name], config_from(TrainConfig, options)
        places = {"init": None, "teacher": None, "half": True}
        told = dataclasses.replace(told, **places)
        assert dataclasses.replace(TrainConfig(**(made.options | places)), **places) == told, name
        for place in ("init", "teacher"):
            given = (options.get(place) or "").split(",") if options.get(place) else []
            needs = made.options.get(place, [])
            needs = [needs] if isinstance(needs, str) else needs
            outputs = {trainings[each].output: each for each in needs}
            found = [
                path.removeprefix("models/zoo/") in outputs or path.removeprefix("out/").rpartition("/")[0] in needs
                for path in given
            ]
            assert len(given) == len(needs) and all(found), (name, given, needs)


def test_every_network_of_the_zoo_is_an_output():
    _, trainings = read_recipe(ZOO / "recipe.toml")
    outputs = {training.output for training in trainings.values()}
    assert {str(path.relative_to(ZOO)) for path in ZOO.glob("*/*/*/*.safetensors")} <= outputs
