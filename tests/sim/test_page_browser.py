"""The lab page in a real Chromium: a lab of processes, panels that get data, knobs that act, and what goes wrong."""

import json
import os
import signal
import urllib.error
import urllib.request

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from airnet_sdr.sim import lab as lab_command
from airnet_sdr.sim.page.browser import Page, browser, lab
from airnet_sdr.tests.command import assert_refused, run, wait_for
from airnet_sdr.tests.page import MISSING, alive, children_of, reply, socket_of, states

pytestmark = pytest.mark.alone

needs_chromium = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
PANELS = ["spectrum", "waterfall", "constellation", "channel", "symbols", "layers", "history", "pictures"]
SPREAD = """(() => {
  const points = Array.from(lab.parts[3] ?? [], (byte) => Math.abs(byte - 128) * 3.2 / 127 - Math.SQRT1_2);
  return points.reduce((sum, d) => sum + d * d, 0) / points.length;
})()"""  # of the control symbols around QPSK: the noise


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """A lab of one receiver: its process, the page's address, and its folder."""
    folder = tmp_path_factory.mktemp("lab")
    with lab("--snr-db", "15", "--images", "200", f"--out={folder}") as (process, url):
        yield process, url, folder


@pytest.fixture(scope="module")
def chromium():
    with browser() as found:
        yield found


@pytest.fixture
def page(running, chromium):
    """The page in a new tab, whose console stays free of errors."""
    page = Page(chromium, running[1])
    page.wait("lab.state !== null")
    yield page
    page.tab.close()
    assert page.errors == []


def turn(page, knob, value):
    """Type a value into a knob, as a visitor does."""
    box = page.tab.locator(f"[data-knob={knob}] input[type=number]").first
    box.fill(str(value))
    box.press("Enter")


def wait_for_result(page, scheme, failed=False):
    """The next result of a scheme, one that was lost or one that was not."""
    since = (page.result(0, scheme) or {"time": 0})["time"]
    result = f"(lab.state.receivers[0].results.{scheme} ?? {{time: 0}})"
    page.wait(f"{result}.time > {since} && ({result}.error !== null) === {json.dumps(failed)}")
    return page.result(0, scheme)


@needs_chromium
def test_every_panel_gets_data(page):
    for panel in PANELS:
        page.wait(f"lab.updates.{panel} > 2")
    assert page.tab.locator("#status").inner_text() == "ON AIR"
    assert page.tab.locator("#pictures li").count() == 12
    assert page.tab.locator(".scheme").count() == 3
    assert page.get("document.documentElement.scrollHeight <= innerHeight")  # one screen


@needs_chromium
def test_turned_from_15_to_0_db_digital_is_lost_and_analog_still_classifies(page):
    page.ask({"turn": "sender", "to": {"cycles": 1, "schemes": ["analog", "digital"]}})
    page.wait("lab.state.knobs.sender.cycles === 1 && !lab.state.sender.planning")
    before, coded = wait_for_result(page, "analog"), wait_for_result(page, "digital")
    assert before["accuracy"] > 0.85 and coded["accuracy"] > 0.8
    tight = page.get(SPREAD)
    turn(page, "snr_db", 0)
    page.wait("Math.abs(lab.state.receivers[0].snr_db) < 1.5")
    page.wait(f"{SPREAD} > 5 * {tight}")
    wait_for_result(page, "analog")  # one that may have begun before
    after = wait_for_result(page, "analog")
    assert 0.25 < after["accuracy"] < before["accuracy"] - 0.05
    assert "digital" in wait_for_result(page, "digital", failed=True)["error"]
    assert page.tab.locator(".scheme.digital .value").inner_text() == "LOST"
    turn(page, "snr_db", 15)
    page.ask({"turn": "sender", "to": {"cycles": 4, "schemes": ["analog", "digital", "hybrid"]}})
    page.wait("lab.state.receivers[0].snr_db > 13")
    wait_for_result(page, "digital")


@needs_chromium
def test_a_receiver_that_was_killed_reappears(page):
    page.wait("lab.state.receivers[0].flowing")
    pid = page.get("lab.state.receivers[0].pid")
    os.kill(pid, signal.SIGKILL)
    page.wait(f"lab.state.receivers[0].pid && lab.state.receivers[0].pid !== {pid}")  # its successor may come at once
    page.wait("lab.state.receivers[0].flowing")
    page.wait("lab.state.receivers[0].heard > 0")


