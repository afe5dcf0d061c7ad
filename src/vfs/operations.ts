/**
 * The operations that a kernel binding asks of the file system: inode based, synchronous where memory can answer.
 *
 * Rules that hold for all of them:
 * - An operation returns its answer, or a promise of it. The hot operations fill a reply that the caller owns and
 *   return `undefined`, or a promise after which the reply is filled. A reply handed to an operation stays its own
 *   until the operation has ended.
 * - Failure: the hot path says `reply.fail(errno)`; everything else throws MirageError.
 * - Names are byte strings: one UTF-16 unit per byte (`latin1`), so that every name the kernel can send has one form.
 * - Every reply that carries an entry adds one to the lookup count of its node, which `forget` takes back.
 */
import type { Attributes } from './attributes.js';

/** Identifies an inode towards the kernel: from a counter, never reused, below 2^53. The root of the tree is 1. */
export type NodeId = number;
/** Identifies an open file or directory, below 2^53. */
export type Handle = number;
/** A file name or path as bytes, one per UTF-16 unit. */
export type ByteString = string;

export type Answer<T> = T | Promise<T>;

export const ROOT: NodeId = 1;

/** Who asks. Belongs to one request for its whole life, so it may be read after an await. */
export interface Call {
  readonly uid: number;
  readonly gid: number;
  readonly pid: number;
  /**
   * What creates something: the mode before the caller's umask was taken from it. A parent with a default ACL uses this
   * one, as POSIX ACLs put the default ACL in the place of the umask.
   */
  readonly requestedMode?: number;
  /** Aborted when the program was interrupted and is about to end; created on first use. */
  readonly signal: AbortSignal;
}

/** Base of the replies of the hot operations. */
export class Reply {
  /** 0 = success, else the (positive) error number. */
  errno = 0;
  fail(errno: number): void {
    this.errno = errno;
  }
}

/** Answer of everything that names a node. Node id 0 with no error is a negative entry: no such name, remembered. */
export class EntryReply extends Reply {
  nodeId: NodeId = 0;
  /** How long the kernel may keep name → node, nanoseconds. */
  entryValid = 0;
  /** How long the kernel may keep the attributes, nanoseconds. */
  attributesValid = 0;
  /** Set by the operation: its own record, read by the session before anything else runs. */
  attributes: Attributes | undefined = undefined;
}

export class AttributesReply extends Reply {
  attributesValid = 0;
  /**
   * While they are valid they change by requests on this mount alone, or the notifier is told (`KernelNotifier`): a GETATTR may be answered
   * with them again. The reply may be used again: a volume that sets it sets it each time.
   */
  settled = false;
  attributes: Attributes | undefined = undefined;
}

export class OpenReply extends Reply {
  handle: Handle = 0;
  /** Pages that the kernel holds of this node are still right. */
  keepCache = false;
  /** Reads and writes bypass the page cache. */
  directIo = false;
  /** No FLUSH on close of this handle: nothing to commit. */
  noFlush = false;
  /** The kernel may keep the directory listing (opendir). */
  cacheDirectory = false;
  /**
   * Descriptor of a regular host file with the whole content of the node, or -1. Where the kernel lends passthrough,
   * it then reads and writes that file itself. The operation keeps the descriptor open until `release`; while one handle of
   * the node is open this way, every other open of it must be too (kernel rule).
   */
  passthroughFd = -1;
}

/** Where the bytes of a READ are. */
export class ReadReply extends Reply {
  /** Descriptor of a file that holds them from `position`, or -1: `bytes` holds them. The session reads exactly `length`. */
  fd = -1;
  position = 0;
  length = 0;
  bytes: Uint8Array | undefined = undefined;
}

export class ExtendedAttributeReply extends Reply {
  value: Uint8Array | undefined = undefined;
}

