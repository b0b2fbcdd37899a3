"""The lab page without a browser: what it shows, what it takes, and whom it answers."""

import asyncio
import json
import struct

import numpy as np
import pytest

from airnet_sdr.dsp.errors import InputError, LinkError
from airnet_sdr.rx.live_message import Message, pack
from airnet_sdr.sim.channel import ChannelConfig
from airnet_sdr.sim.page import commands, display, knobs
from airnet_sdr.sim.page.config import LabConfig
from airnet_sdr.sim.page.display import ReceiverState
from airnet_sdr.sim.page.guard import Guard
from airnet_sdr.sim.page.hub import DETAIL, PICTURES, REPLY, SCOPE, STATE, Client, Hub
from airnet_sdr.sim.page.lab import Lab
from airnet_sdr.sim.page.tour import STEPS
from airnet_sdr.tests.link import white


def test_a_tone_is_a_peak_of_its_power_at_its_frequency():
    tone = (0.1 * np.exp(2j * np.pi * 0.25 * np.arange(4096))).astype(np.complex64)
    levels = display.spectrum(tone).astype(int)
    assert levels.size == display.NUM_BINS and np.argmax(levels) == display.NUM_BINS * 3 // 4
    assert levels.max() / 2 - 110 == pytest.approx(-20, abs=0.5)


def test_equalised_symbols_are_where_they_belong():
    symbols = np.array([0, 3.2, -1.6j, 99], np.complex64)
    inv_noise_var = np.array([2, 4, 1, 0], np.float32)
    places = display.points(symbols * inv_noise_var, inv_noise_var)
    assert places.tolist() == [[128, 128], [255, 128], [128, 64]]  # the last slot is unusable


def test_gains_and_snrs_in_db():
    assert display.channel_gain(np.full(8, 2j, np.complex64)).tolist() == [160] * 8
    symbol = np.array([1, 1, 2, 2], np.uint8)
    assert display.symbol_snr(np.array([10, 10, 0, 0], np.float32), symbol).tolist() == [1, 120, 0]


def test_every_process_knows_the_network_of_ones_own():
    config, places = LabConfig(model="mine.safetensors", architecture="mine.py:net"), commands.Places("f", "c", 1)
    sending = commands.sender_command(config, knobs.SenderKnobs(), knobs.BoardKnobs(), places)
    receiving = commands.receiver_command(config, "r", "f", "one")
    assert "--model=mine.safetensors" in sending
    assert "--architecture=mine.py:net" in sending and "--architecture=mine.py:net" in receiving


def result(accuracy=0.5, scheme="analog", cycles=1, **more):
    values = {"kind": "result", "name": "rx", "scheme": scheme, "accuracy": accuracy, "cycles": cycles, "burst": 7}
    arrays = {"pictures": np.zeros((12, 1, 28, 28), np.uint8)}
    arrays |= {name: np.arange(12, dtype=np.uint8) for name in ("labels", "guesses", "confidence")}
    return Message({**values, "report": {"layers": [{"name": "conv", "nmse_expected_db": -3.0}]}, **more}, arrays)


def shown(**more):
    samples = white(4096, 1.0, 1)
    arrays = {"samples": samples, "matched": samples[:100], "inv_noise_var": np.ones(100, np.float32)}
    arrays |= {"symbol": np.ones(100, np.uint8), "control": samples[:10], "h_hat": samples[:400]}
    arrays |= {"control_inv_noise_var": np.ones(10, np.float32)}
    return Message({"kind": "display", "name": "rx", "flowing": True, "heard": 3, "snr_db": 9.0, **more}, arrays)


def parts(scope):
    found, at = {}, 0
    while at < len(scope):
        part, size = struct.unpack_from("<BH", scope, at)
        found[part] = scope[at + 3 : at + 3 + size]
        at += 3 + size
    return found


