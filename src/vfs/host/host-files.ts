import { constants } from 'node:fs';
import { errno } from '../../errors/errno.js';
import { MirageError } from '../../errors/mirage-error.js';
import { Stat } from '../../native/local-files.js';
import { S_ISGID, S_ISUID } from '../attributes.js';
import {
  type Call,
  type Handle,
  type NodeId,
  type OpenMode,
  OpenReply,
  type ReadReply,
  type Reply,
  type WriteSource,
} from '../operations.js';
import { HandleTable } from './handle-table.js';
import { contentVersion, isSettled, writtenVersion } from './host-attributes.js';
import { check, type HostNodes } from './host-nodes.js';

const { O_ACCMODE, O_APPEND, O_NONBLOCK, O_RDONLY, O_TRUNC, O_WRONLY } = {
  ...constants,
  O_ACCMODE: 3,
};

/**
 * Up to here a file is read through the page cache of its node, which answers the next read without a request. Above it, passthrough is cheaper at the
 * first read (no copy through us: 5 times less work at 64 KiB) than its backing file costs at the next ones (a fifth more at each open).
 */
export const CACHED_SIZE = 32 * 1024;

/** What all handles of one node share: the descriptors, and how the kernel reads and writes the node while any is open. */
class OpenFile {
  handles = 0;
  writers = 0;
  reader = -1;
  writer = -1;
  appender = -1;
  passthroughFd = -1;
  /** Handles of users whose writes end suid and sgid. */
  unprivilegedWriters = 0;
  /** A mode that waits until those are closed, and what the file's content was when it came; undefined: none. */
  waitingMode: { readonly mode: number; readonly version: number } | undefined = undefined;

  constructor(readonly slot: number) {}

  get fd(): number {
    return this.reader >= 0 ? this.reader : this.writer;
  }
}

interface FileHandle {
  readonly file: OpenFile;
  readonly flags: number;
  readonly unprivileged: boolean;
}

/** A mode without suid, and without sgid where it is not a lock bit. */
const withoutPrivileges = (mode: number): number => mode & ~S_ISUID & ~((mode & 0o010) !== 0 ? S_ISGID : 0);

const isWriting = (flags: number): boolean => (flags & O_ACCMODE) !== O_RDONLY;

/** Opens, and everything that goes through an open file. */
export class HostFiles {
  private readonly files = new Map<number, OpenFile>();
  private readonly handles = new HandleTable<FileHandle>();
  /** Handles that may write, of all files. */
  private writers = 0;

  /**
   * `flushes`: the file system reports failed writes at close(2) (NFS and its kin), so a FLUSH of a writer is asked for. Elsewhere there is
   * nothing that a close could report: writes fail when they are made, or at fsync.
   */
  constructor(
    private readonly nodes: HostNodes,
    private readonly wallClock: () => number,
    private readonly flushes: boolean,
  ) {}

  /** A program may change content and times without a request. */
  hasWriter(slot: number): boolean {
    if (this.files.size === 0) return false;
    const file = this.files.get(slot);
    return file !== undefined && file.writers > 0;
  }

  /** Some program writes to the tree. */
  get anyWriter(): boolean {
    return this.writers > 0;
  }

  isOpen(slot: number): boolean {
    return this.files.has(slot);
  }

  open(call: Call, node: NodeId, mode: OpenMode, reply: OpenReply): void {
    const { nodes } = this;
    const slot = nodes.slotOf(node);
    if (slot < 0) {
      reply.fail(errno.ESTALE);
      return;
    }
    const { flags } = mode;
    let file = this.files.get(slot);
    let error: number;
    if (file === undefined) {
      file = new OpenFile(slot);
      error = this.openFirst(file, flags & O_ACCMODE);
    } else {
      error = this.openAnother(file, flags, call.uid);
    }
    if (error === 0 && (flags & O_TRUNC) !== 0) error = this.truncate(file, 0, mode.killPrivileges === true);
    if (error < 0) {
      if (file.handles === 0) this.close(file);
      reply.fail(-error);
      return;
    }
    this.admit(file, flags, call.uid, reply);
  }

  /** A new file with an open descriptor, whose stat record was just filled. */
  adopt(call: Call, slot: number, fd: number, flags: number): OpenReply {
    const reply = new OpenReply();
    let file = this.files.get(slot);
    if (file === undefined) {
      file = new OpenFile(slot);
      file.reader = fd;
      file.writer = fd;
    } else {
      this.nodes.native.close(fd);
    }
    this.admit(file, flags, call.uid, reply);
    return reply;
  }

  read(handle: Handle, offset: number, size: number, reply: ReadReply): void {
    const record = this.handles.get(handle);
    const fd = record === undefined ? -errno.EBADF : this.reader(record.file);
    if (fd < 0) {
      reply.fail(-fd);
      return;
    }
    reply.fd = fd;
    reply.position = offset;
    reply.length = size;
  }

