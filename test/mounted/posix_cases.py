"""POSIX operations, one case each, run as `python3 posix_cases.py CASE DIRECTORY` in a process of its own.

A case gets a fresh directory and passes by returning. `--list` prints the names as JSON, with what needs root. Nothing here
knows what is mounted: every case passes on ext4 and tmpfs.
"""
import ctypes
import errno
import fcntl
import hashlib
import json
import mmap
import os
import random
import select
import socket
import stat
import struct
import sys
import time

CASES = {}
NOBODY = 65534
# Of a large directory: a remote store makes them one by one.
ENTRIES = int(os.environ.get("ENTRIES", "5000"))
libc = ctypes.CDLL(None, use_errno=True)


def case(name, root=False):
    def register(function):
        assert name not in CASES, name
        function.root = root
        CASES[name] = function
        return function

    return register


def raises(code, function, *args, **kwargs):
    codes = code if isinstance(code, tuple) else (code,)
    try:
        result = function(*args, **kwargs)
    except OSError as error:
        names = [errno.errorcode[c] for c in codes]
        assert error.errno in codes, f"expected {names}, got {errno.errorcode.get(error.errno, error.errno)}"
        return
    raise AssertionError(f"expected {[errno.errorcode[c] for c in codes]}, got {result!r}")


def put(path, data=b"", mode=0o644):
    fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, mode)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view):]
    finally:
        os.close(fd)


def get(path):
    with open(path, "rb", buffering=0) as file:
        return file.readall()


def child(function):
    """Runs a function in a forked process; its failure is ours."""
    pid = os.fork()
    if pid == 0:
        try:
            function()
            os._exit(0)
        except BaseException as error:
            print(f"in child: {error!r}", file=sys.stderr)
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    assert status == 0, "the child process failed"


def as_nobody(function):
    def run():
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        function()

    child(run)


def call(function, *args):
    result = function(*args)
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def renameat2(source, target, flags):
    call(libc.renameat2, -100, os.fsencode(source), -100, os.fsencode(target), flags)


def fallocate(fd, mode, offset, length):
    call(libc.fallocate, fd, mode, ctypes.c_long(offset), ctypes.c_long(length))


# Opening and creating


@case("a created file is empty and has the umask applied")
def _(d):
    old = os.umask(0o027)
    try:
        put(f"{d}/f", b"", 0o666)
        os.mkdir(f"{d}/g", 0o777)
    finally:
        os.umask(old)
    found = os.stat(f"{d}/f")
    assert found.st_size == 0 and stat.S_IMODE(found.st_mode) == 0o640, oct(found.st_mode)
    assert stat.S_IMODE(os.stat(f"{d}/g").st_mode) == 0o750
    assert found.st_nlink == 1 and found.st_uid == os.getuid()


@case("O_EXCL refuses an existing name, a dangling symlink too")
def _(d):
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
    os.close(os.open(f"{d}/f", flags))
    raises(errno.EEXIST, os.open, f"{d}/f", flags)
    os.symlink("nowhere", f"{d}/link")
    raises(errno.EEXIST, os.open, f"{d}/link", flags)


@case("O_TRUNC empties an existing file")
def _(d):
    put(f"{d}/f", b"x" * 10000)
    fd = os.open(f"{d}/f", os.O_WRONLY | os.O_TRUNC)
    assert os.fstat(fd).st_size == 0
    os.write(fd, b"new")
    os.close(fd)
    assert get(f"{d}/f") == b"new"


@case("O_APPEND writes at the end, wherever the offset stands")
def _(d):
    put(f"{d}/f", b"one\n")
    a = os.open(f"{d}/f", os.O_RDWR | os.O_APPEND)
    b = os.open(f"{d}/f", os.O_WRONLY | os.O_APPEND)
    for i in range(20):
        os.lseek(a, 0, os.SEEK_SET)
        os.write(a, b"a\n")
        os.write(b, b"b\n")
    os.close(a)
    os.close(b)
    assert get(f"{d}/f") == b"one\n" + b"a\nb\n" * 20


@case("a created file opened with O_APPEND appends")
def _(d):
    fd = os.open(f"{d}/f", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)
    os.write(fd, b"12")
    os.lseek(fd, 0, os.SEEK_SET)
    os.write(fd, b"34")
    os.close(fd)
    assert get(f"{d}/f") == b"1234"


@case("opening says what is wrong with a path")
def _(d):
    put(f"{d}/f")
    os.mkdir(f"{d}/g")
    os.symlink("f", f"{d}/link")
    raises(errno.ENOENT, os.open, f"{d}/none", os.O_RDONLY)
    raises(errno.ENOENT, put, f"{d}/none/f")
    raises(errno.ENOTDIR, put, f"{d}/f/x")
    raises(errno.EISDIR, os.open, f"{d}/g", os.O_WRONLY)
    raises(errno.ENOTDIR, os.open, f"{d}/f", os.O_RDONLY | os.O_DIRECTORY)
    raises(errno.ELOOP, os.open, f"{d}/link", os.O_RDONLY | os.O_NOFOLLOW)


