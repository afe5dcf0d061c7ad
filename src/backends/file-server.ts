import type { Backend, Context } from './contract.js';

/**
 * A file server (SFTP and its like): real directories, attributes, links, open files with reads and writes at any offset. The file
 * system passes operations through to it and caches beside; nothing is turned into objects.
 *
 * Paths are byte strings (one UTF-16 unit per byte, as the file system names things), relative to the root of the mount: `a/b`, no
 * slash in front or at the end, the root is ''. No operation follows a symlink in the last component, except `open`.
 * Every method throws MirageError with the errno of the server (`ENOENT`, `EEXIST`, `ENOTEMPTY`, `EACCES`, `ENOSPC`, …), `ENOTSUP`
 * for what the server has no request for, `EHOSTDOWN` or `ETIMEDOUT` when it cannot be reached within the deadline. Deadlines, and how
 * many requests may be under way, are the driver's.
 *
 * Calls on one handle reach the server in the order they were made, and are not waited for in between: a `setAttributes`, `fstat`, `fsync` or
 * `close` that follows a `write` sees what was written.
 *
 * A connection that was lost:
 * - what only asks (`lstat`, `list`, `readlink`, `statfs`) and what may be repeated (`setAttributes` by path, `open` without
 *   `exclusive`) is sent again by the driver over a new connection;
 * - other changes reject with `outcomeUnknown`, after which the caller looks for itself;
 * - handles are gone: calls on them reject with `EBADF`, and the caller opens the file again and repeats what it asked.
 */
export interface FileServer {
  readonly features: FileServerFeatures;

  /** undefined: there is no such name (ENOENT, or ENOTDIR on the way). */
  lstat(path: string, context: Context): Promise<ServerAttributes | undefined>;
  /** The names of one directory with their attributes, without '.' and '..', in pieces as they arrive. The next piece waits for the promise of `onPage`. */
  list(
    path: string,
    onPage: (entries: readonly ServerEntry[]) => void | Promise<void>,
    context: Context,
  ): Promise<void>;
  readlink(path: string, context: Context): Promise<string>;
  statfs(path: string, context: Context): Promise<ServerUsage>;

  /** The attributes are as of after the opening, asked in the same round trip (not of what a symlink points to: of the name itself). */
  open(path: string, how: OpenHow, context: Context): Promise<OpenedFile>;
  /**
   * Reads `length` bytes from `offset` of the file and writes them into the descriptor `fd` from `position`. Resolves, when the bytes are
   * there, with their number: fewer only at the end of the file. Larger ranges are split and sent at once; ranges of several calls go side by side.
   */
  read(handle: ServerHandle, range: HandleRange, context: Context): Promise<number>;
  /**
   * Writes `length` bytes from `position` of the descriptor `fd` to `offset` of the file. Resolves when the server has acknowledged all;
   * the descriptor is not read any more then. Several calls may be under way; those whose ranges overlap are not.
   */
  write(handle: ServerHandle, range: HandleRange, context: Context): Promise<void>;
  fstat(handle: ServerHandle, context: Context): Promise<ServerAttributes>;
  /** ENOTSUP where the server has no such request. */
  fsync(handle: ServerHandle, context: Context): Promise<void>;
  /** The handle is gone whatever the answer. */
  close(handle: ServerHandle, context: Context): Promise<void>;
  /** Copies inside the server; resolves with the bytes copied. ENOTSUP: the caller has to copy by itself. */
  copyRange(
    from: ServerHandle,
    fromOffset: number,
    to: ServerHandle,
    toOffset: number,
    length: number,
    context: Context,
  ): Promise<number>;

  /**
   * Resolves with the attributes after the change, asked in the same round trip. By path it does not follow a symlink: ENOTSUP for a
   * symlink where the server would follow it.
   */
  setAttributes(
    target: string | ServerHandle,
    change: ServerAttributeChange,
    context: Context,
  ): Promise<ServerAttributes>;
  /** The server's own umask may take bits of `mode` away. Resolves with the attributes of the new directory, asked in the same round trip. */
  mkdir(path: string, mode: number, context: Context): Promise<ServerAttributes>;
  rmdir(path: string, context: Context): Promise<void>;
  unlink(path: string, context: Context): Promise<void>;
  /** `replace`: as rename(2); else EEXIST when `to` exists. ENOTSUP where the server cannot promise that. */
  rename(from: string, to: string, options: { readonly replace: boolean }, context: Context): Promise<void>;
  /** Resolves with the attributes of the new symlink, asked in the same round trip. */
  symlink(target: string, path: string, context: Context): Promise<ServerAttributes>;
  /** Gives the file another name. Resolves with the attributes of the new name, asked in the same round trip. */
  link(existing: string, path: string, context: Context): Promise<ServerAttributes>;

  /** A further connection, for the caller's own use; only where `features.lends`. */
  lend?(context: Context): Promise<LentConnection>;
}

