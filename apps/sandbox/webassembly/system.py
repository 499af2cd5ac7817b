"""The system calls of a WebAssembly machine: clocks, random numbers, a few files to read.

A grader's Python is linked with these calls of wasi_snapshot_preview1 alone. wasmtime brings calls
that open real files, and these are not linked: what is not written here does not exist for a
grader. Every pointer is checked against the machine's memory before it is used.
Source: https://github.com/WebAssembly/WASI/blob/main/legacy/preview1/docs.md
"""

import ctypes
import mmap
import os
import posixpath
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

OK, EBADF, EFAULT, EINVAL, EISDIR = 0, 8, 21, 28, 31
EMFILE, ENAMETOOLONG, ENOENT, ENOSYS, ENOTDIR, EROFS = 33, 37, 44, 52, 54, 69
CHARACTERS, FOLDER, FILE = 2, 3, 4
ROOT_FD = 3
LONGEST_PATH = 4096
MOST_BUFFERS = 1024
MOST_WAITS = 1024
CHUNK = 1 << 16
CREATES, TRUNCATES, NEEDS_FOLDER = 1, 8, 2
RIGHT_TO_WRITE = 1 << 6
ALL_RIGHTS = (1 << 30) - 1
ABSOLUTE_TIME = 1
REALTIME, MONOTONIC = 0, 1

MASK = 0xFFFF_FFFF  # makes an address unsigned: numbers arrive with a sign
PAGE_BYTES = 1 << 16

BUFFER = struct.Struct("<II")
WAIT = struct.Struct("<QB7xIxxxxQQH6x")  # userdata, kind, clock, timeout, precision, flags
EVENT = struct.Struct("<QHB5xQH6x")
STAT = struct.Struct("<QQB7xQQQQQ")  # device, number, kind, links, size, three times
DESCRIPTOR = struct.Struct("<BxH4xQQ")
ENTRY = struct.Struct("<QQIB3x")


