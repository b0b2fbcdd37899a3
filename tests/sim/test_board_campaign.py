"""The campaign over boards, on virtual pairs: boards that do as they should, and one that does not."""

import json

import pytest

from airnet_sdr.sim import board_campaign
from airnet_sdr.sim.experiments.library.campaign import Campaign
from airnet_sdr.sim.virtual_pluto import BoardConfig
from airnet_sdr.tests.command import assert_refused, run
from airnet_sdr.tests.pluto import becomes_muted, boards, needs_libiio

pytestmark = pytest.mark.alone


def campaign(servers, tmp_path, *options):
    """Its result and what it wrote, of boards as over USB."""
    addresses = [f"pluto:{server.uri}" for server in servers]
    options = ["--repeats", "1", "--attenuation-db", "20", "30", "40", "--minutes", "0.03", "--out", tmp_path, *options]
    result = run(board_campaign.main, "--radio", addresses[0], "--rx-radio", addresses[-1], *options)
    return result, json.loads((tmp_path / "campaign.json").read_text())


@needs_libiio
@pytest.mark.slow
def test_boards_that_do_as_they_should_agree_in_all_points(tmp_path, monkeypatch):
    """The cable is pulled and put back, too; nothing that is written names the boards."""
    first = BoardConfig(ppm=23, drift_ppm=1, serial="SER0A1", real=True)
    second = BoardConfig(ppm=-21, serial="SER0B2", real=True)
    with boards(first, second) as servers:
        ask = Campaign.ask

        def hand(self, text, wait=False):
            if not wait:
                servers[1].disconnect()
            ask(self, text)

        monkeypatch.setattr(Campaign, "ask", hand)
        result, found = campaign(servers, tmp_path)
        assert result.status == 0 and found["failures"] == {}, result
        assert [point["name"] for point in found["points"] if not point["agrees"]] == []
        assert len(found["points"]) >= 14 and len(found["steps"]) == 3
        assert all(becomes_muted(server) for server in servers)
    text = (tmp_path / "campaign.json").read_text() + result.out
    assert not any(name in text for name in ("SER0A1", "SER0B2", "127.0.0.1")), text
    assert (tmp_path / "campaign.pdf").read_bytes().startswith(b"%PDF")


@needs_libiio
@pytest.mark.slow
def test_a_board_that_does_otherwise_is_told_apart(tmp_path):
    """Its loopback gives back nothing, and it leaves out what needs a hand."""
    with boards(BoardConfig(ppm=23), BoardConfig(ppm=-21)) as servers:
        servers[0].board.set_loopback = lambda mode: None
        result, found = campaign(servers, tmp_path, "--unattended")
    assert result.status == 0 and "look over" in found["failures"] and "FAILED" in result.out
    assert "received again, samples" not in [point["name"] for point in found["points"]]


def test_points_agree_within_their_tolerance_and_secrets_are_taken_out(tmp_path, capsys):
    made = Campaign(tmp_path, ["pluto:ip:10.0.0.7", "pluto:usb:1.2.5"])
    made.add("level", -17.0, -16, 2)
    made.add("level", -19.0, -16, 2)
    made.add("nothing", None, 0, 1)
    made.note("board", ["Pluto, serial 1044ab, firmware v0.39", "libiio 0.24"])
    made.note("other", ["Pluto, serial virtual, firmware v0.39"])
    made.fail("sweep", "no answer from ip:10.0.0.7 of 1044ab")
    made.write()
    text = (tmp_path / "campaign.json").read_text()
    assert [point["agrees"] for point in json.loads(text)["points"]] == [True, False, False]
    assert "10.0.0.7" not in text and "1044ab" not in text and "1 of 3 points" in made.lines()[0]
    assert "virtual" in text and "virtual boards" in "".join(made.lines())  # a word is no secret
    assert capsys.readouterr().out.count("DIFFERS") == 2


def test_it_is_for_boards(tmp_path):
    assert_refused(run(board_campaign.main, "--radio", "zmq:tcp://127.0.0.1:5555", "--out", tmp_path), 1, "PlutoSDR")