  write(handle: Handle, offset: number, source: WriteSource): number {
    const { file, flags } = this.handle(handle);
    const fd = check('open', this.writer(file));
    if (source.killPrivileges === true) check('chmod', this.clearPrivileges(fd));
    if ((flags & O_APPEND) === 0) {
      return source.handOver?.(fd, offset) === true
        ? source.length
        : check('write', source.writeTo(fd, offset));
    }
    // Pages of a mapping may be written back through this handle too: those lie inside the file.
    check('statx', this.nodes.native.statFd(fd));
    if (offset < this.nodes.stat[Stat.size]!) return check('write', source.writeTo(fd, offset));
    return check('write', source.appendTo(check('open', this.appender(file))));
  }

  flush(handle: Handle, reply: Reply): void {
    const record = this.handles.get(handle);
    let result = record === undefined ? -errno.EBADF : 0;
    if (record !== undefined && this.flushes && isWriting(record.flags)) {
      result = this.nodes.native.flush(record.file.writer);
    }
    if (result < 0) reply.fail(-result);
  }

  release(handle: Handle): void {
    const record = this.handles.remove(handle);
    if (record === undefined) return;
    const { file } = record;
    if (record.unprivileged && --file.unprivilegedWriters === 0) this.setWaitingMode(file);
    if (isWriting(record.flags)) {
      file.writers--;
      this.writers--;
    }
    if (--file.handles > 0) return;
    this.files.delete(file.slot);
    // What was written may begin to go to the disk now, for milliseconds: others are served meanwhile.
    if (file.writer >= 0) this.close(file, this.nodes.native.closeLater);
    else this.close(file);
    this.nodes.table.unhold(file.slot);
  }

  /** A descriptor of an open handle for reading, or for writing; throws EBADF. */
  descriptor(handle: Handle, writing: boolean): number {
    const { file } = this.handle(handle);
    return check('open', writing ? this.writer(file) : this.reader(file));
  }

  /** Any descriptor of an open handle. */
  anyDescriptor(handle: Handle): number {
    return this.handle(handle).file.fd;
  }

  /** Any content descriptor of a node, or -1. */
  contentDescriptor(slot: number): number {
    return this.files.get(slot)?.fd ?? -1;
  }

  /** SETATTR of the size; through the handle where there is one. A negated error number. */
  resize(slot: number, size: number, killPrivileges: boolean): number {
    const file = this.files.get(slot);
    if (file !== undefined && file.writer >= 0) return this.truncate(file, size, killPrivileges);
    const fd = this.nodes.descriptors.of(slot);
    if (fd < 0) return fd;
    const error = this.nodes.native.truncateFd(fd, size);
    return error < 0 || !killPrivileges ? error : this.clearPrivileges(fd);
  }

  /** Clears suid, and sgid where it is not a lock bit, as a write by an unprivileged caller does. A negated error number. */
  clearPrivileges(fd: number): number {
    const { native, stat } = this.nodes;
    const error = native.statFd(fd);
    if (error < 0) return error;
    const mode = stat[Stat.mode]! & 0o7777;
    const cleared = withoutPrivileges(mode);
    return cleared === mode ? 0 : native.chmodFd(fd, cleared);
  }

  /**
   * The mode that a chmod may set now. Writes that pass us by do not end suid and sgid, so these wait until nobody is left who could make any, and are
   * dropped if the file was written to, or its times were set, meanwhile.
   */
  modeForNow(slot: number, mode: number): number {
    const file = this.files.get(slot);
    if (file === undefined) return mode;
    file.waitingMode = undefined;
    const allowed = withoutPrivileges(mode);
    if (allowed === mode || file.passthroughFd < 0 || file.unprivilegedWriters === 0) return mode;
    if (this.nodes.native.statFd(file.fd) === 0)
      file.waitingMode = { mode, version: writtenVersion(this.nodes.stat) };
    return allowed;
  }

  /** What a chown does to a mode that waits. */
  dropWaitingMode(slot: number): void {
    const file = this.files.get(slot);
    if (file !== undefined) file.waitingMode = undefined;
  }

  closeAll(): void {
    for (const file of this.files.values()) this.close(file);
    this.files.clear();
  }

  private setWaitingMode(file: OpenFile): void {
    const { native, stat } = this.nodes;
    const waiting = file.waitingMode;
    file.waitingMode = undefined;
    if (waiting === undefined || native.statFd(file.fd) < 0) return;
    if (writtenVersion(stat) === waiting.version) native.chmodFd(file.fd, waiting.mode);
  }

