"""Users' files: run as Python runs them, each among its own neighbours; a name is that of the file named last."""

import importlib
import io
import os
import pickle
import sys

import pytest
import torch
from torch import nn

import airnet_sdr as air
from airnet_sdr.dsp.errors import InputError
from airnet_sdr.models import own_file
from airnet_sdr.models.data import LOADERS
from airnet_sdr.models.nets import ARCHITECTURES, DATASETS, build
from airnet_sdr.models.register import check_apart, from_file, register, resolve_architecture
from airnet_sdr.models.task import OWN
from airnet_sdr.tests.command import ROOT

NET = """
import torch
from torch import nn


def net():
    return nn.Linear(4, {width})


def load_data(split, data_dir):
    return torch.zeros({width}, 4), torch.zeros({width}, dtype=int)
"""

NEIGHBOURS = {"layers", "models", "parts", "settings", "widths"}  # their names here
LAYERS = """
from torch import nn

WIDTH = {width}


class Layer(nn.Linear):
    def __init__(self):
        super().__init__(4, WIDTH)
"""
DATACLASS = """
from __future__ import annotations

import dataclasses


@dataclasses.dataclass
class Config:
    width: int = 2

"""


@pytest.fixture(autouse=True)
def apart(monkeypatch):
    """Nothing that a test registers, runs or imports is there after it."""
    tables = (ARCHITECTURES, DATASETS, LOADERS, OWN, own_file.FILES)
    before = [dict(table) for table in tables]
    monkeypatch.setattr(sys, "meta_path", sys.meta_path[:])
    monkeypatch.setattr(sys, "path", sys.path[:])
    modules = set(sys.modules)
    yield
    for table, content in zip(tables, before, strict=True):
        table.clear()
        table.update(content)
    for name in sys.modules.keys() - modules:
        if name.partition(".")[0] in NEIGHBOURS:
            del sys.modules[name]


def written(path, text, changed=None):
    """A file in a folder that is made for it; ``changed`` is the second in which it was written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    if changed is not None:
        os.utime(path, (changed, changed))
    return path


# one name, several files


def test_the_last_file_resolved_is_the_one_in_use(tmp_path):
    a, b = (f"{written(tmp_path / f'{name}.py', NET.format(width=width))}:net" for name, width in (("a", 2), ("b", 3)))
    for address, width in ((a, 2), (b, 3), (a, 2)):
        assert resolve_architecture(address) == "net"
        assert build("net").out_features == width == len(LOADERS["net"]("test", None)[0])


def test_an_edited_file_is_run_again_and_only_then(tmp_path):
    """Of the same length, within the same second: what Python has cached of it is not used."""
    counting = "open(__file__ + '.runs', 'a').write('x')\n"
    path = written(tmp_path / "net.py", counting + NET.format(width=2), changed=1_700_000_000)
    for _ in range(3):
        from_file(f"{path}:net")
    assert build("net").out_features == 2 and (tmp_path / "net.py.runs").read_text() == "x"
    written(path, counting + NET.format(width=3), changed=1_700_000_000.5)
    from_file(f"{path}:net")
    assert build("net").out_features == 3 and (tmp_path / "net.py.runs").read_text() == "xx"


def test_an_edited_neighbour_counts_as_well(tmp_path):
    path = written(tmp_path / "net.py", "from layers import Layer as net\n")
    for width, seconds in ((2, 1_700_000_000), (3, 1_700_000_010)):
        written(tmp_path / "layers.py", LAYERS.format(width=width), seconds)
        from_file(f"{path}:net")
        assert build("net").out_features == width


def test_two_networks_of_one_name_are_refused_before_they_are_used_together(tmp_path):
    student, teacher = (written(tmp_path / f"{name}.py", NET.format(width=2)) for name in ("student", "teacher"))
    name = from_file(f"{student}:net")
    with pytest.raises(InputError, match=f"net is two networks, of {student} and of {teacher}; rename one"):
        check_apart(name, f"{teacher}:net")
    for other in (None, "fashion", f"{student}:net", f"{tmp_path}/./student.py:net", f"{teacher}:other"):
        check_apart(name, other)
    register("mine", lambda: nn.Linear(2, 2))
    with pytest.raises(InputError, match="of this program and of"):
        check_apart("mine", f"{teacher}:mine")


# a file among its neighbours


def test_a_dataclass_with_postponed_annotations(tmp_path):
    path = written(tmp_path / "net.py", DATACLASS + NET.replace("{width}", "Config().width"))
    from_file(f"{path}:net")
    assert build("net").out_features == 2


LAZY = """
import layers
from torch import nn


