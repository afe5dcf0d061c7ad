/**
 * The contract of a storage backend: five methods that every store has, the rest by capability.
 *
 * Keys are paths inside the backend: well-formed Unicode (names of the file system are bytes), without a
 * leading slash; a directory key has no trailing slash here (`a/b`), the root is the empty string.
 * Sizes are bytes, times are `Timestamp`, durations milliseconds.
 */

import type { MirageError } from '../errors/mirage-error.js';

/** Seconds since 1970 and the nanoseconds within that second (0..999,999,999). */
export interface Timestamp {
  readonly seconds: number;
  readonly nanoseconds: number;
}

/**
 * What the store offers to tell one version of an object from another: an ETag, a generation, a version id,
 * or `size+mtime` where nothing better exists. Compared for equality only.
 */
export type Validator = string;

/** The state an object must be in for a change to happen. No write without one: a blind overwrite says `any`. */
export type Precondition =
  | { readonly kind: 'absent' }
  | { readonly kind: 'match'; readonly validator: Validator }
  | { readonly kind: 'any' };

/** POSIX attributes that the store keeps for us beside the content. A missing field is not known. */
export interface StoredAttributes {
  /** Type and permission bits, `st_mode`: a symlink or a fifo is an object whose mode says so. */
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  /** Device number, `st_rdev`, of a character or block device. */
  readonly rdev?: number;
  readonly modified?: Timestamp;
  readonly changed?: Timestamp;
  readonly accessed?: Timestamp;
  /** Extended attributes: name → value in base64. */
  readonly xattrs?: Readonly<Record<string, string>>;
  /** Objects that are names of one file carry the same group; see docs/architecture.md, hard links. */
  readonly linkGroup?: string;
  /** Nonce of the change that made this version, a fresh one for every change: how an unknown outcome is read back. */
  readonly writer?: string;
}

export interface ObjectInfo {
  readonly key: string;
  readonly kind: 'file' | 'directory';
  /** Bytes; undefined where the store cannot tell before reading. */
  readonly size: number | undefined;
  /** When the store says that the object was written; second 0 for an implicit directory. */
  readonly modified: Timestamp;
  /**
   * undefined for an implicit directory: it has no object of its own. For a file: a listing does not tell it, and `stat` does; a `stat` does not
   * tell it either where only its content tells a version.
   */
  readonly validator: Validator | undefined;
  /** Version id where the bucket has versions. */
  readonly version?: string;
  /** undefined: not known from this answer (a listing); `{}`: known to have none. */
  readonly attributes: StoredAttributes | undefined;
  /** Of a read: the store gives this object from its start only, whatever range is asked for. It is best asked for once, as a whole. */
  readonly sequential?: boolean;
}

export interface ListPage {
  /** Children of one level, in any order. A name may appear twice: once as file and once as directory. */
  readonly entries: readonly ObjectInfo[];
  /** Where the next page starts; undefined after the last one. */
  readonly cursor: string | undefined;
  /** The store is sending the next pages already, asked for or not: to have them costs nothing more. */
  readonly coming?: boolean;
  /** Whether this page has come by an object of the directory's own; undefined: not told. A directory without one has no attributes. */
  readonly marker?: boolean;
}

/** `length` bytes from `offset`; a range past the end is cut short, not an error. */
export interface ByteRange {
  readonly offset: number;
  readonly length: number;
  /** All of the object, as far as the reader knows: no store need look for a part of it. */
  readonly whole?: boolean;
}

/** Takes the bytes of a read in order. A chunk is the sink's once given; `write` resolves when more may come (back-pressure). */
export interface ByteSink {
  /** What the store says of the object before its first byte, where a store says it then; again when the read is tried again. */
  begin?(info: ObjectInfo): void;
  write(chunk: Uint8Array): void | Promise<void>;
  /**
   * Takes the bytes before it returns: the chunk stays the giver's, who can use one piece of memory for all of them. Only where the sink can.
   * Not while a promise of `write` is pending.
   */
  writeNow?(chunk: Uint8Array): void;
}

/** The content of a write. It can be read again from any offset, so that a part can be sent twice. */
export interface ByteSource {
  readonly size: number;
  /** Streams `range`; a chunk is the reader's once given. */
  read(range: ByteRange): AsyncIterable<Uint8Array>;
}

/** Travels with every call. */
export interface Context {
  /** Aborts the call, also in the middle of a transfer. */
  readonly signal: AbortSignal;
  /** For the log of one operation across threads. */
  readonly trace?: string;
}

/** What this store can do, as probed, not as hoped. */
export interface Capabilities {
  /** Nothing can ever be written: `write` and `remove` answer EROFS, and a mount that wants more than reading is refused. */
  readonly readOnly?: boolean;
  /** Preconditions that the store truly honours, per operation. */
  readonly preconditions: {
    readonly writeAbsent: boolean;
    readonly writeMatch: boolean;
    readonly multipartAbsent: boolean;
    readonly multipartMatch: boolean;
    readonly copyAbsent: boolean;
    readonly removeMatch: boolean;
  };
  /** The store keeps `StoredAttributes`. */
  readonly attributes: boolean;
  /** Directories exist by themselves (a file system), or only as prefixes and markers (an object store). */
  readonly directories: 'real' | 'markers';
  /** The largest object that one `write` may carry before `multipart` is used inside. */
  readonly maximumSize: number;
  /** Bytes of a key, `Infinity` where only names are limited. */
  readonly maximumKeyBytes: number;
}

