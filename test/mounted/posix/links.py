"""Hard links, symlinks and special files."""

import errno
import os
import socket
import stat

from case import case, get, put, raises


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
