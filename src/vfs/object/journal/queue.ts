/**
 * The order of what is still to be done at a store: intents of one key one after the other, of a directory after everything below it that
 * was asked for before, all others together, as many as `parallel` allows.
 */
import type { Timers } from '../../../clock/timers.js';
import { MirageError } from '../../../errors/mirage-error.js';
import { type Coalesced, coalesce } from './coalesce.js';
import { type Intent, isDirectoryIntent, isWithin, keysOf, parentOf } from './intent.js';

export interface Work {
  readonly sequence: number;
  readonly intent: Intent;
  /** Something of it may have been done: by an attempt that failed, or in an earlier life of the daemon. */
  readonly begun: boolean;
}

/** How one attempt ended. */
export type Outcome =
  | { readonly kind: 'done' }
  /** To be tried again: `everything` waits where it is the store that does not answer. */
  | { readonly kind: 'failed'; readonly error: MirageError; readonly everything: boolean };

export interface QueueOptions {
  readonly parallel: number;
  /** Removals that may be under way beside those: they go many in one request. */
  readonly removals: number;
  /** Directories must exist before what is in them. */
  readonly strictDirectories: boolean;
  readonly timers: Timers;
  readonly nextSequence: () => number;
  /** Must not reject. */
  readonly carryOut: (work: Work) => Promise<Outcome>;
}

export interface Change {
  readonly drop: readonly Work[];
  readonly add: readonly Work[];
}

interface Entry extends Work {
  intent: Intent;
  readonly blockers: Set<Entry>;
  readonly followers: Set<Entry>;
  begun: boolean;
  state: 'waiting' | 'running' | 'gone';
  attempts: number;
  /** Who writes on is to commit again first. */
  held: boolean;
  /** Waits for a moment, or for its next attempt. */
  resting: { cancel(): void } | undefined;
  problem: MirageError | undefined;
  whenGone: (() => void)[];
}

/** Milliseconds from a failure to the next attempt: doubled each time up to the longest. */
const FIRST_PAUSE = 1000;
const LONGEST_PAUSE = 60_000;

export class Queue {
  readonly #options: QueueOptions;
  readonly #entries = new Map<number, Entry>();
  readonly #byKey = new Map<string, Set<Entry>>();
  readonly #byParent = new Map<string, Set<Entry>>();
  readonly #trees = new Set<Entry>();
  readonly #ready = new Set<Entry>();
  readonly #readyRemovals = new Set<Entry>();
  #running = 0;
  #removing = 0;
  #paused: { cancel(): void } | undefined;
  #pause = FIRST_PAUSE;
  #stopped = false;
  #waitingForRest: (() => void)[] = [];

  constructor(options: QueueOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#entries.size;
  }

  /** In the order in which they were accepted. */
  *all(): IterableIterator<Work & { readonly problem: MirageError | undefined }> {
    yield* this.#entries.values();
  }

  /** What is to be done at a key, oldest first. */
  at(key: string): readonly Work[] {
    const entries = this.#byKey.get(key);
    return entries === undefined ? [] : [...entries];
  }

  /** What is to be done directly in a directory. */
  in(directory: string): readonly Work[] {
    const entries = this.#byParent.get(directory);
    return entries === undefined ? [] : [...entries];
  }

  /** Directories on the move, oldest first. */
  get trees(): readonly Work[] {
    return this.#trees.size === 0 ? [] : [...this.#trees];
  }