/** Takes directory entries until the reply is full. */
export interface DirectorySink {
  /** The kernel wants attributes with the names (READDIRPLUS). */
  readonly wantsAttributes: boolean;
  /** Room for an entry with a name of so many bytes? Asked first, so that no lookup is counted that does not fit. */
  fits(nameLength: number): boolean;
  /**
   * `cookie` is the position after this entry, below 2^53, not 0. With attributes, `entry.nodeId` 0 means: name only,
   * the kernel looks it up when needed (the type and inode number are taken from `entry.attributes` all the same).
   */
  add(name: ByteString, cookie: number, entry: EntryReply): void;
  /** A name with no more than its inode number and type (`S_IFMT` bits). */
  addName(name: ByteString, cookie: number, ino: number, mode: number): void;
}

/** The payload of a WRITE, valid until the operation returns (not after an await, unless retained). */
export interface WriteSource {
  readonly length: number;
  /** The writer may not keep suid, sgid and capabilities of the file: clear them with this write. */
  readonly killPrivileges?: boolean;
  /** Copies into a file; returns the bytes written or a negative error number. */
  writeTo(fd: number, position: number): number;
  /**
   * Leaves the copy, and the answer to the request with what comes of it, to the kernel binding, where that is faster: true when it has taken
   * both; what the operation returns is not looked at then. The descriptor may be closed meanwhile. For
   * volumes whose files tell size and times themselves, and do not call attributes settled while somebody may write.
   */
  handOver?(fd: number, position: number): boolean;
  /** Appends to a file that was opened with O_APPEND. */
  appendTo(fd: number): number;
  /** Copies the payload out of the request, for an operation that must wait first. */
  retain(): WriteSource;
}

/** Fields of SETATTR that are to change; undefined ones stay. */
export interface AttributeChange {
  handle?: Handle;
  mode?: number;
  uid?: number;
  gid?: number;
  size?: number;
  accessed?: { seconds: number; nanoseconds: number } | 'now';
  modified?: { seconds: number; nanoseconds: number } | 'now';
  changed?: { seconds: number; nanoseconds: number };
  /** Clear suid, sgid and capabilities as a write by an unprivileged caller does. */
  killPrivileges?: boolean;
}

export interface EntryAnswer {
  nodeId: NodeId;
  entryValid: number;
  attributesValid: number;
  attributes: Attributes;
}

export interface CreateAnswer {
  entry: EntryAnswer;
  open: OpenReply;
}

/** `statfs`, counted in blocks of `blockSize` bytes. */
export interface FileSystemUsage {
  blockSize: number;
  blocks: number;
  blocksFree: number;
  blocksAvailable: number;
  files: number;
  filesFree: number;
  nameLength: number;
}

export interface OpenMode {
  /** Flags of open(2) as the kernel passes them (O_ACCMODE, O_APPEND, O_TRUNC, O_DIRECT, …). */
  readonly flags: number;
  /** With HANDLE_KILLPRIV_V2 and O_TRUNC: clear suid and sgid. */
  readonly killPrivileges?: boolean;
}

/** Bits of rename(2). */
export const RENAME_NOREPLACE = 1;
export const RENAME_EXCHANGE = 2;
export const RENAME_WHITEOUT = 4;

export interface FileSystem {
  // Hot: synchronous when the answer is cached.
  lookup(call: Call, parent: NodeId, name: ByteString, reply: EntryReply): Answer<void>;
  getattr(call: Call, node: NodeId, handle: Handle | undefined, reply: AttributesReply): Answer<void>;
  open(call: Call, node: NodeId, mode: OpenMode, reply: OpenReply): Answer<void>;
  read(
    call: Call,
    node: NodeId,
    handle: Handle,
    offset: number,
    size: number,
    reply: ReadReply,
  ): Answer<void>;
  write(call: Call, node: NodeId, handle: Handle, offset: number, source: WriteSource): Answer<number>;
  flush(call: Call, node: NodeId, handle: Handle, reply: Reply): Answer<void>;
  release(call: Call, node: NodeId, handle: Handle): Answer<void>;
  opendir(call: Call, node: NodeId, reply: OpenReply): Answer<void>;
  readdir(call: Call, node: NodeId, handle: Handle, cookie: number, sink: DirectorySink): Answer<void>;
  releasedir(call: Call, node: NodeId, handle: Handle): Answer<void>;
  getxattr(call: Call, node: NodeId, name: ByteString, reply: ExtendedAttributeReply): Answer<void>;
  forget(node: NodeId, count: number): void;

