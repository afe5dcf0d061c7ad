"""Opening and creating."""

import errno
import fcntl
import os
import stat

from case import case, get, put, raises


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
