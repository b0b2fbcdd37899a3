"""Files written whole or not at all."""

import os
from pathlib import Path

from airnet_sdr.dsp.errors import InputError


def write_whole(path: Path, content: bytes) -> None:
    """Write a file under a temporary name, then rename it: a reader sees the old file or the new one, whole.

    Raises InputError when it cannot be written.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
        part.replace(path)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}; name another place") from error
    finally:
        if part.is_file():  # after Ctrl-C, too
            part.unlink()
