/**
 * Directories whose listing the kernel keeps (FOPEN_CACHE_DIR): it reads them again without a request. A listing counts as long as no name in it has
 * changed and the attributes that came with it are valid: after that a walk would cost a request for each entry, instead of one for a hundred.
 * The kernel itself drops a listing when it changes the directory, and asks (OPENDIR) before it uses one for another program.
 */
import type { Clock } from '../../clock/clock.js';
import type { ListingState } from '../../metadata/contract.js';
import type { KernelNotifier, NodeId, OpenReply } from '../operations.js';

/** Of the oldest beyond these the kernel is told to drop its listing. */
const LIMIT = 10_000;
/** Attributes must be valid for so long, milliseconds, that they are still when a walk comes to its end. */
const WALK = 100;
const NANOSECONDS = 1e6;

/** A listing that the kernel may have. */
export interface Kept {
  readonly node: NodeId;
  /** Since the first program began to read: what the kernel has is right, as far as it goes. */
  order: number;
  /** All names, when a program had read them to the end; undefined: none has yet. */
  names: number | undefined;
  /** Monotonic time, milliseconds, when the first of the attributes are not valid any more. */
  until: number;
  /** Open handles that may read it without a request, from its start again as well. */
  handles: number;
}

export class KernelListings {
  readonly #notifier: KernelNotifier;
  readonly #clock: Clock;
  readonly #kept = new Map<NodeId, Kept>();
  #expiry: NodeJS.Timeout | undefined;
  /** Monotonic time of it, milliseconds. */
  #expiresAt = Number.POSITIVE_INFINITY;

  constructor(notifier: KernelNotifier, clock: Clock) {
    this.#notifier = notifier;
    this.#clock = clock;
  }

  /** A program opens the directory; says in the reply what the kernel may do. `fresh`: the listing is complete and valid. */
  opened(node: NodeId, state: ListingState, fresh: boolean, reply: OpenReply): Kept | undefined {
    const kept = this.#kept.get(node);
    if (kept !== undefined && !this.#holds(kept, state, fresh)) {
      // Linux 6.9 to 6.12 use the old listing also where they are told not to keep it: this time it is read past the kernel.
      this.forget(node);
      return undefined;
    }
    reply.cacheDirectory = true;
    reply.keepCache = kept !== undefined;
    if (kept !== undefined) return this.#uses(kept);
    const begun = { node, order: state.order, names: undefined, until: Number.POSITIVE_INFINITY, handles: 0 };
    this.#kept.set(node, begun);
    if (this.#kept.size > LIMIT) {
      for (const oldest of this.#kept.keys()) {
        this.forget(oldest);
        break;
      }
    }
    return this.#uses(begun);
  }

  #uses(kept: Kept): Kept {
    kept.handles++;
    this.#watch(kept.until);
    return kept;
  }

  #holds({ order, names, until }: Kept, state: ListingState, fresh: boolean): boolean {
    if (order !== state.order || until - this.#clock.monotonic() < WALK) return false;
    return names === undefined || (names === state.names && fresh);
  }

  /** A program begins to read it, and a listing may have begun for it. */
  began(kept: Kept, { order }: ListingState): void {
    if (kept.until === Number.POSITIVE_INFINITY) kept.order = order;
  }

  /** A program was given entries whose attributes are valid for `valid` nanoseconds at least. */
  read(kept: Kept, valid: number): void {
    kept.until = Math.min(kept.until, this.#clock.monotonic() + valid / NANOSECONDS);
  }

  /** It was told that there are no more; the listing is valid for `valid` nanoseconds. */
  ended(kept: Kept, { order, names }: ListingState, valid: number): void {
    if (this.#kept.get(kept.node) !== kept || kept.order !== order) {
      this.forget(kept.node);
      return;
    }
    kept.names = names;
    this.read(kept, valid);
    this.#watch(kept.until);
  }

  closed(kept: Kept): void {
    kept.handles--;
  }

  /** What the kernel has of the directory is not right any more. */
  forget(node: NodeId): void {
    this.#kept.delete(node);
    this.#notifier.invalidateNode(node, 0, 0);
  }

  close(): void {
    clearTimeout(this.#expiry);
    this.#expiry = undefined;
    this.#expiresAt = Number.POSITIVE_INFINITY;
    this.#kept.clear();
  }

  /** Whoever goes back to the start of a directory that he has open is not heard of: the listing ends with its time then. */
  #watch(until: number): void {
    if (until >= this.#expiresAt) return;
    clearTimeout(this.#expiry);
    this.#expiresAt = until;
    this.#expiry = setTimeout(() => this.#expire(), Math.max(1, until - this.#clock.monotonic()));
    this.#expiry.unref();
  }

  #expire(): void {
    this.#expiresAt = Number.POSITIVE_INFINITY;
    const now = this.#clock.monotonic();
    let next = Number.POSITIVE_INFINITY;
    for (const kept of this.#kept.values()) {
      if (kept.handles === 0) continue;
      if (kept.until <= now) this.forget(kept.node);
      else next = Math.min(next, kept.until);
    }
    this.#watch(next);
  }
}
