"""CURVE for links over ZMQ: encrypted, and with nobody but the peer whose public key is named.

Each end has a certificate of its own, made once by `zmq.auth.create_certificates(folder, name)`: NAME.key_secret stays
on its machine, NAME.key goes to the other. Whoever binds, the sender is CURVE's server: it takes no peer but that one,
by a ZAP authenticator, and a receiver hears nobody else. (As the server, a requester gets no answers from libzmq
4.3.5.) See https://rfc.zeromq.org/spec/26.
"""

import zmq
import zmq.auth
from zmq.auth.thread import ThreadAuthenticator

from airnet_sdr.dsp.errors import InputError, RadioError
from airnet_sdr.dsp.radio.address import Address


def secure(socket: zmq.Socket, address: Address, sending: bool) -> None:
    """Set the keys that the address names on a socket that is not bound or connected yet; nothing where it names none.

    Raises InputError for files that are no certificates.
    """
    if "curve" not in address.options:
        return
    if not zmq.has("curve"):
        raise RadioError(f"radio {address}: this libzmq has no CURVE; install pyzmq from PyPI")
    socket.curve_publickey, socket.curve_secretkey = _certificate(address, "curve", secret=True)
    if sending:
        socket.curve_server = True
    else:
        socket.curve_serverkey, _ = _certificate(address, "peer", secret=False)


class Guard:
    """Refuses, at a sender, all peers but the one whose key the address names; one for each context."""

    def __init__(self, context: zmq.Context, address: Address):
        self._authenticator = None
        if "curve" in address.options:
            self._peer, _ = _certificate(address, "peer", secret=False)
            self._authenticator = ThreadAuthenticator(context)
            self._authenticator.start()
            self._authenticator.configure_curve_callback("*", self)

    def callback(self, domain: str, key: bytes) -> bool:
        """Whether a peer with this public key, in Z85, may talk; the authenticator asks."""
        return key == self._peer

    def stop(self) -> None:
        """End the authenticator's thread."""
        if self._authenticator is not None:
            self._authenticator.stop()


def _certificate(address: Address, option: str, secret: bool) -> tuple[bytes, bytes | None]:
    """Public and secret key, in Z85, of the file that an option of the address names."""
    path = address.options[option]
    try:
        public, own = zmq.auth.load_certificate(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it holds no key"
        raise InputError(
            f"radio {address}: {option} {path} cannot be read ({reason}); make one with zmq.auth.create_certificates"
        ) from error
    if secret and own is None:
        raise InputError(f"radio {address}: {path} has no secret key; {option} is this end's own NAME.key_secret")
    return public, own