class Failure(Exception):
    """A system call failed; `number` is the error it returns."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Exited(Exception):
    """The program inside ended itself; `status` is its exit status."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Memory:
    """The machine's memory as the host reads and writes it. Raises Failure outside its bounds."""

    def __init__(self, store: Any, memory: Any) -> None:
        self._store = store
        self._memory = memory

    def length(self) -> int:
        return self._memory.data_len(self._store)

    def grow(self, length: int) -> None:
        """Grow by this many bytes, a multiple of PAGE_BYTES. Raises wasmtime's errors."""
        self._memory.grow(self._store, length // PAGE_BYTES)

    def address(self, at: int, length: int) -> int:
        """Return the host's address of these bytes."""
        if at + length > self.length():
            raise Failure(EFAULT)
        start = ctypes.cast(self._memory.data_ptr(self._store), ctypes.c_void_p).value
        assert start is not None
        return start + at

    def read(self, at: int, length: int) -> bytes:
        return ctypes.string_at(self.address(at, length), length)

    def write(self, at: int, data: bytes) -> None:
        ctypes.memmove(self.address(at, len(data)), data, len(data))

    def write_number(self, at: int, value: int, size: int = 4) -> None:
        self.write(at, value.to_bytes(size, "little"))

    def buffers(self, at: int, count: int) -> Iterator[tuple[int, int]]:
        """Read the addresses and lengths in a list of buffers."""
        if count > MOST_BUFFERS:
            raise Failure(EINVAL)
        return BUFFER.iter_unpack(self.read(at, BUFFER.size * count))


@dataclass
class Opened:
    """An open file or folder. content: None for a folder."""

    path: str
    content: bytes | mmap.mmap | None
    position: int = 0

    def taken(self, length: int) -> bytes:
        part = self.part(self.position, length)
        self.position += len(part)
        return part

    def part(self, start: int, length: int) -> bytes:
        if self.content is None:
            raise Failure(EISDIR)
        return self.content[start : start + length]


class Tree:
    """Files of the host, read-only, under the paths that a machine sees.

    Paths are looked up in a table made beforehand, so none can lead to another file.
    """

    def __init__(self, files: Mapping[str, Path]) -> None:
        self._files = dict(files)
        self._folders: dict[str, set[str]] = {"/": set()}
        for path in self._files:
            while path != "/":
                folder, name = posixpath.split(path)
                self._folders.setdefault(folder, set()).add(name)
                path = folder
        self._numbers = {path: number for number, path in enumerate((*self._folders, *files), 2)}

    def kind(self, path: str) -> int:
        if path in self._folders:
            return FOLDER
        if path in self._files:
            return FILE
        raise Failure(ENOENT)

    def stat(self, path: str) -> bytes:
        kind = self.kind(path)
        size = self._files[path].stat().st_size if kind == FILE else 0
        return STAT.pack(1, self._numbers[path], kind, 1, size, 0, 0, 0)

    def opened(self, path: str) -> Opened:
        if self.kind(path) == FOLDER:
            return Opened(path, None)
        with self._files[path].open("rb") as file:
            try:
                return Opened(path, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            except ValueError:  # an empty file cannot be mapped
                return Opened(path, b"")

    def entries(self, path: str) -> list[tuple[int, int, bytes]]:
        """List the number, kind and name of each entry of a folder."""
        if path not in self._folders:
            raise Failure(ENOTDIR)
        inside = [(posixpath.join(path, name), name) for name in sorted(self._folders[path])]
        return [(self._numbers[at], self.kind(at), name.encode()) for at, name in inside]


class System:
    """The system calls of one sandbox's machines, as methods named as the machine imports them.

    Their numbers are unsigned. arguments, environment: of the program inside. open_files: the most
    files and folders open at once.
    """

    memory: Memory

    def __init__(
        self, tree: Tree, arguments: list[str], environment: Mapping[str, str], open_files: int
    ) -> None:
        self._tree = tree
        self._arguments = [f"{word}\0".encode() for word in arguments]
        self._environment = [f"{key}={value}\0".encode() for key, value in environment.items()]
        self._open: dict[int, Opened] = {ROOT_FD: Opened("/", None)}
        self._most_open = open_files
        self._next = ROOT_FD + 1

    def opened(self) -> dict[int, Opened]:
        """Return a copy of the table of open files, positions included."""
        return {number: replace(file) for number, file in self._open.items()}

    def reopen(self, files: Mapping[int, Opened]) -> None:
        """Replace the table of open files by a copy of this one."""
        self._open = {number: replace(file) for number, file in files.items()}
        self._next = max(files) + 1

    def answering(self, name: str, masks: Sequence[int]) -> Callable[..., int]:
        """Return the system call of this name as a function that returns its error number.

        masks: one for each argument, to make it unsigned. A call that is not here returns ENOSYS.
        """
        call = getattr(self, name, None)
        if call is None:
            return lambda *_: ENOSYS

        def answer(*numbers: int) -> int:
            try:
                call(*(number & mask for number, mask in zip(numbers, masks, strict=True)))
            except Failure as failure:
                return failure.number
            return OK

        return answer

    def args_sizes_get(self, count_at: int, size_at: int) -> None:
        self._write_sizes(self._arguments, count_at, size_at)

    def args_get(self, list_at: int, text_at: int) -> None:
        self._write_texts(self._arguments, list_at, text_at)

    def environ_sizes_get(self, count_at: int, size_at: int) -> None:
        self._write_sizes(self._environment, count_at, size_at)

    def environ_get(self, list_at: int, text_at: int) -> None:
        self._write_texts(self._environment, list_at, text_at)

    def clock_res_get(self, clock: int, at: int) -> None:
        self.memory.write_number(at, 1, 8)

    def clock_time_get(self, clock: int, precision: int, at: int) -> None:
        self.memory.write_number(at, _now(clock), 8)

    def random_get(self, at: int, length: int) -> None:
        for start in range(0, length, CHUNK):
            self.memory.write(at + start, os.urandom(min(CHUNK, length - start)))

    def sched_yield(self) -> None:
        pass

    def proc_exit(self, status: int) -> None:
        raise Exited(status & 0xFF)

    def poll_oneoff(self, waits_at: int, events_at: int, count: int, written_at: int) -> None:
        """Sleep until the first clock is due; a wait for files ends at once."""
        if not 0 < count <= MOST_WAITS:
            raise Failure(EINVAL)
        waits = list(WAIT.iter_unpack(self.memory.read(waits_at, WAIT.size * count)))
        events = [(userdata, OK, kind, 1, 0) for userdata, kind, *_ in waits if kind]
        if not events:
            left = {
                userdata: timeout - (_now(clock) if flags & ABSOLUTE_TIME else 0)
                for userdata, _, clock, timeout, _, flags in waits
            }
            first = min(left.values())
            time.sleep(max(first, 0) / 1e9)
            events = [(userdata, OK, 0, 0, 0) for userdata, due in left.items() if due <= first]
        self.memory.write(events_at, b"".join(EVENT.pack(*event) for event in events))
        self.memory.write_number(written_at, len(events))

    def fd_prestat_get(self, number: int, at: int) -> None:
        if number != ROOT_FD:
            raise Failure(EBADF)
        self.memory.write(at, struct.pack("<II", 0, 1))

    def fd_prestat_dir_name(self, number: int, at: int, length: int) -> None:
        if number != ROOT_FD or not length:
            raise Failure(EBADF)
        self.memory.write(at, b"/")

    def fd_fdstat_get(self, number: int, at: int) -> None:
        kind = CHARACTERS if number < ROOT_FD else self._tree.kind(self._opened(number).path)
        rights = ALL_RIGHTS if kind != FILE else ALL_RIGHTS & ~RIGHT_TO_WRITE
        self.memory.write(at, DESCRIPTOR.pack(kind, 0, rights, rights))

    def fd_fdstat_set_flags(self, number: int, flags: int) -> None:
        self._opened(number)

    def fd_filestat_get(self, number: int, at: int) -> None:
        if number < ROOT_FD:
            self.memory.write(at, STAT.pack(1, 1, CHARACTERS, 1, 0, 0, 0, 0))
        else:
            self.memory.write(at, self._tree.stat(self._opened(number).path))

    def fd_close(self, number: int) -> None:
        if number == ROOT_FD or self._open.pop(number, None) is None:
            raise Failure(EBADF)

    def fd_read(self, number: int, list_at: int, count: int, read_at: int) -> None:
        if number < ROOT_FD:  # standard input is empty
            self.memory.write_number(read_at, 0)
            return
        file = self._opened(number)
        self._scatter(list_at, count, read_at, file.taken)

    def fd_pread(self, number: int, list_at: int, count: int, start: int, read_at: int) -> None:
        file = Opened("", self._opened(number).content, start)
        self._scatter(list_at, count, read_at, file.taken)

    def fd_write(self, number: int, list_at: int, count: int, written_at: int) -> None:
        """Throw away what is printed, unread."""
        if number not in {1, 2}:
            raise Failure(EBADF)
        length = sum(length for _, length in self.memory.buffers(list_at, count))
        self.memory.write_number(written_at, length & 0xFFFF_FFFF)

    def fd_seek(self, number: int, offset: int, whence: int, at: int) -> None:
        file = self._opened(number)
        if file.content is None or whence > 2:
            raise Failure(EINVAL)
        signed = offset - (1 << 64) if offset >> 63 else offset
        position = (0, file.position, len(file.content))[whence] + signed
        if not 0 <= position < 1 << 63:
            raise Failure(EINVAL)
        file.position = position
        self.memory.write_number(at, position, 8)

    def fd_tell(self, number: int, at: int) -> None:
        self.memory.write_number(at, self._opened(number).position, 8)

    def fd_readdir(self, number: int, at: int, room: int, cookie: int, used_at: int) -> None:
        entries = self._tree.entries(self._opened(number).path)
        found = b"".join(
            ENTRY.pack(index, inode, len(name), kind) + name
            for index, (inode, kind, name) in enumerate(entries[cookie:], cookie + 1)
        )
        self.memory.write(at, found[:room])
        self.memory.write_number(used_at, min(len(found), room))

    def path_open(
        self, folder: int, lookup: int, at: int, length: int, creates: int, rights: int,
        inherited: int, flags: int, opened_at: int,
    ) -> None:  # fmt: skip
        path = self._path(folder, at, length)
        try:
            file = self._tree.opened(path)
        except Failure:
            raise Failure(EROFS if creates & CREATES else ENOENT) from None
        if creates & NEEDS_FOLDER and file.content is not None:
            raise Failure(ENOTDIR)
        if file.content is not None and (creates & TRUNCATES or rights & RIGHT_TO_WRITE):
            raise Failure(EROFS)
        if len(self._open) >= self._most_open:
            raise Failure(EMFILE)
        self._open[self._next] = file
        self.memory.write_number(opened_at, self._next)
        self._next += 1

    def path_filestat_get(self, folder: int, flags: int, at: int, length: int, to: int) -> None:
        self.memory.write(to, self._tree.stat(self._path(folder, at, length)))

    def path_readlink(self, folder: int, at: int, length: int, *_: int) -> None:
        self._tree.kind(self._path(folder, at, length))
        raise Failure(EINVAL)  # there are no links

    def _refuse_to_write(self, *_: int) -> None:
        raise Failure(EROFS)

    path_create_directory = path_filestat_set_times = path_link = _refuse_to_write
    path_remove_directory = path_rename = path_symlink = path_unlink_file = _refuse_to_write
    fd_allocate = fd_filestat_set_size = fd_filestat_set_times = fd_pwrite = _refuse_to_write

    def _opened(self, number: int) -> Opened:
        if number not in self._open:
            raise Failure(EBADF)
        return self._open[number]

    def _path(self, folder: int, at: int, length: int) -> str:
        if length > LONGEST_PATH:
            raise Failure(ENAMETOOLONG)
        start = self._opened(folder)
        if start.content is not None:
            raise Failure(ENOTDIR)
        try:
            given = self.memory.read(at, length).decode()
        except UnicodeDecodeError:
            raise Failure(ENOENT) from None
        # Safe to work out on the text alone: there are no links here.
        return posixpath.normpath(posixpath.join(start.path, given.lstrip("/")))

    def _scatter(self, list_at: int, count: int, read_at: int, take: Callable[..., bytes]) -> None:
        total = 0
        for at, length in self.memory.buffers(list_at, count):
            part = take(length)
            self.memory.write(at, part)
            total += len(part)
            if len(part) < length:
                break
        self.memory.write_number(read_at, total)

    def _write_sizes(self, texts: Sequence[bytes], count_at: int, size_at: int) -> None:
        self.memory.write_number(count_at, len(texts))
        self.memory.write_number(size_at, sum(map(len, texts)))

    def _write_texts(self, texts: Sequence[bytes], list_at: int, text_at: int) -> None:
        for index, text in enumerate(texts):
            self.memory.write_number(list_at + 4 * index, text_at)
            self.memory.write(text_at, text)
            text_at += len(text)


def _now(clock: int) -> int:
    """Return the clock's time in nanoseconds."""
    if clock == REALTIME:
        return time.time_ns()
    if clock == MONOTONIC:
        return time.monotonic_ns()
    # Clocks of processor time: this process runs nothing but the machines.
    return time.process_time_ns()