@case("a descriptor refuses what it was not opened for")
def _(d):
    put(f"{d}/f", b"data")
    fd = os.open(f"{d}/f", os.O_RDONLY)
    raises(errno.EBADF, os.write, fd, b"x")
    os.close(fd)
    fd = os.open(f"{d}/f", os.O_WRONLY)
    raises(errno.EBADF, os.read, fd, 1)
    os.close(fd)
    raises(errno.ENOTTY, fcntl.ioctl, os.open(f"{d}/f", os.O_RDONLY), 0x5401, b"\0" * 64)


@case("a file created without write permission can be written through the descriptor that made it")
def _(d):
    fd = os.open(f"{d}/f", os.O_CREAT | os.O_WRONLY, 0o400)
    os.write(fd, b"once")
    os.close(fd)
    assert get(f"{d}/f") == b"once"
    assert stat.S_IMODE(os.stat(f"{d}/f").st_mode) == 0o400


# Names


@case("rename moves a file and replaces the target")
def _(d):
    put(f"{d}/a", b"new")
    put(f"{d}/b", b"old")
    ino = os.stat(f"{d}/a").st_ino
    os.rename(f"{d}/a", f"{d}/b")
    raises(errno.ENOENT, os.stat, f"{d}/a")
    assert get(f"{d}/b") == b"new" and os.stat(f"{d}/b").st_ino == ino
    os.rename(f"{d}/b", f"{d}/b")
    assert os.listdir(d) == ["b"]


@case("rename never leaves the target missing")
def _(d):
    put(f"{d}/target", b"0" * 100)
    reader = os.fork()
    if reader == 0:
        try:
            for _ in range(300):
                assert len(get(f"{d}/target")) == 100
            os._exit(0)
        except BaseException as error:
            print(f"reader: {error!r}", file=sys.stderr)
            os._exit(1)
    for i in range(60):
        put(f"{d}/next", bytes([48 + i % 10]) * 100)
        os.rename(f"{d}/next", f"{d}/target")
    assert os.waitpid(reader, 0)[1] == 0


@case("rename with RENAME_NOREPLACE refuses an existing target")
def _(d):
    put(f"{d}/a", b"a")
    put(f"{d}/b", b"b")
    raises(errno.EEXIST, renameat2, f"{d}/a", f"{d}/b", 1)
    assert get(f"{d}/a") == b"a" and get(f"{d}/b") == b"b"
    renameat2(f"{d}/a", f"{d}/c", 1)
    assert get(f"{d}/c") == b"a" and sorted(os.listdir(d)) == ["b", "c"]


@case("rename with RENAME_EXCHANGE swaps two names")
def _(d):
    put(f"{d}/a", b"a")
    put(f"{d}/b", b"content of b")
    inos = os.stat(f"{d}/a").st_ino, os.stat(f"{d}/b").st_ino
    renameat2(f"{d}/a", f"{d}/b", 2)
    assert get(f"{d}/b") == b"a" and get(f"{d}/a") == b"content of b"
    assert (os.stat(f"{d}/b").st_ino, os.stat(f"{d}/a").st_ino) == inos
    raises(errno.ENOENT, renameat2, f"{d}/a", f"{d}/none", 2)


@case("rename with RENAME_EXCHANGE swaps a file and a directory")
def _(d):
    put(f"{d}/a", b"a")
    os.mkdir(f"{d}/b")
    put(f"{d}/b/in", b"b")
    renameat2(f"{d}/a", f"{d}/b", 2)
    assert get(f"{d}/b") == b"a" and get(f"{d}/a/in") == b"b"


@case("rename with RENAME_WHITEOUT leaves a whiteout or refuses and changes nothing")
def _(d):
    put(f"{d}/a", b"a")
    try:
        renameat2(f"{d}/a", f"{d}/b", 4)
    except OSError as error:
        assert error.errno in (errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM), error
        assert get(f"{d}/a") == b"a" and os.listdir(d) == ["a"]
        return
    left = os.lstat(f"{d}/a")
    assert stat.S_ISCHR(left.st_mode) and left.st_rdev == 0
    assert get(f"{d}/b") == b"a"


@case("rename of directories follows the rules")
def _(d):
    for name in ("a", "a/sub", "empty", "full"):
        os.mkdir(f"{d}/{name}")
    put(f"{d}/a/sub/f", b"deep")
    put(f"{d}/full/f")
    put(f"{d}/file")
    raises((errno.ENOTEMPTY, errno.EEXIST), os.rename, f"{d}/a", f"{d}/full")
    raises(errno.ENOTDIR, os.rename, f"{d}/a", f"{d}/file")
    raises(errno.EISDIR, os.rename, f"{d}/file", f"{d}/a")
    raises(errno.EINVAL, os.rename, f"{d}/a", f"{d}/a/sub/inside")
    raises(errno.ENOENT, os.rename, f"{d}/none", f"{d}/x")
    os.rename(f"{d}/a", f"{d}/empty")
    assert get(f"{d}/empty/sub/f") == b"deep"
    raises(errno.ENOENT, os.stat, f"{d}/a")
    os.rename(f"{d}/empty", f"{d}/full/moved")
    assert get(f"{d}/full/moved/sub/f") == b"deep"


