"""Renaming and removing."""

import errno
import os
import stat
import sys

from case import case, get, put, raises, renameat2


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
