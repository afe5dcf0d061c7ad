/**
 * The persisted metadata cache: names, attributes, listings and negative entries of the object-store mounts.
 * Reads are synchronous (memory, then SQLite); writes show at once to every read here and reach the disk behind,
 * through the one thread that owns the database for writing.
 */
import type { StoredAttributes, Validator } from '../backends/contract.js';

/** A mount's number in the database, the same after a restart: derived from what it mounts (endpoint, bucket, prefix). */
export type LocationId = number;

/** What is known of one name. Times in milliseconds are wall time (they must mean something after a restart). */
export interface EntryRecord {
  /** Byte string, as the vfs names it. */
  readonly name: string;
  /** `absent` is a negative entry: the store said that there is no such name. */
  readonly kind: 'file' | 'directory' | 'absent';
  /** Position in the directory: grows in the order names were first seen, survives restarts, never reused. Set by the store. */
  readonly position: number;
  readonly size: number;
  /** undefined: implicit directory, or not committed yet. */
  readonly validator: Validator | undefined;
  /** When the store says that the object was written. */
  readonly modifiedSeconds: number;
  readonly modifiedNanoseconds: number;
  /** undefined: a listing does not carry them; they come with the first HEAD or GET. */
  readonly attributes: StoredAttributes | undefined;
  /** Inode number where it does not derive from the location: after a rename, a link or a collision. */
  readonly ino: number | undefined;
  /** Wall time, milliseconds, of the answer that this row is from. */
  readonly seenAt: number;
}

/** A record as it is put: the position is the store's business. */
export type NewEntryRecord = Omit<EntryRecord, 'position'>;

export interface ListingState {
  /** Wall time, milliseconds, when the listing was started that is complete now; undefined: never listed to the end. */
  readonly completeAt: number | undefined;
  /** Another number with every name that comes, goes, or becomes something else (its kind, type or inode number); none comes twice. */
  readonly names: number;
  /** The same but for names that came behind all others: who has read up to some position need not read it again. */
  readonly order: number;
}

/** Rows of a listing arrive page by page; names that were not seen by the end are dropped, unless put in the meantime. */
export interface ListingWriter {
  /** What is known of a name that the listing is about to bring: as `entry`, without a query where there cannot be anything. */
  known(name: string): EntryRecord | undefined;
  /**
   * Names that were put or forgotten since the listing started keep what was put. A name of the same kind keeps its `ino`, and its
   * `attributes` where validator, size and time are unchanged and the record has none. No effect once the directory was expired,
   * moved or forgotten.
   */
  page(records: readonly NewEntryRecord[]): void;
  /** The listing is complete: it counts as seen at the time it was started. */
  complete(): void;
  abandon(): void;
}

/** Directories are named by their key (UTF-8, '' = the root of the mount). */
export interface MetadataStore {
  location(identity: string): LocationId;

  entry(location: LocationId, directory: string, name: string): EntryRecord | undefined;
  /** Inserts or replaces; keeps the position of a name that has one. */
  put(location: LocationId, directory: string, record: NewEntryRecord): void;
  /** Forgets what is known of a name; not a negative entry. */
  forget(location: LocationId, directory: string, name: string): void;

  listing(location: LocationId, directory: string): ListingState;
  startListing(location: LocationId, directory: string, now: number): ListingWriter;
  /** The next `limit` rows (negative ones left out) with a position above `after`, in position order. */
  entries(location: LocationId, directory: string, after: number, limit: number): readonly EntryRecord[];
  /** A directory that was made or emptied here: known complete from now. */
  markComplete(location: LocationId, directory: string, now: number): void;
  /** What is cached of a directory is to be asked again. */
  expire(location: LocationId, directory: string): void;

  /** A directory got another key: everything below moves with it, in place of what was known below `to`. */
  moveDirectory(location: LocationId, from: string, to: string): void;
  /** Forgets everything below a directory, and its listing. */
  forgetTree(location: LocationId, directory: string): void;

  /** Names that carry this link group, as far as known. */
  linkNames(
    location: LocationId,
    group: string,
  ): readonly { readonly directory: string; readonly name: string }[];

  /**
   * undefined, or resolves when the rows that wait to be written have become fewer: whoever brings very many (a listing) waits
   * between pages, so that memory stays bounded.
   */
  backlog(): Promise<void> | undefined;
  /** Resolves when everything put so far is in the database file. */
  settled(): Promise<void>;
  close(): Promise<void>;
}