@case("a directory that was renamed keeps its open files and working directories")
def _(d):
    os.mkdir(f"{d}/a")
    put(f"{d}/a/f", b"before")
    fd = os.open(f"{d}/a/f", os.O_RDWR)
    here = os.getcwd()
    os.chdir(f"{d}/a")
    os.rename(f"{d}/a", f"{d}/b")
    os.pwrite(fd, b"AFTER!", 0)
    os.close(fd)
    assert get("f") == b"AFTER!"
    put("g", b"new")
    os.chdir(here)
    assert sorted(os.listdir(f"{d}/b")) == ["f", "g"]
    raises(errno.ENOENT, os.stat, f"{d}/a/f")


@case("a name that was removed can be made again as another type")
def _(d):
    for i in range(3):
        put(f"{d}/x", b"file")
        assert stat.S_ISREG(os.lstat(f"{d}/x").st_mode)
        os.unlink(f"{d}/x")
        os.mkdir(f"{d}/x")
        put(f"{d}/x/in", b"1")
        assert os.listdir(f"{d}/x") == ["in"]
        os.unlink(f"{d}/x/in")
        os.rmdir(f"{d}/x")
        os.symlink("to", f"{d}/x")
        assert os.readlink(f"{d}/x") == "to"
        os.unlink(f"{d}/x")


@case("an unlinked file stays readable and writable while it is open")
def _(d):
    put(f"{d}/f", b"still here")
    fd = os.open(f"{d}/f", os.O_RDWR)
    os.unlink(f"{d}/f")
    raises(errno.ENOENT, os.stat, f"{d}/f")
    assert os.listdir(d) == [], os.listdir(d)
    assert os.pread(fd, 100, 0) == b"still here"
    os.pwrite(fd, b"and written", 10)
    assert os.fstat(fd).st_size == 21
    os.ftruncate(fd, 5)
    os.fchmod(fd, 0o600)
    assert os.pread(fd, 100, 0) == b"still"
    put(f"{d}/f", b"another")
    assert os.pread(fd, 100, 0) == b"still"
    os.close(fd)
    assert get(f"{d}/f") == b"another"
    os.unlink(f"{d}/f")
    os.rmdir(d)


@case("fstat of an unlinked open file shows no links")
def _(d):
    put(f"{d}/f", b"1")
    fd = os.open(f"{d}/f", os.O_RDONLY)
    os.unlink(f"{d}/f")
    assert os.fstat(fd).st_nlink == 0
    os.close(fd)


@case("rename over an open file keeps the old content for its readers")
def _(d):
    put(f"{d}/old", b"old" * 5000)
    put(f"{d}/new", b"new")
    fd = os.open(f"{d}/old", os.O_RDONLY)
    os.rename(f"{d}/new", f"{d}/old")
    assert os.pread(fd, 20000, 0) == b"old" * 5000
    assert get(f"{d}/old") == b"new"
    os.close(fd)


@case("removing says what is wrong")
def _(d):
    os.mkdir(f"{d}/g")
    put(f"{d}/g/f")
    put(f"{d}/file")
    raises((errno.ENOTEMPTY, errno.EEXIST), os.rmdir, f"{d}/g")
    raises(errno.ENOTDIR, os.rmdir, f"{d}/file")
    raises((errno.EISDIR, errno.EPERM), os.unlink, f"{d}/g")
    raises(errno.ENOENT, os.unlink, f"{d}/none")
    raises(errno.EEXIST, os.mkdir, f"{d}/g")
    raises(errno.EEXIST, os.mkdir, f"{d}/file")


@case("an empty directory stays")
def _(d):
    os.makedirs(f"{d}/a/b/c")
    put(f"{d}/a/b/c/f")
    os.unlink(f"{d}/a/b/c/f")
    assert os.listdir(f"{d}/a/b/c") == []
    os.rmdir(f"{d}/a/b/c")
    assert os.listdir(f"{d}/a/b") == [] and os.path.isdir(f"{d}/a/b")


@case("a directory counts its subdirectories as links or says 1")
def _(d):
    for name in ("a", "b", "c"):
        os.mkdir(f"{d}/{name}")
    assert os.stat(d).st_nlink in (1, 2, 5), os.stat(d).st_nlink


# Links and special files


@case("a hard link is the same file under another name")
def _(d):
    put(f"{d}/a", b"shared")
    os.mkdir(f"{d}/sub")
    os.link(f"{d}/a", f"{d}/sub/b")
    a, b = os.stat(f"{d}/a"), os.stat(f"{d}/sub/b")
    assert a.st_ino == b.st_ino and a.st_nlink == b.st_nlink == 2, (a, b)
    with open(f"{d}/sub/b", "ab") as file:
        file.write(b" content")
    assert get(f"{d}/a") == b"shared content"
    os.chmod(f"{d}/a", 0o600)
    assert stat.S_IMODE(os.stat(f"{d}/sub/b").st_mode) == 0o600
    os.unlink(f"{d}/a")
    assert get(f"{d}/sub/b") == b"shared content"
    assert os.stat(f"{d}/sub/b").st_nlink == 1