/** A connection to a server, set up by the driver and free for its borrower to speak on. Plain data. */
export interface LentConnection {
  /** Which code speaks on it. */
  readonly protocol: 'sftp';
  /** A connected socket that does not block. The borrower closes it, which ends the connection. */
  readonly fd: number;
  /** The server's path of the root of the mount, '' for that of the server. */
  readonly root: string;
  /** Milliseconds of silence before the server counts as gone. */
  readonly timeout: number;
}

/** Files opened over a lent connection, for reads that are too small to be worth the way to another thread. As `FileServer`, without its care for lost connections. */
export interface NearFiles {
  /** The connection has ended: nothing works any more, and every handle is gone. */
  readonly lost: boolean;
  open(path: string): Promise<OpenedFile>;
  /** Up to `length` bytes from `offset`, no more than 32 KiB; fewer only at the end of the file. They are the caller's until its continuations have run: the next turn of the event loop may use their memory again. */
  read(handle: ServerHandle, offset: number, length: number): Promise<Uint8Array>;
  close(handle: ServerHandle): void;
  /** Ends the connection. */
  end(): void;
}

/** The code for one protocol of lent connections. */
export interface NearModule {
  /** Throws EHOSTDOWN or ETIMEDOUT, EACCES where the server does not let us in a second time; the connection is ended then. */
  nearFiles(lent: LentConnection): Promise<NearFiles>;
}

/** An open file on the server: a number that the driver chose, never used twice. */
export type ServerHandle = number;

/** What the server was found to offer. */
export interface FileServerFeatures {
  /** `rename` with `replace` replaces in one step. */
  readonly renameReplace: boolean;
  /** `rename` without `replace` fails in one step where the name exists. */
  readonly renameExclusive: boolean;
  readonly hardLinks: boolean;
  readonly symlinks: boolean;
  readonly fsync: boolean;
  readonly statfs: boolean;
  readonly copyRange: boolean;
  /** `setAttributes` works on a symlink itself. */
  readonly linkAttributes: boolean;
  /** Times have nanoseconds; else whole seconds. */
  readonly nanoseconds: boolean;
  /** Handles go on working after their file lost its last name (POSIX behind the server). */
  readonly handlesOutliveNames: boolean;
  /** Open handles that the server allows at a time. */
  readonly maximumHandles: number;
  /** Bytes that one request of the protocol carries. */
  readonly maximumRead: number;
  readonly maximumWrite: number;
  /** `lend` gives connections. */
  readonly lends?: boolean;
}

/** Sizes in bytes, times in seconds since 1970 and nanoseconds within; undefined where the server does not tell. */
export interface ServerAttributes {
  /** `st_mode`: type and permission bits. */
  readonly mode: number;
  readonly size: number;
  readonly uid: number;
  readonly gid: number;
  readonly accessedSeconds: number;
  readonly accessedNanoseconds: number;
  readonly modifiedSeconds: number;
  readonly modifiedNanoseconds: number;
  readonly changedSeconds?: number;
  readonly changedNanoseconds?: number;
  readonly links?: number;
  /** Tells files of the server apart, below 2^53. */
  readonly fileId?: number;
}

export interface ServerEntry extends ServerAttributes {
  readonly name: string;
}

/** As open(2): O_RDONLY, O_WRONLY or O_RDWR, O_CREAT, O_EXCL, O_TRUNC. */
export interface OpenHow {
  readonly read: boolean;
  readonly write: boolean;
  readonly create?: boolean;
  readonly exclusive?: boolean;
  readonly truncate?: boolean;
  /** Permission bits of a new file; the server's own umask may take some away. */
  readonly mode?: number;
}

export interface OpenedFile {
  readonly handle: ServerHandle;
  readonly attributes: ServerAttributes;
}

/** Bytes of a file of the server, and where they go or come from on this side. */
export interface HandleRange {
  readonly offset: number;
  readonly length: number;
  readonly fd: number;
  readonly position: number;
}

/** What is to change; undefined fields stay. A server that knows owner and group, or both times, only together is given the other one as it is. */
export interface ServerAttributeChange {
  readonly size?: number;
  /** Permission bits. */
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly accessed?: { readonly seconds: number; readonly nanoseconds: number };
  readonly modified?: { readonly seconds: number; readonly nanoseconds: number };
}

/** statvfs(3): counts of blocks of `blockSize` bytes. */
export interface ServerUsage {
  readonly blockSize: number;
  readonly blocks: number;
  readonly blocksFree: number;
  readonly blocksAvailable: number;
  readonly files: number;
  readonly filesFree: number;
  readonly nameLength: number;
}

/** A backend that is reached as a file server; the object methods beside are for tools. */
export interface FileServerBackend extends Backend {
  readonly fileServer: FileServer;
}

export const hasFileServer = (backend: Backend): backend is FileServerBackend => 'fileServer' in backend;
