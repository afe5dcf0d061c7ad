/**
 * From paths to node ids: the dentries that the kernel would keep, which libfuse's path interface hides from us.
 * A dentry is keyed by its parent's node id and its name, so renaming a directory moves nothing, and it owns exactly one
 * count of its node's lookups, which `forget` takes back when the dentry is dropped and nobody holds it any more.
 */
import { errno } from '../../errors/errno.js';
import { MirageError } from '../../errors/mirage-error.js';
import {
  type ByteString,
  type Call,
  EntryReply,
  type FileSystem,
  type NodeId,
  ROOT,
} from '../../vfs/operations.js';

/** A node that is in use; whoever holds one gives it back with `release`. */
export interface HeldNode {
  readonly node: NodeId;
}

class Dentry implements HeldNode {
  /** Monotonic milliseconds until which name → node needs no asking. */
  validTo = 0;
  holds = 0;
  /** In the cache: it keeps its lookup count even without holders. */
  cached = true;
  constructor(readonly node: NodeId) {}
}

export interface NewEntry {
  readonly nodeId: NodeId;
  /** Nanoseconds. */
  readonly entryValid: number;
}

export class DentryCache {
  readonly #fileSystem: FileSystem;
  readonly #limit: number;
  readonly #now: () => number;
  /** Least recently used first. */
  readonly #dentries = new Map<string, Dentry>();
  readonly #root = new Dentry(ROOT);

  /** `limit` bounds the cached dentries; `now` is monotonic milliseconds. */
  constructor(fileSystem: FileSystem, limit: number, now: () => number) {
    this.#fileSystem = fileSystem;
    this.#limit = limit;
    this.#now = now;
  }

  get size(): number {
    return this.#dentries.size;
  }

  /** Walks a path; the node is held until `release`. `fresh` asks for every name again. Throws what a lookup answers. */
  async resolve(call: Call, path: readonly ByteString[], fresh: boolean): Promise<HeldNode> {
    let current = this.#hold(this.#root);
    for (const name of path) {
      try {
        const next = await this.#child(call, current.node, name, fresh);
        this.release(current);
        current = next;
      } catch (error) {
        this.release(current);
        throw error;
      }
    }
    return current;
  }

  /** Takes over the lookup count of an entry that an operation answered with. The node is not held yet. */
  add(parent: NodeId, name: ByteString, entry: NewEntry): HeldNode {
    const key = `${parent}/${name}`;
    this.#drop(key);
    const dentry = new Dentry(entry.nodeId);
    dentry.validTo = this.#now() + entry.entryValid / 1e6;
    this.#dentries.set(key, dentry);
    this.#shrink();
    return dentry;
  }

  /** The name means something else now. Holders keep their node. */
  drop(parent: NodeId, name: ByteString): void {
    this.#drop(`${parent}/${name}`);
  }

  release(held: HeldNode): void {
    const dentry = held as Dentry;
    dentry.holds--;
    if (dentry.holds === 0 && !dentry.cached) this.#fileSystem.forget(dentry.node, 1);
  }

  /** Another reason to keep a node that is held already. */
  hold(held: HeldNode): HeldNode {
    return this.#hold(held as Dentry);
  }

  clear(): void {
    for (const key of [...this.#dentries.keys()]) this.#drop(key);
  }

  async #child(call: Call, parent: NodeId, name: ByteString, fresh: boolean): Promise<Dentry> {
    const key = `${parent}/${name}`;
    const known = this.#dentries.get(key);
    if (known !== undefined && !fresh && this.#now() < known.validTo) {
      this.#dentries.delete(key);
      this.#dentries.set(key, known);
      return this.#hold(known);
    }
    const reply = new EntryReply();
    await this.#fileSystem.lookup(call, parent, name, reply);
    if (reply.errno !== 0 || reply.nodeId === 0) {
      this.#drop(key);
      throw MirageError.system('lookup', reply.errno || errno.ENOENT);
    }
    // Somebody may have looked the same name up meanwhile: the count that is too many goes back.
    const present = this.#dentries.get(key);
    if (present !== undefined && present.node === reply.nodeId) {
      this.#fileSystem.forget(reply.nodeId, 1);
      present.validTo = this.#now() + reply.entryValid / 1e6;
      return this.#hold(present);
    }
    this.#drop(key);
    const dentry = this.#hold(new Dentry(reply.nodeId));
    dentry.validTo = this.#now() + reply.entryValid / 1e6;
    this.#dentries.set(key, dentry);
    this.#shrink();
    return dentry;
  }

  #hold(dentry: Dentry): Dentry {
    dentry.holds++;
    return dentry;
  }

  #drop(key: string): void {
    const dentry = this.#dentries.get(key);
    if (dentry === undefined) return;
    this.#dentries.delete(key);
    dentry.cached = false;
    if (dentry.holds === 0) this.#fileSystem.forget(dentry.node, 1);
  }

  #shrink(): void {
    while (this.#dentries.size > this.#limit) {
      const oldest = this.#dentries.keys().next();
      if (oldest.done === true) return;
      this.#drop(oldest.value);
    }
  }
}
