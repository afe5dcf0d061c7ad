/** Reading directories: open handles, and rows into the entries of a reply. */
import type { EntryRecord, ListingState } from '../../metadata/contract.js';
import { Attributes, S_IFDIR, S_IFMT } from '../attributes.js';
import { modeOf } from '../inodes/attributes-of.js';
import { NONE, type Slot } from '../inodes/inode-table.js';
import { isNameOnly, isUnknown } from '../inodes/records.js';
import { type Answer, type DirectorySink, EntryReply, type Handle, type OpenReply } from '../operations.js';
import type { Kept, KernelListings } from './kernel-listings.js';
import type { Listings, RunningListing } from './listings.js';
import type { Nodes } from './nodes.js';
import type { UnknownAttributes } from './unknown-attributes.js';

const ROWS_AT_ONCE = 256;
/** Cookies 1 and 2 are `.` and `..`; a row's is its position + 2. */
const DOTS = 2;

/**
 * An open directory. A reader stays with what it began with, a complete listing or one under way, whatever comes later: rows keep
 * their positions, so that a cookie means the same before and after.
 */
interface OpenDirectory {
  /** Began to read; anew when it goes back to the start. */
  begun: boolean;
  /** The listing that it follows; undefined: a complete one was there. */
  listing: RunningListing | undefined;
  /** What the kernel may have of it; undefined: it was told to keep nothing, or it keeps what it had. */
  kept: Kept | undefined;
}

export class DirectoryReading {
  readonly #nodes: Nodes;
  readonly #listings: Listings;
  readonly #unknown: UnknownAttributes;
  readonly #kernel: KernelListings;
  readonly #handles = new Map<Handle, OpenDirectory>();
  #nextHandle: Handle = 1;
  /** The cookie that the last reply has come to. */
  #reached = 0;
  /** How long the entries of the last reply are valid, nanoseconds. */
  #valid = 0;
  readonly #scratch = new Attributes();
  readonly #entry = new EntryReply();

  constructor(nodes: Nodes, listings: Listings, unknown: UnknownAttributes, kernel: KernelListings) {
    this.#nodes = nodes;
    this.#listings = listings;
    this.#unknown = unknown;
    this.#kernel = kernel;
  }

  opendir(slot: Slot, reply: OpenReply): void {
    const nodes = this.#nodes;
    const directory = nodes.directoryKeyIfAny(slot);
    let kept: Kept | undefined;
    // Where names are asked for each time, so are those that the kernel would have.
    if (directory !== undefined && nodes.fullyValidIn(directory) > 0) {
      const state = this.#stateOf(directory);
      const fresh = this.#listings.isComplete(directory);
      kept = this.#kernel.opened(nodes.table.id(slot), state, fresh, reply);
    }
    reply.handle = this.#nextHandle++;
    this.#handles.set(reply.handle, { begun: false, listing: undefined, kept });
  }

  releasedir(handle: Handle): void {
    const open = this.#handles.get(handle);
    if (open === undefined) return;
    this.#handles.delete(handle);
    if (open.kept !== undefined) this.#kernel.closed(open.kept);
    this.#leave(open);
  }

  /** Fills in what is there; waits for the store only where there is nothing to show yet. */
  readdir(slot: Slot, handle: Handle, cookie: number, sink: DirectorySink): Answer<void> {
    const open = this.#handles.get(handle);
    const directory = this.#nodes.directoryKeyIfAny(slot);
    if (open === undefined || directory === undefined) return undefined;
    if (cookie === 0 || !open.begun) this.#begin(open, slot, directory);
    const done = this.#emit(slot, directory, cookie, sink, open.listing);
    if (done || this.#reached > Math.max(cookie, DOTS)) {
      this.#tellKernel(open, directory, cookie);
      return undefined;
    }
    return this.#readLater(slot, open, this.#reached, sink);
  }

  #begin(open: OpenDirectory, slot: Slot, directory: string): void {
    this.#leave(open);
    open.begun = true;
    if (!this.#listings.isComplete(directory)) open.listing = this.#listings.follow(slot);
    if (open.kept !== undefined) this.#kernel.began(open.kept, this.#stateOf(directory));
  }

