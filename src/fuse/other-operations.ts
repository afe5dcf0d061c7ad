/** The operations that change names, attributes and space: decoded into plain arguments, answered when their result is there. */
import { errno } from '../errors/errno.js';
import type { Answer, CreateAnswer, EntryAnswer } from '../vfs/operations.js';
import { openFlags, putOpenOut } from './open-replies.js';
import type { OperationContext, Operations } from './operation.js';
import {
  ATTR_OUT_SIZE,
  ENTRY_OUT_SIZE,
  FSYNC_FDATASYNC,
  OPEN_KILL_SUIDGID,
  OPEN_OUT_SIZE,
  Opcode,
} from './protocol.js';
import { put64, putAttributesOut, putEntry, putUsage } from './records.js';
import type { Request } from './request.js';
import { readAttributeChange } from './setattr.js';

/** fuse_statfs_out */
const STATFS_OUT_SIZE = 80;
/** The result of a COPY_FILE_RANGE has 32 bits. */
const LONGEST_COPY = 0x7fff_f000;

export function otherOperations(context: OperationContext): Operations {
  const { arena, fileSystem, writer } = context;

  const done = (request: Request, answer: Answer<void>): void =>
    context.answered(request, answer, () => writer.empty(request));

  const entry = (request: Request, answer: Answer<EntryAnswer>): void =>
    context.answered(
      request,
      answer,
      (value) => {
        const at = writer.begin(request, ENTRY_OUT_SIZE);
        putEntry(writer.words, at, value);
        writer.send();
      },
      ({ nodeId }) => fileSystem.forget(nodeId, 1),
    );

  const created = (request: Request, answer: Answer<CreateAnswer>): void =>
    context.answered(
      request,
      answer,
      ({ entry: made, open }) => {
        const backing = context.backing.acquire(made.nodeId, open.handle, open.passthroughFd);
        const at = writer.begin(request, ENTRY_OUT_SIZE + OPEN_OUT_SIZE);
        putEntry(writer.words, at, made);
        putOpenOut(writer.words, at + ENTRY_OUT_SIZE / 4, open.handle, openFlags(open, backing), backing);
        writer.send();
      },
      async ({ entry: made, open }) => {
        await fileSystem.release(request, made.nodeId, open.handle);
        fileSystem.forget(made.nodeId, 1);
      },
    );

  /** A 64-bit number alone: fuse_lseek_out, fuse_copy_file_range_out */
  const offset = (request: Request, value: number): void => {
    const at = writer.begin(request, 8);
    put64(writer.words, at, value);
    writer.send();
  };

  /** The mode with the umask taken away; the request keeps what was asked for. */
  function creationMode(request: Request, mode: number, umask: number): number {
    request.requestedMode = mode;
    return mode & ~umask;
  }

  function setattr(request: Request): void {
    context.answered(
      request,
      fileSystem.setattr(request, request.node, readAttributeChange(arena)),
      ({ attributes, attributesValid }) => {
        const at = writer.begin(request, ATTR_OUT_SIZE);
        putAttributesOut(writer.words, at, attributesValid, attributes);
        writer.send();
      },
    );
  }

  function readlink(request: Request): void {
    request.interruptible = true;
    context.answered(request, fileSystem.readlink(request, request.node), (target) =>
      writer.text(request, target),
    );
  }

  function symlink(request: Request): void {
    const name = arena.name(0);
    const target = arena.name(name.length + 1);
    entry(request, fileSystem.symlink(request, request.node, name, target));
  }

  /** fuse_mknod_in: mode, rdev, umask, padding */
  function mknod(request: Request): void {
    const mode = creationMode(request, arena.argument32(0), arena.argument32(2));
    entry(request, fileSystem.mknod(request, request.node, arena.name(16), mode, arena.argument32(1)));
  }

  /** fuse_mkdir_in: mode, umask */
  function mkdir(request: Request): void {
    const mode = creationMode(request, arena.argument32(0), arena.argument32(1));
    entry(request, fileSystem.mkdir(request, request.node, arena.name(8), mode));
  }

  /** fuse_create_in: flags, mode, umask, open_flags */
  function create(request: Request): void {
    const mode = creationMode(request, arena.argument32(1), arena.argument32(2));
    const open = {
      flags: arena.argument32(0),
      killPrivileges: (arena.argument32(3) & OPEN_KILL_SUIDGID) !== 0,
    };
    created(
      request,
      request.opcode === Opcode.TMPFILE
        ? fileSystem.temporary(request, request.node, mode, open)
        : fileSystem.create(request, request.node, arena.name(16), mode, open),
    );
  }

  /** fuse_link_in: oldnodeid; the header names the new parent. */
  function link(request: Request): void {
    entry(request, fileSystem.link(request, arena.argument64(0), request.node, arena.name(8)));
  }

  /** fuse_rename_in: newdir; fuse_rename2_in: flags, padding too. */
  function rename(request: Request): void {
    const extended = request.opcode === Opcode.RENAME2;
    const names = extended ? 16 : 8;
    const name = arena.name(names);
    const newName = arena.name(names + name.length + 1);
    const flags = extended ? arena.argument32(2) : 0;
    done(request, fileSystem.rename(request, request.node, name, arena.argument64(0), newName, flags));
  }

  /** fuse_fsync_in: fh, fsync_flags */
  function fsync(request: Request): void {
    const dataOnly = (arena.argument32(2) & FSYNC_FDATASYNC) !== 0;
    done(request, fileSystem.fsync(request, request.node, arena.argument64(0), dataOnly));
  }

  function fsyncdir(request: Request): void {
    const dataOnly = (arena.argument32(2) & FSYNC_FDATASYNC) !== 0;
    done(request, fileSystem.fsyncdir(request, request.node, arena.argument64(0), dataOnly));
  }

  function statfs(request: Request): void {
    request.interruptible = true;
    context.answered(request, fileSystem.statfs(request, request.node), (usage) => {
      const at = writer.begin(request, STATFS_OUT_SIZE);
      putUsage(writer.words, at, usage);
      writer.send();
    });
  }

  /** fuse_lseek_in: fh, offset, whence */
  function lseek(request: Request): void {
    request.interruptible = true;
    context.answered(
      request,
      fileSystem.lseek(request, request.node, arena.argument64(0), arena.argument64(2), arena.argument32(4)),
      (found) => offset(request, found),
    );
  }

  /** fuse_fallocate_in: fh, offset, length, mode */
  function fallocate(request: Request): void {
    done(
      request,
      fileSystem.fallocate(
        request,
        request.node,
        arena.argument64(0),
        arena.argument32(6),
        arena.argument64(2),
        arena.argument64(4),
      ),
    );
  }

  /** fuse_copy_file_range_in: fh_in, off_in, nodeid_out, fh_out, off_out, len, flags */
  function copyFileRange(request: Request): void {
    if (arena.argument64(12) !== 0) {
      writer.error(request, errno.EINVAL);
      return;
    }
    const wide = request.opcode === Opcode.COPY_FILE_RANGE_64;
    const length = arena.argument64(10);
    context.answered(
      request,
      fileSystem.copyFileRange(
        request,
        { node: request.node, handle: arena.argument64(0), offset: arena.argument64(2) },
        { node: arena.argument64(4), handle: arena.argument64(6), offset: arena.argument64(8) },
        wide ? length : Math.min(length, LONGEST_COPY),
      ),
      // fuse_write_out has the bytes in 32 bits and zeros behind them, so one form serves both.
      (copied) => offset(request, copied),
    );
  }

  return {
    [Opcode.SETATTR]: setattr,
    [Opcode.READLINK]: readlink,
    [Opcode.SYMLINK]: symlink,
    [Opcode.MKNOD]: mknod,
    [Opcode.MKDIR]: mkdir,
    [Opcode.UNLINK]: (request) => done(request, fileSystem.unlink(request, request.node, arena.name(0))),
    [Opcode.RMDIR]: (request) => done(request, fileSystem.rmdir(request, request.node, arena.name(0))),
    [Opcode.RENAME]: rename,
    [Opcode.RENAME2]: rename,
    [Opcode.LINK]: link,
    [Opcode.CREATE]: create,
    [Opcode.TMPFILE]: create,
    [Opcode.FSYNC]: fsync,
    [Opcode.FSYNCDIR]: fsyncdir,
    [Opcode.STATFS]: statfs,
    [Opcode.LSEEK]: lseek,
    [Opcode.FALLOCATE]: fallocate,
    [Opcode.COPY_FILE_RANGE]: copyFileRange,
    [Opcode.COPY_FILE_RANGE_64]: copyFileRange,
  };
}