  /**
   * Takes an intent in. `note` is told what that makes of the queue, in time to refuse by throwing. `rest`: milliseconds that the
   * work waits for more of its kind.
   */
  add(intent: Intent, note: (change: Change) => void, rest = 0): readonly Work[] {
    const last = this.#replaceable(intent.key);
    const source = intent.kind === 'copy' ? this.#replaceable(intent.from) : undefined;
    const coalesced: Coalesced = coalesce(intent, {
      last: last === 'busy' ? last : last?.intent,
      source: source === 'busy' ? source : source?.intent,
      below: this.#byParent.has(intent.key),
    });
    const drop = coalesced.drops.map((which) => (which === 'last' ? last : source) as Entry);
    const add = coalesced.intents.map((each) => this.#entry(this.#options.nextSequence(), each, false));
    note({ drop, add });
    // Who holds the bytes back, or waits for them, means what takes their place.
    for (const entry of drop) {
      const [heir] = add;
      if (heir === undefined || entry.intent.kind !== 'put') continue;
      heir.held ||= entry.held && intent.kind !== 'put';
      heir.whenGone.push(...entry.whenGone.splice(0));
    }
    for (const entry of drop) this.#remove(entry);
    for (const entry of add) {
      if (rest > 0) this.#restFor(entry, rest);
      this.#insert(entry);
    }
    this.#pump();
    return add;
  }

  /** Takes in what an earlier life of the daemon left. */
  recover(sequence: number, intent: Intent): void {
    this.#insert(this.#entry(sequence, intent, true));
  }

  start(): void {
    this.#pump();
  }

  stateOf(sequence: number): 'untouched' | 'begun' | 'running' | 'gone' {
    const entry = this.#entries.get(sequence);
    if (entry === undefined) return 'gone';
    if (entry.state === 'running') return 'running';
    return entry.begun ? 'begun' : 'untouched';
  }

  /** Keeps a work back until it is replaced, or released. */
  hold(sequence: number): void {
    const entry = this.#entries.get(sequence);
    if (entry !== undefined) entry.held = true;
  }

  /** Nothing more is to be expected that a work would have to wait for. */
  release(sequence: number): void {
    const entry = this.#entries.get(sequence);
    if (entry === undefined) return;
    entry.held = false;
    if (!entry.begun) this.#wake(entry);
    this.#pump();
  }

  /** Those that wait for a work may say what they wait for in other words. Returns the ones that do. */
  reword(sequence: number, reworded: (intent: Intent) => Intent): readonly Work[] {
    const changed: Entry[] = [];
    for (const follower of this.#entries.get(sequence)?.followers ?? []) {
      const intent = reworded(follower.intent);
      if (intent === follower.intent) continue;
      follower.intent = intent;
      changed.push(follower);
    }
    return changed;
  }

  /** Resolves when a work is done or was taken back. */
  gone(sequence: number): Promise<void> {
    const entry = this.#entries.get(sequence);
    if (entry === undefined) return Promise.resolve();
    return new Promise((resolve) => entry.whenGone.push(resolve));
  }

  /**
   * Tries everything now. Resolves when nothing is left or nothing more can be done for the moment; what is left then has failed, or
   * waits for what has.
   */
  drain(): Promise<void> {
    this.#paused?.cancel();
    this.#paused = undefined;
    for (const entry of this.#entries.values()) this.#wake(entry);
    const rested = new Promise<void>((resolve) => this.#waitingForRest.push(resolve));
    this.#pump();
    return rested;
  }

  /** The same for what overlaps one key. Rejects with the reason where it cannot be done now. */
  async settle(key: string): Promise<void> {
    if (this.#entries.size === 0) return;
    const wanted = [...this.#entries.values()].filter((entry) =>
      keysOf(entry.intent).some(
        (own) => isWithin(own, key) || (isDirectoryIntent(entry.intent) && isWithin(key, own)),
      ),
    );
    for (const entry of wanted) this.#wake(entry);
    this.#paused?.cancel();
    this.#paused = undefined;
    const gone = Promise.all(wanted.map((entry) => this.gone(entry.sequence)));
    const stuck = new Promise<void>((resolve) => this.#waitingForRest.push(resolve));
    this.#pump();
    await Promise.race([gone, stuck]);
    const left = wanted.find((entry) => this.#entries.has(entry.sequence));
    if (left !== undefined)
      throw left.problem ?? new MirageError(`${key} is not stored yet`, { errno: 'EIO' });
  }

  /** Begins nothing more; resolves when what is under way has ended. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#paused?.cancel();
    for (const entry of this.#entries.values()) entry.resting?.cancel();
    while (this.#running > 0) await new Promise<void>((resolve) => this.#waitingForRest.push(resolve));
  }

  #entry(sequence: number, intent: Intent, begun: boolean): Entry {
    return {
      sequence,
      intent,
      begun,
      blockers: new Set(),
      followers: new Set(),
      state: 'waiting',
      attempts: 0,
      held: false,
      resting: undefined,
      problem: undefined,
      whenGone: [],
    };
  }

  /** The newest work at a key, where nothing depends on it and nothing of it can have happened. */
  #replaceable(key: string): Entry | 'busy' | undefined {
    const entries = this.#byKey.get(key);
    if (entries === undefined) return undefined;
    let last: Entry | undefined;
    for (const entry of entries) last = entry;
    if (last === undefined) return undefined;
    const untouched = last.state === 'waiting' && !last.begun;
    return untouched && last.followers.size === 0 && last.intent.key === key ? last : 'busy';
  }

  #insert(entry: Entry): void {
    for (const other of this.#overlapping(entry.intent)) {
      other.followers.add(entry);
      entry.blockers.add(other);
    }
    this.#entries.set(entry.sequence, entry);
    for (const key of keysOf(entry.intent)) {
      addTo(this.#byKey, key, entry);
      addTo(this.#byParent, parentOf(key), entry);
    }
    if (entry.intent.kind === 'moveTree') this.#trees.add(entry);
    if (entry.blockers.size === 0) this.#readyOf(entry).add(entry);
  }

  *#overlapping(intent: Intent): IterableIterator<Entry> {
    if (intent.kind === 'moveTree') {
      for (const entry of this.#entries.values()) {
        const keys = keysOf(entry.intent);
        const touches = (directory: string): boolean =>
          keys.some(
            (key) =>
              isWithin(key, directory) || (isDirectoryIntent(entry.intent) && isWithin(directory, key)),
          );
        if (touches(intent.key) || touches(intent.from)) yield entry;
      }
      return;
    }
    for (const key of keysOf(intent)) {
      yield* this.#byKey.get(key) ?? [];
      for (let above = parentOf(key); above !== ''; above = parentOf(above)) {
        for (const entry of this.#byKey.get(above) ?? []) {
          const { kind } = entry.intent;
          if (kind === 'makeDirectory' ? this.#options.strictDirectories : isDirectoryIntent(entry.intent))
            yield entry;
        }
      }
      if (intent.kind === 'removeDirectory') yield* this.#byParent.get(key) ?? [];
    }
  }

  #remove(entry: Entry): void {
    entry.state = 'gone';
    entry.resting?.cancel();
    this.#entries.delete(entry.sequence);
    this.#readyOf(entry).delete(entry);
    this.#trees.delete(entry);
    for (const key of keysOf(entry.intent)) {
      removeFrom(this.#byKey, key, entry);
      removeFrom(this.#byParent, parentOf(key), entry);
    }
    for (const blocker of entry.blockers) blocker.followers.delete(entry);
    for (const follower of entry.followers) {
      follower.blockers.delete(entry);
      if (follower.blockers.size === 0) this.#readyOf(follower).add(follower);
    }
    for (const tell of entry.whenGone) tell();
  }

  #pump(): void {
    if (this.#stopped || this.#paused !== undefined) {
      this.#tellRest();
      return;
    }
    this.#begin(this.#ready, () => this.#running - this.#removing < this.#options.parallel);
    this.#begin(this.#readyRemovals, () => this.#removing < this.#options.removals);
    this.#tellRest();
  }

  #begin(ready: Set<Entry>, hasRoom: () => boolean): void {
    for (const entry of ready) {
      if (!hasRoom()) return;
      if (entry.held || entry.resting !== undefined) continue;
      ready.delete(entry);
      entry.state = 'running';
      this.#running++;
      if (entry.intent.kind === 'remove') this.#removing++;
      void this.#options.carryOut(entry).then((outcome) => this.#ended(entry, outcome));
    }
  }

  #readyOf({ intent }: Entry): Set<Entry> {
    return intent.kind === 'remove' ? this.#readyRemovals : this.#ready;
  }

  #ended(entry: Entry, outcome: Outcome): void {
    this.#running--;
    if (entry.intent.kind === 'remove') this.#removing--;
    if (outcome.kind === 'done') {
      this.#pause = FIRST_PAUSE;
      this.#remove(entry);
    } else {
      entry.state = 'waiting';
      entry.attempts++;
      entry.begun = true;
      entry.problem = outcome.error;
      this.#readyOf(entry).add(entry);
      if (outcome.everything) this.#pauseAll();
      else this.#restFor(entry, Math.min(FIRST_PAUSE * 2 ** entry.attempts, LONGEST_PAUSE));
    }
    this.#pump();
  }

  #pauseAll(): void {
    if (this.#paused !== undefined || this.#stopped) return;
    this.#paused = this.#options.timers.after(this.#pause, () => {
      this.#paused = undefined;
      this.#pump();
    });
    this.#pause = Math.min(this.#pause * 2, LONGEST_PAUSE);
  }

  #restFor(entry: Entry, milliseconds: number): void {
    entry.resting?.cancel();
    if (this.#stopped) return;
    entry.resting = this.#options.timers.after(milliseconds, () => {
      entry.resting = undefined;
      this.#pump();
    });
  }

  #wake(entry: Entry): void {
    entry.resting?.cancel();
    entry.resting = undefined;
  }

  /** Nothing is under way, and nothing can be begun. */
  #tellRest(): void {
    if (this.#running > 0 || this.#waitingForRest.length === 0) return;
    const waiting = this.#waitingForRest;
    this.#waitingForRest = [];
    for (const tell of waiting) tell();
  }
}

function addTo(index: Map<string, Set<Entry>>, key: string, entry: Entry): void {
  const entries = index.get(key);
  if (entries === undefined) index.set(key, new Set([entry]));
  else entries.add(entry);
}

function removeFrom(index: Map<string, Set<Entry>>, key: string, entry: Entry): void {
  const entries = index.get(key);
  entries?.delete(entry);
  if (entries?.size === 0) index.delete(key);
}
