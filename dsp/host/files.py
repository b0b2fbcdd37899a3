"""Output files: regular files are written whole or not at all, anything else is written through, never replaced."""

import contextlib
import errno
import os
import stat
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from airnet_sdr.dsp.errors import InputError


def write_whole(path: str | os.PathLike, content: bytes | Callable[[Path], object]) -> None:
    """Write a file under a temporary name, then rename it: a reader sees the old file or the new one, whole.

    A symbolic link stays, and what it points to is written; a FIFO or device takes the content as it is. Raises
    InputError when nothing can be written there.

    content : what to write, or a function that writes it into a file of the name that it is given
    """
    path = checked_path(path)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        if _is_special(path):
            _write_through(path, _as_bytes(content))
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            part.write_bytes(content)
        else:
            content(part)
        part.replace(path)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}; name another place") from error
    finally:
        with contextlib.suppress(OSError):  # after Ctrl-C, too
            part.unlink()


def make_folder(path: str | os.PathLike) -> Path:
    """A folder for outputs, made where it is missing; InputError where none can be made, or nothing written into it."""
    folder = checked_path(path.rstrip("/") if isinstance(path, str) else path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error.strerror}; name another folder") from error
    return folder


def check_folder(name: str, path: str | None) -> None:
    """Raise InputError for a folder that is not there; None stands for none, ``name`` is the option's."""
    if path is not None and not os.path.isdir(path):
        raise InputError(f"`{name}` is a folder; got {path!r}, where none is")


def checked_path(path: str | os.PathLike) -> Path:
    """The path of a file to be written, symbolic links followed; InputError where no file can have that name."""
    text = os.fspath(path) if isinstance(path, (str, os.PathLike)) else ""
    if not text or text.endswith("/") or "\0" in text or Path(text).name in ("", ".."):
        raise InputError(f"an output needs the name of a file; got {text or path!r}")
    return Path(os.path.realpath(text)) if os.path.islink(text) else Path(text)


def check_outputs(outputs: Iterable[str | os.PathLike | None], inputs: Iterable[str | os.PathLike | None] = ()) -> None:
    """Refuse, before any work, outputs that are one file, or one of the inputs; None stands for no file.

    Raises InputError naming the file, also where it is a folder.
    """
    taken = {os.path.realpath(each): "read" for each in inputs if each and os.path.exists(each)}
    for output in outputs:
        if output is None:
            continue
        path = os.path.realpath(checked_path(output))
        if os.path.isdir(path):
            raise InputError(f"{os.fspath(output)} cannot be written: it is a folder; name a file in it")
        if _is_special(Path(path)):
            continue
        if path in taken:
            raise InputError(f"{os.fspath(output)} is to be {taken[path]} and written; name another output")
        taken[path] = "written"


def _is_special(path: Path) -> bool:
    """Whether something that is no regular file is there: a FIFO, a device, a folder."""
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except OSError:  # nothing, or nothing that can be there: writing will say
        return False


def _as_bytes(content: bytes | Callable[[Path], object]) -> bytes:
    """The content, by way of a temporary file where a function writes it."""
    if isinstance(content, bytes):
        return content
    with tempfile.TemporaryDirectory(prefix="airnet-") as folder:
        content(Path(folder, "content"))
        return Path(folder, "content").read_bytes()


def _write_through(path: Path, content: bytes) -> None:
    """Write to a FIFO or device; OSError where it is a folder, or where nobody reads the FIFO."""
    handle = os.open(path, os.O_WRONLY | os.O_NONBLOCK)  # a FIFO without a reader is an error instead of a wait
    try:
        os.set_blocking(handle, True)
        with open(handle, "wb", closefd=False) as file:
            file.write(content)
    except BrokenPipeError as error:
        raise OSError(errno.EPIPE, "its reader went away") from error
    finally:
        os.close(handle)
