import pytest

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.radio import ADDRESS_HELP, open_sink, open_source, parse


@pytest.mark.parametrize(
    "text, scheme, target, options",
    [
        ("pluto:ip:192.168.2.1", "pluto", "ip:192.168.2.1", {}),
        ("pluto:usb:1.2.5", "pluto", "usb:1.2.5", {}),
        ("pluto:ip:127.0.0.1:40431", "pluto", "ip:127.0.0.1:40431", {}),
        ("zmq:tcp://127.0.0.1:5555", "zmq", "tcp://127.0.0.1:5555", {}),
        ("zmq:tcp://[::1]:5555?bind=1", "zmq", "tcp://[::1]:5555", {"bind": "1"}),
        ("zmq:tcp://*:5555?pattern=push&bind=1", "zmq", "tcp://*:5555", {"pattern": "push", "bind": "1"}),
        ("zmq:ipc:///tmp/air?pattern=srsran", "zmq", "ipc:///tmp/air", {"pattern": "srsran"}),
        ("file:a/b c.sigmf-meta", "file", "a/b c.sigmf-meta", {}),
    ],
)
def test_good_addresses_round_trip(text, scheme, target, options):
    address = parse(text)
    assert (address.scheme, address.target, address.options) == (scheme, target, options)
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "pluto",
        "pluto:",
        "pluto:192.168.2.1",
        "usb:1.2.5",
        "zmq:",
        "zmq:5555",
        "zmq:tcp://",
        "zmq:tcp://127.0.0.1",
        "zmq:tcp://127.0.0.1:0",
        "zmq:tcp://127.0.0.1:70000",
        "zmq:udp://127.0.0.1:5555",
        "zmq:ipc://",
        "zmq:tcp://h:1?pattern=pair",
        "zmq:tcp://h:1?bind=yes",
        "zmq:tcp://h:1?bnd=1",
        "zmq:tcp://h:1?bind=1&bind=0",
        "file:",
        "file:capture.wav",
        "file:.sigmf-meta",
        "capture.sigmf-meta",
    ],
)
def test_senseless_addresses_give_one_line(text):
    with pytest.raises(InputError) as caught:
        parse(text)
    assert repr(text) in str(caught.value) and "\n" not in str(caught.value)


def test_a_pattern_of_the_other_end_is_an_input_error():
    with pytest.raises(InputError, match="cannot send with pattern pull"):
        open_sink("zmq:tcp://127.0.0.1:5555?pattern=pull").__enter__()
    with pytest.raises(InputError, match="cannot receive with pattern push"):
        open_source("zmq:tcp://127.0.0.1:5555?pattern=push").__enter__()


def test_help_lists_every_scheme():
    assert all(f"{scheme}:" in ADDRESS_HELP for scheme in ("pluto", "zmq", "file"))
