"""The grid on untrained networks and few images: the same rows whoever computes them, killed half-way or not; and what
the figures make of rows."""

import dataclasses

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from airnet_sdr.dsp.errors import InputError, NothingReceivedError
from airnet_sdr.dsp.power_range import MAX_POWER_DB
from airnet_sdr.dsp.units import db, linear
from airnet_sdr.models.checkpoint import Checkpoint, save
from airnet_sdr.models.digital.scheme import quantise_to_fit
from airnet_sdr.models.evaluate import logits
from airnet_sdr.models.nets import FASHION_WIDTHS, build
from airnet_sdr.models.packing import tensors_of
from airnet_sdr.models.sensitivity_file import Sensitivity, write_sensitivity
from airnet_sdr.sim.experiments import figures
from airnet_sdr.sim.experiments.grid import sweep, trial
from airnet_sdr.sim.experiments.grid.plans import LEAST_BITS, MORE_POWER_DB, Networks, Plan, delivered, num_bytes
from airnet_sdr.sim.experiments.grid.trial import KEY, SCHEMA, Trial
from airnet_sdr.sim.experiments.library import panels
from airnet_sdr.sim.experiments.library.place import Place
from airnet_sdr.sim.experiments.library.store import Store, read
from airnet_sdr.tests.command import assert_refused, finish, run, save_few_images, start, wait_for

