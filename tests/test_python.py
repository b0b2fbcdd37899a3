"""The link from Python: the same three steps as the commands, with their options and their numbers."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import airnet_sdr as air
from airnet_sdr.dsp.errors import InputError, NothingReceivedError, RadioError
from airnet_sdr.dsp.radio import open_sink
from airnet_sdr.models.checkpoint import Checkpoint, load, save
from airnet_sdr.models.data import LOADERS
from airnet_sdr.models.nets import ARCHITECTURES, DATASETS, build
from airnet_sdr.models.own_file import FILES
from airnet_sdr.models.packing import tensors_of, to_vectors
from airnet_sdr.rx.receiver import receive
from airnet_sdr.sim import loopback
from airnet_sdr.sim.loopback import transmit
from airnet_sdr.tests.command import ROOT, assert_refused, environment, run, save_few_images
from airnet_sdr.tx import send
from airnet_sdr.tx.sender import load_candidates, make_burst

WIDTHS = (8, 8, 8, 8, 8)
MINE = """
import torch
from torch import nn

def mine():
    return nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 2))

def load_data(split, data_dir):
    x = torch.randn(200, 4, generator=torch.Generator().manual_seed(1))
    return x, (x[:, 0] > 0).long()
"""


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A small network, and few images to evaluate it on."""
    folder = tmp_path_factory.mktemp("python")
    save_few_images(folder / "few", 100)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = Checkpoint("fashion", "fashion-mnist", 0.1, tensors_of(build("fashion", WIDTHS)), {}, WIDTHS)
    save(folder / "net.safetensors", network)
    return folder


@pytest.fixture(scope="module")
def net(here):
    return here / "net.safetensors"


@pytest.fixture
def mine(tmp_path):
    """A file of the user's own, which no other test has registered."""
    FILES.clear()
    (tmp_path / "mine.py").write_text(MINE)
    yield f"{tmp_path / 'mine.py'}:mine"
    for table in (ARCHITECTURES, DATASETS, LOADERS):
        table.pop("mine", None)
    FILES.clear()


def module_of_mine():
    with torch.random.fork_rng():
        torch.manual_seed(2)
        return nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 2))


def numbers(report):
    """A report without what depends on the clock and on where samples came from."""
    return {name: value for name, value in report.items() if name not in ("timing", "radio", "run")}


def same_weights(a, b):
    return all(np.array_equal(x, y) for x, y in zip(to_vectors(tensors_of(a)), to_vectors(tensors_of(b)), strict=True))


# the three steps


def test_the_package_has_the_rooms_functions():
    assert (air.make_burst, air.transmit, air.receive) == (make_burst, transmit, receive)


@pytest.mark.parametrize(
    ("sending", "channel"),
    [
        ({}, {"snr_db": 5.0}),
        ({"uep": "size", "payload_uses": 9000}, {"snr_db": 3.0, "cfo_hz": 30e3, "cycles": 2}),
        ({"scheme": "digital", "payload_uses": 3000}, {"snr_db": 12.0}),
        ({"copies": 2}, {"preset": "hostile"}),
    ],
)
def test_the_numbers_are_those_of_the_loopback_command(here, net, tmp_path, sending, channel):
    """Same options, same seed: the same report, weight by weight; the plan is for the channel's SNR."""
    if sending.get("scheme") == "digital":
        pytest.importorskip("sionna", reason="the digital scheme needs sionna-no-rt")
    plan_snr_db = channel.get("snr_db", 10.0)
    burst = make_burst(net, snr_db=plan_snr_db, seed=7, **sending)
    result = receive(transmit(burst, seed=7, **channel), truth=str(net), data_dir=str(here / "few"))
    words = [word for name, value in (sending | channel).items() for word in ("--" + name.replace("_", "-"), value)]
    files = ["--report", tmp_path / "report.json", "--save", tmp_path / "got.safetensors"]
    done = run(loopback.main, "--model", net, "--seed", 7, "--data", here / "few", *words, *files)
    assert (done.status, done.err) == (0, "")
    report = json.loads((tmp_path / "report.json").read_text())
    assert numbers(result.report) == numbers(report)
    assert result.accuracy == report["accuracy"] is not None
    assert same_weights(result.network, load(tmp_path / "got.safetensors").module())