@case("link refuses directories and existing names")
def _(d):
    put(f"{d}/a")
    put(f"{d}/b")
    os.mkdir(f"{d}/g")
    raises(errno.EEXIST, os.link, f"{d}/a", f"{d}/b")
    raises(errno.EPERM, os.link, f"{d}/g", f"{d}/h")
    raises(errno.ENOENT, os.link, f"{d}/none", f"{d}/c")


@case("a symlink holds any target")
def _(d):
    put(f"{d}/f", b"via link")
    for i, target in enumerate(("f", f"{d}/f", "nowhere", "../x/ü", "a" * 1000)):
        os.symlink(target, f"{d}/l{i}")
        assert os.readlink(f"{d}/l{i}") == target
        found = os.lstat(f"{d}/l{i}")
        assert stat.S_ISLNK(found.st_mode) and found.st_size == len(os.fsencode(target)), found
    assert get(f"{d}/l0") == get(f"{d}/l1") == b"via link"
    raises(errno.ENOENT, os.stat, f"{d}/l2")
    os.symlink("loop", f"{d}/loop")
    raises(errno.ELOOP, os.stat, f"{d}/loop")
    raises(errno.EEXIST, os.symlink, "f", f"{d}/l0")
    raises(errno.EINVAL, os.readlink, f"{d}/f")


@case("a fifo carries bytes between processes")
def _(d):
    os.mkfifo(f"{d}/fifo", 0o640)
    found = os.lstat(f"{d}/fifo")
    assert stat.S_ISFIFO(found.st_mode) and stat.S_IMODE(found.st_mode) == 0o640, oct(found.st_mode)
    pid = os.fork()
    if pid == 0:
        fd = os.open(f"{d}/fifo", os.O_WRONLY)
        os.write(fd, b"through")
        os._exit(0)
    fd = os.open(f"{d}/fifo", os.O_RDONLY)
    assert os.read(fd, 100) == b"through"
    os.waitpid(pid, 0)


@case("a unix socket can be bound and connected")
def _(d):
    os.chdir(d)
    server = socket.socket(socket.AF_UNIX)
    server.bind("s")
    server.listen(1)
    assert stat.S_ISSOCK(os.lstat("s").st_mode)
    client = socket.socket(socket.AF_UNIX)
    client.connect("s")
    client.send(b"hi")
    assert server.accept()[0].recv(2) == b"hi"


