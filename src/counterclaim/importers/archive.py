"""Reading a zip of JSON entries within hard bounds, zstd entries (method 93) included.

The standard library lists the entries but cannot unpack method 93 before Python 3.14, and it trusts the sizes that
an archive declares about itself. Here every entry is unpacked as a stream that stops at a limit, whatever it says.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from struct import error as StructError
from typing import IO

from counterclaim.errors import HostileInputError
from counterclaim.importers.files import MIB, InputFile

_CHUNK = 1 << 16
_DIRECTORY_BYTES_PER_ENTRY = 1024
_ZSTD = 93
_UNREADABLE = (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError, StructError, OSError)


class Archive:
    """The entries of a zip file, read on demand.

    Raises:
        InputError: the file is not a readable zip.
        HostileInputError: it holds or unpacks to more than the limits allow.
    """

    def __init__(self, file: InputFile, raw: IO[bytes]) -> None:
        self.file = file
        self._unpacked = 0
        try:
            self._zip = zipfile.ZipFile(raw)
        except _UNREADABLE as error:
            raise file.fail(
                f"the archive is damaged, was cut or is still being written ({error})",
                remedy="wait for the run to end or copy it again",
            ) from error
        listed = self._zip.infolist()
        if len(listed) > file.limits.max_entries:
            raise self._hostile(f"the archive holds {len(listed):,} entries, more than {file.limits.max_entries:,}")
        # A log that was appended to holds some names twice; the last one is the one that counts.
        self._entries = {entry.filename: entry for entry in listed}

    @property
    def names(self) -> list[str]:
        """Names of the entries, in the order of the archive's directory."""
        return list(self._entries)

    def read(self, name: str) -> bytes:
        """One entry, unpacked. KeyError where there is no such entry."""
        entry, limits = self._entries[name], self.file.limits
        if entry.flag_bits & 1:
            raise self.file.fail(f"the entry {name!r} is encrypted")
        most = min(limits.max_entry_bytes, limits.max_total_bytes - self._unpacked)
        out = bytearray()
        try:
            for chunk in _unpacked(self._zip, entry):
                out += chunk
                if len(out) > most:
                    lie = f" although it declares {entry.file_size:,}" if entry.file_size <= most else ""
                    raise self._hostile(f"the entry {name!r} unpacks to more than {most:,} bytes{lie}")
                if len(out) > MIB and len(out) > limits.max_ratio * max(entry.compress_size, 1):
                    raise self._hostile(
                        f"the entry {name!r} unpacks to more than {limits.max_ratio:,} times its packed size"
                    )
        except (*_UNREADABLE, zlib.error, _zstd_error(), MemoryError) as error:
            raise self.file.fail(f"the entry {name!r} is damaged ({error})") from error
        if zlib.crc32(out) != entry.CRC:
            raise self.file.fail(f"the entry {name!r} is damaged (its checksum does not match)")
        self._unpacked += len(out)
        return bytes(out)

    def _hostile(self, problem: str) -> HostileInputError:
        return HostileInputError(problem, path=self.file.path)


@contextmanager
def open_archive(file: InputFile) -> Iterator[Archive]:
    """The archive that a file is, closed again at the end of the block."""
    with _Bounded(file) as raw:
        yield Archive(file, raw)


class _Bounded(io.BufferedReader):
    """A file of which no piece is read that is larger than a directory may be.

    ``zipfile`` reads the directory in one piece, of the size that the archive declares.
    """

    def __init__(self, file: InputFile) -> None:
        super().__init__(io.FileIO(file.path))
        self._of = file

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > max(MIB, self._of.limits.max_entries * _DIRECTORY_BYTES_PER_ENTRY):
            raise HostileInputError(f"the archive's directory claims {size:,} bytes", path=self._of.path)
        return super().read(size)


def _unpacked(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Iterator[bytes]:
    """Unpacked pieces of at most 64 KiB each, so that the caller can stop in time."""
    packed = copy(entry)  # the same bytes as an entry that is stored: zipfile then neither unpacks nor trusts sizes
    packed.compress_type, packed.file_size = zipfile.ZIP_STORED, entry.compress_size
    del packed.CRC
    with archive.open(packed) as raw:
        if entry.compress_type == zipfile.ZIP_STORED:
            while chunk := raw.read(_CHUNK):
                yield chunk
        elif entry.compress_type == zipfile.ZIP_DEFLATED:
            inflate = zlib.decompressobj(-15)
            while rest := raw.read(_CHUNK):
                while rest:
                    if chunk := inflate.decompress(rest, _CHUNK):
                        yield chunk
                    rest = inflate.unconsumed_tail
            yield inflate.flush()
            if not inflate.eof:
                raise EOFError("it ends in the middle")
        elif entry.compress_type == _ZSTD:
            import zstandard

            # Without a bound on the window a frame of a few bytes could ask for gigabytes.
            unpacker = zstandard.ZstdDecompressor(max_window_size=128 * MIB)
            reader = unpacker.stream_reader(raw, read_across_frames=True)
            while chunk := reader.read(_CHUNK):
                yield chunk
        else:
            raise ValueError(f"compression method {entry.compress_type} is not one of stored, deflate or zstd")


def _zstd_error() -> type[Exception]:
    import zstandard

    return zstandard.ZstdError
