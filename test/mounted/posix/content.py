"""Reading, writing, mapping, holes."""

import errno
import hashlib
import mmap
import os
import random
import socket
import stat
import time

from case import call, case, check_equal, child, fallocate, get, libc, put, raises


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