  private handle(handle: Handle): FileHandle {
    const record = this.handles.get(handle);
    if (record === undefined) throw MirageError.system('handle', errno.EBADF);
    return record;
  }

  /** Counts the handle, and decides for the first one of a node how the kernel does its I/O until the last is closed. */
  private admit(file: OpenFile, flags: number, uid: number, reply: OpenReply): void {
    const { nodes, files } = this;
    const { stat, table } = nodes;
    const { slot } = file;
    const version = contentVersion(stat);
    const writing = isWriting(flags);
    if (file.handles === 0) {
      // Writes that pass us by would not end suid and sgid.
      const privileged = (stat[Stat.mode]! & (S_ISUID | S_ISGID)) !== 0;
      if (writing ? !privileged : stat[Stat.size]! > CACHED_SIZE) file.passthroughFd = file.fd;
      files.set(slot, file);
      table.hold(slot);
    }
    file.handles++;
    if (writing) {
      file.writers++;
      this.writers++;
    }
    const unprivileged = writing && uid !== 0;
    if (unprivileged) file.unprivilegedWriters++;
    reply.handle = this.handles.add({ file, flags, unprivileged });
    reply.keepCache = table.versions[slot] === version;
    reply.directIo = false;
    reply.cacheDirectory = false;
    reply.noFlush = !this.flushes || !writing;
    reply.passthroughFd = file.passthroughFd;
    table.versions[slot] = isSettled(stat, this.wallClock()) ? version : 0;
  }

  /** Opens the content of a node; fills stat. A negated error number. */
  private openFirst(file: OpenFile, access: number): number {
    const fd = this.openContent(file.slot, access);
    if (fd < 0) return fd;
    if (access !== O_WRONLY) file.reader = fd;
    if (access !== O_RDONLY) file.writer = fd;
    return 0;
  }

  /** A node that is open already; fills stat. A negated error number. */
  private openAnother(file: OpenFile, flags: number, uid: number): number {
    if (!isWriting(flags)) return this.nodes.native.statFd(file.fd);
    const fd = this.writer(file);
    if (fd < 0) return fd;
    // The kernel reads and writes the file itself by now, so what a write would clear goes at once.
    const error = file.passthroughFd >= 0 && uid !== 0 ? this.clearPrivileges(fd) : 0;
    return error < 0 ? error : this.nodes.native.statFd(fd);
  }

  /**
   * By name where the node has one (opening through /proc costs more), checked afterwards to be the same file; O_NONBLOCK, so that a fifo that was put
   * there meanwhile cannot hold us.
   */
  private openContent(slot: number, access: number): number {
    const { native, table, descriptors } = this.nodes;
    const parent = table.parents[slot]!;
    const directory = parent < 0 ? -1 : descriptors.of(parent);
    if (directory >= 0) {
      const fd = native.openAt(directory, table.names[slot]!, access | O_NONBLOCK, 0);
      if (fd >= 0) {
        if (native.statFd(fd) === 0 && this.nodes.isSame(slot)) return fd;
        native.close(fd);
      } else if (fd !== -errno.ENOENT && fd !== -errno.ELOOP) {
        return fd;
      }
    }
    if (table.fds[slot]! < 0) return -errno.ESTALE;
    const fd = native.reopen(table.fds[slot]!, access);
    if (fd < 0) return fd;
    const error = native.statFd(fd);
    if (error === 0) return fd;
    native.close(fd);
    return error;
  }

  private reader(file: OpenFile): number {
    if (file.reader < 0) file.reader = this.nodes.native.reopen(file.fd, O_RDONLY);
    return file.reader;
  }

  private writer(file: OpenFile): number {
    if (file.writer < 0) file.writer = this.nodes.native.reopen(file.fd, O_WRONLY);
    return file.writer;
  }

  private appender(file: OpenFile): number {
    if (file.appender < 0) file.appender = this.nodes.native.reopen(file.fd, O_WRONLY | O_APPEND);
    return file.appender;
  }

  /** Leaves the stat record of the truncated file. */
  private truncate(file: OpenFile, size: number, killPrivileges: boolean): number {
    const { native } = this.nodes;
    const fd = this.writer(file);
    if (fd < 0) return fd;
    const error = native.truncateFd(fd, size);
    if (error < 0) return error;
    if (killPrivileges) {
      const failed = this.clearPrivileges(fd);
      if (failed < 0) return failed;
    }
    return native.statFd(fd);
  }

  private close(file: OpenFile, close = this.nodes.native.close): void {
    if (file.appender >= 0) close(file.appender);
    if (file.writer >= 0 && file.writer !== file.reader) close(file.writer);
    if (file.reader >= 0) close(file.reader);
    file.reader = file.writer = file.appender = -1;
  }
}
