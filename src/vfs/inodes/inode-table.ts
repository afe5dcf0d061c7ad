/**
 * Nodes that the kernel knows, or that something here still needs: node id ↔ (parent, name), lookup counts, inode numbers.
 * Columns instead of objects: 49 bytes a node plus its name, whatever is known of a file beyond that lives in the metadata store.
 */
import { S_IFDIR } from '../attributes.js';
import type { ByteString, NodeId } from '../operations.js';

/** Index of a node in the columns; reused after the node is gone, unlike its node id. */
export type Slot = number;

/** No node; also the parent of a node that has lost its name. */
export const NONE: Slot = -1;

/** A further name of a node: hard links. */
export interface Name {
  readonly parent: Slot;
  readonly name: ByteString;
}

const FIRST_CAPACITY = 256;

export const ROOT_SLOT: Slot = 0;

export class InodeTable {
  #capacity = FIRST_CAPACITY;
  #ids = new Float64Array(FIRST_CAPACITY);
  #inos = new Float64Array(FIRST_CAPACITY);
  #parents = new Int32Array(FIRST_CAPACITY);
  #nameHashes = new Int32Array(FIRST_CAPACITY);
  #lookups = new Uint32Array(FIRST_CAPACITY);
  /** Children, and whoever pinned the node. */
  #references = new Uint32Array(FIRST_CAPACITY);
  /** Hash of the content version that the kernel may hold pages of; 0: none. */
  #versions = new Uint32Array(FIRST_CAPACITY);
  /** File type: the `S_IFMT` bits shifted down by twelve. */
  #types = new Uint8Array(FIRST_CAPACITY);
  #nextById = new Int32Array(FIRST_CAPACITY);
  #nextByName = new Int32Array(FIRST_CAPACITY);
  #headsById = new Int32Array(FIRST_CAPACITY).fill(NONE);
  #headsByName = new Int32Array(FIRST_CAPACITY).fill(NONE);
  readonly #names: (ByteString | undefined)[] = [];
  readonly #free: Slot[] = [];
  /** Names beyond the first, of hard links only; and the way back. */
  readonly #furtherNames = new Map<Slot, Name[]>();
  readonly #furtherSlots = new Map<string, Slot>();
  #used = 0;
  #nextId: NodeId;
  readonly #onFree: (slot: Slot) => void;

  /** `onFree`: the node is gone, whatever is kept by its slot must go. */
  constructor(root: NodeId, rootIno: number, onFree: (slot: Slot) => void) {
    this.#nextId = root;
    this.#onFree = onFree;
    const slot = this.#take(rootIno, S_IFDIR);
    this.#references[slot] = 1;
    this.#parents[slot] = slot;
  }

  get size(): number {
    return this.#used - this.#free.length;
  }

