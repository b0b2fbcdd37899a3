"""Checkpoints: exact round trip, and one line for each way a file can be wrong."""

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch import nn

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.models.batch_norm import measured_statistics, recompute_statistics
from airnet_sdr.models.checkpoint import (
    Checkpoint,
    from_module,
    load,
    load_any,
    load_mean,
    save,
    shipped,
    unwrapped,
)
from airnet_sdr.models.digital.quantise import step_code, step_value
from airnet_sdr.models.evaluate import accuracy
from airnet_sdr.models.nets import ARCHITECTURES, build
from airnet_sdr.models.packing import tensors_of

METADATA = {"arch": "fashion", "dataset": "fashion-mnist", "accuracy": "0.5"}


@pytest.fixture
def tensors():
    torch.manual_seed(1)
    return tensors_of(build("fashion"))


def test_round_trip(tmp_path, tensors):
    save(tmp_path / "a.safetensors", Checkpoint("fashion", "fashion-mnist", 0.9251, tensors, {"seed": "3"}))
    found = load(tmp_path / "a.safetensors")
    assert (found.arch, found.dataset, found.accuracy) == ("fashion", "fashion-mnist", 0.9251)
    assert found.metadata["seed"] == "3" and list(found.tensors) == list(tensors)
    assert all(np.array_equal(found.tensors[name], tensors[name]) for name in tensors)
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_a_narrow_network_knows_its_widths(tmp_path):
    module = build("fashion", (3, 4, 5, 6, 7))
    path = tmp_path / "narrow.safetensors"
    save(path, Checkpoint("fashion", "fashion-mnist", 0.5, tensors_of(module), widths=(3, 4, 5, 6, 7)))
    found = load(path)
    assert found.widths == (3, 4, 5, 6, 7)
    assert all(np.array_equal(found.tensors[name], tensor) for name, tensor in tensors_of(found.module()).items())


def test_half_the_size_is_half_the_precision(tmp_path, tensors):
    for half in (False, True):
        save(tmp_path / f"{half}.safetensors", Checkpoint("fashion", "fashion-mnist", 0.5, tensors), half)
    found = load(tmp_path / "True.safetensors").tensors
    assert all(tensor.dtype == np.float32 for tensor in found.values())
    assert all(np.array_equal(found[name], tensors[name].astype(np.float16)) for name in tensors)
    sizes = [(tmp_path / f"{half}.safetensors").stat().st_size for half in (False, True)]
    assert sizes[1] < 0.51 * sizes[0]


def test_half_precision_on_disk_is_single_precision_here(tmp_path, tensors):
    save_file({name: tensor.astype(np.float16) for name, tensor in tensors.items()}, tmp_path / "a", METADATA)
    found = load(tmp_path / "a").tensors
    assert all(found[name].dtype == np.float32 for name in tensors)
    assert all(np.array_equal(found[name], tensor.astype(np.float16)) for name, tensor in tensors.items())


def test_weights_on_levels_are_kept_as_levels(tmp_path, tensors):
    """A byte each, and nothing is lost; where one tensor is off its levels, or beyond them, it stays as it is."""
    codes = [step_code(np.abs(tensor).max() / 20) for tensor in tensors.values()]
    coarse = {
        name: (np.rint(tensor / step_value(code)) * step_value(code)).astype(np.float32)
        for (name, tensor), code in zip(tensors.items(), codes, strict=True)
    }
    coarse["conv2.weight"] = tensors["conv2.weight"]
    coarse["dense.weight"] = 10 * coarse["dense.weight"]  # to level 200
    metadata = {"steps": ",".join(map(str, codes))}
    save(tmp_path / "a", Checkpoint("fashion", "fashion-mnist", 0.5, coarse, metadata))
    save(tmp_path / "b", Checkpoint("fashion", "fashion-mnist", 0.5, coarse))
    found = load(tmp_path / "a").tensors
    assert all(found[name].dtype == np.float32 and np.array_equal(found[name], coarse[name]) for name in coarse)
    loose = sum(coarse[name].size for name in ("conv2.weight", "dense.weight"))
    saved = (tmp_path / "b").stat().st_size - (tmp_path / "a").stat().st_size
    assert saved == pytest.approx(3 * (sum(tensor.size for tensor in coarse.values()) - loose), rel=0.01)


