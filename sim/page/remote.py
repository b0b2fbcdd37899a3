"""The control of another process of the lab, without waiting for it."""

import json

import zmq


class Remote:
    """Sends options to a process that listens with `sim.channel.control.Control`."""

    def __init__(self, context: zmq.Context, port: int):
        self.address = f"tcp://127.0.0.1:{port}"
        self._socket = context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.IMMEDIATE, 1)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.connect(self.address)

    def send(self, options: dict) -> None:
        """Ask for options; a process that is not there gets them when it starts."""
        try:
            self._socket.send_multipart([b"", json.dumps(options).encode()], zmq.NOBLOCK)
        except zmq.Again:
            pass

    def refusals(self) -> list[str]:
        """What it has answered but "ok"."""
        found = []
        while self._socket.poll(0):
            found.append(self._socket.recv_multipart()[-1].decode(errors="replace"))
        return [answer for answer in found if answer != "ok"]