def net():
    import widths
    return nn.Sequential(layers.Layer(), nn.Linear(widths.WIDTH, 2))


def load_data(split, data_dir):
    import widths
    return layers.WIDTH, widths.WIDTH


class Late(nn.Module):
    def forward(self, x):
        import layers as now
        return x, now


def late():
    return Late()
"""


def two_files(tmp_path):
    """Two files that each have neighbours of the same names."""
    files = []
    for number in (1, 2):
        folder = tmp_path / f"n{number}"
        written(folder / "layers.py", LAYERS.format(width=number))
        written(folder / "widths.py", f"WIDTH = {number}\n")
        files.append(written(folder / f"net{number}.py", LAZY.replace("def net", f"def net{number}")))
    return files


def test_neighbours_of_two_files_do_not_mix(tmp_path):
    """Those imported with the file, and those imported when its functions are called, in any order."""
    names = [from_file(f"{path}:{path.stem}") for path in two_files(tmp_path)]
    for name, width in ((names[1], 2), (names[0], 1), (names[1], 2)):
        network = build(name)
        assert (network[0].out_features, network[1].in_features) == (width, width)
        assert OWN[name].load_data("test", None) == (width, width)
    assert not {"layers", "widths"} & set(sys.modules) and not any(str(tmp_path) in entry for entry in sys.path)


def test_one_file_has_each_neighbour_once(tmp_path):
    """Also for what is imported outside its functions, in `forward`, and for pickle."""
    (path, _) = two_files(tmp_path)
    from_file(f"{path}:net1")
    layer = build("net1")[0]
    _, now = build(from_file(f"{path}:late"))(1)
    assert now.Layer is type(layer)
    stored = io.BytesIO()
    torch.save(layer, stored)
    assert pickle.loads(pickle.dumps(type(layer))) is type(layer)


def test_packages_beside_a_file_come_with_what_is_in_them(tmp_path):
    written(
        tmp_path / "parts" / "mine.py", "from parts.base import Base\n\nclass Mine(Base):\n    pass\n"
    )  # no __init__
    written(tmp_path / "parts" / "base.py", "from torch import nn\n\nclass Base(nn.Linear):\n    pass\n")
    path = written(tmp_path / "net.py", "from parts.mine import Mine\n\ndef net():\n    return Mine(3, 2)\n")
    made = build(from_file(f"{path}:net"))
    assert not any(name.partition(".")[0] == "parts" for name in sys.modules)
    assert pickle.loads(pickle.dumps(type(made))) is type(made)
    assert importlib.import_module("parts.base").Base is type(made).__base__


@pytest.mark.parametrize("neighbour", ["models.py", "models/__init__.py", "models/resnet.py"])
def test_a_neighbour_comes_before_what_lies_in_the_current_folder(tmp_path, monkeypatch, neighbour):
    """As in a notebook in this repository's root, which has `models`, imported or not."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    written(tmp_path / neighbour, "from torch import nn\n\nNet = nn.Linear\n")
    place = "models.resnet" if neighbour.endswith("resnet.py") else "models"
    path = written(tmp_path / "net.py", f"from {place} import Net\n\ndef net():\n    return Net(3, 2)\n")
    assert build(from_file(f"{path}:net")).out_features == 2
    ours = importlib.import_module("models")
    written(path, f"from {place} import Net\n\ndef net():\n    return Net(3, 5)\n")
    assert build(from_file(f"{path}:net")).out_features == 5 and sys.modules["models"] is ours
    assert ours.__file__ == str(ROOT / "models" / "__init__.py")