def test_the_mean_of_several_networks(tmp_path, tensors):
    """Weight by weight, with the first one's metadata; one alone is itself, and other widths have no mean."""
    paths = [tmp_path / f"{i}.safetensors" for i in range(3)]
    for i, path in enumerate(paths):
        arrays = {name: tensor + np.float32(i) for name, tensor in tensors.items()}
        save(path, Checkpoint("fashion", "fashion-mnist", 0.5, arrays, {"number": str(i)}))
    mean = load_mean(",".join(map(str, paths)))
    assert mean.metadata["number"] == "0"
    for name, tensor in tensors.items():
        np.testing.assert_allclose(mean.tensors[name], tensor + 1, atol=1e-6)
        np.testing.assert_array_equal(load_mean(str(paths[0])).tensors[name], tensor)
    narrow = (8, 8, 12, 12, 12)
    save(paths[1], Checkpoint("fashion", "fashion-mnist", 0.5, tensors_of(build("fashion", narrow)), {}, narrow))
    with pytest.raises(InputError, match=f"{paths[1]} differs in architecture or widths"):
        load_mean(f"{paths[0]},{paths[1]}")


def test_weights_go_into_another_architecture_of_the_same_tensors(tensors):
    narrow = tensors_of(build("fashion", (4, 6, 8, 10, 12)))
    checkpoint = Checkpoint("fashion", "fashion-mnist", 0.9, narrow, widths=(4, 6, 8, 10, 12))
    assert checkpoint.as_architecture("fashion") is checkpoint
    other = checkpoint.as_architecture("fashion-bn")
    assert (other.arch, other.accuracy, other.widths) == ("fashion-bn", None, checkpoint.widths)
    assert [np.array_equal(a, b) for a, b in zip(other.tensors.values(), narrow.values(), strict=True)] == [True] * 6
    whole = Checkpoint("fashion", "fashion-mnist", 0.9, tensors)
    with pytest.raises(InputError, match="a fashion does not make a fashion-teacher"):
        whole.as_architecture("fashion-teacher")


def test_the_architecture_given_counts_where_the_file_names_another(tmp_path, tensors, monkeypatch):
    """If the tensors fit it; without what was measured of the other. Of several each may be what its file says."""
    monkeypatch.setitem(ARCHITECTURES, "mine", lambda: build("fashion-bn"))
    path, metadata = tmp_path / "a.safetensors", {"metrics": '{"top-1": 0.9}', "seed": "3"}
    save(path, Checkpoint("fashion", "fashion-mnist", 0.9, tensors, metadata))
    found = load(path, "mine")
    assert (found.arch, found.dataset, found.accuracy, found.metadata) == ("mine", "none", None, {"seed": "3"})
    assert all(np.array_equal(found.tensors[name], tensor) for name, tensor in tensors.items())
    assert (load(path, "fashion").arch, load(path, "fashion").accuracy) == ("fashion", 0.9)
    with pytest.raises(
        InputError, match="the file says fashion, `architecture` says cifar, which does not fit"
    ) as caught:
        load(path, "cifar")
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    for other in ("mine", "cifar"):
        assert load_any(path, other).arch == load_mean(str(path), other).arch == "fashion"
    save_file(tensors, path, {**METADATA, "arch": "renamed"})
    assert load(path, "fashion").arch == load_any(path, "fashion").arch == "fashion"
    with pytest.raises(InputError, match="'renamed'"):
        load(path)


