"""Modes, owners, times, extended attributes."""

import ctypes
import errno
import os
import stat
import struct
import time

from case import NOBODY, as_nobody, call, case, get, libc, put, raises


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