def test_a_program_beside_a_file_shares_its_neighbours_with_it(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    written(tmp_path / "settings.py", "WIDTH = 2\n")
    path = written(tmp_path / "net.py", "import settings\n" + NET.replace("{width}", "settings.WIDTH"))
    importlib.import_module("settings").WIDTH = 7
    assert build(from_file(f"{path}:net")).out_features == 7 and sys.modules["settings"].WIDTH == 7


def test_a_file_that_fails_leaves_nothing_behind(tmp_path):
    written(tmp_path / "layers.py", "WIDTH = 2\n")
    path = written(tmp_path / "net.py", "import layers\nraise ValueError('no luck')\n")
    before = set(sys.modules), sys.path[:], sys.meta_path[:]
    with pytest.raises(InputError, match="ValueError: no luck"):
        from_file(f"{path}:net")
    assert (set(sys.modules), sys.path, sys.meta_path) == before


# what a file's functions must be


def test_a_function_that_returns_one_network_again_is_refused(tmp_path):
    """Before anything is written into it: the network itself, a part of it, or its memory."""
    mine = nn.Linear(3, 2)
    before = mine.weight.clone()

    def sharing_memory():
        made = nn.Linear(3, 2)
        made.load_state_dict(mine.state_dict(), assign=True)
        return made

    for make in (lambda: mine, lambda: nn.Sequential(mine, nn.ReLU()), sharing_memory):
        register("mine", make)
        with pytest.raises(InputError, match=r"mine\(\) must make a new network at each call"):
            build("mine")
    register("mine", lambda: nn.Linear(3, 2))
    samples = air.transmit(air.make_burst(mine, architecture="mine"), snr_db=30)
    register("mine", lambda: mine)
    with pytest.raises(InputError, match="at each call"):
        air.receive(samples, evaluate="none")
    assert torch.equal(mine.weight, before)
    path = written(tmp_path / "net.py", "from torch import nn\n\nNET = nn.Linear(3, 2)\n\ndef net():\n    return NET\n")
    with pytest.raises(InputError, match=r"net\.py:net: net\(\) must make a new network"):
        build(from_file(f"{path}:net"))


def test_a_new_network_at_each_call_is_as_before():
    """Made from one seed, it has the same numbers, though a function that was just registered is called twice."""
    register("mine", lambda: nn.Linear(3, 2))
    torch.manual_seed(1)
    kept = [build("mine"), build("mine")]
    torch.manual_seed(1)
    for network, wanted in zip(kept, [nn.Linear(3, 2), nn.Linear(3, 2)], strict=True):
        assert torch.equal(network.weight, wanted.weight)


def test_a_network_without_shapes_is_refused(tmp_path):
    path = written(
        tmp_path / "net.py", "from torch import nn\n\ndef net():\n    return nn.Sequential(nn.LazyLinear(2))\n"
    )
    with pytest.raises(InputError, match=r"has 0.weight without a shape; run a forward pass in net\(\)"):
        from_file(f"{path}:net")


@pytest.mark.parametrize(
    ("function", "taken"),
    [
        ("def load_data(split): pass", "load_data must be a function that takes (split, data_dir)"),
        ("def evaluate(network): pass", "evaluate must be a function that takes (network, data_dir)"),
        ("def loss(network, inputs, labels): pass", "loss must be a function that takes (network, batch)"),
        ("def augment(batch, *, rng): pass", "augment must be a function that takes (batch, rng)"),
        ("augment = True", "augment must be a function"),
    ],
)
def test_functions_that_do_not_take_what_they_are_given(tmp_path, function, taken):
    path = written(
        tmp_path / "net.py", f"from torch import nn\n\ndef net():\n    return nn.Linear(4, 2)\n\n{function}\n"
    )
    with pytest.raises(InputError) as caught:
        from_file(f"{path}:net")
    assert taken in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert "net" not in ARCHITECTURES


@pytest.mark.parametrize("load_data", [lambda split, data_dir=None: None, lambda *given: None, None, max])
def test_functions_that_take_more_ways(load_data):
    register("mine", lambda: nn.Linear(3, 2), load_data)
    with pytest.raises(InputError, match=r"load_data must be a function that takes \(split, data_dir\)"):
        register("mine", lambda: nn.Linear(3, 2), lambda split: None)