@needs_chromium
def test_a_stopped_air_is_shown_as_such_and_the_keyboard_reaches_all(page):
    page.wait("lab.state.receivers[0].flowing")
    page.tab.keyboard.press("m")
    page.wait("document.getElementById('status').textContent === 'MUTED'")
    page.tab.keyboard.press("m")
    page.tab.keyboard.press("s")
    page.wait("document.getElementById('status').textContent === 'STOPPED'")
    page.wait("document.querySelector('.receiver .state').textContent === 'air stopped'")
    page.tab.keyboard.press("s")
    page.wait("document.getElementById('status').textContent === 'ON AIR'")
    reached = set()
    for _ in range(60):
        page.tab.keyboard.press("Tab")
        reached.add(
            page.get("document.activeElement.closest('[data-knob]')?.dataset.knob ?? document.activeElement.id")
        )
    assert {"start", "mute", "feedback", "record", "report", "snr_db", "cfo_hz", "echoes", "network"} <= reached


@needs_chromium
def test_what_is_out_of_range_is_told_and_two_browsers_agree(running, chromium, page):
    other = Page(chromium, running[1], size=(390, 844), dark=False)
    other.wait("lab.state !== null")
    turn(page, "cfo_hz", 1e9)
    page.wait("document.getElementById('notice').textContent.includes('cfo_hz')")
    assert page.get("lab.state.knobs.air.cfo_hz") == 12e3
    turn(other, "cfo_hz", -5e3)
    page.wait("lab.state.knobs.air.cfo_hz === -5000")
    page.wait("document.querySelector('[data-knob=cfo_hz] input').value === '-5000'")
    turn(page, "cfo_hz", 12e3)
    other.wait("lab.state.knobs.air.cfo_hz === 12000")
    assert other.get("document.documentElement.scrollWidth <= innerWidth")  # a phone's width
    other.tab.close()
    assert other.errors == []


@needs_chromium
def test_recording_and_report_are_files_in_the_folder(running, page):
    folder = running[2]
    page.wait("lab.state.receivers[0].results.analog?.error === null")
    page.tab.locator("#report").click()
    page.wait("lab.lastReply?.saved?.length === 2")
    page.tab.locator("#record").click()
    page.wait("lab.state.receivers[0].recording")
    wait_for(lambda: list((folder / "recordings").glob("*")))
    page.wait("lab.state.receivers[0].flowing && lab.state.receivers[0].heard > 0")
    page.tab.locator("#record").click()
    (meta,) = wait_for(lambda: list((folder / "recordings").glob("*.sigmf-meta")))
    assert json.loads(meta.read_text())["global"]["core:datatype"] == "cf32_le"
    kinds = {path.suffix for path in folder.rglob("*") if path.is_file()}
    assert kinds <= {".json", ".png", ".sigmf-meta", ".sigmf-data", ".log"}


def test_strangers_are_refused_and_frames_that_are_none_end_alone(running):
    """Other origins, paths out of the page's folders, and WebSocket frames of any content; the page goes on."""
    _, url, _ = running
    with pytest.raises(InvalidStatus):
        with socket_of(url, additional_headers={"Host": "evil.example"}):
            pass
    for path in ("static/../page.js", "static/%2e%2e/knobs.py", "reports/..%2f..%2fetc/passwd", "../sim/lab.py", "x"):
        with pytest.raises(urllib.error.HTTPError) as told:
            urllib.request.urlopen(url + path)
        assert told.value.code == 404
    request = urllib.request.Request(url, headers={"Host": "evil.example"})
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(request)
    with socket_of(url) as socket:
        assert "error" in reply(socket, b"\0\1\2") and "error" in reply(socket, "{")
        assert "error" in reply(socket, {"turn": "sender", "to": {"network": "../../../etc/passwd"}})
    with socket_of(url) as socket, pytest.raises(ConnectionClosed):
        socket.send("x" * 100_000)
        for _ in range(100_000):
            socket.recv(10)
    with socket_of(url) as socket, pytest.raises(ConnectionClosed):
        socket.socket.sendall(b"\xff\xff\xff\xff")  # reserved bits and an unknown opcode
        for _ in range(100_000):
            socket.recv(10)
    assert next(states(url))["receivers"]


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_no_process_outlives_the_lab(tmp_path, number):
    with lab("--snr-db", "15", f"--out={tmp_path}") as (process, _):
        children = wait_for(lambda: len(found := children_of(process.pid)) == 3 and found)
        process.send_signal(number)
        assert process.wait(60) == (0 if number != signal.SIGKILL else -signal.SIGKILL)
        wait_for(lambda: not any(map(alive, children)), 60)


def test_an_address_that_is_taken_is_told(running):
    port = running[1].rstrip("/").rpartition(":")[2]
    assert_refused(run(lab_command.main, "--port", port), 1, port, "--port")