pytest.importorskip("ray", reason="the grid runs on Ray")
pytest.importorskip("sionna", reason="the digital scheme needs sionna-no-rt")
WIDTHS = (8, 8, 8, 8, 8)
ZOO = "fashion-mnist"
OPTIONS = ["--arch", "fashion", "--training-seeds", "1", "--link-seeds", "2", "--fading-seeds", "2", "--images", "100"]
OPTIONS += ["--snr-db", "0", "10", "--budgets", "32", "--met-snr-db", "4", "10", "--fading-snr-db", "10"]


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """Untrained networks in the places of the trained ones, analog and for bits, and images."""
    folder = tmp_path_factory.mktemp("sweep")
    save_few_images(folder / "few", 200)
    for name in ("clean", "noise", "pruned4"):
        save(folder / ZOO / name / "seed-1" / "fashion.safetensors", untrained(WIDTHS))
    save(
        folder / ZOO / "pruned8" / "seed-1" / "fashion-bn.safetensors", untrained(WIDTHS).as_architecture("fashion-bn")
    )
    for num_bits in (4000, 6000, 9000):
        small = untrained(WIDTHS)
        tensors = list(small.tensors.values())
        levels = quantise_to_fit(tensors, [weights.std() for weights in tensors], num_bits // 8)
        codes = ",".join(str(tensor.step_code) for tensor in levels)
        small.metadata = {"bits": str(num_bits), "steps": codes, "validation": "0.1"}
        save(folder / ZOO / "digital" / "seed-1" / f"{num_bits}.safetensors", small)
        if num_bits == 4000:  # between the levels: what they lack is a hybrid's refinement
            small.tensors = untrained(WIDTHS).tensors
            save(folder / ZOO / "hybrid" / "seed-1" / f"{num_bits}.safetensors", small)
    return folder


def untrained(widths):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return Checkpoint("fashion", "fashion-mnist", 0.1, tensors_of(build("fashion", widths)), {}, widths)


def place(here):
    return Place(here, str(here / "few"), 100)


def test_a_network_that_cannot_be_read_is_not_passed_over(here, tmp_path):
    networks = Networks(Place(tmp_path, str(here / "few"), 100), "fashion", 1)
    plan = Plan("fashion", "analog", 1, 2000, 0)
    save(tmp_path / ZOO / "clean" / "seed-1" / "fashion.safetensors", untrained(WIDTHS))
    assert networks.select_network(plan) == "clean"
    bad = tmp_path / ZOO / "noise" / "seed-1" / "fashion.safetensors"
    bad.parent.mkdir(parents=True)
    bad.write_bytes(b"no network")
    with pytest.raises(InputError, match="noise/seed-1"):
        networks.select_network(plan)


def begin(here, out, workers):
    paths = ["--networks", here, "--data", here / "few", "--out", out, "--workers", workers]
    return start("sim/sweep.py", *OPTIONS, *paths)


def test_a_grid_that_was_killed_goes_on_and_one_or_two_workers_find_the_same(here, tmp_path):
    """Stopped once the first rows are there; what was finished is not touched again."""
    process = begin(here, tmp_path / "two", 2)
    parts = tmp_path / "two" / "parts"
    wait_for(lambda: process.poll() is not None or list(parts.glob("*.parquet")))
    process.terminate()
    assert finish(process).status == 143
    before = {path.name: path.stat().st_mtime_ns for path in parts.glob("*.parquet")}
    num_before = sum(len(read(parts / name)) for name in before)
    assert before and not (tmp_path / "two" / "trials.parquet").exists()
    two, one = begin(here, tmp_path / "two", 2), begin(here, tmp_path / "one", 1)
    resumed, whole = finish(two, 600), finish(one, 600)  # a minute and more of work each, on two cores
    assert (resumed.status, whole.status) == (0, 0), (resumed.err, whole.err)
    rows = read(tmp_path / "two" / "trials.parquet")
    assert f"{len(rows)} trials" in resumed.out and f", {len(rows) - num_before} of them new" in resumed.out
    assert rows == read(tmp_path / "one" / "trials.parquet") and not list(parts.glob("*"))
    assert len(rows) == len({tuple(row[name] for name in KEY) for row in rows})
    assert {row["scheme"] for row in rows} == {"analog", "hybrid", "digital", "bound"}
    assert {row["way"] for row in rows} == {"link", "equivalent", "table", "bound"}
    shown = run(figures.main, "--trials", tmp_path / "two" / "trials.parquet", "--out", tmp_path)
    assert (shown.status, shown.err) == (0, "")
    assert all((tmp_path / f"{name}-fashion.png").stat().st_size > 1000 for name in ("known", "mismatch"))


def test_budgets_are_parts_of_what_each_architecture_takes(monkeypatch):
    monkeypatch.setattr(sweep.Place, "has", lambda place, arch, seed: True)
    planned = []
    monkeypatch.setattr(sweep, "sweep", lambda config, command: planned.extend(sweep.plans_and_trials(config)))
    options = ["--questions", "known", "--snr-db", "0", "--training-seeds", "1"]
    assert run(sweep.main, *options).status == 0
    uses = {(trial.plan.arch, trial.plan.payload_uses) for trial in planned}
    assert uses == {(arch, b // part) for arch, b in (("fashion", 157_752), ("cifar", 494_608)) for part in (1, 2, 4)}
    planned.clear()
    assert run(sweep.main, *options, "--budgets", "8").status == 0
    assert {trial.plan.payload_uses for trial in planned} == {157_752 // 8, 494_608 // 8}


def test_networks_are_chosen_by_training_images_and_fit(here):
    networks = Networks(place(here), "fashion", 1)
    plan = Plan("fashion", "digital", 1, 5000, 5.0)
    chosen = networks.select_network(plan)
    checkpoint, packed = networks.packed(plan, chosen)
    assert len(packed[0]) <= num_bytes(plan)
    losses = networks.digital_losses(plan)
    assert losses[chosen] == min(losses.values()) == networks.judge(*delivered(checkpoint, packed))
    assert networks.select_network(Plan("fashion", "digital", 1, 100, 0.0)) is None


@pytest.mark.parametrize(
    "losses, best", [((0.2, 0.1, 0.3), "noise@15"), ((0.1, 0.2, 0.3), "noise"), ((0.3, 0.2, 0.1), "clean")]
)
def test_more_power_for_small_tensors_is_sent_where_less_is_lost_on_training_images(
    here, tmp_path, monkeypatch, losses, best
):
    """Tried only where a tensor has the most power of the usual plan; the choice's name is all that a trial needs."""
    for name, widths in (("clean", WIDTHS), ("noise", FASHION_WIDTHS)):
        save(tmp_path / ZOO / name / "seed-1" / "fashion.safetensors", untrained(widths))
    at = Place(tmp_path, str(here / "few"), 100)
    networks, plan, tried = Networks(at, "fashion", 1), Plan("fashion", "analog", 1, 157_752, 5.0), set()

    def score(sent, snr_db, seed, judge):
        tried.add((sent.name, sent.config.max_power_db))
        return losses[2 if sent.name == "clean" else int(sent.config.max_power_db > MAX_POWER_DB)]

    monkeypatch.setattr(networks, "score", score)
    assert networks.select_network(plan) == best
    assert tried == {("clean", MAX_POWER_DB), ("noise", MAX_POWER_DB), ("noise", MORE_POWER_DB)}
    usual, more = (networks.sent(plan, name) for name in ("noise", "noise@15"))
    assert usual.name == more.name == "noise" and db(usual.protection.power.max()) == pytest.approx(MAX_POWER_DB)
    assert MAX_POWER_DB + 1 < db(more.protection.power.max()) <= MORE_POWER_DB + 1e-9
    row = trial.run_trial(Trial(plan, "static", "equivalent", 5.0, 0), best, at)
    assert row["network"] == best and row["weights"] == sum(networks.sent(plan, best).checkpoint.numels)


def test_a_single_network_leaves_its_sensitivity_aside_where_that_loses_less_on_training_images(
    here, tmp_path, monkeypatch
):
    """Analog and digital alike; the choice's name is all that a trial needs."""
    path = tmp_path / "fashion.safetensors"
    network = untrained(WIDTHS)
    save(path, network)
    names, grid = tuple(network.tensors), np.arange(-10.0, 30, 5)
    damage = np.linspace(1, 0, len(grid)) * np.linspace(1, 9, len(names))[:, None]
    at = Place(path, str(here / "few"), 100)
    for scheme in ("analog", "digital"):
        plan, networks = Plan("fashion", scheme, 0, 5000, 5.0), Networks(at, "fashion", 0)
        assert networks.select_network(plan).partition("@")[0] == "model"
    few = Plan("fashion", "digital", 0, sum(network.numels) * 9 // 20, 0.0)  # of less than a bit
    assert 8 * num_bytes(few) < LEAST_BITS * sum(network.numels) and networks.select_network(few) == "model"
    write_sensitivity(path, Sensitivity(names, grid, np.array([20.0]), damage[None], damage))
    for better in ("model", "model by size"):
        plan, networks = Plan("fashion", "analog", 0, 5000, 5.0), Networks(at, "fashion", 0)
        monkeypatch.setattr(networks, "score", lambda sent, snr_db, seed, judge, b=better: float(sent.name != b))
        assert networks.select_network(plan).partition("@")[0] == better
        plan = dataclasses.replace(plan, scheme="digital")
        of = {name: networks.packed(plan, name)[1] for name in ("model", "model by size")}
        assert of["model"] != of["model by size"]
        monkeypatch.setattr(networks, "judge_coded", lambda checkpoint, packed, judge, b=of[better]: float(packed != b))
        assert networks.select_network(plan) == better
        assert trial.run_trial(Trial(plan, "static", "table", 5.0, 0), better, at)["bits"] == 8 * len(of[better][0])


def test_the_bound_is_the_capacity(here):
    plan, networks = Plan("fashion", "bound", 1, 8000, 0.0), Networks(place(here), "fashion", 1)
    network = networks.select_network(plan)
    assert num_bytes(plan) == 1000
    rows = [trial.run_trial(Trial(plan, "static", "bound", snr_db, 0), network, place(here)) for snr_db in (-0.5, 0.0)]
    least_db = 10 * np.log10(2 ** (rows[0]["bits"] / 8000) - 1)
    assert [row["arrived"] for row in rows] == [least_db <= -0.5, True]
    assert rows[1]["bits"] <= 8000 * np.log2(1 + linear(0.0))


@pytest.mark.parametrize("scheme, fast", [("analog", "equivalent"), ("hybrid", "equivalent"), ("digital", "table")])
def test_the_fast_way_meets_the_same_fading_as_the_link(here, scheme, fast):
    plan = Plan("fashion", scheme, 1, 5000, 10.0)
    network = Networks(place(here), "fashion", 1).select_network(plan)
    gains = [
        [trial.run_trial(Trial(plan, "fading", way, 10.0, seed), network, place(here))["gain_db"] for seed in (0, 1)]
        for way in (fast, "link")
    ]
    assert gains[0] == gains[1] and gains[0][0] != gains[0][1]


def test_a_digital_model_arrives_bit_exact_at_the_planned_snr_and_not_far_below(here):
    plan = Plan("fashion", "digital", 1, 5000, 10.0)
    network = Networks(place(here), "fashion", 1).select_network(plan)
    rows = [trial.run_trial(Trial(plan, "static", "link", snr_db, 0), network, place(here)) for snr_db in (10.0, 7.0)]
    assert [row["arrived"] for row in rows] == [True, False]
    checkpoint, packed = Networks(place(here), "fashion", 1).packed(plan, network)
    images, labels = next(Networks(place(here), "fashion", 1).test.examples.batches(999))
    right = logits(delivered(checkpoint, packed)[0], images).argmax(1) == labels
    assert rows[0]["accuracy"] == pytest.approx(float(right.double().mean())) and rows[1]["accuracy"] is None


def test_a_hybrid_is_lost_with_its_base_and_both_ways_agree_on_what_arrives(here):
    """On few images: within what as few can tell."""
    plan = Plan("fashion", "hybrid", 1, 12_000, 5.0)
    network = Networks(place(here), "fashion", 1).select_network(plan)
    runs = {
        (way, snr_db): trial.run_trial(Trial(plan, "static", way, snr_db, 0), network, place(here))
        for way in ("link", "equivalent")
        for snr_db in (20.0, 2.0)
    }
    for way in ("link", "equivalent"):
        assert [runs[way, snr_db]["arrived"] for snr_db in (20.0, 2.0)] == [True, False]
        assert runs[way, 2.0]["accuracy"] is None and 0 < runs[way, 20.0]["coded_uses"] < 12_000
    assert runs["link", 20.0]["accuracy"] == pytest.approx(runs["equivalent", 20.0]["accuracy"], abs=0.05)
    assert Networks(place(here), "fashion", 1).select_network(Plan("fashion", "hybrid", 1, 3000, 5.0)) is None


@pytest.mark.parametrize("way, scoring", [("link", "score_over_link"), ("equivalent", "score_in_white_noise")])
def test_an_analog_network_is_lost_with_batch_norm_s_state(here, monkeypatch, way, scoring):
    """Far below the plan, where its code does not carry it."""

    def lose(*args, **options):
        raise NothingReceivedError("the state was not decoded")

    plan = Plan("fashion", "analog", 1, 12_000, 10.0)
    network = Networks(place(here), "fashion", 1).select_network(plan)
    monkeypatch.setattr(trial, scoring, lose)
    row = trial.run_trial(Trial(plan, "static", way, -5.0, 0), network, place(here))
    assert (row["arrived"], row["score"], row["accuracy"]) == (False, None, None) and row["network"] == network


def test_rows_of_other_images_are_not_mixed_in(here, tmp_path):
    (tmp_path / "settings.json").write_text("{}")
    options = [*OPTIONS, "--networks", here, "--data", here / "few", "--out", tmp_path]
    assert_refused(run(sweep.main, *options), 1, "another sweep", "--out")


def test_without_networks_there_is_no_grid(tmp_path):
    assert_refused(run(sweep.main, "--networks", tmp_path, "--out", tmp_path / "out"), 1, "no networks")


def test_a_store_keeps_each_row_once(tmp_path):
    store = Store(tmp_path, SCHEMA, KEY)
    row = dict.fromkeys(SCHEMA.names) | {"arch": "a", "scheme": "analog", "channel": "static", "way": "link"}
    row |= {"payload_uses": 1, "plan_snr_db": 0.0, "snr_db": 0.0, "training_seed": 1}
    rows = [row | {"link_seed": seed, "arrived": True, "accuracy": 0.5} for seed in (2, 1)]
    store.add(rows[:1])
    store.add(rows)
    assert [found["link_seed"] for found in store.merge()] == [1, 2] == [r["link_seed"] for r in store.rows()]
    assert_refused(run(figures.main, "--trials", tmp_path / "none.parquet", "--out", tmp_path), 1, "no table")


def test_means_are_over_training_seeds_and_what_did_not_arrive_counts_as_guessing():
    rows = [
        {"training_seed": seed, "channel": "static", "arrived": accuracy is not None, "accuracy": accuracy}
        for seed, accuracy in ((1, 0.9), (1, 0.8), (2, 0.9), (3, None))
    ]
    mean, half = panels.mean_and_half_width(rows)
    assert mean == pytest.approx((85 + 90 + 10) / 3)
    assert half == pytest.approx(4.3027 * np.std([85, 90, 10], ddof=1) / np.sqrt(3), rel=1e-4)


@pytest.mark.parametrize("metric, cell", [("accuracy", "81.2"), ("in tune, %", "81.2"), ("perplexity", "81.2345")])
def test_percentages_have_one_decimal(metric, cell):
    row = {"scheme": "analog", "channel": "static", "snr_db": 5.0, "training_seed": 0, "arrived": True}
    row |= {"metric": metric, "accuracy": 0.812345, "score": 81.2345}
    assert panels.Panel([row]).table()[-1] == f"| analog | {cell} |"


def test_no_bar_is_below_0_or_above_100_percent():
    common = {"scheme": "analog", "channel": "fading", "snr_db": 5.0, "training_seed": 1, "arrived": True}
    axes = Figure().subplots()
    panels.Panel([common | {"accuracy": accuracy} for accuracy in (0.1, 0.99, 0.98)]).draw(axes, "")
    (_, _, (bar,)) = axes.containers[0]
    low, high = bar.get_segments()[0][:, 1]
    assert low == 0 and high == 100  # the interval of Student's t is 69 ± 127


def test_findings_say_where_digital_wins():
    rows = []
    for snr_db, scores in ((0.0, {"analog": 0.8, "digital": 0.85}), (5.0, {"analog": 0.9, "digital": 0.85})):
        for scheme, share in scores.items():
            rows.append({"arch": "fashion", "scheme": scheme, "channel": "static", "payload_uses": 8, "way": "link"})
            rows[-1] |= {"plan_snr_db": snr_db, "snr_db": snr_db, "training_seed": 1, "arrived": True}
            rows[-1]["accuracy"] = share
    (line,) = panels.findings(panels.known(rows, "fashion"), {})
    assert "analog: digital is ahead at 0 dB" in line and "-5.0 points (0 dB)" in line
    hybrid = [row | {"scheme": "hybrid", "network": "a"} for row in rows if row["scheme"] == "analog"]
    hybrid[0] |= {"network": None, "arrived": False}
    lines = panels.findings(panels.known(rows + hybrid, "fashion"), {})
    assert lines[0] == line and "better of analog and hybrid: digital is ahead at 0 dB" in lines[2]
    assert lines[1].endswith("hybrid: digital is ahead at no SNR; at 5 dB or less at worst +5.0 points (5 dB)")