def test_a_shipped_variant_is_what_its_file_says(tmp_path, tensors):
    save(tmp_path / "a", Checkpoint("fashion", "fashion-mnist", 0.9, tensors).as_architecture("fashion-bn"))
    assert load(tmp_path / "a", "fashion").arch == "fashion-bn"
    save(tmp_path / "a", Checkpoint("fashion", "fashion-mnist", 0.9, tensors))
    assert load(tmp_path / "a", "fashion-bn").accuracy == 0.9


def test_weights_of_other_programs_are_pointed_to_the_import(tmp_path, tensors):
    """A pickle, and names with a prefix, of which a few are told."""
    torch.save({"a": torch.zeros(2)}, tmp_path / "net.pth")
    with pytest.raises(InputError, match="not a whole safetensors file .*airnet-import"):
        load(tmp_path / "net.pth", "fashion")
    save_file({f"module.{name}": tensor for name, tensor in tensors.items()}, tmp_path / "a")
    with pytest.raises(
        InputError, match=r"conv1.weight, conv2.weight, conv3.weight, conv4.weight and 8 more; .*airnet-import"
    ):
        load(tmp_path / "a", "fashion")


def test_a_module_is_taken_out_of_what_is_around_it():
    """Of several devices, and compiled; in any order."""
    torch.manual_seed(1)
    module = build("fashion", (3, 4, 5, 6, 7))
    wanted = from_module(module, "fashion", "none", widths=(3, 4, 5, 6, 7))
    compiled = torch.compile(module)
    for around in (
        nn.DataParallel(module),
        compiled,
        nn.DataParallel(compiled),
        torch.compile(nn.DataParallel(module)),
    ):
        assert unwrapped(around) is module
        found = from_module(around, "fashion", "none", widths=(3, 4, 5, 6, 7))
        assert found.tensors.keys() == wanted.tensors.keys() and found.dtypes == wanted.dtypes


@pytest.mark.parametrize(
    "layer, told",
    [
        (nn.LazyLinear(3), "a shape; run a forward pass before"),
        (nn.Linear(2, 3, device="meta"), "numbers, on the meta device; load"),
    ],
)
def test_a_module_without_shapes_or_numbers_is_refused(layer, told):
    with pytest.raises(InputError, match=f"the module has 0.weight without {told}"):
        from_module(nn.Sequential(layer), "fashion", "none")


def test_numbers_in_the_metadata_are_those_that_python_reads(tmp_path, tensors):
    told = {"bits": "1e6", "validation": "0.50", "validation_loss": "inf"}
    broken(tensors, METADATA | told)(tmp_path / "a.safetensors")
    metadata = load(tmp_path / "a.safetensors").metadata
    assert {name: metadata[name] for name in told} == {"bits": "1000000", "validation": "0.5", "validation_loss": "inf"}


def test_statistics_of_batch_norm_are_kept_but_are_no_tensors_to_send(tmp_path):
    torch.manual_seed(1)
    module = build("cifar", (4,) * 7)
    recompute_statistics(module, torch.randint(0, 256, (9, 3, 32, 32), dtype=torch.uint8))
    tensors, statistics = tensors_of(module), measured_statistics(module)
    assert len(tensors) == 8 and len(statistics) == 14
    save(tmp_path / "a", Checkpoint("cifar", "cifar10", None, tensors, {}, (4,) * 7, statistics))
    found = load(tmp_path / "a")
    assert found.accuracy is None and list(found.tensors) == list(tensors)
    for name, value in module.state_dict().items():
        assert name.endswith("num_batches_tracked") or torch.equal(found.module().state_dict()[name], value)


