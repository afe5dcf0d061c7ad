/**
 * What the file-system side asks of the I/O side. Plain data crosses; bytes never do: both sides are threads of one process, so
 * a file descriptor number is enough to say where bytes go or come from.
 */
import type {
  ByteRange,
  Capabilities,
  ListPage,
  ObjectInfo,
  Precondition,
  Removal,
  StoredAttributes,
  Validator,
} from '../backends/contract.js';
import type { MirageError } from '../errors/mirage-error.js';

/** Index of a mount in the mount table. */
export type MountIndex = number;

/** Every call may be aborted; an aborted call rejects with EINTR and its transfer stops. Failures are MirageError. */
export interface StorePort {
  capabilities(mount: MountIndex): Capabilities;
  /** Which optional operations the backend has. */
  features(mount: MountIndex): StoreFeatures;

  stat(mount: MountIndex, key: string, signal?: AbortSignal): Promise<ObjectInfo | undefined>;
  list(
    mount: MountIndex,
    prefix: string,
    cursor: string | undefined,
    signal?: AbortSignal,
  ): Promise<ListPage>;
  /** Writes `range` of the object into `fd`. With `match`, ESTALE when the object is another version by now. */
  fetch(mount: MountIndex, request: FetchRequest, signal?: AbortSignal): Promise<Fetched>;
  /** Puts the first `size` bytes of `fd` as the object. The file must not change until this settles. */
  commit(mount: MountIndex, request: CommitRequest, signal?: AbortSignal): Promise<ObjectInfo>;
  /** Has the store forget the uploads that an earlier run began, but for those that carry one of these nonces: they will be gone on with. */
  abandonUploads(mount: MountIndex, needed: readonly string[]): Promise<void>;
  remove(mount: MountIndex, key: string, precondition: Precondition): Promise<void>;
  /** What became of each, in their order: undefined where it is gone. */
  removeMany(mount: MountIndex, removals: readonly Removal[]): Promise<readonly (MirageError | undefined)[]>;
  createDirectory(mount: MountIndex, key: string, attributes: StoredAttributes): Promise<ObjectInfo>;
  removeDirectory(mount: MountIndex, key: string): Promise<void>;
  copy(mount: MountIndex, request: CopyRequest): Promise<ObjectInfo>;
  setAttributes(
    mount: MountIndex,
    key: string,
    kind: 'file' | 'directory',
    attributes: StoredAttributes,
    precondition: Precondition,
  ): Promise<ObjectInfo>;
  rename(mount: MountIndex, from: string, to: string): Promise<void>;
  usage(
    mount: MountIndex,
  ): Promise<{ total?: number; free?: number; entries?: number; freeEntries?: number }>;
}

export interface StoreFeatures {
  readonly directories: boolean;
  readonly copy: boolean;
  readonly setAttributes: boolean;
  readonly rename: boolean;
  readonly usage: boolean;
}

export interface FetchRequest {
  readonly key: string;
  readonly range: ByteRange;
  readonly fd: number;
  /** Where in `fd` the first byte of the range goes; at its own offset where not given. */
  readonly position?: number;
  readonly match?: Validator;
  /** Bytes of a block to take a checksum of. */
  readonly checksumBlock?: number;
  /** The store has said which version it sends; before any progress, and not from every store. */
  readonly onBegin?: (info: ObjectInfo) => void;
  /** Up to which offset of the object the bytes are in the file: they arrive in order. */
  readonly onProgress?: (arrivedTo: number) => void;
}

/** The version that the bytes came from. */
export interface Fetched extends ObjectInfo {
  /** CRC-32 (zlib) of each block from the start of the range on, the last one shorter; where they were asked for. */
  readonly checksums?: readonly number[];
}

export interface CommitRequest {
  readonly key: string;
  readonly fd: number;
  readonly size: number;
  readonly precondition: Precondition;
  readonly attributes: StoredAttributes;
  /** Programs still write the file: more may come soon. */
  readonly open?: boolean;
  /** The same will be asked for again where it fails for a reason that passes: what was sent of it stays at the store. */
  readonly again?: boolean;
  /** Where bytes wait for their store: what they are called meanwhile. */
  readonly stagedAs?: string;
}

export interface CopyRequest {
  readonly from: string;
  readonly to: string;
  /** The source must still be this version. */
  readonly match?: Validator;
  readonly precondition: Precondition;
  /** Replaces the attributes of the source. */
  readonly attributes?: StoredAttributes;
  /** Bytes of the version that `match` names, where they are known: saves the store a question. */
  readonly size?: number;
}
