"""Weights of other programs: what is found in them, what is refused, and what the checkpoint says of them."""

import hashlib
import http.server
import os
import pickle
import threading
import zipfile

import pytest
import torch
from safetensors.torch import save as serialise
from safetensors.torch import save_file

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.models import checkpoint as checkpoints
from airnet_sdr.models import foreign, importing
from airnet_sdr.models.importing import match_names, select_match
from airnet_sdr.models.register import resolve_architecture
from airnet_sdr.tests.command import assert_refused, finish, run, start
from airnet_sdr.tx.sender import make_burst

FILE = """
import torch
from torch import nn

def small():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 2))

def load_data(split, data_dir=None):
    images = torch.randn(40, 1, 8, 8, generator=torch.Generator().manual_seed(5))
    return images, (images.mean((1, 2, 3)) > 0).long()
"""


@pytest.fixture(scope="module")
def architecture(tmp_path_factory):
    path = tmp_path_factory.mktemp("own") / "small.py"
    path.write_text(FILE)
    return f"{path}:small"


@pytest.fixture(scope="module")
def state(architecture):
    """The state dict of a small network of random weights."""
    from airnet_sdr.models.nets import build

    with torch.random.fork_rng():
        torch.manual_seed(4)
        return build(resolve_architecture(architecture)).state_dict()


def imported(source, architecture, folder, *options):
    return run(importing.main, source, "--architecture", architecture, "--out", folder / "w.safetensors", *options)


# names


@pytest.mark.parametrize(
    "found, wanted, prefix",
    [
        (["a.w", "b.w"], ["a.w", "b.w"], ""),
        (["module.a.w", "module.b.w"], ["a.w", "b.w"], "module."),
        (["state_dict.model._orig_mod.a.w", "state_dict.model._orig_mod.b.w", "ema.a.w"], ["a.w", "b.w"],
         "state_dict.model._orig_mod."),
    ],
)  # fmt: skip
def test_prefixes_are_found(found, wanted, prefix):
    first = next(iter(match_names(found, wanted).items()))
    assert first == (prefix, {name: prefix + name for name in wanted})


def test_a_prefix_of_the_network_is_found():
    assert match_names(["a.w", "b.w"], ["net.a.w", "net.b.w"]) == {"": {"net.a.w": "a.w", "net.b.w": "b.w"}}
    assert match_names(["xa.w"], ["a.w"]) == {}


@pytest.mark.parametrize(
    "starts, told",
    [
        (["ema.", "model."], "ema, model"),
        (["state_dict.student.", "state_dict.teacher."], "state_dict.student, state_dict.teacher"),
        (["", "ema."], "'', ema"),
    ],
)
def test_a_network_that_is_there_several_times_is_chosen_by_its_prefix(starts, told):
    """Also where another has its names and other shapes, which then needs no choice."""
    wanted = {"a.w": (2, 3), "b.w": (2,)}
    shapes = {start + name: shape for start in starts for name, shape in wanted.items()}
    with pytest.raises(InputError, match=f"several times; choose one with `prefix`: {told}$"):
        select_match(shapes, wanted, "net.pth")
    for first in starts:
        for prefix in {first, first.removesuffix(".")}:
            matched, left = select_match(shapes, wanted, "net.pth", prefix)
            assert matched == {name: first + name for name in wanted} and not left
    wider = {name: tuple(2 * length for length in shape) for name, shape in shapes.items()}
    mixed = {name: (shapes if name.startswith(starts[-1]) else wider)[name] for name in shapes}
    assert select_match(mixed, wanted, "net.pth")[0] == {name: starts[-1] + name for name in wanted}


def test_a_prefix_may_have_further_ones_inside_it():
    shapes = {f"{start}.module.a.w": (2,) for start in ("ema", "model")}
    assert select_match(shapes, {"a.w": (2,)}, "net.pth", "ema")[0] == {"a.w": "ema.module.a.w"}
    with pytest.raises(InputError, match="nothing under the `prefix` teacher; it has ema.module.a.w"):
        select_match(shapes, {"a.w": (2,)}, "net.pth", "teacher")


# from a file to a checkpoint


