"""Reading a zip of JSON entries within hard bounds, zstd entries (method 93) included.

The standard library lists the entries but cannot unpack method 93 before Python 3.14, and it trusts the sizes that
an archive declares about itself. Here every entry is unpacked as a stream that stops at a limit, whatever it says.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from counterclaim.errors import HostileInputError, InputError
from counterclaim.importers.imported import MIB, Limits

_CHUNK = 1 << 16
_DIRECTORY_BYTES_PER_ENTRY = 1024
_STORED, _DEFLATED, _ZSTD = 0, 8, 93


class Archive:
    """The entries of a zip file, read on demand.

    Raises:
        InputError: the file is not a readable zip.
        HostileInputError: it holds or unpacks to more than the limits allow.
    """

    def __init__(self, path: Path, file: IO[bytes], limits: Limits) -> None:
        self.path = path
        self._file = file
        self._limits = limits
        self._unpacked = 0
        _check_directory(path, file, limits)
        try:
            listed = zipfile.ZipFile(file).infolist()
        except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError, struct.error, OSError) as error:
            raise InputError(
                f"the archive cannot be read ({error})", path=path, remedy="copy the log again from where it was made"
            ) from error
        if len(listed) > limits.max_entries:
            raise HostileInputError(
                f"the archive holds {len(listed):,} entries, more than {limits.max_entries:,}", path=path
            )
        # A log that was appended to holds some names twice; the last one is the one that counts.
        self._entries = {entry.filename: entry for entry in listed}

    @property
    def names(self) -> list[str]:
        """Names of the entries, in the order of the archive's directory."""
        return list(self._entries)

    def read(self, name: str) -> bytes:
        """One entry, unpacked. KeyError where there is no such entry."""
        entry = self._entries[name]
        if entry.flag_bits & 1:
            raise InputError(f"the entry {name!r} is encrypted", path=self.path)
        raw = _Slice(self._file, _data_start(self.path, self._file, entry), entry.compress_size)
        most = min(self._limits.max_entry_bytes, self._limits.max_total_bytes - self._unpacked)
        out = bytearray()
        try:
            for chunk in _unpack(raw, entry.compress_type):
                out += chunk
                if len(out) > most:
                    raise HostileInputError(
                        f"the entry {name!r} unpacks to more than {most:,} bytes"
                        + (f" although it declares {entry.file_size:,}" if entry.file_size <= most else ""),
                        path=self.path,
                    )
                if len(out) > MIB and len(out) > self._limits.max_ratio * max(entry.compress_size, 1):
                    raise HostileInputError(
                        f"the entry {name!r} unpacks to more than {self._limits.max_ratio:,} times its packed size",
                        path=self.path,
                    )
        except (zlib.error, _zstd_error(), EOFError, ValueError, MemoryError) as error:
            raise InputError(f"the entry {name!r} is damaged ({error})", path=self.path) from error
        if zlib.crc32(out) != entry.CRC:
            raise InputError(f"the entry {name!r} is damaged (its checksum does not match)", path=self.path)
        self._unpacked += len(out)
        return bytes(out)


@contextmanager
def open_archive(path: Path, limits: Limits) -> Iterator[Archive]:
    """The archive at ``path``, closed again at the end of the block."""
    with path.open("rb") as file:
        yield Archive(path, file, limits)


def _check_directory(path: Path, file: IO[bytes], limits: Limits) -> None:
    """Refuse a directory that would take far more memory than its entries' share before it is parsed."""
    size = file.seek(0, io.SEEK_END)
    tail_start = max(0, size - (1 << 16) - 22 - 20)
    file.seek(tail_start)
    tail = file.read()
    end = tail.rfind(b"PK\x05\x06")
    if end < 0 or len(tail) < end + 22:
        raise InputError(
            "the archive has no directory at its end",
            path=path,
            remedy="it was cut or is still being written; wait for the run to end or copy it again",
        )
    directory_bytes: int = struct.unpack_from("<I", tail, end + 12)[0]
    if end >= 20 and tail[end - 20 : end - 16] == b"PK\x06\x07":
        file.seek(min(struct.unpack_from("<Q", tail, end - 12)[0], size))
        record = file.read(56)
        if len(record) == 56:
            directory_bytes = max(directory_bytes if directory_bytes < 0xFFFFFFFF else 0,
                                  struct.unpack_from("<Q", record, 40)[0])  # fmt: skip
    if directory_bytes > limits.max_entries * _DIRECTORY_BYTES_PER_ENTRY:
        raise HostileInputError(f"the archive's directory claims {directory_bytes:,} bytes", path=path)
    file.seek(0)


def _data_start(path: Path, file: IO[bytes], entry: zipfile.ZipInfo) -> int:
    try:
        file.seek(entry.header_offset)
        header = file.read(30)
    except (OSError, ValueError) as error:
        raise InputError(f"the entry {entry.filename!r} is damaged ({error})", path=path) from error
    if len(header) != 30 or header[:4] != b"PK\x03\x04":
        raise InputError(f"the entry {entry.filename!r} is damaged (no header where one should be)", path=path)
    name_length, extra_length = struct.unpack_from("<HH", header, 26)
    return entry.header_offset + 30 + int(name_length) + int(extra_length)


class _Slice(io.RawIOBase):
    """``length`` bytes of a file from ``start`` on, as a file of its own."""

    def __init__(self, file: IO[bytes], start: int, length: int) -> None:
        self._file = file
        self._left = length
        file.seek(start)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        want = self._left if size < 0 else min(size, self._left)
        data = self._file.read(want)
        self._left -= len(data)
        return data


def _unpack(raw: _Slice, method: int) -> Iterator[bytes]:
    """Unpacked pieces of at most 64 KiB each, so that the caller can stop in time."""
    if method == _STORED:
        while chunk := raw.read(_CHUNK):
            yield chunk
    elif method == _DEFLATED:
        inflate = zlib.decompressobj(-15)
        while packed := raw.read(_CHUNK):
            while packed:
                if chunk := inflate.decompress(packed, _CHUNK):
                    yield chunk
                packed = inflate.unconsumed_tail
        yield inflate.flush()
        if not inflate.eof:
            raise EOFError("it ends in the middle")
    elif method == _ZSTD:
        import zstandard

        # Without a bound on the window a frame of a few bytes could ask for gigabytes.
        reader = zstandard.ZstdDecompressor(max_window_size=128 * MIB).stream_reader(
            cast(IO[bytes], raw), read_across_frames=True
        )
        while chunk := reader.read(_CHUNK):
            yield chunk
    else:
        raise ValueError(f"compression method {method} is not one of stored, deflate or zstd")


def _zstd_error() -> type[Exception]:
    import zstandard

    return zstandard.ZstdError
