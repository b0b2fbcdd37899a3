"""Who may use the page: requests must name this server as their host, and pages of other origins get nothing."""

import ipaddress
import socket

SAFE_HEADERS = [
    (b"content-security-policy", b"default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
]


class Guard:
    """An ASGI application around another one; checks Host and Origin, and adds `SAFE_HEADERS`.

    A page of another site can make a browser here send requests, under that site's name (DNS rebinding) or with its
    origin: both are refused. Names are this machine's and loopback's; any IP address will do: rebinding needs a name.
    """

    def __init__(self, app, host: str):
        self._app = app
        self._names = {"localhost", host.lower(), socket.gethostname().lower()}

    async def __call__(self, scope, receive, send) -> None:
        """Answer one request, or pass it on."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self._is_own(host):
            await _refuse(scope, send, f"this page has another address than {host!r:.60}")
            return
        foreign = origin is not None and origin not in (f"http://{host}", f"https://{host}")
        if foreign or (scope["type"] == "websocket" and origin is None):
            await _refuse(scope, send, f"pages of {origin!r:.60} may not use this one")
            return

        async def send_safely(message):
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), *SAFE_HEADERS]}
            await send(message)

        await self._app(scope, receive, send_safely)

    def _is_own(self, host: str) -> bool:
        name = host.rpartition(":")[0] if ":" in host.rpartition("]")[2] else host
        try:
            ipaddress.ip_address(name.strip("[]"))
            return True
        except ValueError:
            return name.lower() in self._names


async def _refuse(scope, send, why: str) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": why})
        return
    content = (why + "\n").encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": content})