  #stateOf(directory: string): ListingState {
    return this.#nodes.metadata.listing(this.#nodes.location, directory);
  }

  #leave(open: OpenDirectory): void {
    if (open.listing !== undefined) this.#listings.leave(open.listing);
    open.listing = undefined;
  }

  async #readLater(slot: Slot, open: OpenDirectory, cookie: number, sink: DirectorySink): Promise<void> {
    const { table } = this.#nodes;
    table.pin(slot);
    try {
      for (;;) {
        await open.listing?.next();
        const directory = this.#nodes.directoryKeyIfAny(slot);
        if (directory === undefined) return;
        this.#settle(open, slot);
        const done = this.#emit(slot, directory, cookie, sink, open.listing);
        if (done || this.#reached > cookie) {
          this.#tellKernel(open, directory, cookie);
          return;
        }
      }
    } finally {
      table.unpin(slot);
    }
  }

  /** A reply goes out with the entries behind `cookie`: an empty one is the end. */
  #tellKernel({ kept }: OpenDirectory, directory: string, cookie: number): void {
    if (kept === undefined) return;
    if (this.#reached > cookie) {
      this.#kernel.read(kept, this.#valid);
      return;
    }
    const state = this.#stateOf(directory);
    this.#kernel.ended(kept, state, this.#nodes.validFor(state.completeAt ?? 0, directory));
  }

  /** Draws the consequence of a listing that has ended. */
  #settle(open: OpenDirectory, slot: Slot): void {
    const { listing } = open;
    if (listing === undefined || !listing.over) return;
    this.#leave(open);
    if (listing.failure !== undefined) {
      open.begun = false;
      throw listing.failure;
    }
    // The directory was moved, or changed as a whole: it is asked for as what it is now.
    if (!listing.complete) open.listing = this.#listings.follow(slot);
  }

  /** True: the reply has all that there is, or all that fits. False: more is to come with `listing`. */
  #emit(
    slot: Slot,
    directory: string,
    cookie: number,
    sink: DirectorySink,
    listing: RunningListing | undefined,
  ): boolean {
    const nodes = this.#nodes;
    const { table, metadata, location } = nodes;
    this.#reached = cookie;
    this.#valid = Number.POSITIVE_INFINITY;
    this.#unknown.read(directory);
    if (cookie < 1) {
      if (!sink.fits(1)) return true;
      sink.addName('.', 1, table.ino(slot), S_IFDIR);
    }
    if (cookie < DOTS) {
      if (!sink.fits(2)) return true;
      const parent = table.parent(slot);
      sink.addName('..', DOTS, table.ino(parent === NONE ? slot : parent), S_IFDIR);
      this.#reached = DOTS;
    }
    let after = this.#reached - DOTS;
    // Most rows are of one listing, and were seen at one time.
    let seenAt = Number.NaN;
    let valid = 0;
    for (;;) {
      const rows = metadata.entries(location, directory, after, ROWS_AT_ONCE);
      for (const row of rows) {
        const known = table.child(slot, row.name);
        const own = known !== NONE && nodes.inUse(known)?.holdsTruth === true;
        if (row.seenAt !== seenAt) {
          seenAt = row.seenAt;
          valid = nodes.validFor(seenAt, directory);
        }
        // Not heard of yet in this listing, and too old to be believed without.
        if (listing !== undefined && !own && !listing.has(row) && valid === 0) return false;
        if (!isUnknown(row) || own) {
          if (!sink.fits(row.name.length)) return true;
          this.#emitRow(slot, directory, known, own ? nodes.fullyValidIn(directory) : valid, row, sink, own);
        }
        after = row.position;
        this.#reached = after + DOTS;
      }
      if (rows.length < ROWS_AT_ONCE) return listing === undefined || (listing.over && listing.complete);
    }
  }

  #emitRow(
    parent: Slot,
    directory: string,
    known: Slot,
    valid: number,
    row: EntryRecord,
    sink: DirectorySink,
    own: boolean,
  ): void {
    const nodes = this.#nodes;
    const cookie = row.position + DOTS;
    const kind = row.kind === 'directory' ? 'directory' : 'file';
    if (!sink.wantsAttributes) {
      const mode = modeOf(kind, row.attributes, nodes.context) & S_IFMT;
      sink.addName(row.name, cookie, nodes.inodeNumber(parent, row), mode);
      return;
    }
    const entry = this.#entry;
    // What is not known for certain is not shown: the kernel looks the name up when somebody wants more than the name.
    if (isNameOnly(row) || (known === NONE && nodes.table.size >= nodes.options.listedNodes)) {
      entry.nodeId = 0;
      this.#scratch.ino = nodes.inodeNumber(parent, row);
      this.#scratch.mode = modeOf(kind, row.attributes, nodes.context);
      entry.attributes = this.#scratch;
    } else {
      const slot = own ? known : nodes.enter(parent, row.name, row);
      nodes.answer(slot, valid, entry, this.#scratch, row);
      if (!own) entry.attributesValid = this.#unknown.validFor(directory, row, valid);
      this.#valid = Math.min(this.#valid, entry.attributesValid);
    }
    sink.add(row.name, cookie, entry);
  }
}