@pytest.mark.parametrize(
    "wrap, suffix",
    [
        (lambda state: {"epoch": 3, "optimizer": {"state": {0: torch.ones(9)}}, "state_dict": state}, "pth"),
        (lambda state: {f"module.{name}": value for name, value in state.items()}, "safetensors"),
    ],
)
def test_a_state_dict_becomes_a_measured_checkpoint(architecture, state, tmp_path, wrap, suffix):
    path = tmp_path / f"theirs.{suffix}"
    save_file(wrap(state), path) if suffix == "safetensors" else torch.save(wrap(state), path)
    result = imported(path, architecture, tmp_path)
    assert (result.status, result.err) == (0, "")
    got = checkpoints.load(tmp_path / "w.safetensors")
    assert got.arch == "small" and got.dataset == "small" and got.metadata["imported_from"] == path.name
    assert 0 <= got.accuracy <= 1 and f"accuracy {100 * got.accuracy:.2f} %" in result.out
    assert all(torch.equal(got.module().state_dict()[name], value) for name, value in state.items())


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_an_average_beside_the_weights_is_taken_only_where_it_is_asked_for(architecture, state, tmp_path, suffix):
    average = {name: value + 1 for name, value in state.items()}
    both = {
        f"{part}.{name}": value for part, each in (("model", state), ("ema", average)) for name, value in each.items()
    }
    path = tmp_path / f"theirs.{suffix}"
    torch.save({"model": state, "ema": average}, path) if suffix == "pth" else save_file(both, path)
    words = ("several times", "--prefix", "model", "ema")
    assert_refused(imported(path, architecture, tmp_path), 1, *words)
    for prefix, wanted in (("ema", average), ("model", state)):
        assert imported(path, architecture, tmp_path, "--prefix", prefix, "--force").status == 0
        got = checkpoints.load(tmp_path / "w.safetensors").module().state_dict()
        assert all(torch.equal(got[name], value) for name, value in wanted.items())


SCALED = """
from torch import nn
from collections import OrderedDict

def scaled():
    return nn.Sequential(OrderedDict(scaler=nn.Linear(2, 2), optimal=nn.Linear(2, 2), schedulers=nn.Linear(2, 2)))
"""


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_layers_may_be_called_as_what_trainers_store(tmp_path, suffix):
    """Of that only containers are left out, and in a flat file what the network has not, if it has all the rest."""
    (tmp_path / "scaled.py").write_text(SCALED)
    architecture, path = f"{tmp_path / 'scaled.py'}:scaled", tmp_path / f"theirs.{suffix}"
    state = {f"{name}.{part}": torch.randn(*shape) for name in ("scaler", "optimal", "schedulers")
             for part, shape in (("weight", (2, 2)), ("bias", (2,)))}  # fmt: skip
    beside = {"scale": torch.ones(1)}
    if suffix == "pth":
        torch.save({**state, "optimizer_state_dict": beside, "grad_scaler": beside}, path)
    else:
        save_file({**state, "optimizer_state_dict.scale": torch.ones(1), "grad_scaler.scale": torch.ones(1)}, path)
    result = imported(path, architecture, tmp_path)
    assert (result.status, result.err) == (0, "")
    got = checkpoints.load(tmp_path / "w.safetensors").module().state_dict()
    assert got.keys() == state.keys() and all(torch.equal(got[name], value) for name, value in state.items())
    del state["scaler.bias"]
    save_file({**state, "grad_scaler.scale": torch.ones(1)}, tmp_path / "less.safetensors")
    words = ("missing scaler.bias", "unknown grad_scaler.scale")
    assert_refused(imported(tmp_path / "less.safetensors", architecture, tmp_path, "--force"), 1, *words)


def test_nothing_is_overwritten_unless_forced(architecture, state, tmp_path):
    save_file(state, tmp_path / "theirs.safetensors")
    (tmp_path / "w.safetensors").write_bytes(b"mine")
    assert_refused(imported(tmp_path / "theirs.safetensors", architecture, tmp_path), 1, "exists", "--force")
    assert (tmp_path / "w.safetensors").read_bytes() == b"mine"
    assert imported(tmp_path / "theirs.safetensors", architecture, tmp_path, "--force").status == 0


def test_misfits_are_named_in_one_line(architecture, state, tmp_path):
    changed = {name: value for name, value in state.items() if name != "0.bias"}
    changed |= {"3.weight": torch.zeros(2, 5), "head.weight": torch.zeros(3)}
    save_file(changed, tmp_path / "theirs.safetensors")
    words = ("missing 0.bias", "unknown head.weight", "3.weight (2, 5) for (2, 144)")
    assert_refused(imported(tmp_path / "theirs.safetensors", architecture, tmp_path), 1, *words)
    save_file({"a": torch.zeros(3)}, tmp_path / "other.safetensors")
    assert_refused(
        imported(tmp_path / "other.safetensors", architecture, tmp_path), 1, "is not of small", "which has a;"
    )
    assert not (tmp_path / "w.safetensors").exists()


# what is refused


class Harm:
    """Runs a command when it is unpickled."""

    def __reduce__(self):
        return os.system, ("touch harmed",)


def test_a_pickle_that_runs_code_is_refused(architecture, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Harm()}, tmp_path / "harm.pth")
    assert_refused(imported(tmp_path / "harm.pth", architecture, tmp_path), 1, "more than weights", "posix.system")
    assert not (tmp_path / "harmed").exists()


