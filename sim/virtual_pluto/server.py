"""libiio's network protocol, as a 0.24 server speaks it: one thread a connection, ASCII lines and binary samples.

Whatever a client sends, it gets an error number or loses its own connection; nothing it sends is kept beyond its
bounds. Buffers belong to the connection that opened them and go with it; all else a client set stays, as on hardware.
"""

import contextlib
import socket
import socketserver
import threading

import numpy as np

from airnet_sdr.sim.virtual_pluto import attributes
from airnet_sdr.sim.virtual_pluto.air import Air
from airnet_sdr.sim.virtual_pluto.board import DEFAULT_TIMEOUT_S, Board, Refused
from airnet_sdr.sim.virtual_pluto.context import DEVICES, RX_CORE, TX_CORE, context_xml
from airnet_sdr.sim.virtual_pluto.queues import RxClient, TxBuffer

MAX_LINE, MAX_VALUE = 1024, 1 << 16
MAX_TIMEOUT_MS = (1 << 32) - 1  # libiio's own
WORD_BYTES = 2
LETTING_GO_S = 1.0
SCAN_COLUMNS = {1: [0], 2: [1], 3: [0, 1]}  # of I and Q, by the mask of the channels that are on


class BoardServer(socketserver.ThreadingTCPServer):
    """One board at one port of this host."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 16

    def __init__(self, air: Air, board: Board, host: str = "127.0.0.1"):
        self.air, self.board = air, board
        self._connections: set[socket.socket] = set()
        self.closing = False
        super().__init__((host, board.config.port), _Connection)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port it listens at."""
        return self.server_address[1]

    @property
    def uri(self) -> str:
        """What libiio calls it."""
        return f"ip:{self.server_address[0]!s}:{self.port}"

    def process_request(self, request, client_address):
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request):
        self._connections.discard(request)
        super().shutdown_request(request)

    def disconnect(self) -> None:
        """Cut every connection, as a pulled cable would; new ones are taken."""
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Stop listening and cut every connection."""
        self.closing = True
        self.shutdown()
        self.disconnect()
        self.server_close()


class _Connection(socketserver.StreamRequestHandler):
    rbufsize, wbufsize = 1 << 20, 0
    disable_nagle_algorithm = True

    def setup(self):
        super().setup()
        self.air, self.board = self.server.air, self.server.board
        self.timeout_s = DEFAULT_TIMEOUT_S
        self.holds_context = False
        self.rx: RxClient | None = None
        self.tx: TxBuffer | None = None

    def handle(self):
        with contextlib.suppress(OSError, _Gone):
            while line := self.rfile.readline(MAX_LINE):
                words = line.decode("ascii", "replace").split()
                if words == ["EXIT"] or not line.endswith(b"\n"):
                    return
                if words:
                    try:
                        self._answer(words)
                    except Refused as refused:
                        self._send_number(-refused.errno)
                    except (ValueError, IndexError):
                        self._send_number(-22)

    def finish(self):
        with contextlib.suppress(OSError):
            super().finish()
        with self.air.changed:
            self._close_rx()
            self._close_tx()
            self.board.contexts -= self.holds_context
            self.air.changed.notify_all()

    def _take_context(self):
        """One context at a time where the board is exclusive: a second one is told EBUSY."""
        with self.air.changed:
            if not self.holds_context and self.board.exclusive:
                # one that was just destroyed ends here a moment later: over a network nobody waits for it
                if not self.air.changed.wait_for(lambda: not self.board.contexts, LETTING_GO_S):
                    raise Refused(16)
            self.board.contexts += not self.holds_context
            self.holds_context = True

    def _wait_while_silent(self):
        with self.air.changed:
            while self.board.silent and not self.server.closing:
                self.air.changed.wait(0.2)

    def _answer(self, words):
        command, arguments = words[0], words[1:]
        self._wait_while_silent()
        match command:
            case "PRINT":
                self._take_context()
                config = self.board.config
                self._send_text(context_xml(config.serial, config.firmware, config.transmitters))
            case "VERSION":
                self.wfile.write(f"{self.board.config.iiod}.virtual\n".encode())
            case "TIMEOUT":
                milliseconds = int(arguments[0])
                if milliseconds > MAX_TIMEOUT_MS:
                    raise Refused(22)
                self.board.timeout_s = milliseconds / 1000 if milliseconds > 0 else 3600.0
                self._send_number(0)
            case "READ":
                with self.air.changed:
                    text = attributes.read(self.board, tuple(arguments))
                self._send_text(text + "\0")
            case "WRITE":
                num = int(arguments[-1])
                if not 0 <= num <= MAX_VALUE:
                    raise _Gone
                text = self._receive(num).decode("ascii", "replace")
                with self.air.changed:
                    attributes.write(self.board, tuple(arguments[:-1]), text)
                    self.air.changed.notify_all()
                self._send_number(num)
            case "OPEN":
                self._open(arguments)
                self._send_number(0)
            case "CLOSE":
                with self.air.changed:
                    if self._device(arguments[0]) == RX_CORE:
                        self._close_rx()
                    else:
                        if self.tx is not None:
                            self.air.hear_out(self.tx)
                        self._close_tx()
                self._send_number(0)
            case "READBUF":
                self._read_buffer(self._device(arguments[0]), int(arguments[1]))
            case "WRITEBUF":
                self._write_buffer(self._device(arguments[0]), int(arguments[1]))
            case "SET":
                num = int(arguments[2])
                if arguments[1] != "BUFFERS_COUNT" or not 1 <= num <= 64:
                    raise Refused(22)
                self.board.num_buffers["RX" if self._device(arguments[0]) == RX_CORE else "TX"] = num
                self._send_number(0)
            case "GETTRIG" | "SETTRIG":
                self._send_number(-2)
            case _:
                self._send_number(-22)  # ZPRINT too: clients fall back to PRINT

    def _device(self, device):
        """A device with a buffer, by id or name."""
        for known in DEVICES:
            if device in (known.id, known.name) and known.id in (RX_CORE, TX_CORE):
                return known.id
        raise Refused(19)

    def _open(self, arguments):
        device, num_samples, mask, *options = arguments
        device, num_samples = self._device(device), int(num_samples)
        columns = SCAN_COLUMNS.get(int(mask, 16))
        if columns is None:
            raise Refused(22)
        with self.air.changed:
            self.timeout_s = self.board.timeout_s
            if device == RX_CORE:
                if self.rx:
                    raise Refused(16)
                self.board.check_buffer(num_samples, self.board.num_buffers["RX"])
                self.rx, self.rx_columns = RxClient(num_samples, self.board.num_buffers["RX"]), columns
                self.board.rx_clients.append(self.rx)
            else:
                if self.board.tx is not None:
                    raise Refused(16)
                cyclic = "CYCLIC" in options
                self.board.check_buffer(num_samples, 1 if cyclic else self.board.num_buffers["TX"])
                self.tx = self.board.tx = TxBuffer(num_samples, cyclic, self.board.num_buffers["TX"])
                self.tx_columns = columns
            self.air.changed.notify_all()

    def _close_rx(self):
        if self.rx in self.board.rx_clients:
            self.board.rx_clients.remove(self.rx)
        self.rx = None
        self.air.changed.notify_all()

    def _close_tx(self):
        if self.tx is not None and self.board.tx is self.tx:
            self.board.tx = None
        self.tx = None
        self.air.changed.notify_all()

    def _read_buffer(self, device, num_bytes):
        if device != RX_CORE or self.rx is None:
            raise Refused(9)
        num, odd = divmod(num_bytes, WORD_BYTES * len(self.rx_columns))
        if not 1 <= num <= self.rx.num_samples or odd:
            raise Refused(22)
        with self.air.changed:
            if not self.air.wait_for_samples(self.board, self.rx, num, self.timeout_s):
                raise Refused(110)
            words = self.rx.take(num)
        words = words if len(self.rx_columns) == 2 else words[:, self.rx_columns]
        mask = sum(1 << column for column in self.rx_columns)
        self.wfile.write(f"{num_bytes}\n{mask:08x}\n".encode())
        self.wfile.write(np.ascontiguousarray(words, "<i2"))

    def _write_buffer(self, device, num_bytes):
        if device != TX_CORE or self.tx is None:
            raise Refused(9)
        num, odd = divmod(num_bytes, WORD_BYTES * len(self.tx_columns))
        if not 1 <= num <= self.tx.num_samples or odd:
            raise Refused(22)
        self._send_number(0)
        words = np.frombuffer(self._receive(num_bytes), "<i2").reshape(num, -1)
        if len(self.tx_columns) == 1:  # the rail that is not sent is silent
            alone, words = words, np.zeros((num, 2), np.int16)
            words[:, self.tx_columns] = alone
        with self.air.changed:
            if not self.air.changed.wait_for(self._may_put, self.timeout_s):
                raise Refused(110)
            if self.tx is None:
                raise Refused(9)
            self.tx.put(words)
            self.air.changed.notify_all()
        self._send_number(num_bytes)

    def _may_put(self):
        return self.tx is None or (self.tx.has_room() and not self.board.stalled)

    def _receive(self, num_bytes) -> bytes:
        data = self.rfile.read(num_bytes)
        if len(data) < num_bytes:
            raise _Gone
        return data

    def _send_number(self, number):
        self.wfile.write(f"{number}\n".encode())

    def _send_text(self, text):
        data = text.encode()
        self.wfile.write(f"{len(data)}\n".encode() + data + b"\n")


class _Gone(Exception):
    """The client went away, or has to."""
