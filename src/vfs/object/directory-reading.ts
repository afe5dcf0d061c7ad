/** Reading directories: open handles, and rows into the entries of a reply. */
import type { EntryRecord } from '../../metadata/contract.js';
import { Attributes, S_IFDIR, S_IFMT } from '../attributes.js';
import { type Answer, type DirectorySink, EntryReply, type Handle } from '../operations.js';
import { modeOf } from './attributes-of.js';
import { NONE, type Slot } from './inode-table.js';
import type { Listings } from './listings.js';
import type { Nodes } from './nodes.js';
import { isNameOnly, isUnknown } from './records.js';

/** Nodes beyond which listings stop adding more: the kernel looks up what it needs. */
const NODES_FROM_LISTINGS = 200_000;
const ROWS_AT_ONCE = 256;
/** Cookies 1 and 2 are `.` and `..`; a row's is its position + 2. */
const DOTS = 2;

export class DirectoryReading {
  readonly #nodes: Nodes;
  readonly #listings: Listings;
  readonly #handles = new Map<Handle, { ready: boolean }>();
  #nextHandle: Handle = 1;
  readonly #scratch = new Attributes();
  readonly #entry = new EntryReply();

  constructor(nodes: Nodes, listings: Listings) {
    this.#nodes = nodes;
    this.#listings = listings;
  }

  opendir(): Handle {
    const handle = this.#nextHandle++;
    this.#handles.set(handle, { ready: false });
    return handle;
  }

  releasedir(handle: Handle): void {
    this.#handles.delete(handle);
  }

  readdir(slot: Slot, handle: Handle, cookie: number, sink: DirectorySink): Answer<void> {
    const open = this.#handles.get(handle);
    const directory = this.#nodes.directoryKeyIfAny(slot);
    if (directory === undefined) return undefined;
    if ((cookie === 0 || open?.ready !== true) && !this.#listings.isComplete(directory)) {
      return this.#listings.refresh(slot).then(() => {
        if (open !== undefined) open.ready = true;
        this.#emit(slot, this.#nodes.directoryKeyIfAny(slot) ?? directory, cookie, sink);
      });
    }
    if (open !== undefined) open.ready = true;
    this.#emit(slot, directory, cookie, sink);
    return undefined;
  }

  #emit(slot: Slot, directory: string, cookie: number, sink: DirectorySink): void {
    const nodes = this.#nodes;
    const { table, metadata, location } = nodes;
    if (cookie < 1) {
      if (!sink.fits(1)) return;
      sink.addName('.', 1, table.ino(slot), S_IFDIR);
    }
    if (cookie < DOTS) {
      if (!sink.fits(2)) return;
      const parent = table.parent(slot);
      sink.addName('..', DOTS, table.ino(parent === NONE ? slot : parent), S_IFDIR);
    }
    let after = Math.max(0, cookie - DOTS);
    for (;;) {
      const rows = metadata.entries(location, directory, after, ROWS_AT_ONCE);
      for (const row of rows) {
        if (!this.#emitRow(slot, row, sink)) return;
        after = row.position;
      }
      if (rows.length < ROWS_AT_ONCE) return;
    }
  }

  /** False: the reply is full. */
  #emitRow(parent: Slot, row: EntryRecord, sink: DirectorySink): boolean {
    const nodes = this.#nodes;
    const known = nodes.table.child(parent, row.name);
    const own = known !== NONE && nodes.inUse(known)?.holdsTruth === true;
    if (isUnknown(row) && !own) return true;
    if (!sink.fits(row.name.length)) return false;
    const cookie = row.position + DOTS;
    const kind = row.kind === 'directory' ? 'directory' : 'file';
    if (!sink.wantsAttributes) {
      const mode = modeOf(kind, row.attributes, nodes.context) & S_IFMT;
      sink.addName(row.name, cookie, nodes.inodeNumber(parent, row), mode);
      return true;
    }
    const entry = this.#entry;
    // What is not known for certain is not shown: the kernel looks the name up when somebody wants more than the name.
    if (isNameOnly(row) || (known === NONE && nodes.table.size >= NODES_FROM_LISTINGS)) {
      entry.nodeId = 0;
      this.#scratch.ino = nodes.inodeNumber(parent, row);
      this.#scratch.mode = modeOf(kind, row.attributes, nodes.context);
      entry.attributes = this.#scratch;
    } else {
      const slot = own ? known : nodes.enter(parent, row.name, row);
      nodes.answer(slot, own ? nodes.fullyValid : nodes.validFor(row.seenAt), entry, this.#scratch);
    }
    sink.add(row.name, cookie, entry);
    return true;
  }
}