def test_a_scope_has_every_part_and_a_line_of_the_waterfall_is_short():
    found = parts(display.scope(shown().arrays))
    assert set(found) == {display.SPECTRUM, display.PAYLOAD, display.CONTROL, display.CHANNEL, display.SYMBOLS}
    assert len(found[display.SPECTRUM]) <= 2048
    assert len(display.scope(shown().arrays)) < 4096


@pytest.mark.parametrize("name", ["symbol", "h_hat", "inv_noise_var"])
def test_a_display_whose_arrays_do_not_fit_is_refused(name):
    message = shown()
    del message.arrays[name]
    with pytest.raises(LinkError):
        display.scope(message.arrays)


def test_what_a_receiver_tells_is_kept_within_bounds():
    state = ReceiverState("rx")
    for i in range(300):
        state.result(result(i / 300, cycles=i))
        state.result(result(scheme=f"scheme {i}", accuracy="<b>", error="x" * 1000))
    assert len(state.history) == display.MAX_HISTORY and len(state.results) == display.MAX_SCHEMES
    assert all(len(each["error"] or "") <= 300 for each in state.results.values())
    state.display(shown(snr_db=float("inf"), heard="many"))
    assert state.counts["snr_db"] is None and state.counts["heard"] is None
    json.dumps([state.summary(), state.detail()], allow_nan=False)


@pytest.mark.parametrize("config_class", [knobs.AirKnobs, knobs.SenderKnobs, knobs.ReceiverKnobs, knobs.BoardKnobs])
def test_every_knob_is_described_and_checked(config_class):
    for about in knobs.described(config_class):
        assert about["label"] and about["kind"] in ("number", "choice", "switch", "several")
        for wrong in ([[[]]], {"a": 1}, None, "sparkle", 1e300, "../../etc/passwd"):
            if about["kind"] == "number" and wrong == "sparkle":
                continue
            with pytest.raises(InputError, match=about["name"]):
                knobs.turned(config_class(), {about["name"]: wrong})
    with pytest.raises(InputError, match="sparkle"):
        knobs.turned(config_class(), {"sparkle": 1})


@pytest.mark.parametrize("name", knobs.ECHOES)
@pytest.mark.parametrize("drops", knobs.DROPS)
@pytest.mark.parametrize("interference", knobs.INTERFERENCE_DB)
def test_every_air_is_a_channel(name, drops, interference):
    options = knobs.AirKnobs(echoes=name, drops=drops, interference=interference).channel_options()
    assert ChannelConfig(snr_db=3, **json.loads(json.dumps(options))).cfo_hz == knobs.AirKnobs.cfo_hz


def test_every_network_is_there():
    assert all(path.is_file() for network in knobs.NETWORKS.values() for path in network.values())


@pytest.fixture
def lab(tmp_path):
    """A lab that only shows: no process is started."""
    lab = Lab(LabConfig(feed="tcp://127.0.0.1:*", out=tmp_path))
    yield lab
    lab.close()


@pytest.fixture
def hub(lab):
    return Hub(lab)


def kinds(hub, client):
    return [content[0] for content in hub.unseen(client)]


def test_a_browser_gets_the_newest_of_each_kind_once(hub):
    client = Client()
    assert kinds(hub, client) == [STATE]
    for i in range(5):
        hub.lab.take(pack(shown(heard=i)))
        hub.lab.take(pack(result(0.1 * i)))
    hub.refresh()
    contents = list(hub.unseen(client))
    assert [content[0] for content in contents] == [STATE, SCOPE, DETAIL, PICTURES]
    (receiver,) = json.loads(contents[0][1:])["receivers"]
    assert receiver["heard"] == 4 and receiver["results"]["analog"]["accuracy"] == pytest.approx(0.4)
    assert json.loads(contents[2][1:])["schemes"]["analog"]["layers"][0]["nmse_expected_db"] == -3
    assert struct.unpack("<4H", contents[3][1:9]) == (12, 1, 28, 28) and len(contents[3]) == 9 + 12 * 28 * 28
    assert kinds(hub, client) == []


