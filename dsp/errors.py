"""The errors of the link: one tree, each class with the exit status of a command that it ends.

A message is one line: what failed, the value got, what to try.
"""


class LinkError(Exception):
    """Base of every error this project raises on purpose."""

    exit_status = 1


class InputError(LinkError):
    """A usage or input error: a bad option, file, model, address or recording."""


class NothingReceivedError(LinkError):
    """No frame was decodable, or the manifest was never decoded."""

    exit_status = 2


class RadioError(LinkError):
    """The radio or the connection to it failed."""

    exit_status = 3


class RadioTimeoutError(RadioError):
    """No samples came, or none were taken, within the timeout."""


def one_line(error: BaseException) -> str:
    """The text of an error of other code as one line."""
    return " ".join(str(error).split())
