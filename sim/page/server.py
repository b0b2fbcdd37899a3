"""Serves the page: static files, saved reports, and one WebSocket a browser."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import uvicorn
import zmq.asyncio
from starlette.applications import Starlette
from starlette.responses import FileResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket, WebSocketDisconnect

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.sim.page.guard import Guard
from airnet_sdr.sim.page.hub import MAX_CLIENTS, MAX_COMMAND_BYTES, Client, Hub
from airnet_sdr.sim.page.lab import Lab
from airnet_sdr.sim.page.tour import guide

STATIC = Path(__file__).parent / "static"
WATCH_S = 0.25
GOODBYE_S = 1  # that browsers get to leave


def application(hub: Hub) -> Callable:
    """The ASGI application of one lab."""
    reports = hub.lab.config.out / "reports"
    reports.mkdir(parents=True, exist_ok=True)

    async def page(request):
        return FileResponse(STATIC / "index.html")

    async def live(websocket: WebSocket):
        await serve_browser(hub, websocket)

    routes = [
        Route("/", page),
        WebSocketRoute("/live", live),
        Mount("/static", StaticFiles(directory=STATIC)),
        Mount("/reports", StaticFiles(directory=reports)),
    ]
    return Guard(Starlette(routes=routes), hub.lab.config.host)


async def serve_browser(hub: Hub, websocket: WebSocket) -> None:
    """Talk to one browser until it leaves: commands in, the newest of everything out.

    One that stops reading waits in its own task, with one message and the socket's buffer.
    """
    await websocket.accept()
    if len(hub.clients) >= MAX_CLIENTS:
        await websocket.close(1013, f"{MAX_CLIENTS} browsers are connected already")
        return
    client = Client()
    hub.clients.add(client)
    client.changed.set()
    talking = asyncio.create_task(_talk(hub, client, websocket))
    try:
        while (message := await websocket.receive())["type"] == "websocket.receive":
            await hub.command(client, message.get("text"))
    except WebSocketDisconnect:
        pass
    finally:
        hub.clients.discard(client)
        talking.cancel()
        with contextlib.suppress(asyncio.CancelledError, WebSocketDisconnect, RuntimeError):
            await talking


async def _talk(hub: Hub, client: Client, websocket: WebSocket) -> None:
    while True:
        await client.changed.wait()
        client.changed.clear()
        for content in hub.unseen(client):
            await websocket.send_bytes(content)


async def _follow_feed(hub: Hub) -> None:
    """Take what receivers and sender tell."""
    feed = zmq.asyncio.Socket(hub.lab.feed)
    while True:
        state = hub.lab.take(await feed.recv())
        if state is not None:
            hub.wake(state.name)


async def _watch(hub: Hub) -> None:
    while True:
        await asyncio.sleep(WATCH_S)
        hub.lab.watch()
        hub.refresh()


class _Server(uvicorn.Server):
    """A server that leaves the signals to whoever starts it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


async def _all(hub: Hub, server: uvicorn.Server, listening: socket.socket, on_ready: Callable[[], None]) -> None:
    helpers = [_follow_feed(hub), _watch(hub), *([guide(hub)] if hub.lab.config.tour else [])]
    tasks = [asyncio.create_task(helper) for helper in helpers]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            asyncio.get_running_loop().add_signal_handler(number, setattr, server, "should_exit", True)
    on_ready()
    try:
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        done, _ = await asyncio.wait([serving, *tasks], return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = True
        for task in done:
            task.result()
        await serving
    finally:
        for task in tasks:
            task.cancel()


def listen_at(host: str, port: int) -> socket.socket:
    """A socket at which the page is served; InputError where that cannot be."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(128)  # browsers may come at once; they are answered when all is up
    except OSError as error:
        listening.close()
        raise InputError(f"cannot serve at {host}:{port}: {error.strerror}; try another `port` or `host`") from error
    return listening


def serve(lab: Lab, listening: socket.socket, on_ready: Callable[[], None]) -> None:
    """Serve the page of a lab until SIGINT, SIGTERM or SIGHUP; ``on_ready`` is called once browsers may come."""
    hub = Hub(lab)
    config = uvicorn.Config(
        application(hub),
        log_level="warning",
        access_log=False,
        server_header=False,
        ws_max_size=4 * MAX_COMMAND_BYTES,
        ws_max_queue=8,
        ws_ping_interval=10.0,
        ws_ping_timeout=20.0,
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=GOODBYE_S,
        limit_concurrency=4 * MAX_CLIENTS,
    )
    asyncio.run(_all(hub, _Server(config), listening, on_ready))