def test_the_feedback_plans_for_the_receiver_that_hears_worst(tmp_path):
    lab = Lab(LabConfig(snr_db=(15.0, 5.0), out=tmp_path))
    try:
        lab.running = lab.feedback = True
        for name, snr_db in (("receiver 1", 14.8), ("receiver 2", 4.3)):
            lab.take(pack(shown(name=name, snr_db=snr_db)))
        lab.watch()
        assert lab.sender.plan_snr_db == 3 and "4.3" in lab.notices[-1]["text"]
        assert "--plan-snr-db=3.0" in lab.sender_process.command
        lab.take(pack(shown(name="receiver 2", snr_db=4.5)))
        lab.watch()
        assert len(lab.notices) == 1  # not at every change
    finally:
        lab.close()


def answers(hub, client, content):
    asyncio.run(hub.command(client, content))
    return [json.loads(content[1:]) for content in hub.unseen(client) if content[0] == REPLY]


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"\0\xff",
        "",
        "{",
        "[" * 1500,
        "[]",
        "7",
        "null",
        '{"do": "format"}',
        '{"do": "start"}',  # a page that only shows starts nothing
        '{"do": "stop", "more": 1}',
        '{"turn": "air", "to": {"cfo_hz": 0}}',
        '{"turn": "sender", "to": {"muted": true}}',
        '{"turn": "receiver", "number": 0, "to": {"snr_db": 3}}',
        '{"turn": "air", "to": 3}',
        '{"watch": -1}',
        '{"watch": 99}',
        '{"watch": true}',
        '{"watch": "0"}',
        '{"do": "report", "number": 0, "scheme": "analog", "name": "../../evil"}',
        '{"do": "report", "number": 0, "scheme": "../analog"}',
        '{"do": "record", "number": 0, "name": "/etc/passwd"}',
        '{"do": "restart", "number": 0}',
        '{"watch": 0, "pad": "' + "x" * 4000 + '"}',
    ],
)
def test_commands_that_make_no_sense_are_told_and_change_nothing(hub, content, tmp_path):
    hub.lab.take(pack(shown()))
    hub.lab.take(pack(result()))
    hub.refresh()
    client, before = Client(), json.dumps(hub.state())
    (answer,) = answers(hub, client, content)
    assert answer.keys() == {"error"} and "\n" not in answer["error"] and len(answer["error"]) < 400
    after, other = json.loads(json.dumps(hub.state())), {"receivers": 0, "time": 0}
    assert json.loads(before) | other == after | other
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_feed_that_is_none_is_counted(hub):
    for content in (b"", b"nonsense", pack(Message({"kind": "display", "name": 7}, {}))):
        assert hub.lab.take(content) is None
    assert hub.lab.num_refused == 3 and not hub.lab.states
    (notice,) = hub.lab.notices
    assert "refused" in notice["text"]
    for i in range(9):
        hub.lab.take(pack(shown(name=f"rx {i}")))
    assert list(hub.lab.states) == [f"rx {i}" for i in range(5)]


def test_a_receiver_that_is_silent_gives_its_place_to_a_new_one(hub):
    for i in range(5):
        hub.lab.take(pack(shown(name=f"rx {i}")))
    hub.lab.states["rx 2"].updated -= display.FRESH_S
    assert hub.lab.take(pack(shown(name="new"))).name == "new"
    assert list(hub.lab.states) == ["rx 0", "rx 1", "new", "rx 3", "rx 4"]
    assert hub.lab.take(pack(shown(name="rx 2"))) is None


@pytest.mark.filterwarnings("error")
def test_samples_that_are_not_finite_are_shown_without_a_warning():
    message = shown()
    for name in ("samples", "matched", "h_hat"):
        message.arrays[name] = np.full_like(message.arrays[name], np.inf)
    assert set(parts(display.scope(message.arrays))) == {1, 2, 3, 4, 5}