def test_one_seed_one_recording(net):
    burst = make_burst(net, seed=1)
    first, again, other = (transmit(burst, snr_db=5, seed=seed) for seed in (1, 1, 2))
    assert first.dtype == np.complex64 and first.ndim == 1 and np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert make_burst(net, seed=1).header == burst.header != make_burst(net, seed=2).header


def test_a_config_and_options_over_it_are_as_options_alone(net):
    """Whatever the config had decided: what follows from an option follows from the one put over it."""
    by_size = make_burst(net, uep="size", payload_uses=9000, snr_db=6)
    over = make_burst(net, air.SendConfig(uep="none", payload_uses=9000), uep="size", snr_db=6)
    assert over.manifest == by_size.manifest and np.array_equal(over.stream, by_size.stream)
    alone = transmit(by_size, snr_db=3, cfo_hz=1e4, seed=1)
    assert np.array_equal(transmit(by_size, air.ChannelConfig(snr_db=20, cfo_hz=1e4), snr_db=3, seed=1), alone)


# what can be received


@pytest.fixture(scope="module")
def samples(net):
    return transmit(make_burst(net), snr_db=15, cfo_hz=20e3, seed=1)


@pytest.fixture(scope="module")
def whole(samples):
    return receive(samples, evaluate="none")


@pytest.mark.parametrize("size", [1000, 4096, 77_777])
def test_blocks_are_as_good_as_an_array(samples, whole, size):
    blocks = (samples[first : first + size] for first in range(0, samples.size, size))  # that can be read once
    result = receive(blocks, evaluate="none")
    assert numbers(result.report) == numbers(whole.report) and same_weights(result.network, whole.network)


def test_a_recording_is_as_good_as_an_array(samples, whole, tmp_path):
    address = f"file:{tmp_path / 'capture.sigmf-meta'}"
    with open_sink(address, air.RadioConfig(rate_hz=1e6, freq_hz=868e6, backoff_db=None)) as sink:
        sink.send(samples)
    result = receive(address, evaluate="none")
    assert same_weights(result.network, whole.network)
    radio = result.report["radio"]
    assert (radio["address"], radio["rate_hz"], radio["freq_hz"]) == (address, 1e6, 868e6)
    assert result.report["sync"]["cfo_hz"] == pytest.approx(0.4 * whole.report["sync"]["cfo_hz"])


def test_rate_and_carrier_say_what_the_samples_are(samples, whole):
    result = receive(samples, evaluate="none", rate_hz=5e6, freq_hz=868e6)
    assert (result.report["radio"]["rate_hz"], result.report["radio"]["freq_hz"]) == (5e6, 868e6)
    assert result.report["sync"]["cfo_hz"] == pytest.approx(2 * whole.report["sync"]["cfo_hz"])


def test_other_complex_numbers_are_taken_and_no_others(samples, whole):
    result = receive(samples.astype(np.complex128), evaluate="none")
    assert same_weights(result.network, whole.network)
    for wrong in (samples.reshape(2, -1)[:, :10], samples.real.copy(), np.array(["a"]), [samples[0]]):
        with pytest.raises(InputError, match=r"samples must be complex numbers \(n,\); got"):
            receive(wrong, evaluate="none")


def test_nothing_received_and_no_radio_have_their_own_errors(samples, tmp_path):
    for nothing in (
        np.zeros(0, np.complex64),
        np.zeros(50_000, np.complex64),
        [],
        samples[:4096],
    ):  # no samples, silence, noise alone
        with pytest.raises(NothingReceivedError):
            receive(nothing, evaluate="none")
    with pytest.raises((InputError, RadioError), match="nowhere"):
        receive("file:nowhere.sigmf-meta")


