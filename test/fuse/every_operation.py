"""Every operation that Linux sends to a mount, with what must come of it. Usage: every_operation.py MOUNTPOINT"""
import ctypes, errno, mmap, os, stat, struct, sys

root = sys.argv[1]
os.umask(0o027)
libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD, RENAME_NOREPLACE, RENAME_EXCHANGE = -100, 1, 2


def path(name):
    return os.path.join(root, name)


def fails(number, call, *arguments):
    try:
        call(*arguments)
    except OSError as error:
        assert error.errno == number, error
    else:
        raise AssertionError(f'{call} did not fail with {errno.errorcode[number]}')


def renameat2(old, new, flags):
    if libc.renameat2(AT_FDCWD, path(old).encode(), AT_FDCWD, path(new).encode(), flags) != 0:
        raise OSError(ctypes.get_errno(), 'renameat2')


# MKDIR, MKNOD, LOOKUP, GETATTR
os.mkdir(path('folder'), 0o777)
assert stat.S_IMODE(os.stat(path('folder')).st_mode) == 0o750
os.mknod(path('pipe'), stat.S_IFIFO | 0o666)
assert stat.S_ISFIFO(os.lstat(path('pipe')).st_mode)
os.mknod(path('device'), stat.S_IFCHR | 0o600, os.makedev(300, 70000))
assert os.lstat(path('device')).st_rdev == os.makedev(300, 70000)
fails(errno.ENOENT, os.stat, path('nothing'))
fails(errno.EEXIST, os.mkdir, path('folder'))
name = b'caf\xe9 \xff\xfe'
os.mkdir(os.path.join(root.encode(), name))
assert name in os.listdir(root.encode())