def test_a_report_is_saved_in_the_folder(hub, tmp_path):
    hub.lab.take(pack(shown()))
    report = {
        "schema": 1, "model": "fashion", "scheme": "analog", "accuracy": 0.5, "accuracy_sent": 0.6,
        "sync": {"snr_db": 9.0, "cfo_hz": 1.0, "sco_ppm": 0.0}, "radio": {"rate_hz": 2.5e6, "address": "zmq:a"},
        "frames": {"received": 1, "expected": 2, "cycles": 1}, "metrics": None, "metrics_sent": None,
        "layers": [{"name": "conv", "numel": 9, "copies": 1, "power_db": 0.0, "nmse_db": None}], "weights": {},
    }  # fmt: skip
    hub.lab.take(pack(result(report=report)))
    (answer,) = answers(hub, Client(), '{"do": "report", "number": 0, "scheme": "analog", "name": "mine"}')
    assert [name.rpartition(".")[2] for name in answer["saved"]] == ["json", "png"]
    folder = tmp_path / "reports"
    assert sorted(path.name for path in folder.iterdir()) == sorted(answer["saved"])
    assert json.loads((folder / answer["saved"][0]).read_text()) == report
    assert (folder / answer["saved"][1]).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["../x", "../../x", "/x", "a/../../x"])
def test_no_file_is_written_out_of_its_folder(lab, name):
    with pytest.raises(InputError, match="alone"):
        lab.file("reports", name)
    assert lab.file("reports", "x.json").parent.is_dir()


def test_the_tour_turns_knobs_that_there_are(tmp_path):
    lab = Lab(LabConfig(snr_db=(15.0,), out=tmp_path))
    try:
        hub = Hub(lab)
        for text, seconds, step in STEPS:
            step(hub)
            assert text and seconds > 0
        assert lab.receivers[0].snr_db == 15 and lab.air == knobs.AirKnobs() and not lab.feedback
    finally:
        lab.close()


@pytest.mark.parametrize(
    "changes",
    [
        {"snr_db": ()},
        {"snr_db": (1.0,) * 6},
        {"snr_db": (99.0,)},
        {"radio": "pluto:ip:1.2.3.4"},
        {"rx_radio": ("pluto:ip:1.2.3.4",)},
        {"host": "a b"},
        {"port": 70000},
    ],
)
def test_a_lab_that_cannot_be_is_refused(changes):
    with pytest.raises(InputError):
        LabConfig(**changes)


def answered(guard_host, kind="http", **headers):
    """What the guard lets through, or its answer."""
    sent = []

    async def application(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message):
        sent.append(message)

    scope = {"type": kind, "headers": [(name.encode(), value.encode()) for name, value in headers.items()]}
    asyncio.run(Guard(application, guard_host)(scope, None, send))
    return sent[0].get("status", sent[0]["type"])


@pytest.mark.parametrize("host", ["127.0.0.1:8050", "localhost:8050", "[::1]:8050", "192.168.1.7:8050", "127.0.0.1"])
def test_this_machine_is_answered(host):
    assert answered("127.0.0.1", host=host) == 200
    assert answered("127.0.0.1", "websocket", host=host, origin=f"http://{host}") == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"host": "evil.example"},
        {"host": "evil.example:8050", "origin": "http://evil.example:8050"},
        {"host": "127.0.0.1.evil.example:8050"},
        {"host": "127.0.0.1:8050", "origin": "http://evil.example"},
        {"host": "127.0.0.1:8050", "origin": "null"},
        {"host": "127.0.0.1:8050", "origin": "http://127.0.0.1:9999"},
    ],
)
def test_other_hosts_and_origins_are_refused(headers):
    assert answered("127.0.0.1", **headers) == 403
    assert answered("127.0.0.1", "websocket", **headers) == "websocket.close"


def test_a_websocket_names_its_origin():
    assert answered("127.0.0.1", "websocket", host="127.0.0.1:8050") == "websocket.close"
