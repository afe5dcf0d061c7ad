"""Locks between processes of one host."""

import errno
import fcntl
import os

from case import case, child, get, put, raises


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