  find(id: NodeId): Slot {
    let slot = this.#headsById[id % this.#capacity] as Slot;
    while (slot !== NONE && this.#ids[slot] !== id) slot = this.#nextById[slot] as Slot;
    return slot;
  }

  child(parent: Slot, name: ByteString): Slot {
    const hash = hashName(parent, name);
    let slot = this.#headsByName[(hash >>> 0) % this.#capacity] as Slot;
    while (slot !== NONE) {
      if (this.#nameHashes[slot] === hash && this.#parents[slot] === parent && this.#names[slot] === name) {
        return slot;
      }
      slot = this.#nextByName[slot] as Slot;
    }
    return this.#furtherSlots.size === 0 ? NONE : (this.#furtherSlots.get(further(parent, name)) ?? NONE);
  }

  id(slot: Slot): NodeId {
    return this.#ids[slot] as NodeId;
  }
  ino(slot: Slot): number {
    return this.#inos[slot] as number;
  }
  /** The parent of the first name; NONE when the node has no name any more. */
  parent(slot: Slot): Slot {
    return this.#parents[slot] as Slot;
  }
  name(slot: Slot): ByteString {
    return this.#names[slot] ?? '';
  }
  /** The `S_IFMT` bits: a node never changes its type. */
  type(slot: Slot): number {
    return (this.#types[slot] as number) << 12;
  }
  isDirectory(slot: Slot): boolean {
    return this.type(slot) === S_IFDIR;
  }
  lookups(slot: Slot): number {
    return this.#lookups[slot] as number;
  }
  version(slot: Slot): number {
    return this.#versions[slot] as number;
  }
  setVersion(slot: Slot, version: number): void {
    this.#versions[slot] = version;
  }

  hasFurtherNames(slot: Slot): boolean {
    return this.#furtherNames.has(slot);
  }

  /** All names, the first one first; none for a node that was unlinked. */
  names(slot: Slot): readonly Name[] {
    const parent = this.parent(slot);
    if (parent === NONE) return [];
    const first = { parent, name: this.name(slot) };
    const rest = this.#furtherNames.get(slot);
    return rest === undefined ? [first] : [first, ...rest];
  }

  /** A node under a new node id. Nothing keeps it until it is looked up or pinned. */
  add(parent: Slot, name: ByteString, ino: number, mode: number): Slot {
    const slot = this.#take(ino, mode);
    this.#parents[slot] = NONE;
    if (parent !== NONE) this.addName(slot, parent, name);
    return slot;
  }

  addName(slot: Slot, parent: Slot, name: ByteString): void {
    this.#references[parent] = (this.#references[parent] as number) + 1;
    if (this.#parents[slot] === NONE) {
      this.#parents[slot] = parent;
      this.#names[slot] = name;
      this.#nameHashes[slot] = hashName(parent, name);
      this.#linkName(slot);
      return;
    }
    const rest = this.#furtherNames.get(slot);
    if (rest === undefined) this.#furtherNames.set(slot, [{ parent, name }]);
    else rest.push({ parent, name });
    this.#furtherSlots.set(further(parent, name), slot);
  }

  /** The node loses this name; when it was the first one, the next moves up. */
  removeName(slot: Slot, parent: Slot, name: ByteString): void {
    const rest = this.#furtherNames.get(slot);
    if (this.#parents[slot] === parent && this.#names[slot] === name) {
      this.#unlinkName(slot);
      this.#parents[slot] = NONE;
      this.#names[slot] = undefined;
      const next = rest?.shift();
      if (next !== undefined) {
        this.#furtherSlots.delete(further(next.parent, next.name));
        // addName counts the reference that the further name has already.
        this.#references[next.parent] = (this.#references[next.parent] as number) - 1;
        this.addName(slot, next.parent, next.name);
      }
    } else {
      const index = rest?.findIndex((other) => other.parent === parent && other.name === name) ?? -1;
      if (index < 0) return;
      rest?.splice(index, 1);
      this.#furtherSlots.delete(further(parent, name));
    }
    if (rest?.length === 0) this.#furtherNames.delete(slot);
    this.unpin(parent);
    this.#freeIfUnused(slot);
  }

  remember(slot: Slot): void {
    this.#lookups[slot] = (this.#lookups[slot] as number) + 1;
  }

  /** Takes lookups back; counts clamp at 0, an unknown node is nothing. */
  forget(id: NodeId, count: number): void {
    const slot = this.find(id);
    if (slot === NONE) return;
    this.#lookups[slot] = Math.max(0, (this.#lookups[slot] as number) - count);
    this.#freeIfUnused(slot);
  }

  pin(slot: Slot): void {
    this.#references[slot] = (this.#references[slot] as number) + 1;
  }
  unpin(slot: Slot): void {
    this.#references[slot] = (this.#references[slot] as number) - 1;
    this.#freeIfUnused(slot);
  }
  /** Ends a node that nothing needs: one that was added and not answered after all. */
  release(slot: Slot): void {
    this.#freeIfUnused(slot);
  }

  #take(ino: number, mode: number): Slot {
    const slot = this.#free.pop() ?? this.#used;
    if (slot === this.#used) {
      if (slot === this.#capacity) this.#grow();
      this.#used = slot + 1;
    }
    this.#ids[slot] = this.#nextId++;
    this.#inos[slot] = ino;
    this.#types[slot] = mode >>> 12;
    this.#lookups[slot] = 0;
    this.#references[slot] = 0;
    this.#versions[slot] = 0;
    this.#linkId(slot);
    return slot;
  }

  #freeIfUnused(slot: Slot): void {
    let current = slot;
    while (this.#lookups[current] === 0 && this.#references[current] === 0) {
      const parent = this.#parents[current] as Slot;
      const rest = this.#furtherNames.get(current);
      if (parent !== NONE) this.#unlinkName(current);
      this.#unlinkId(current);
      this.#names[current] = undefined;
      this.#parents[current] = NONE;
      this.#ids[current] = -1;
      this.#onFree(current);
      this.#free.push(current);
      if (rest !== undefined) {
        this.#furtherNames.delete(current);
        for (const other of rest) {
          this.#furtherSlots.delete(further(other.parent, other.name));
          this.unpin(other.parent);
        }
      }
      if (parent === NONE) return;
      this.#references[parent] = (this.#references[parent] as number) - 1;
      current = parent;
    }
  }

  #linkId(slot: Slot): void {
    const bucket = (this.#ids[slot] as number) % this.#capacity;
    this.#nextById[slot] = this.#headsById[bucket] as Slot;
    this.#headsById[bucket] = slot;
  }
  #unlinkId(slot: Slot): void {
    unchain(this.#headsById, this.#nextById, (this.#ids[slot] as number) % this.#capacity, slot);
  }
  #linkName(slot: Slot): void {
    const bucket = ((this.#nameHashes[slot] as number) >>> 0) % this.#capacity;
    this.#nextByName[slot] = this.#headsByName[bucket] as Slot;
    this.#headsByName[bucket] = slot;
  }
  #unlinkName(slot: Slot): void {
    const bucket = ((this.#nameHashes[slot] as number) >>> 0) % this.#capacity;
    unchain(this.#headsByName, this.#nextByName, bucket, slot);
  }

  #grow(): void {
    const capacity = this.#capacity * 2;
    this.#capacity = capacity;
    this.#ids = copyInto(new Float64Array(capacity), this.#ids);
    this.#inos = copyInto(new Float64Array(capacity), this.#inos);
    this.#parents = copyInto(new Int32Array(capacity), this.#parents);
    this.#nameHashes = copyInto(new Int32Array(capacity), this.#nameHashes);
    this.#lookups = copyInto(new Uint32Array(capacity), this.#lookups);
    this.#references = copyInto(new Uint32Array(capacity), this.#references);
    this.#versions = copyInto(new Uint32Array(capacity), this.#versions);
    this.#types = copyInto(new Uint8Array(capacity), this.#types);
    this.#nextById = new Int32Array(capacity);
    this.#nextByName = new Int32Array(capacity);
    this.#headsById = new Int32Array(capacity).fill(NONE);
    this.#headsByName = new Int32Array(capacity).fill(NONE);
    for (let slot = 0; slot < this.#used; slot++) {
      if (this.#ids[slot] === -1) continue;
      this.#linkId(slot);
      if (this.#names[slot] !== undefined) this.#linkName(slot);
    }
  }
}

function copyInto<T extends Float64Array | Int32Array | Uint32Array | Uint8Array>(to: T, from: T): T {
  to.set(from);
  return to;
}

function unchain(heads: Int32Array, next: Int32Array, bucket: number, slot: Slot): void {
  let current = heads[bucket] as Slot;
  if (current === slot) {
    heads[bucket] = next[slot] as Slot;
    return;
  }
  while (next[current] !== slot) current = next[current] as Slot;
  next[current] = next[slot] as Slot;
}

const further = (parent: Slot, name: ByteString): string => `${parent}/${name}`;

function hashName(parent: Slot, name: ByteString): number {
  let hash = Math.imul(parent ^ 0x9e3779b9, 0x85ebca6b);
  for (let index = 0; index < name.length; index++) {
    hash = Math.imul(hash ^ name.charCodeAt(index), 0x01000193);
  }
  return hash ^ (hash >>> 15);
}
