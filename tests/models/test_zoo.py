"""The zoo: where its networks are, and commands that name what is there or what a command before them wrote."""

import re
import shlex
from pathlib import Path

import pytest

from airnet_sdr.models import shipped
from airnet_sdr.models.checkpoint import load
from airnet_sdr.models.nets import DATASETS

FOLDERS = sorted(path.parent for path in shipped.ZOO.rglob("command.txt"))


def commands(folder: Path) -> list[list[str]]:
    return [shlex.split(line) for line in (folder / "command.txt").read_text().splitlines()]


def option(words: list[str], name: str) -> list[str]:
    """What an option of a command names, with commas between."""
    return words[words.index(name) + 1].split(",") if name in words else []


def output(words: list[str]) -> str:
    """The checkpoint that a training writes."""
    (model,) = option(words, "--model") or ["fashion"]
    return f"{option(words, '--out')[0]}/{model}.safetensors"


def name_of(folder: Path) -> str:
    return str(folder.relative_to(shipped.ZOO))


@pytest.mark.parametrize("folder", FOLDERS, ids=name_of)
def test_commands_name_networks_of_the_zoo_or_of_commands(folder):
    written = {output(words) for each in FOLDERS for words in commands(each)}
    for words in commands(folder):
        for path in [*option(words, "--init"), *option(words, "--teacher")]:
            assert path in written or (shipped.ZOO.parents[1] / path).is_file(), path
        assert option(words, "--out")[0].startswith(f"out/{name_of(folder)}")


@pytest.mark.parametrize("folder", FOLDERS, ids=name_of)
def test_every_stage_has_a_log_of_its_name_and_number(folder):
    logs = sorted(folder.glob("*.log"))
    assert len(logs) == len(commands(folder))
    if [log.name for log in logs] == ["train.log"]:
        assert option(commands(folder)[0], "--out") == [f"out/{name_of(folder)}"]
        return
    for number, (log, words) in enumerate(zip(logs, commands(folder), strict=True), 1):
        assert int(re.match(r"\d+", log.name)[0]) == number
        assert (
            Path(option(words, "--out")[0]).name == log.stem and f"--out {option(words, '--out')[0]}" in log.read_text()
        )


def test_every_network_is_in_the_folder_of_its_data_set_and_seed():
    paths = sorted(shipped.ZOO.rglob("*.safetensors"))
    assert {path.parent for path in paths} <= set(FOLDERS) and len(paths) > 60
    for path in paths:
        dataset, _, seed = path.parent.relative_to(shipped.ZOO).parts
        checkpoint = load(path)
        assert (checkpoint.dataset, DATASETS[checkpoint.arch]) == (dataset, dataset)
        assert seed == f"seed-{checkpoint.metadata['seed']}"


def test_fashion_is_taken_by_name():
    assert shipped.paths() == shipped.SHIPPED and set(shipped.paths()) == {"fashion"}
