"""Trials on disk: one Parquet row each. A run stores parts, finally merged to one table."""

import io
import json
import zlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.host.files import make_folder, write_whole


class Store:
    """The rows in a folder: `trials.parquet` and the parts of an unfinished run."""

    def __init__(self, folder: Path, schema: pa.Schema, key: tuple[str, ...]):
        self.folder, self.schema, self.key = folder, schema, key
        self.table = folder / "trials.parquet"
        make_folder(folder / "parts")

    def add(self, rows: list[dict]) -> None:
        """Store rows on disk, whole or not at all."""
        name = f"{zlib.crc32(repr([self.key_of(row) for row in rows]).encode()):08x}.parquet"
        write_whole(self.folder / "parts" / name, self._packed(rows))

    def rows(self) -> list[dict]:
        """All rows, sorted by key, without duplicates."""
        paths = [self.table] if self.table.is_file() else []
        paths += sorted((self.folder / "parts").glob("*.parquet"))
        found = {self.key_of(row): row for path in paths for row in read(path)}
        return [found[key] for key in sorted(found)]

    def merge(self) -> list[dict]:
        """Merge all parts to one table; returns its rows."""
        rows = self.rows()
        write_whole(self.table, self._packed(rows))
        for part in (self.folder / "parts").glob("*.parquet"):
            part.unlink()
        return rows

    def key_of(self, row: dict) -> tuple:
        """The key of a row."""
        return tuple(row[name] for name in self.key)

    def _packed(self, rows) -> bytes:
        packed = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows, self.schema), packed, compression="zstd")
        return packed.getvalue()


def check_settings(folder: Path, settings: dict) -> None:
    """Keep the settings that a folder's results must have in common; InputError if it has results of others."""
    path, text = folder / "settings.json", json.dumps(settings, indent=1) + "\n"
    if path.is_file() and path.read_text() != text:
        raise InputError(f"{path} belongs to another sweep ({' '.join(path.read_text().split())}); name another --out")
    path.write_text(text)


def read(path: Path) -> list[dict]:
    """The rows of a table. Raises InputError if there is none."""
    try:
        return pq.read_table(path).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path} is no table of trials ({' '.join(str(error).split())}); run sim/sweep.py") from error
