import type { ObjectInfo, Timestamp, Validator } from '../../backends/contract.js';
import type { CleanFile, StagedFile } from '../../content/contract.js';
import type { MirageError } from '../../errors/mirage-error.js';
import { Attributes } from '../attributes.js';
import type { Slot } from '../inodes/inode-table.js';
import { Turn } from '../inodes/turn.js';
import type { ByteString } from '../operations.js';

/** The version of an object, and when the store says that it was written. */
export type StoredVersion = Pick<ObjectInfo, 'validator' | 'modified'>;

const NEVER_STORED: Timestamp = { seconds: 0, nanoseconds: 0 };

const baseKey = (parent: Slot, name: ByteString): string => `${parent}/${name}`;

/**
 * A file or directory in use: open, written, or with attributes that are not in the store yet. While it exists, it and not
 * the metadata store says what a program sees of the node.
 */
export class Inode {
  readonly attributes = new Attributes();
  /** Extended attributes, name → base64. */
  xattrs: Record<string, string> = {};
  linkGroup: string | undefined;

  /** The file that reads are answered from: what is staged, else the clean one. */
  clean: CleanFile | undefined;
  staged: StagedFile | undefined;
  /** Made or truncated here and not committed since: to be committed though nothing was written. */
  mustCommit = false;
  /** Content is on its way to the store, which may still refuse it. */
  committing = false;
  /** Nonces of writes that may have reached the store or not: a version with one of them is no one else's. */
  readonly unconfirmed = new Set<string>();
  /** Bytes of this node were asked of the store for writing; settles when its newest version is known. */
  revalidation: Promise<void> | undefined;

  handles = 0;
  writers = 0;
  /** Its name is about to go from the store: who opens it now waits for the outcome. */
  leaving = false;
  /** The kernel reads the clean file itself: all handles of the node do so, or none. */
  passesThrough = false;
  /** Another version has the name now: nothing more may be written here. */
  superseded = false;
  /** The content of this node lost a race: it is aside, and handles hear ESTALE. */
  lost = false;
  /** What went wrong behind a program's back, for the next fsync or open. */
  failure: MirageError | undefined;

  /** Counts changes of attributes; those up to `attributesSaved` are in the store. */
  attributesChanged = 0;
  attributesSaved = 0;

  readonly turn = new Turn();
  /** Version that this node's content is based on, per name: each is an object of its own. No entry: none of that name is known. */
  readonly #bases = new Map<string, StoredVersion>();

  constructor(
    readonly slot: Slot,
    readonly kind: 'file' | 'directory',
  ) {}

  base(parent: Slot, name: ByteString): Validator | undefined {
    return this.#bases.get(baseKey(parent, name))?.validator;
  }
  /** When the store says that the object of a name was written; second 0 where there is none. */
  storeModified(parent: Slot, name: ByteString): Timestamp {
    return this.#bases.get(baseKey(parent, name))?.modified ?? NEVER_STORED;
  }
  setBase(parent: Slot, name: ByteString, version: StoredVersion | undefined): void {
    if (version === undefined) this.#bases.delete(baseKey(parent, name));
    else this.#bases.set(baseKey(parent, name), { validator: version.validator, modified: version.modified });
  }

  /** Content that the store does not have. */
  get needsCommit(): boolean {
    const changed = this.mustCommit || this.committing || this.staged?.dirty === true;
    return this.staged !== undefined && !this.superseded && changed;
  }
  get needsAttributes(): boolean {
    return this.attributesChanged !== this.attributesSaved && !this.superseded;
  }
  /** What a listing or a HEAD says is not what programs here must see. */
  get holdsTruth(): boolean {
    return (this.staged !== undefined || this.attributesChanged !== this.attributesSaved) && !this.superseded;
  }
  get idle(): boolean {
    return this.handles === 0 && this.staged === undefined && !this.needsAttributes && !this.turn.busy;
  }
}