  // The rest.
  setattr(
    call: Call,
    node: NodeId,
    change: AttributeChange,
  ): Answer<{
    attributes: Attributes;
    attributesValid: number;
  }>;
  readlink(call: Call, node: NodeId): Answer<ByteString>;
  /** `mode` has the umask applied already. */
  mknod(call: Call, parent: NodeId, name: ByteString, mode: number, rdev: number): Answer<EntryAnswer>;
  mkdir(call: Call, parent: NodeId, name: ByteString, mode: number): Answer<EntryAnswer>;
  symlink(call: Call, parent: NodeId, name: ByteString, target: ByteString): Answer<EntryAnswer>;
  link(call: Call, node: NodeId, parent: NodeId, name: ByteString): Answer<EntryAnswer>;
  create(call: Call, parent: NodeId, name: ByteString, mode: number, open: OpenMode): Answer<CreateAnswer>;
  /** O_TMPFILE: a file without a name, which `link` may give one. */
  temporary(call: Call, parent: NodeId, mode: number, open: OpenMode): Answer<CreateAnswer>;
  unlink(call: Call, parent: NodeId, name: ByteString): Answer<void>;
  rmdir(call: Call, parent: NodeId, name: ByteString): Answer<void>;
  rename(
    call: Call,
    parent: NodeId,
    name: ByteString,
    newParent: NodeId,
    newName: ByteString,
    flags: number,
  ): Answer<void>;
  fsync(call: Call, node: NodeId, handle: Handle, dataOnly: boolean): Answer<void>;
  fsyncdir(call: Call, node: NodeId, handle: Handle, dataOnly: boolean): Answer<void>;
  /** Flags of setxattr(2): XATTR_CREATE 1, XATTR_REPLACE 2. */
  setxattr(call: Call, node: NodeId, name: ByteString, value: Uint8Array, flags: number): Answer<void>;
  listxattr(call: Call, node: NodeId): Answer<ByteString[]>;
  removexattr(call: Call, node: NodeId, name: ByteString): Answer<void>;
  statfs(call: Call, node: NodeId): Answer<FileSystemUsage>;
  /** SEEK_DATA 3, SEEK_HOLE 4. Returns the offset. */
  lseek(call: Call, node: NodeId, handle: Handle, offset: number, whence: number): Answer<number>;
  /** Flags of fallocate(2). */
  fallocate(
    call: Call,
    node: NodeId,
    handle: Handle,
    mode: number,
    offset: number,
    length: number,
  ): Answer<void>;
  /** Returns the bytes copied, which may be fewer. */
  copyFileRange(
    call: Call,
    from: { node: NodeId; handle: Handle; offset: number },
    to: { node: NodeId; handle: Handle; offset: number },
    length: number,
  ): Answer<number>;
}

/** What the file system tells the kernel on its own account; never blocks, never fails, nobody waits for it. */
export interface KernelNotifier {
  /** The name means something else now (or nothing). */
  invalidateEntry(parent: NodeId, name: ByteString): void;
  /** Attributes changed; with a range (`length` 0 = to the end) the cached pages in it too. `offset` -1: attributes only. */
  invalidateNode(node: NodeId, offset: number, length: number): void;
  /** What was called settled (`AttributesReply.settled`) is not: the volume is asked again. The kernel keeps what it has. 0: of any node. */
  unsettle(node: NodeId): void;
}