def test_a_reception_is_saved_and_drawn(whole, net, tmp_path):
    whole.save(tmp_path / "got.safetensors")
    got = load(tmp_path / "got.safetensors")
    assert got.widths == WIDTHS and same_weights(got.module(), whole.network)
    whole.draw(tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 10_000
    sent = load(net).card
    assert whole.accuracy is None and whole.card.accuracy == pytest.approx(sent.accuracy, abs=1e-5)
    assert dataclasses.replace(whole.card, accuracy=None) == dataclasses.replace(sent, accuracy=None)


# modules


@pytest.mark.parametrize("scheme", ["analog", "digital"])
def test_a_module_is_sent_as_it_is_and_evaluated_on_its_data(mine, scheme):
    if scheme == "digital":
        pytest.importorskip("sionna", reason="the digital scheme needs sionna-no-rt")
    module = module_of_mine()
    before = [vector.copy() for vector in to_vectors(tensors_of(module))]
    burst = make_burst(module, architecture=mine, scheme=scheme, snr_db=20, payload_uses=2000)
    result = receive(transmit(burst, snr_db=25, seed=1), architecture=mine)
    assert (result.card.architecture, result.card.dataset, result.card.accuracy) == ("mine", "mine", None)
    assert 0 <= result.accuracy <= 1 and result.report["accuracy_sent"] is None
    for sent, got in zip(before, to_vectors(tensors_of(result.network)), strict=True):
        assert np.mean((sent - got) ** 2) < 0.02 * np.var(sent)
    assert all(np.array_equal(a, b) for a, b in zip(before, to_vectors(tensors_of(module)), strict=True))


def test_the_accuracy_of_plain_state_dicts_travels_from_files_folders_and_layers(mine, tmp_path):
    pytest.importorskip("sionna", reason="the layered scheme needs sionna-no-rt")
    save_file(module_of_mine().state_dict(), tmp_path / "plain.safetensors")
    sent = make_burst(tmp_path / "plain.safetensors", architecture=mine).manifest.card.accuracy
    layer = {"network": "plain.safetensors", "scheme": "analog", "start": 0, "uses": 300, "snr_db": 0, "power_db": 0}
    (tmp_path / "layers.json").write_text(json.dumps({"layers": [layer]}))
    layered = make_burst(tmp_path / "layers.json", architecture=mine, scheme="layered")
    (of_folder,) = load_candidates(tmp_path, air.SendConfig(architecture=mine)).checkpoints
    assert sent is not None and layered.manifest.card.accuracy == sent == pytest.approx(of_folder.accuracy, abs=1e-4)


def test_a_module_is_sent_as_its_checkpoint_would_be(net):
    checkpoint = load(net)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        module = build("fashion")
    save(net.with_name("full.safetensors"), Checkpoint("fashion", "fashion-mnist", None, tensors_of(module)))
    from_file, from_module = make_burst(net.with_name("full.safetensors")), make_burst(module, architecture="fashion")
    assert from_file.manifest == from_module.manifest and np.array_equal(from_file.stream, from_module.stream)
    assert make_burst(module, architecture="fashion", dataset="none").manifest.card.dataset == "none"
    with pytest.raises(InputError, match="those of 'fashion'"):  # of other widths
        make_burst(checkpoint.module(), architecture="fashion")


def test_a_module_must_name_its_architecture(mine):
    module = module_of_mine()
    with pytest.raises(InputError, match="a module needs `architecture`"):
        make_burst(module)
    with pytest.raises(InputError, match="'nosuch'"):
        make_burst(module, architecture="nosuch")
    with pytest.raises(InputError, match="no data set 'minw'; `dataset` must be none or one of: .*mine"):
        make_burst(module, architecture=mine, dataset="minw")
    with pytest.raises(InputError, match="not those of 'mine'"):
        make_burst(nn.Linear(4, 2), architecture=mine)
    with torch.no_grad():
        module[0].weight[0, 0] = torch.nan
    with pytest.raises(InputError, match="finite"):
        make_burst(module, architecture=mine)


# options that make no sense


@pytest.mark.parametrize("options", [{"snr": 5}, {"budget": 9}, {"cycles": 1}, {"rate_hz": 1e6}])
def test_the_sender_refuses_options_it_has_not(net, options):
    (name,) = options
    with pytest.raises(InputError, match=f"no option '{name}'; the options are: .*snr_db"):
        make_burst(net, **options)


@pytest.mark.parametrize("options", [{"snr": 5}, {"echo": ((1, 2),)}, {"gain_db": 1}])
def test_the_air_refuses_options_it_has_not(net, options):
    (name,) = options
    with pytest.raises(InputError, match=f"no option '{name}'; the options are: .*snr_db"):
        transmit(make_burst(net), **options)


@pytest.mark.parametrize("options", [{"evaluat": "none"}, {"report": "r.json"}, {"snr_db": 5}])
def test_the_receiver_refuses_options_it_has_not(options):
    (name,) = options
    with pytest.raises(InputError, match=f"no option '{name}'; the options are: .*evaluate"):
        receive(np.zeros(100, np.complex64), **options)


@pytest.mark.parametrize(
    ("step", "options", "words"),
    [
        ("make_burst", {"copies": 0}, "`copies` must be a whole number from 1 to 255; got 0"),
        ("make_burst", {"payload_uses": 0}, "`payload_uses` must be"),
        ("make_burst", {"payload_uses": 100}, "raise `payload_uses` or `channel_uses`"),
        ("make_burst", {"max_power_db": 32}, "`max_power_db` must be a number from 0 to 31.75; got 32"),
        ("make_burst", {"max_power_db": 12, "uep": "none"}, "set `uep` to size or auto"),
        ("make_burst", {"digital_share": 1}, "`digital_share` must be between 0 and 1; got 1"),
        ("make_burst", {"uep": "some"}, "`uep` must be one of none, size, auto; got 'some'"),
        ("make_burst", {"scheme": "morse"}, "`scheme` must be one of analog, digital, hybrid, layered; got 'morse'"),
        ("make_burst", {"seed": -1}, "`seed` must be"),
        ("transmit", {"snr_db": "loud"}, "`snr_db` must be"),
        ("transmit", {"preset": "moon"}, "`preset` must be one of cable, bench, room, hostile; got 'moon'"),
        ("transmit", {"cycles": 0}, "`cycles` must be a whole number from 1"),
        ("transmit", {"cycles": 1.5}, "`cycles` must be a whole number from 1"),
        ("transmit", {"seed": -1}, "`seed` must be a whole number from 0"),
        ("transmit", {"rate_hz": 0}, "`rate_hz` must be"),
        ("receive", {"estimator": "magic"}, "`estimator` must be one of linear, bayes; got 'magic'"),
        ("receive", {"evaluate": "nothing"}, "`evaluate` must be none or one of"),
        ("receive", {"timeout_s": -1}, "`timeout_s` must be"),
        ("receive", {"max_cfo_hz": 2e6}, "`max_cfo_hz` must be positive"),
        ("receive", {"follow": True}, "`follow` reports many receptions"),
    ],
)
def test_an_option_that_makes_no_sense_is_named_with_what_it_must_be(net, step, options, words):
    with pytest.raises(InputError) as caught:
        if step == "receive":
            receive(np.zeros(100, np.complex64), **options)
        else:
            burst = make_burst(net, **(options if step == "make_burst" else {}))
            transmit(burst, **options)
    assert words in str(caught.value) and "--" not in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (lambda net: make_burst(net, dataset=5), "`dataset` must be a string or a path; got int"),
        (lambda net: make_burst(net, key=5), "`key` must be a string or a path; got int"),
        (lambda net: make_burst(net, {"seed": 1}), "`config` must be a SendConfig; got dict"),
        (lambda net: transmit(5), "`burst` must be one of make_burst; got int"),
        (lambda net: transmit(make_burst(net), {"snr_db": 1}), "`config` must be a ChannelConfig; got dict"),
        (receive, "a radio address, as file:PATH.sigmf-meta; got PosixPath"),
        (lambda net: receive(None), "samples must be an array, an iterable of arrays or a radio address"),
        (lambda net: receive([], {"evaluate": "none"}), "`config` must be a ReceiveConfig; got dict"),
        (lambda net: receive([], architecture=5), "`architecture` must be a string or a path; got int"),
        (lambda net: receive([], architecture=build), "`architecture` must be a string or a path; got function"),
        (lambda net: receive([], truth=nn.Linear(2, 2)), "`truth` must be a string or a path; got Linear"),
    ],
)
def test_a_value_of_another_kind_is_refused(net, step, words):
    with pytest.raises(InputError) as caught:
        step(net)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_path_is_as_good_as_a_string(net):
    assert air.ReceiveConfig(truth=net).truth == str(net)


