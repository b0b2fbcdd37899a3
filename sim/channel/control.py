"""Options of a running process, changed over ZMQ: of a channel, or of the lab page's sender."""

import json
from collections.abc import Callable
from dataclasses import dataclass

import zmq

from airnet_sdr.dsp.errors import LinkError, RadioError
from airnet_sdr.dsp.host.options import check_fields, option

MAX_BYTES = 4096  # of a request


@dataclass(frozen=True)
class ControlConfig:
    """Where a running process can be changed."""

    control: str | None = option(
        None, "address at which these options can be changed while it runs", metavar="tcp://HOST:PORT"
    )

    def __post_init__(self):
        check_fields(self)


class Control:
    """Answers requests, JSON objects of options, between two blocks of samples; a context manager. No address: none."""

    poll_s = 0.2  # longest wait of a request while no samples come

    def __init__(self, config: ControlConfig):
        self._address = config.control
        self._socket: zmq.Socket | None = None

    def __enter__(self) -> "Control":
        if self._address is not None:
            self._context = zmq.Context()
            self._socket = self._context.socket(zmq.REP)
            self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_BYTES)
            try:
                self._socket.bind(self._address)
            except zmq.ZMQError as error:
                self.__exit__()
                raise RadioError(f"cannot listen at {self._address}: {error.strerror}; try another port") from error
        return self

    def __exit__(self, *error):
        if self._socket is not None:
            self._context.destroy(linger=0)
            self._socket = None

    @property
    def used(self) -> bool:
        """Whether anybody can ask for changes."""
        return self._socket is not None

    def serve(self, change: Callable[[dict], None]) -> None:
        """Answer the requests that have come: ``change`` takes the options of each, or raises LinkError."""
        while self._socket is not None and self._socket.poll(0):
            self._socket.send_string(_answer(self._socket.recv_multipart()[-1], change))


def _answer(request: bytes, change: Callable[[dict], None]) -> str:
    try:
        options = json.loads(request)
        if not isinstance(options, dict):
            raise ValueError("no object")
    except (ValueError, RecursionError):
        return 'a request is a JSON object of options, as {"snr_db": 3}'
    try:
        change(options)
    except LinkError as error:
        return str(error)
    return "ok"