@pytest.mark.parametrize(
    "value, word", [(np.nan, "numbers that are not finite"), (np.inf, "numbers"), (-1.0, "variances below 0")]
)
def test_impossible_statistics_are_refused_in_a_module_and_in_a_file(tmp_path, value, word):
    module = build("cifar", (4,) * 7)
    tensors, statistics = tensors_of(module), measured_statistics(module)
    name = next(name for name in statistics if name.endswith("running_var"))
    module.get_buffer(name)[0] = statistics[name][0] = value
    save(tmp_path / "a", Checkpoint("cifar", "cifar10", None, tensors, {}, (4,) * 7, statistics))
    with pytest.raises(InputError, match=f"^{name} has 1 {word}"):
        from_module(module, "cifar", "cifar10", widths=(4,) * 7)
    with pytest.raises(InputError, match=f"a: {name} has 1 {word}"):
        load(tmp_path / "a")


def broken(tensors, metadata=METADATA, **changes):
    def write(path):
        save_file(
            {name: np.ascontiguousarray(tensor) for name, tensor in {**tensors, **changes}.items()}, path, metadata
        )

    return write


def dropped(tensors):
    return broken({name: tensor for name, tensor in tensors.items() if name != "conv3.weight"})


CASES = {
    "cut": (lambda t: lambda path: (broken(t)(path), path.write_bytes(path.read_bytes()[:-100])), "safetensors"),
    "empty": (lambda t: lambda path: path.write_bytes(b""), "safetensors"),
    "pickle": (lambda t: lambda path: torch.save({"a": torch.zeros(2)}, path), "safetensors"),
    "no metadata": (lambda t: broken(t, None), "architecture"),
    "other architecture": (lambda t: broken(t, {**METADATA, "arch": "lenet"}), "lenet"),
    "no accuracy": (lambda t: broken(t, {"arch": "fashion", "dataset": "fashion-mnist"}), "accuracy"),
    "impossible accuracy": (lambda t: broken(t, {**METADATA, "accuracy": "92.5"}), "accuracy"),
    "widths": (lambda t: broken(t, {**METADATA, "widths": "16,32,64,128,200"}), "200"),
    "no widths": (lambda t: broken(t, {**METADATA, "widths": "16,wide"}), "wide"),
    "other widths": (lambda t: broken(t, {**METADATA, "widths": "16,32,64,128,100"}), "conv5.weight"),
    "missing tensor": (dropped, "conv3.weight"),
    "extra tensor": (lambda t: broken(t, extra=np.zeros(3, np.float32)), "extra"),
    "shape": (lambda t: broken(t, **{"dense.weight": np.zeros((10, 7), np.float32)}), "dense.weight"),
    "type": (lambda t: broken(t, **{"dense.weight": t["dense.weight"].astype(np.int64)}), "int64"),
    "levels without steps": (lambda t: broken(t, **{"dense.weight": t["dense.weight"].astype(np.int8)}), "int8"),
    "no steps": (lambda t: broken(t, {**METADATA, "steps": "3,wide"}), "wide"),
    "no loss": (lambda t: broken(t, {**METADATA, "validation_loss": "abc"}), "validation_loss"),
    "NaN": (lambda t: broken(t, **{"conv1.weight": t["conv1.weight"] * np.nan}), "conv1.weight has 144"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong_is_named_in_one_line(tmp_path, tensors, case):
    make, word = CASES[case]
    make(tensors)(tmp_path / "bad.safetensors")
    with pytest.raises(InputError, match=word) as caught:
        load(tmp_path / "bad.safetensors")
    assert "\n" not in str(caught.value)


def test_no_such_model_names_what_is_shipped():
    with pytest.raises(InputError, match="PATH.safetensors"):
        load("nosuch")


def test_a_place_that_cannot_be_written_leaves_nothing(tmp_path, tensors):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        save(tmp_path / "file" / "a.safetensors", Checkpoint("fashion", "fashion-mnist", 0.5, tensors))


def test_shipped_fashion_is_as_good_as_it_says():
    checkpoint = load("fashion")
    assert "fashion" in shipped.paths() and checkpoint.accuracy >= 0.92
    assert accuracy(checkpoint.module(), checkpoint.dataset) == pytest.approx(checkpoint.accuracy, abs=3e-4)