@pytest.mark.parametrize("name", [5, None])
def test_a_result_is_written_into_a_file_with_a_name(whole, name):
    for write in (whole.save, whole.draw):
        with pytest.raises(InputError, match=f"needs the name of a file; got {name}"):
            write(name)


@pytest.mark.parametrize(
    ("command", "words", "message"),
    [
        (send, ["--payload-uses", 100], "the budget has room for 100; raise --payload-uses or --channel-uses, or"),
        (send, ["--payload-uses", 0], "--payload-uses must be a whole number from 1"),
        (send, ["--copies", 0], "--copies must be a whole number from 1 to 255; got '0'"),
        (send, ["--scheme", "hybrid", "--uep", "auto"], "send a hybrid with --uep size or none"),
        (send, ["--scheme", "hybrid"], "say how many symbols with --digital-share"),
        (send, ["--scheme", "morse"], "--scheme must be one of analog, digital, hybrid, layered; got 'morse'"),
        (loopback, ["--payload-uses", 100], "the budget has room for 100; raise --payload-uses or --channel-uses, or"),
        (loopback, ["--channel-uses", 100], "the budget has room for 0; raise --payload-uses or --channel-uses, or"),
        (loopback, ["--estimator", "magic"], "--estimator must be one of linear, bayes; got 'magic'"),
        (loopback, ["--truth", "fashion"], "--truth is a fashion"),
        (loopback, ["--evaluate", "nothing"], "--evaluate must be none or one of"),
        (loopback, ["--preset", "moon"], "--preset must be one of cable, bench, room, hostile; got 'moon'"),
        (loopback, ["--snr-db", "loud"], "--snr-db must be a number from -100 to 200; got 'loud'"),
        (loopback, ["--echo", "5"], "--echo must be DELAY:LEVEL_DB:PHASE_DEG; got '5'"),
        (loopback, ["--rate-hz", 0], "--rate-hz must be a number from"),
    ],
)
def test_commands_name_the_flag_where_python_names_the_field(net, tmp_path, command, words, message):
    sending = ["--radio", f"file:{tmp_path / 'sent.sigmf-meta'}"] if command is send else ["--evaluate", "none"]
    result = run(command.main, "--model", net, *sending, *words)
    assert_refused(result, 1, message)
    assert "`" not in result.err and not list(tmp_path.iterdir())


def test_a_channel_given_twice_is_refused(net):
    with pytest.raises(InputError, match="given twice; give `config` or `preset`"):
        transmit(make_burst(net), air.ChannelConfig(snr_db=5), preset="room")


def test_importing_the_package_loads_no_room_and_its_functions_only_what_they_need():
    program = (
        "import sys, airnet_sdr as air; before = set(sys.modules); air.SendConfig; "
        "print('torch' in sys.modules, 'airnet_sdr.rx' in sys.modules, callable(air.make_burst))"
    )
    env = environment() | {"PYTHONPATH": str(ROOT / "src")}
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=env)
    assert found.stdout.split() == ["False", "False", "True"], found