def test_a_file_larger_than_it_looks_ends_at_the_limit(architecture, tmp_path, monkeypatch):
    """A whole torch file whose storage is deflated zeros."""
    monkeypatch.setattr(foreign, "MEMORY_MORE", 64 << 20)
    torch.save({"0.weight": torch.zeros(100 << 20, dtype=torch.uint8)}, tmp_path / "large.pth")
    with zipfile.ZipFile(tmp_path / "large.pth") as whole, zipfile.ZipFile(tmp_path / "bomb.pth", "w") as bomb:
        for info in whole.infolist():
            bomb.writestr(info.filename, whole.read(info), zipfile.ZIP_DEFLATED)
    assert (tmp_path / "bomb.pth").stat().st_size < 1 << 20
    assert_refused(imported(tmp_path / "bomb.pth", architecture, tmp_path), 1, "bomb.pth cannot be read")


def test_weights_are_read_under_a_limit_that_is_lower_than_ours(state, tmp_path):
    torch.save(state, tmp_path / "theirs.pth")
    program = (
        "import resource, sys; sys.path.insert(0, 'src'); resource.setrlimit(resource.RLIMIT_CPU, (100, 100)); "
        "from airnet_sdr.models.foreign import convert; convert(*sys.argv[1:])"
    )
    result = finish(start("-c", program, tmp_path / "theirs.pth", tmp_path / "out.safetensors"))
    assert result.status == 0 and (tmp_path / "out.safetensors").exists(), result.err


@pytest.mark.parametrize(
    "source, word",
    [("net.onnx", ".pth"), ("missing.pth", "no file"), ("timm:../../etc", "timm:NAME"), ("timm:", "timm:NAME")],
)
def test_sources_that_are_none(architecture, tmp_path, source, word):
    assert_refused(imported(source, architecture, tmp_path), 1, word)


def test_a_damaged_safetensors_file(architecture, tmp_path):
    (tmp_path / "cut.safetensors").write_bytes(b"\xff" * 20)
    assert_refused(imported(tmp_path / "cut.safetensors", architecture, tmp_path), 1, "not a whole safetensors file")


def test_a_suffix_in_capitals_is_the_same(architecture, state, tmp_path):
    save_file(state, tmp_path / "net.SAFETENSORS")
    assert imported(tmp_path / "net.SAFETENSORS", architecture, tmp_path).status == 0


def test_an_architecture_that_cannot_be_sent_is_refused(state, tmp_path):
    layer = "class Extra(nn.Linear):\n    def get_extra_state(self):\n        return {}\n"
    (tmp_path / "extra.py").write_text(
        FILE.replace("def small", f"{layer}\ndef small").replace("nn.Linear(1", "Extra(1")
    )
    save_file(state, tmp_path / "net.safetensors")
    told = imported(tmp_path / "net.safetensors", f"{tmp_path / 'extra.py'}:small", tmp_path)
    assert_refused(told, 1, "_extra_state is dict")


def test_other_pickles_have_no_tensors(tmp_path):
    (tmp_path / "list.pt").write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(InputError, match="list.pt cannot be read"):
        foreign.convert(str(tmp_path / "list.pt"), tmp_path / "out.safetensors")


def test_a_plain_state_dict_is_measured_by_the_sender(architecture, state, tmp_path):
    save_file(state, tmp_path / "plain.safetensors")
    card = make_burst(tmp_path / "plain.safetensors", architecture=architecture).manifest.card
    assert imported(tmp_path / "plain.safetensors", architecture, tmp_path).status == 0
    assert card.accuracy == pytest.approx(checkpoints.load(tmp_path / "w.safetensors").accuracy, abs=1e-4)


# timm, whose downloads come from a stand-in on this machine


class Hub(http.server.BaseHTTPRequestHandler):
    """Answers as the Hugging Face Hub does for one file of weights, and says 404 of everything else."""

    content = b""

    def do_HEAD(self):
        found = self.path.endswith("/resolve/main/model.safetensors")
        self.send_response(200 if found else 404)
        if found:
            self.send_header("ETag", f'"{hashlib.sha256(self.content).hexdigest()}"')
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        return found

    def do_GET(self):
        if self.do_HEAD():
            self.wfile.write(self.content)

    def log_message(self, *words):
        pass


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A stand-in of the hub with a random `test_resnet` as the only weights; its state dict."""
    pytest.importorskip("huggingface_hub", reason="needs the extra networks")
    timm = foreign.import_timm()
    with torch.random.fork_rng():
        torch.manual_seed(2)
        state = timm.create_model("test_resnet", pretrained=False).state_dict()
    monkeypatch.setattr(Hub, "content", serialise(state))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield state
    server.shutdown()
    server.server_close()


def test_a_pretrained_network_of_timm(hub, tmp_path):
    path = tmp_path / "theirs.py"
    path.write_text("import timm\n\n\ndef theirs():\n    return timm.create_model('test_resnet')\n")
    result = imported("timm:test_resnet.r160_in1k", f"{path}:theirs", tmp_path)
    assert (result.status, result.err) == (0, "")
    got = checkpoints.load(tmp_path / "w.safetensors", "theirs")
    assert got.metadata["imported_from"] == "timm:test_resnet.r160_in1k"
    assert all(torch.equal(value, hub[name]) for name, value in got.module().state_dict().items() if value.ndim)
