"""Random operations on one file against a copy in memory: `python3 fsx.py FILE SEED OPERATIONS [--no-holes]`.

Reads, writes, truncations, mapped reads and writes, holes, fsync and reopening, at offsets that love the edges of pages and
blocks. Ends with 1 and the last operations when the file and the copy differ.
"""
import ctypes
import mmap
import os
import random
import sys
from collections import deque

LIMIT = 600_000
libc = ctypes.CDLL(None, use_errno=True)


class Exerciser:
    def __init__(self, path, seed, holes):
        self.path = path
        self.random = random.Random(seed)
        self.copy = bytearray()
        self.done = deque(maxlen=15)
        self.fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_TRUNC, 0o644)
        self.operations = [
            (self.read, 20),
            (self.write, 25),
            (self.truncate, 8),
            (self.mapped_read, 12),
            (self.mapped_write, 12),
            (self.reopen, 6),
            (self.sync, 4),
            (self.read_elsewhere, 6),
            (self.append, 6),
        ]
        if holes:
            self.operations.append((self.punch, 6))

    def offset(self, limit):
        if limit <= 0:
            return 0
        offset = self.random.randrange(limit)
        if self.random.random() < 0.5:
            offset = min(limit, max(0, offset - offset % 4096 + self.random.choice((-1, 0, 0, 1))))
        return offset

    def span(self, limit):
        offset = self.offset(limit)
        length = self.random.choice((1, 17, 511, 4095, 4096, 4097, 20_000, 131_072, 140_000))
        return offset, max(0, min(length, limit - offset))

    def expect(self, found, expected, what):
        if found == expected:
            return
        at = next((i for i, (a, b) in enumerate(zip(found, expected)) if a != b), min(len(found), len(expected)))
        raise AssertionError(f"{what}: {len(found)} bytes, expected {len(expected)}, different from byte {at}")

    def check_size(self):
        size = os.fstat(self.fd).st_size
        assert size == len(self.copy), f"size {size}, expected {len(self.copy)}"

    def read(self):
        offset, length = self.span(len(self.copy))
        self.done.append(f"read {offset} {length}")
        self.expect(os.pread(self.fd, length, offset), bytes(self.copy[offset : offset + length]), "read")

    def read_elsewhere(self):
        self.done.append("read through another descriptor")
        with open(self.path, "rb", buffering=0) as file:
            self.expect(file.readall(), bytes(self.copy), "whole file")

    def put(self, offset, data):
        if offset > len(self.copy):
            self.copy.extend(bytes(offset - len(self.copy)))
        self.copy[offset : offset + len(data)] = data

    def write(self):
        offset, length = self.span(LIMIT)
        data = self.random.randbytes(length)
        self.done.append(f"write {offset} {length}")
        assert os.pwrite(self.fd, data, offset) == length
        if length:
            self.put(offset, data)
        self.check_size()

    def append(self):
        if len(self.copy) + 5000 > LIMIT:
            return
        data = self.random.randbytes(self.random.randrange(1, 5000))
        self.done.append(f"append {len(data)}")
        fd = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        os.write(fd, data)
        os.close(fd)
        self.copy.extend(data)
        self.check_size()

    def truncate(self):
        size = self.offset(LIMIT)
        self.done.append(f"truncate {len(self.copy)} -> {size}")
        if self.random.random() < 0.5:
            os.ftruncate(self.fd, size)
        else:
            os.truncate(self.path, size)
        if size < len(self.copy):
            del self.copy[size:]
        else:
            self.copy.extend(bytes(size - len(self.copy)))
        self.check_size()

    def mapped_read(self):
        if not self.copy:
            return
        offset, length = self.span(len(self.copy))
        self.done.append(f"mapped read {offset} {length}")
        with mmap.mmap(self.fd, len(self.copy), access=mmap.ACCESS_READ) as memory:
            self.expect(memory[offset : offset + length], bytes(self.copy[offset : offset + length]), "mapped read")

    def mapped_write(self):
        if not self.copy:
            return
        offset, length = self.span(len(self.copy))
        data = self.random.randbytes(length)
        self.done.append(f"mapped write {offset} {length}")
        with mmap.mmap(self.fd, len(self.copy)) as memory:
            memory[offset : offset + length] = data
            if self.random.random() < 0.5:
                memory.flush()
        self.copy[offset : offset + length] = data

    def punch(self):
        if not self.copy:
            return
        offset, length = self.span(len(self.copy))
        if length == 0:
            return
        self.done.append(f"punch {offset} {length}")
        if libc.fallocate(self.fd, 3, ctypes.c_long(offset), ctypes.c_long(length)) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), "fallocate")
        self.copy[offset : offset + length] = bytes(length)
        self.check_size()

    def reopen(self):
        self.done.append("reopen")
        os.close(self.fd)
        self.fd = os.open(self.path, os.O_RDWR)
        self.check_size()

    def sync(self):
        self.done.append("fsync")
        os.fsync(self.fd)

    def run(self, count):
        functions, weights = zip(*self.operations)
        for number in range(count):
            operation = self.random.choices(functions, weights)[0]
            try:
                operation()
            except (AssertionError, OSError) as error:
                history = "\n".join(self.done)
                sys.exit(f"operation {number}: {error}\nlast operations:\n{history}")
        self.read_elsewhere()
        os.close(self.fd)
        with open(self.path, "rb", buffering=0) as file:
            self.expect(file.readall(), bytes(self.copy), "after close")


if __name__ == "__main__":
    Exerciser(sys.argv[1], int(sys.argv[2]), "--no-holes" not in sys.argv).run(int(sys.argv[3]))
