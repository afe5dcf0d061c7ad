"""What the cases have in common: their register, and calls that Python lacks."""

import ctypes
import errno
import os
import sys

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


def check_equal(found, expected):
    assert found == expected, (found[:80], expected[:80])