export interface WriteOptions {
  readonly precondition: Precondition;
  readonly attributes?: StoredAttributes;
}

/** Every method throws MirageError: `ENOENT`, `EACCES`, `ESTALE` (precondition failed), `EHOSTDOWN`, `ETIMEDOUT`, `EIO`. */
export interface Backend {
  readonly capabilities: Capabilities;
  stat(key: string, context: Context): Promise<ObjectInfo | undefined>;
  list(prefix: string, cursor: string | undefined, context: Context): Promise<ListPage>;
  /** Resolves with the version the bytes came from. With `match`, ESTALE if the object is another version by now. */
  read(
    key: string,
    range: ByteRange,
    sink: ByteSink,
    context: Context,
    match?: Validator,
  ): Promise<ObjectInfo>;
  write(key: string, source: ByteSource, options: WriteOptions, context: Context): Promise<ObjectInfo>;
  remove(key: string, precondition: Precondition, context: Context): Promise<void>;
  /** Ends connections; nothing may be called afterwards. */
  close?(): Promise<void>;
}

/** Directories that outlive their last entry. */
export interface DirectoryBackend extends Backend {
  createDirectory(key: string, attributes: StoredAttributes, context: Context): Promise<ObjectInfo>;
  /** Fails with ENOTEMPTY where the store can tell. */
  removeDirectory(key: string, context: Context): Promise<void>;
}

/** Server-side copy: no bytes pass through this host. */
export interface CopyBackend extends Backend {
  copy(from: string, to: string, options: CopyOptions, context: Context): Promise<ObjectInfo>;
}

/** Without `attributes` the copy has those of the source. */
export interface CopyOptions extends WriteOptions {
  /** The source must be this version. */
  readonly match?: Validator;
  /** Bytes of that version, where they are known: saves the store a question. The answer may say nothing of attributes then. */
  readonly size?: number;
}

/** One object of many to remove. */
export interface Removal {
  readonly key: string;
  readonly precondition: Precondition;
}

/** Many objects removed by few requests. */
export interface BatchRemovalBackend extends Backend {
  /**
   * What became of each, in their order: undefined where it is gone, whether it was there before or not; else why not. Throws where
   * nothing is known of any.
   */
  removeMany(removals: readonly Removal[], context: Context): Promise<readonly (MirageError | undefined)[]>;
}

/** Attributes changed in place, content untouched. Resolves with the validator after the change. */
export interface AttributeBackend extends Backend {
  setAttributes(
    key: string,
    kind: 'file' | 'directory',
    attributes: StoredAttributes,
    precondition: Precondition,
    context: Context,
  ): Promise<ObjectInfo>;
}

/** Atomic rename inside the store. */
export interface RenameBackend extends Backend {
  rename(from: string, to: string, context: Context): Promise<void>;
}

/** Figures for `statfs`, in bytes and entries; undefined where the store has no limit. */
export interface UsageBackend extends Backend {
  usage(context: Context): Promise<{ total?: number; free?: number; entries?: number; freeEntries?: number }>;
}

/** Leases that the store itself grants, on objects of their own, and ends by its own clock. Every call may be repeated. */
export interface StoreLocks {
  /** Milliseconds that a lease may last, in whole seconds. */
  readonly shortestTerm: number;
  readonly longestTerm: number;
  /** Takes the lease, or prolongs it for who has it under this id (a UUID); makes the object where there is none. False: another one has it. */
  acquire(key: string, id: string, term: number, context: Context): Promise<boolean>;
  /** For the term that it was taken for. False: another one has it, or had it. */
  renew(key: string, id: string, context: Context): Promise<boolean>;
  release(key: string, id: string, context: Context): Promise<void>;
}

export interface LockBackend extends Backend {
  readonly locks: StoreLocks;
}

/**
 * A tree of the host's own kernel, reached through a descriptor of its root directory. The file system serves
 * it with system calls below that descriptor, on its own thread, without copying content.
 */
export interface HostTree {
  /** Descriptor of the root directory. */
  readonly root: number;
  /** Nobody else can change the tree (a private memory tree): what the kernel knows of it stays right. */
  readonly exclusive?: boolean;
  close(): void;
}

/** A backend whose content is a tree of the host kernel (memory, local disk). */
export interface HostTreeBackend extends Backend {
  openTree(): HostTree;
}

export const hasDirectories = (b: Backend): b is DirectoryBackend => 'createDirectory' in b;
export const hasCopy = (b: Backend): b is CopyBackend => 'copy' in b;
export const hasRemoveMany = (b: Backend): b is BatchRemovalBackend =>
  'removeMany' in b && b.removeMany !== undefined;
export const hasSetAttributes = (b: Backend): b is AttributeBackend => 'setAttributes' in b;
export const hasRename = (b: Backend): b is RenameBackend => 'rename' in b;
export const hasUsage = (b: Backend): b is UsageBackend => 'usage' in b;
export const hasLocks = (b: Backend): b is LockBackend => 'locks' in b;
export const hasHostTree = (b: Backend): b is HostTreeBackend => 'openTree' in b;
