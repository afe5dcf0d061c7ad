"""Directories, their entries and names."""

import ctypes
import errno
import os
import sys

from case import ENTRIES, case, get, libc, put, raises


@case("a large directory lists each entry once while others are removed")
def _(d):
    total = ENTRIES
    for i in range(total):
        os.close(os.open(f"{d}/f{i:04}", os.O_CREAT | os.O_WRONLY))
    seen = []
    removed = set()
    with os.scandir(d) as entries:
        for position, entry in enumerate(entries):
            seen.append(entry.name)
            if position % 10 == 0:
                victim = f"f{(position * 7919) % total:04}"
                if victim not in removed:
                    os.unlink(f"{d}/{victim}")
                    removed.add(victim)
    assert len(seen) == len(set(seen)), "an entry was listed twice"
    kept = {f"f{i:04}" for i in range(total)} - removed
    assert kept <= set(seen), f"{len(kept - set(seen))} entries were not listed"
    assert set(os.listdir(d)) == kept


@case("a directory can be emptied while it is listed")
def _(d):
    for i in range(ENTRIES // 5):
        os.close(os.open(f"{d}/f{i}", os.O_CREAT | os.O_WRONLY))
    with os.scandir(d) as entries:
        for entry in entries:
            os.unlink(entry.path)
    assert os.listdir(d) == []


class Dirent(ctypes.Structure):
    _fields_ = [
        ("ino", ctypes.c_ulong),
        ("off", ctypes.c_long),
        ("length", ctypes.c_ushort),
        ("type", ctypes.c_ubyte),
        ("name", ctypes.c_char * 256),
    ]


libc.opendir.restype = ctypes.c_void_p
libc.readdir.restype = ctypes.POINTER(Dirent)
libc.telldir.restype = ctypes.c_long


def next_entry(directory):
    entry = libc.readdir(directory)
    return entry.contents if entry else None


@case("telldir and seekdir come back to the same entry")
def _(d):
    for i in range(300):
        os.close(os.open(f"{d}/f{i}", os.O_CREAT | os.O_WRONLY))
    directory = ctypes.c_void_p(libc.opendir(os.fsencode(d)))
    positions, names = [], []
    while True:
        positions.append(libc.telldir(directory))
        entry = next_entry(directory)
        if entry is None:
            break
        names.append(entry.name)
    assert len(set(names)) == 302
    for i in (0, 5, 150, 301, 77):
        libc.seekdir(directory, ctypes.c_long(positions[i]))
        assert next_entry(directory).name == names[i], i
    libc.rewinddir(directory)
    put(f"{d}/fresh")
    libc.rewinddir(directory)
    names = set()
    while (entry := next_entry(directory)) is not None:
        names.add(entry.name)
    assert b"fresh" in names and len(names) == 303
    libc.closedir(directory)


@case("directory entries carry the right type and inode number")
def _(d):
    put(f"{d}/file")
    os.mkdir(f"{d}/directory")
    os.symlink("x", f"{d}/symlink")
    os.mkfifo(f"{d}/fifo")
    types = {"file": 8, "directory": 4, "symlink": 10, "fifo": 1}
    directory = ctypes.c_void_p(libc.opendir(os.fsencode(d)))
    seen = {}
    while (entry := next_entry(directory)) is not None:
        seen[entry.name.decode()] = (entry.type, entry.ino)
    libc.closedir(directory)
    assert {".", ".."} <= set(seen)
    for name, kind in types.items():
        assert seen[name] == (kind, os.lstat(f"{d}/{name}").st_ino), (name, seen[name])


@case("inode numbers are distinct and do not change")
def _(d):
    total = ENTRIES // 10
    for i in range(total):
        os.close(os.open(f"{d}/f{i}", os.O_CREAT | os.O_WRONLY))
    first = {name: os.stat(f"{d}/{name}").st_ino for name in os.listdir(d)}
    assert len(set(first.values())) == total
    put(f"{d}/f7", b"changed")
    os.rename(f"{d}/f8", f"{d}/moved")
    first["moved"] = first.pop("f8")
    assert {name: os.stat(f"{d}/{name}").st_ino for name in os.listdir(d)} == first


@case("names may be 255 bytes long and no longer")
def _(d):
    long = "ü" * 127 + "x"
    put(f"{d}/{long}", b"long")
    assert os.listdir(d) == [long] and get(f"{d}/{long}") == b"long"
    raises(errno.ENAMETOOLONG, put, f"{d}/{'y' * 256}")
    raises(errno.ENAMETOOLONG, os.stat, f"{d}/{'y' * 256}")
    os.mkdir(f"{d}/{'d' * 255}")
    put(f"{d}/{'d' * 255}/{'f' * 255}", b"deep")
    assert get(f"{d}/{'d' * 255}/{'f' * 255}") == b"deep"


@case("names may hold any character")
def _(d):
    names = [" ", "a b", "new\nline", "-rf", "%41", "+", "&<>\"'", "back\\slash", "ende.", "日本語", "e\u0301", "é", "🦀", "~", "#", "a:b", "*?", "…", "tab\t", "\x01"]
    for name in names:
        put(f"{d}/{name}", name.encode())
    assert sorted(os.listdir(d)) == sorted(names)
    for name in names:
        assert get(f"{d}/{name}") == name.encode(), name
        os.rename(f"{d}/{name}", f"{d}/{name}.renamed")
        os.unlink(f"{d}/{name}.renamed")
    assert os.listdir(d) == []


@case("names need not be UTF-8")
def _(d):
    directory = os.fsencode(d)
    name = b"caf\xe9\xff"
    put(directory + b"/" + name, b"latin")
    assert os.listdir(directory) == [name] and get(directory + b"/" + name) == b"latin"
    os.rename(directory + b"/" + name, directory + b"/\xfe")
    os.symlink(b"\xfd", directory + b"/link")
    assert os.readlink(directory + b"/link") == b"\xfd"
    os.unlink(directory + b"/\xfe")


@case("a name that is not UTF-8 works or is refused with EILSEQ")
def _(d):
    directory = os.fsencode(d)
    try:
        put(directory + b"/caf\xe9", b"latin")
    except OSError as error:
        assert error.errno in (errno.EILSEQ, errno.EINVAL), error
        assert os.listdir(directory) == []
        return
    assert os.listdir(directory) == [b"caf\xe9"]


@case("directories nest deeply")
def _(d):
    path = d
    for i in range(60):
        path += f"/level{i}"
        os.mkdir(path)
    put(f"{path}/f", b"bottom")
    assert get(f"{path}/f") == b"bottom"
    os.rename(f"{d}/level0", f"{d}/top")
    assert get(f"{path.replace('level0/', 'top/', 1)}/f") == b"bottom"


@case("statfs tells the limits")
def _(d):
    found = os.statvfs(d)
    assert found.f_namemax == 255 and found.f_bsize >= 512 and found.f_blocks > 0
    assert found.f_bfree <= found.f_blocks and found.f_bavail <= found.f_bfree


@case("many processes make, read and remove files of one directory")
def _(d):
    def work(number):
        for i in range(40):
            put(f"{d}/{number}-{i}", bytes([number]) * 1000)
            assert get(f"{d}/{number}-{i}") == bytes([number]) * 1000
            if i % 2:
                os.unlink(f"{d}/{number}-{i}")

    pids = []
    for number in range(6):
        pid = os.fork()
        if pid == 0:
            try:
                work(number)
                os._exit(0)
            except BaseException as error:
                print(f"{number}: {error!r}", file=sys.stderr)
                os._exit(1)
        pids.append(pid)
    assert all(os.waitpid(pid, 0)[1] == 0 for pid in pids)
    assert len(os.listdir(d)) == 6 * 20