# CREATE, WRITE, READ, FLUSH, FSYNC, RELEASE
fd = os.open(path('folder/file'), os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
assert os.write(fd, b'hello, world') == 12
assert os.pwrite(fd, b'W', 7) == 1
os.fsync(fd)
os.fdatasync(fd)
assert os.pread(fd, 100, 0) == b'hello, World'
assert os.pread(fd, 100, 12) == b''
assert os.fstat(fd).st_size == 12
assert stat.S_IMODE(os.fstat(fd).st_mode) == 0o640

# LSEEK, FALLOCATE, COPY_FILE_RANGE
assert os.lseek(fd, 3, os.SEEK_DATA) == 3
assert os.lseek(fd, 0, os.SEEK_HOLE) == 12
fails(errno.ENXIO, os.lseek, fd, 100, os.SEEK_DATA)
os.posix_fallocate(fd, 0, 20)
assert os.fstat(fd).st_size == 20
os.ftruncate(fd, 12)
other = os.open(path('copy'), os.O_CREAT | os.O_RDWR, 0o600)
assert os.copy_file_range(fd, other, 5, 7, 0) == 5
assert os.pread(other, 10, 0) == b'World'
os.close(other)
os.close(fd)

# OPEN with O_TRUNC, O_APPEND; SETATTR
fd = os.open(path('copy'), os.O_WRONLY | os.O_TRUNC)
assert os.fstat(fd).st_size == 0
os.close(fd)
for text in (b'one', b'two'):
    fd = os.open(path('copy'), os.O_WRONLY | os.O_APPEND)
    os.write(fd, text)
    os.close(fd)
with open(path('copy'), 'rb') as file:
    assert file.read() == b'onetwo'
os.truncate(path('copy'), 3)
os.chmod(path('copy'), 0o4711)
assert stat.S_IMODE(os.stat(path('copy')).st_mode) == 0o4711
os.chown(path('copy'), -1, 12)
assert os.stat(path('copy')).st_gid == 12
os.utime(path('copy'), ns=(1_111_000_000_123_456_789, 2_222_000_000_987_654_321))
found = os.stat(path('copy'))
assert (found.st_atime_ns, found.st_mtime_ns) == (1_111_000_000_123_456_789, 2_222_000_000_987_654_321), found
os.utime(path('copy'), ns=(-1_500_000_000, 5_000_000_000_000_000_001))
found = os.stat(path('copy'))
assert (found.st_atime_ns, found.st_mtime_ns) == (-1_500_000_000, 5_000_000_000_000_000_001), found

# SYMLINK, READLINK, LINK, UNLINK
os.symlink('folder/file', path('link'))
assert os.readlink(path('link')) == 'folder/file'
assert os.stat(path('link')).st_size == 12
os.link(path('folder/file'), path('second'))
assert os.stat(path('second')).st_nlink == 2
assert os.stat(path('second')).st_ino == os.stat(path('folder/file')).st_ino
fd = os.open(path('second'), os.O_RDONLY)
os.unlink(path('second'))
os.unlink(path('folder/file'))
assert os.fstat(fd).st_nlink == 0
assert os.read(fd, 100) == b'hello, World'
os.close(fd)

# TMPFILE
fd = os.open(root, os.O_TMPFILE | os.O_RDWR, 0o666)
os.write(fd, b'unnamed')
os.link(f'/proc/self/fd/{fd}', path('named'), src_dir_fd=0, follow_symlinks=True)
os.close(fd)
assert os.stat(path('named')).st_size == 7

# RENAME, RENAME2, RMDIR
os.rename(path('named'), path('folder/named'))
os.rename(path('copy'), path('folder/copy'))
fails(errno.EEXIST, renameat2, 'folder/copy', 'folder/named', RENAME_NOREPLACE)
renameat2('folder/copy', 'folder/named', RENAME_EXCHANGE)
assert os.stat(path('folder/copy')).st_size == 7
renameat2('folder/copy', 'folder/third', RENAME_NOREPLACE)
assert sorted(os.listdir(path('folder'))) == ['named', 'third']
fails(errno.ENOTEMPTY, os.rmdir, path('folder'))

# Directories: OPENDIR, READDIR(PLUS), FSYNCDIR, RELEASEDIR
with os.scandir(path('folder')) as entries:
    assert {entry.name: entry.is_file() for entry in entries} == {'named': True, 'third': True}
fd = os.open(path('folder'), os.O_RDONLY | os.O_DIRECTORY)
os.fsync(fd)
os.close(fd)

# Extended attributes
os.setxattr(path('folder'), 'user.one', b'first')
os.setxattr(path('folder'), 'user.two', bytes(range(256)) * 16)
assert os.getxattr(path('folder'), 'user.one') == b'first'
assert os.getxattr(path('folder'), 'user.two') == bytes(range(256)) * 16
assert sorted(os.listxattr(path('folder'))) == ['user.one', 'user.two']
fails(errno.EEXIST, os.setxattr, path('folder'), 'user.one', b'', os.XATTR_CREATE)
fails(errno.ENODATA, os.setxattr, path('folder'), 'user.new', b'', os.XATTR_REPLACE)
os.removexattr(path('folder'), 'user.one')
fails(errno.ENODATA, os.getxattr, path('folder'), 'user.one')

# STATFS, STATX (the time of birth is asked for by nothing else), IOCTL
usage = os.statvfs(root)
assert (usage.f_blocks, usage.f_bfree, usage.f_bavail, usage.f_files, usage.f_ffree) == (1000, 600, 500, 100, 50)
assert usage.f_bsize == 4096 and usage.f_namemax == 255
buffer = ctypes.create_string_buffer(256)
assert libc.syscall(332, AT_FDCWD, path('folder').encode(), 0, 0xFFF, buffer) == 0 or os.uname().machine != 'x86_64'
if os.uname().machine == 'x86_64':
    assert struct.unpack_from('H', buffer.raw, 28)[0] == os.stat(path('folder')).st_mode
fd = os.open(path('folder/third'), os.O_RDWR)
assert libc.ioctl(fd, 0x1234) == -1 and ctypes.get_errno() == errno.ENOTTY

# Shared mapping
with mmap.mmap(fd, 7) as memory:
    memory[0:2] = b'IN'
    memory.flush()
os.close(fd)
with open(path('folder/third'), 'rb') as file:
    assert file.read() == b'INnamed'

# What was made goes
os.unlink(path('link'))
os.unlink(path('pipe'))
os.unlink(path('device'))
os.unlink(path('folder/named'))
os.unlink(path('folder/third'))
os.rmdir(path('folder'))
os.rmdir(os.path.join(root.encode(), name))
assert os.listdir(root) == []
print('every operation')