@case("a device node keeps its numbers", root=True)
def _(d):
    os.mknod(f"{d}/dev", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    found = os.lstat(f"{d}/dev")
    assert stat.S_ISCHR(found.st_mode)
    assert (os.major(found.st_rdev), os.minor(found.st_rdev)) == (1, 3), found.st_rdev


# Attributes


@case("access and modification times are set to the millisecond")
def _(d):
    put(f"{d}/f")
    os.utime(f"{d}/f", ns=(1_111_000_000_123_000_000, 1_222_000_000_987_000_000))
    found = os.stat(f"{d}/f")
    assert (found.st_atime_ns, found.st_mtime_ns) == (1_111_000_000_123_000_000, 1_222_000_000_987_000_000), found


@case("times keep their nanoseconds")
def _(d):
    put(f"{d}/f")
    os.mkdir(f"{d}/g")
    os.symlink("f", f"{d}/l")
    for name in ("f", "g", "l"):
        times = (1_111_000_000_123_456_789, 1_222_000_000_987_654_321)
        os.utime(f"{d}/{name}", ns=times, follow_symlinks=False)
        found = os.lstat(f"{d}/{name}")
        assert (found.st_atime_ns, found.st_mtime_ns) == times, (name, found.st_atime_ns, found.st_mtime_ns)


@case("a time before 1970 is kept")
def _(d):
    put(f"{d}/f")
    os.utime(f"{d}/f", ns=(-1_500_000_000, -86_400_000_000_000))
    found = os.stat(f"{d}/f")
    assert (found.st_atime_ns, found.st_mtime_ns) == (-1_500_000_000, -86_400_000_000_000), found


@case("one time can be set and the other left alone")
def _(d):
    put(f"{d}/f")
    os.utime(f"{d}/f", ns=(1_000_000_000_000_000_000, 1_100_000_000_000_000_000))

    class Timespec(ctypes.Structure):
        _fields_ = [("s", ctypes.c_long), ("ns", ctypes.c_long)]

    omit = 0x3FFFFFFE
    times = (Timespec * 2)(Timespec(0, omit), Timespec(1_200_000_000, 0))
    call(libc.utimensat, -100, os.fsencode(f"{d}/f"), times, 0)
    found = os.stat(f"{d}/f")
    assert (found.st_atime_ns, found.st_mtime_ns) == (1_000_000_000 * 10**9, 1_200_000_000 * 10**9), found
    os.utime(f"{d}/f")
    assert abs(os.stat(f"{d}/f").st_mtime - time.time()) < 30


@case("writing moves mtime and ctime, chmod only ctime")
def _(d):
    put(f"{d}/f", b"1")
    os.utime(f"{d}/f", (10**9, 10**9))
    before = os.stat(f"{d}/f")
    time.sleep(0.02)
    os.chmod(f"{d}/f", 0o600)
    changed = os.stat(f"{d}/f")
    assert changed.st_mtime_ns == before.st_mtime_ns and changed.st_ctime_ns > before.st_ctime_ns
    fd = os.open(f"{d}/f", os.O_WRONLY)
    os.write(fd, b"2")
    os.close(fd)
    written = os.stat(f"{d}/f")
    assert written.st_mtime > 10**9 + 1000 and written.st_ctime_ns >= changed.st_ctime_ns
    assert os.stat(f"{d}/f").st_mtime_ns == written.st_mtime_ns


@case("a directory's mtime moves with its names")
def _(d):
    for change in (
        lambda: put(f"{d}/f"),
        lambda: os.rename(f"{d}/f", f"{d}/g"),
        lambda: os.unlink(f"{d}/g"),
        lambda: os.mkdir(f"{d}/s"),
        lambda: os.rmdir(f"{d}/s"),
    ):
        os.utime(d, (10**9, 10**9))
        change()
        assert os.stat(d).st_mtime > 10**9 + 1000


@case("chmod keeps every permission bit")
def _(d):
    put(f"{d}/f")
    os.mkdir(f"{d}/g")
    for mode in (0o000, 0o644, 0o600, 0o4644, 0o2640, 0o1600):
        os.chmod(f"{d}/f", mode)
        assert stat.S_IMODE(os.stat(f"{d}/f").st_mode) == mode, oct(mode)
    for mode in (0o1777, 0o2775, 0o700):
        os.chmod(f"{d}/g", mode)
        assert stat.S_IMODE(os.stat(f"{d}/g").st_mode) == mode, oct(mode)


@case("chown keeps owner and group", root=True)
def _(d):
    put(f"{d}/f")
    os.chown(f"{d}/f", 1234, 5678)
    assert (os.stat(f"{d}/f").st_uid, os.stat(f"{d}/f").st_gid) == (1234, 5678)
    os.chown(f"{d}/f", -1, 99)
    assert (os.stat(f"{d}/f").st_uid, os.stat(f"{d}/f").st_gid) == (1234, 99)
    os.symlink("f", f"{d}/link")
    os.chown(f"{d}/link", 1, 2, follow_symlinks=False)
    assert (os.lstat(f"{d}/link").st_uid, os.lstat(f"{d}/link").st_gid) == (1, 2)


@case("permissions hold for other users", root=True)
def _(d):
    os.chmod(d, 0o755)
    put(f"{d}/secret", b"s", 0o600)
    put(f"{d}/public", b"p", 0o644)
    os.mkdir(f"{d}/closed", 0o700)
    put(f"{d}/closed/f")

    def other():
        raises(errno.EACCES, get, f"{d}/secret")
        assert get(f"{d}/public") == b"p"
        raises(errno.EACCES, put, f"{d}/new")
        raises(errno.EACCES, os.unlink, f"{d}/public")
        raises(errno.EACCES, os.stat, f"{d}/closed/f")
        raises(errno.EACCES, os.listdir, f"{d}/closed")
        raises(errno.EPERM, os.chmod, f"{d}/public", 0o666)
        raises(errno.EPERM, os.chown, f"{d}/public", NOBODY, NOBODY)

    as_nobody(other)


@case("a new file belongs to its maker", root=True)
def _(d):
    os.chmod(d, 0o777)

    def other():
        put(f"{d}/f", b"mine")
        os.mkdir(f"{d}/g")
        os.symlink("f", f"{d}/l")
        for name in ("f", "g", "l"):
            found = os.lstat(f"{d}/{name}")
            assert (found.st_uid, found.st_gid) == (NOBODY, NOBODY), (name, found.st_uid)

    as_nobody(other)


@case("a sticky directory protects other people's files", root=True)
def _(d):
    os.chmod(d, 0o1777)
    put(f"{d}/roots", b"r", 0o666)
    as_nobody(lambda: raises((errno.EPERM, errno.EACCES), os.unlink, f"{d}/roots"))
    as_nobody(lambda: raises((errno.EPERM, errno.EACCES), os.rename, f"{d}/roots", f"{d}/x"))


@case("a setgid directory hands down its group", root=True)
def _(d):
    os.mkdir(f"{d}/g")
    os.chown(f"{d}/g", 0, 4321)
    os.chmod(f"{d}/g", 0o2775)
    put(f"{d}/g/f")
    os.mkdir(f"{d}/g/sub")
    assert os.stat(f"{d}/g/f").st_gid == 4321
    assert os.stat(f"{d}/g/sub").st_gid == 4321 and os.stat(f"{d}/g/sub").st_mode & stat.S_ISGID


@case("writing by an unprivileged user clears setuid and setgid", root=True)
def _(d):
    os.chmod(d, 0o755)
    put(f"{d}/f", b"program")
    os.chown(f"{d}/f", 0, 0)
    os.chmod(f"{d}/f", 0o6676)

    def other():
        fd = os.open(f"{d}/f", os.O_WRONLY)
        os.write(fd, b"evil")
        os.close(fd)

    as_nobody(other)
    assert os.stat(f"{d}/f").st_mode & stat.S_ISUID == 0, oct(os.stat(f"{d}/f").st_mode)
    assert get(f"{d}/f") == b"evilram"


@case("chown by an unprivileged owner clears setuid", root=True)
def _(d):
    os.chmod(d, 0o755)
    put(f"{d}/f")
    os.chown(f"{d}/f", NOBODY, NOBODY)
    os.chmod(f"{d}/f", 0o4644)
    as_nobody(lambda: os.chown(f"{d}/f", -1, NOBODY))
    assert os.stat(f"{d}/f").st_mode & stat.S_ISUID == 0


@case("extended attributes can be set, read, listed and removed")
def _(d):
    put(f"{d}/f")
    os.mkdir(f"{d}/g")
    for path in (f"{d}/f", f"{d}/g"):
        value = bytes(range(256)) * 4
        assert os.listxattr(path) == []
        raises(errno.ENODATA, os.getxattr, path, "user.none")
        os.setxattr(path, "user.one", value)
        os.setxattr(path, "user.empty", b"")
        assert os.getxattr(path, "user.one") == value and os.getxattr(path, "user.empty") == b""
        assert sorted(os.listxattr(path)) == ["user.empty", "user.one"]
        raises(errno.EEXIST, os.setxattr, path, "user.one", b"x", os.XATTR_CREATE)
        raises(errno.ENODATA, os.setxattr, path, "user.two", b"x", os.XATTR_REPLACE)
        os.setxattr(path, "user.one", b"short", os.XATTR_REPLACE)
        assert os.getxattr(path, "user.one") == b"short"
        os.removexattr(path, "user.one")
        raises(errno.ENODATA, os.removexattr, path, "user.one")
        assert os.listxattr(path) == ["user.empty"]


@case("an extended attribute larger than the buffer says so")
def _(d):
    put(f"{d}/f")
    os.setxattr(f"{d}/f", "user.big", b"v" * 300)
    small = ctypes.create_string_buffer(10)
    path = os.fsencode(f"{d}/f")
    raises(errno.ERANGE, call, libc.getxattr, path, b"user.big", small, ctypes.c_size_t(10))
    raises(errno.ERANGE, call, libc.listxattr, path, small, ctypes.c_size_t(4))
    assert call(libc.getxattr, path, b"user.big", None, ctypes.c_size_t(0)) == 300


@case("access control lists are kept and obeyed, or refused", root=True)
def _(d):
    os.chmod(d, 0o755)
    put(f"{d}/f", b"for nobody too", 0o600)
    # Version 2; user::rw-, user:nobody:r--, group::---, mask::r--, other::---
    entries = [(1, 6, 0xFFFFFFFF), (2, 4, NOBODY), (4, 0, 0xFFFFFFFF), (16, 4, 0xFFFFFFFF), (32, 0, 0xFFFFFFFF)]
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    try:
        os.setxattr(f"{d}/f", "system.posix_acl_access", acl)
    except OSError as error:
        assert error.errno in (errno.EOPNOTSUPP, errno.EINVAL), error
        as_nobody(lambda: raises(errno.EACCES, get, f"{d}/f"))
        return
    assert os.getxattr(f"{d}/f", "system.posix_acl_access") == acl


# Content


@case("a write is visible to every reader at once")
def _(d):
    writer = os.open(f"{d}/f", os.O_CREAT | os.O_RDWR, 0o644)
    reader = os.open(f"{d}/f", os.O_RDONLY)
    os.write(writer, b"first")
    assert os.pread(reader, 100, 0) == b"first"
    assert os.stat(f"{d}/f").st_size == 5 and get(f"{d}/f") == b"first"
    os.pwrite(writer, b"F", 0)
    child(lambda: check_equal(get(f"{d}/f"), b"First"))
    os.close(writer)
    assert os.pread(reader, 100, 0) == b"First"
    os.close(reader)


def check_equal(found, expected):
    assert found == expected, (found[:80], expected[:80])


@case("reads stop at the end of the file")
def _(d):
    put(f"{d}/f", b"x" * 4097)
    fd = os.open(f"{d}/f", os.O_RDONLY)
    assert os.pread(fd, 10, 4095) == b"xx" and os.pread(fd, 10, 4097) == b"" and os.pread(fd, 10, 10**9) == b""
    assert os.lseek(fd, 0, os.SEEK_END) == 4097
    os.close(fd)


@case("truncation grows with zeros and does not bring back the tail")
def _(d):
    put(f"{d}/f", b"x" * 10000)
    os.truncate(f"{d}/f", 100)
    os.truncate(f"{d}/f", 9000)
    assert get(f"{d}/f") == b"x" * 100 + b"\0" * 8900
    fd = os.open(f"{d}/f", os.O_RDWR)
    os.ftruncate(fd, 0)
    os.pwrite(fd, b"end", 5000)
    os.close(fd)
    assert get(f"{d}/f") == b"\0" * 5000 + b"end"
    raises(errno.EISDIR, os.truncate, d, 0)
    raises((errno.EINVAL, errno.EFBIG), os.truncate, f"{d}/f", -1)


@case("a sparse file is as large as it says and reads as zeros")
def _(d):
    fd = os.open(f"{d}/f", os.O_CREAT | os.O_RDWR, 0o644)
    os.pwrite(fd, b"end", 64 << 20)
    assert os.fstat(fd).st_size == (64 << 20) + 3
    assert os.pread(fd, 4096, 32 << 20) == b"\0" * 4096
    assert os.pread(fd, 10, (64 << 20) - 2) == b"\0\0end"
    os.close(fd)


@case("SEEK_DATA and SEEK_HOLE find data and holes")
def _(d):
    fd = os.open(f"{d}/f", os.O_CREAT | os.O_RDWR, 0o644)
    os.pwrite(fd, b"d" * 65536, 4 << 20)
    os.ftruncate(fd, 8 << 20)
    found = os.lseek(fd, 0, os.SEEK_DATA)
    assert 0 < found <= 4 << 20, found
    hole = os.lseek(fd, 4 << 20, os.SEEK_HOLE)
    assert (4 << 20) + 65536 <= hole < 8 << 20, hole
    assert os.lseek(fd, 0, os.SEEK_HOLE) == 0
    raises(errno.ENXIO, os.lseek, fd, 8 << 20, os.SEEK_DATA)
    os.close(fd)


@case("a punched hole reads as zeros and keeps the size")
def _(d):
    put(f"{d}/f", b"x" * 300_000)
    fd = os.open(f"{d}/f", os.O_RDWR)
    fallocate(fd, 3, 65536, 131072)
    assert os.fstat(fd).st_size == 300_000
    assert get(f"{d}/f") == b"x" * 65536 + b"\0" * 131072 + b"x" * (300_000 - 196608)
    fallocate(fd, 3, 1000, 50)
    assert os.pread(fd, 1100, 0) == b"x" * 1000 + b"\0" * 50 + b"x" * 50
    os.close(fd)


@case("fallocate extends the file unless it is to keep its size")
def _(d):
    put(f"{d}/f", b"abc")
    fd = os.open(f"{d}/f", os.O_RDWR)
    fallocate(fd, 1, 0, 1 << 20)
    assert os.fstat(fd).st_size == 3
    fallocate(fd, 0, 0, 10000)
    assert os.fstat(fd).st_size == 10000 and os.pread(fd, 10, 0) == b"abc" + b"\0" * 7
    os.close(fd)


@case("a shared mapping and the file are one content")
def _(d):
    put(f"{d}/f", b"." * 10000)
    fd = os.open(f"{d}/f", os.O_RDWR)
    with mmap.mmap(fd, 10000) as memory:
        memory[5000:5006] = b"mapped"
        assert os.pread(fd, 6, 5000) == b"mapped"
        os.pwrite(fd, b"written", 100)
        assert memory[100:107] == b"written"
        child(lambda: check_equal(get(f"{d}/f")[5000:5006], b"mapped"))
        memory.flush()
    os.close(fd)
    found = get(f"{d}/f")
    assert found[5000:5006] == b"mapped" and found[100:107] == b"written" and len(found) == 10000


@case("a mapping written after close reaches the file")
def _(d):
    put(f"{d}/f", b"." * 8192)
    fd = os.open(f"{d}/f", os.O_RDWR)
    memory = mmap.mmap(fd, 8192)
    os.close(fd)
    memory[0:4] = b"late"
    memory.close()
    deadline = time.monotonic() + 20
    while get(f"{d}/f")[:4] != b"late":
        assert time.monotonic() < deadline
        time.sleep(0.05)


@case("a private mapping does not change the file")
def _(d):
    put(f"{d}/f", b"." * 8192)
    fd = os.open(f"{d}/f", os.O_RDONLY)
    with mmap.mmap(fd, 8192, access=mmap.ACCESS_COPY) as memory:
        memory[0:4] = b"mine"
    os.close(fd)
    assert get(f"{d}/f") == b"." * 8192


@case("O_DIRECT reads and writes the same bytes")
def _(d):
    data = bytes(random.Random(7).randbytes(65536))
    buffer = mmap.mmap(-1, 65536)
    buffer[:] = data
    fd = os.open(f"{d}/f", os.O_CREAT | os.O_RDWR | os.O_DIRECT, 0o644)
    assert os.pwritev(fd, [buffer], 0) == 65536
    assert get(f"{d}/f") == data
    back = mmap.mmap(-1, 65536)
    assert os.preadv(fd, [back], 0) == 65536 and back[:] == data
    os.close(fd)


@case("fsync and fdatasync succeed on files and directories")
def _(d):
    fd = os.open(f"{d}/f", os.O_CREAT | os.O_WRONLY, 0o644)
    os.write(fd, b"durable")
    os.fsync(fd)
    os.write(fd, b" data")
    os.fdatasync(fd)
    os.close(fd)
    fd = os.open(d, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    assert get(f"{d}/f") == b"durable data"


@case("copy_file_range copies a range")
def _(d):
    data = random.Random(3).randbytes(3_000_000)
    put(f"{d}/a", data)
    source, target = os.open(f"{d}/a", os.O_RDONLY), os.open(f"{d}/b", os.O_CREAT | os.O_RDWR, 0o644)
    done = 0
    while done < 2_000_000:
        count = os.copy_file_range(source, target, 2_000_000 - done, 500_000 + done, 10 + done)
        assert count > 0
        done += count
    os.close(source)
    os.close(target)
    assert get(f"{d}/b") == b"\0" * 10 + data[500_000:2_500_000]


@case("sendfile and splice read from a file")
def _(d):
    put(f"{d}/f", b"s" * 100_000)
    fd = os.open(f"{d}/f", os.O_RDONLY)
    a, b = socket.socketpair()
    assert os.sendfile(a.fileno(), fd, 0, 1000) == 1000 and b.recv(2000) == b"s" * 1000
    read_end, write_end = os.pipe()
    if hasattr(os, "splice"):
        assert os.splice(fd, write_end, 5000, offset_src=10) == 5000
        assert os.read(read_end, 5000) == b"s" * 5000
    os.close(fd)


@case("O_TMPFILE makes a file without a name, which link gives one")
def _(d):
    fd = os.open(d, os.O_TMPFILE | os.O_RDWR, 0o640)
    os.write(fd, b"nameless")
    assert os.listdir(d) == [] and os.fstat(fd).st_nlink == 0
    call(libc.linkat, -100, os.fsencode(f"/proc/self/fd/{fd}"), -100, os.fsencode(f"{d}/named"), 0x400)
    os.close(fd)
    assert get(f"{d}/named") == b"nameless"
    assert stat.S_IMODE(os.stat(f"{d}/named").st_mode) == 0o640 and os.stat(f"{d}/named").st_nlink == 1


@case("a large file reads back as it was written")
def _(d):
    generator = random.Random(11)
    digest = hashlib.sha256()
    fd = os.open(f"{d}/f", os.O_CREAT | os.O_WRONLY, 0o644)
    for _ in range(24):
        block = generator.randbytes(1 << 20)
        digest.update(block)
        os.write(fd, block)
    os.close(fd)
    assert os.stat(f"{d}/f").st_size == 24 << 20
    found = hashlib.sha256()
    with open(f"{d}/f", "rb", buffering=0) as file:
        while block := file.read(300_000):
            found.update(block)
    assert found.digest() == digest.digest()


# Locks


@case("flock excludes other processes until it is dropped")
def _(d):
    put(f"{d}/f")
    fd = os.open(f"{d}/f", os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)

    def other():
        mine = os.open(f"{d}/f", os.O_RDWR)
        raises(errno.EAGAIN, fcntl.flock, mine, fcntl.LOCK_SH | fcntl.LOCK_NB)

    child(other)
    fcntl.flock(fd, fcntl.LOCK_UN)
    child(lambda: fcntl.flock(os.open(f"{d}/f", os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB))


@case("fcntl locks exclude ranges and end with their process")
def _(d):
    put(f"{d}/f", b"0" * 100)
    fd = os.open(f"{d}/f", os.O_RDWR)
    fcntl.lockf(fd, fcntl.LOCK_EX, 10, 0)

    def other():
        mine = os.open(f"{d}/f", os.O_RDWR)
        raises((errno.EAGAIN, errno.EACCES), fcntl.lockf, mine, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 5)
        fcntl.lockf(mine, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 50)

    child(other)
    fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 50)


@case("a waiting lock is granted when it is free")
def _(d):
    put(f"{d}/f")
    fd = os.open(f"{d}/f", os.O_RDWR)
    fcntl.lockf(fd, fcntl.LOCK_EX)
    ready, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        mine = os.open(f"{d}/f", os.O_RDWR)
        os.write(tell, b"1")
        fcntl.lockf(mine, fcntl.LOCK_EX)
        os.write(mine, b"got it")
        os._exit(0)
    os.read(ready, 1)
    fcntl.lockf(fd, fcntl.LOCK_UN)
    assert os.waitpid(pid, 0)[1] == 0
    assert get(f"{d}/f") == b"got it"


# Directories


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


if __name__ == "__main__":
    if sys.argv[1] == "--list":
        print(json.dumps([{"name": name, "root": function.root} for name, function in CASES.items()]))
    else:
        os.umask(0o022)
        os.mkdir(sys.argv[2])
        CASES[sys.argv[1]](sys.argv[2])
