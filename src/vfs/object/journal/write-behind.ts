/**
 * The store of one mount as its volume sees it while changes are on their way. With `async` a change is answered when the journal has it
 * on the disk, and carried out behind; with `close` it is answered by the store, and the journal knows what was begun. Either way
 * what an earlier life of the daemon left is seen at once and carried out.
 */
import { randomUUID } from 'node:crypto';
import type {
  Capabilities,
  ListPage,
  ObjectInfo,
  Precondition,
  Removal,
  StoredAttributes,
  Timestamp,
  Validator,
} from '../../../backends/contract.js';
import type { Clock } from '../../../clock/clock.js';
import type { Timers } from '../../../clock/timers.js';
import { MirageError } from '../../../errors/mirage-error.js';
import type { Log } from '../../../log/log.js';
import type { Journal } from '../../../metadata/journal.js';
import type {
  CommitRequest,
  CopyRequest,
  Fetched,
  FetchRequest,
  MountIndex,
  StoreFeatures,
  StorePort,
} from '../../../ports/store-port.js';
import { CarryOut, intentName } from './carry-out.js';
import {
  attributesNonce,
  futureOf,
  type Intent,
  intentSchema,
  isOf,
  type PutIntent,
  provisional,
} from './intent.js';
import type { Outcomes } from './outcomes.js';
import { PendingView } from './pending-view.js';
import { type Change, Queue, type Work } from './queue.js';
import { StagedBytes } from './staged-bytes.js';
import { TreeMover } from './tree-mover.js';
import { Versions } from './versions.js';

/** Changes carried out at the same time, for one mount. */
const PARALLEL = 48;
/** Removals beside those: they go together in few requests. */
const REMOVALS = 4000;
/** How long the bytes of a file that is still open wait for more of them, milliseconds; its release ends that. */
const OPEN_REST = 2000;
/** How long the end of a mount waits for what is under way, milliseconds. */
const CLOSING = 5000;
/** Up to this size, bytes, the journal itself has the bytes of a file, too: one sync instead of three. */
const INLINE = 64 * 1024;
/** How long attributes alone wait for more of them, milliseconds. */
const ATTRIBUTES_REST = 1000;

export interface WriteBehindParts {
  readonly port: StorePort;
  readonly mount: MountIndex;
  /** What is mounted: its records are told from those of other mounts by it. */
  readonly identity: string;
  readonly journal: Journal;
  /** Folder of the staged bytes, on the disk of the cache. */
  readonly directory: string;
  /** When a change is answered: by the store, or when the journal has it. */
  readonly answers: 'close' | 'async';
  /** Bytes that may wait, beyond which writers do. */
  readonly limit: number;
  /** False: the last writer wins, whatever is there. */
  readonly conditional: boolean;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: Log;
}

/** A change that is made at the store itself while the journal knows of it. */
export interface Begun {
  /** It is done, or undone. */
  end(): void;
}

export class WriteBehind implements StorePort {
  readonly async: boolean;
  readonly #parts: WriteBehindParts;
  readonly #port: StorePort;
  readonly #mount: MountIndex;
  readonly #bytes: StagedBytes;
  readonly #versions: Versions;
  readonly #queue: Queue;
  readonly #view: PendingView;
  readonly #capabilities: Capabilities;
  #carryOut: CarryOut | undefined;
  /** Bytes of all files that wait. */
  #staged = 0;
  /** Works by the name of the bytes that they send. */
  readonly #sequences = new Map<string, number>();
  #whenLess: (() => void)[] = [];

  constructor(parts: WriteBehindParts) {
    const { port, mount, journal, identity, timers, log } = parts;
    this.#parts = parts;
    this.#port = port;
    this.#mount = mount;
    this.async = parts.answers === 'async';
    this.#bytes = new StagedBytes(parts.directory);
    this.#versions = new Versions(port, mount);
    const capabilities = port.capabilities(mount);
    this.#queue = new Queue({
      parallel: PARALLEL,
      removals: REMOVALS,
      strictDirectories: capabilities.directories === 'real',
      timers,
      nextSequence: () => journal.nextSequence(),
      carryOut: async (work) => {
        const outcome = await (this.#carryOut as CarryOut).run(work);
        if (outcome.kind === 'done') this.#done(work);
        return outcome;
      },
    });
    this.#view = new PendingView(port, mount, this.#queue, this.#versions, this.#bytes);
    // Behind the journal the strongest way there is is taken; what is promised to the volume is the same for all.
    const all = { copyAbsent: true, removeMatch: true };
    this.#capabilities = this.async
      ? { ...capabilities, preconditions: { ...capabilities.preconditions, ...all } }
      : capabilities;
    for (const record of journal.recordsOf(identity)) {
      const parsed = intentSchema.safeParse(record.intent);
      if (!parsed.success) {
        throw new MirageError('the journal holds a change that this version does not know', {
          errno: 'EINVAL',
          hint: 'start the version of Mirage that wrote it',
          cause: parsed.error,
        });
      }
      this.#queue.recover(record.sequence, parsed.data);
      if (parsed.data.kind === 'put') this.#staged += parsed.data.size;
    }
    if (this.#queue.size > 0)
      log.info('changes that an earlier run left are carried out', { changes: this.#queue.size });
  }

  /** From here on changes are carried out. */
  start(outcomes: Outcomes): void {
    const { log, conditional } = this.#parts;
    this.#carryOut = new CarryOut({
      port: this.#port,
      mount: this.#mount,
      directory: this.#bytes.directory,
      versions: this.#versions,
      trees: new TreeMover(this.#port, this.#mount, log, conditional),
      outcomes: {
        settled: (key, before, info, work) => {
          const { intent } = work;
          const file = intent.kind === 'put' ? intent.file : undefined;
          outcomes.settled({
            key: this.#presentKey(key, work),
            before,
            info,
            latest: this.#isLatest(key, work),
            release: () => {
              if (file !== undefined) this.#bytes.remove(file);
            },
          });
        },
        refused: (work, error, found) =>
          outcomes.refused({
            intent: work.intent,
            key: this.#presentKey(work.intent.key, work),
            error,
            found,
            latest: this.#isLatest(work.intent.key, work),
            keep: async (path) => {
              if (work.intent.kind === 'put') await this.#bytes.keep(work.intent.file, path);
            },
          }),
        isOvertaken: (work, writer) =>
          this.#queue
            .at(work.intent.key)
            .some(
              ({ sequence, intent }) =>
                sequence > work.sequence && 'nonce' in intent && isOf(writer, intent.nonce),
            ),
      },
      log,
    });
    // Uploads that an earlier run began and nobody will go on with. It may fail as the store may: the next start sees to it then.
    const needed = [...this.#queue.all()].flatMap(({ intent }) => ('nonce' in intent ? intent.nonce : []));
    this.#port.abandonUploads(this.#mount, needed).catch(() => undefined);
    this.#queue.start();
  }

  /** Directories with changes that the volume may not know of: what is cached of them is to be asked again. */
  recoveredDirectories(): ReadonlySet<string> {
    const directories = new Set<string>();
    for (const { intent } of this.#queue.all()) {
      for (const key of 'from' in intent ? [intent.key, intent.from] : [intent.key]) {
        directories.add(key.slice(0, Math.max(0, key.lastIndexOf('/'))));
        if (intent.kind === 'moveTree') directories.add(key);
      }
    }
    return directories;
  }

  // What reads see.

  capabilities(): Capabilities {
    return this.#capabilities;
  }
  features(mount: MountIndex): StoreFeatures {
    return this.#port.features(mount);
  }
  stat(mount: MountIndex, key: string, signal?: AbortSignal): Promise<ObjectInfo | undefined> {
    return this.#queue.size === 0 ? this.#port.stat(mount, key, signal) : this.#view.stat(key, signal);
  }
  list(
    mount: MountIndex,
    prefix: string,
    cursor: string | undefined,
    signal?: AbortSignal,
  ): Promise<ListPage> {
    // A listing that began while something was pending may go on after it.
    const plain = this.#queue.size === 0 && (cursor === undefined || !PendingView.goesOn(cursor));
    return plain ? this.#port.list(mount, prefix, cursor, signal) : this.#view.list(prefix, cursor, signal);
  }
  fetch(_mount: MountIndex, request: FetchRequest, signal?: AbortSignal): Promise<Fetched> {
    return this.#view.fetch(request, signal);
  }
  usage(mount: MountIndex): ReturnType<StorePort['usage']> {
    return this.#port.usage(mount);
  }

  // What changes.

  async commit(mount: MountIndex, request: CommitRequest, signal?: AbortSignal): Promise<ObjectInfo> {
    const { key, fd, size, precondition, stagedAs: file = randomUUID() } = request;
    const nonce = request.attributes.writer ?? randomUUID();
    const attributes = { ...request.attributes, writer: nonce };
    const put: Intent = {
      kind: 'put',
      key,
      precondition,
      attributes,
      size,
      file,
      nonce,
      at: this.#now(),
    };
    if (!this.async) {
      await this.#queue.settle(key);
      await this.#bytes.adopt(fd, size, file);
      const begun = this.#begin(put);
      try {
        const now = await this.#versions.precondition(key, precondition);
        return await this.#port.commit(mount, { ...request, attributes, precondition: now }, signal);
      } finally {
        begun.end();
        this.#bytes.remove(file);
      }
    }
    this.#refuseTooLong(key);
    await this.#room(size);
    this.#staged += size;
    try {
      await this.#bytes.adopt(fd, size, file);
      const small = size <= INLINE ? this.#bytes.whole(fd, size) : undefined;
      if (small === undefined) await this.#bytes.durable(file);
      await this.#accept(put, request.open === true ? OPEN_REST : 0, small);
    } catch (error) {
      this.#bytes.remove(file);
      this.#less(size);
      throw error;
    }
    return futureOf({ key, nonce, at: put.at }, 'file', size, attributes);
  }

  async remove(mount: MountIndex, key: string, precondition: Precondition): Promise<void> {
    if (this.async) return this.#accept({ kind: 'remove', key, precondition, at: this.#now() });
    await this.#queue.settle(key);
    await this.#port.remove(mount, key, await this.#versions.precondition(key, precondition));
  }

  abandonUploads(mount: MountIndex, needed: readonly string[]): Promise<void> {
    return this.#port.abandonUploads(mount, needed);
  }

  async removeMany(
    mount: MountIndex,
    removals: readonly Removal[],
  ): Promise<readonly (MirageError | undefined)[]> {
    if (this.async) {
      await Promise.all(removals.map(({ key, precondition }) => this.remove(mount, key, precondition)));
      return removals.map(() => undefined);
    }
    const now = await Promise.all(
      removals.map(async ({ key, precondition }) => {
        await this.#queue.settle(key);
        return { key, precondition: await this.#versions.precondition(key, precondition) };
      }),
    );
    return this.#port.removeMany(mount, now);
  }

  async createDirectory(mount: MountIndex, key: string, attributes: StoredAttributes): Promise<ObjectInfo> {
    if (!this.async) {
      await this.#queue.settle(key);
      return this.#port.createDirectory(mount, key, attributes);
    }
    this.#refuseTooLong(key);
    const nonce = randomUUID();
    const made = { key, nonce, at: this.#now() };
    await this.#accept({ kind: 'makeDirectory', ...made, attributes });
    return futureOf(made, 'directory', undefined, attributes);
  }

  /** With `async` whoever asks has seen that it is empty. */
  async removeDirectory(mount: MountIndex, key: string): Promise<void> {
    if (this.async) return this.#accept({ kind: 'removeDirectory', key, at: this.#now() });
    await this.#queue.settle(key);
    await this.#port.removeDirectory(mount, key);
  }

  async copy(mount: MountIndex, request: CopyRequest): Promise<ObjectInfo> {
    if (this.async && request.size !== undefined && request.attributes !== undefined) {
      return this.#copied(request, false);
    }
    await this.#queue.settle(request.from);
    await this.#queue.settle(request.to);
    const { from, to, match, precondition } = request;
    return this.#port.copy(mount, {
      ...request,
      ...(match !== undefined && { match: await this.#versions.resolve(from, match) }),
      precondition: await this.#versions.precondition(to, precondition),
    });
  }

  /** The copy, and the end of the source, as one change. Only with `async`; `size` and `attributes` must be given. */
  move(request: CopyRequest): Promise<ObjectInfo> {
    return this.#copied(request, true);
  }

  async #copied(
    { from, to, match, precondition, attributes, size }: CopyRequest,
    removes: boolean,
  ): Promise<ObjectInfo> {
    this.#refuseTooLong(to);
    const nonce = attributes?.writer ?? randomUUID();
    const made = { key: to, nonce, at: this.#now() };
    const stored = { ...attributes, writer: nonce };
    await this.#accept({
      kind: 'copy',
      ...made,
      from,
      match,
      precondition,
      attributes: stored,
      size: size ?? 0,
      removes,
    });
    return futureOf(made, 'file', size, stored);
  }

  /** A directory with all that is below it. Only with `async`; whoever asks has seen that there is nothing at `to` but an empty directory. */
  async moveTree(from: string, to: string, attributes: StoredAttributes): Promise<ObjectInfo> {
    const made = { key: to, nonce: randomUUID(), at: this.#now() };
    await this.#accept({ kind: 'moveTree', ...made, from, attributes });
    return futureOf(made, 'directory', undefined, attributes);
  }

  async setAttributes(
    mount: MountIndex,
    key: string,
    kind: 'file' | 'directory',
    attributes: StoredAttributes,
    precondition: Precondition,
  ): Promise<ObjectInfo> {
    if (!this.async) {
      await this.#queue.settle(key);
      const now = await this.#versions.precondition(key, precondition);
      return this.#port.setAttributes(mount, key, kind, attributes, now);
    }
    const nonce = attributesNonce(precondition, randomUUID());
    const at = this.#now();
    await this.#accept(
      { kind: 'setAttributes', key, of: kind, attributes, precondition, nonce, at },
      ATTRIBUTES_REST,
    );
    // The content is the same, and goes on under the name it has.
    const validator: Validator = precondition.kind === 'match' ? precondition.validator : provisional(nonce);
    return { ...futureOf({ key, nonce, at }, kind, undefined, attributes), validator };
  }

  rename(mount: MountIndex, from: string, to: string): Promise<void> {
    return this.#port.rename(mount, from, to);
  }

  /** With `close`: the journal knows of a rename that the volume carries out itself, so that a crash half-way is mended. */
  beginMove(request: CopyRequest): Begun {
    const { from, to, match, precondition, attributes, size } = request;
    const nonce = attributes?.writer ?? randomUUID();
    const made = { key: to, nonce, at: this.#now() };
    return this.#begin({
      kind: 'copy',
      ...made,
      from,
      match,
      precondition,
      attributes: { ...attributes, writer: nonce },
      size: size ?? 0,
      removes: true,
    });
  }
  async beginMoveTree(from: string, to: string, attributes: StoredAttributes): Promise<Begun> {
    const made = { key: to, nonce: randomUUID(), at: this.#now() };
    const begun = this.#begin({ kind: 'moveTree', ...made, from, attributes });
    await this.#parts.journal.durable();
    return begun;
  }

  #begin(intent: Intent): Begun {
    const { journal, identity } = this.#parts;
    const sequence = journal.nextSequence();
    journal.change([], [{ sequence, identity, intent }]);
    return { end: () => journal.change([sequence], []) };
  }

  // Barriers.

  /**
   * A writer goes on with a file whose bytes were journaled. Undefined: nobody reads them, and nobody will before it commits again or
   * gives the file back; else a promise of that.
   */
  recall(files: readonly string[]): undefined | Promise<void> {
    const sequences = files.flatMap((file) => this.#sequences.get(file) ?? []);
    const running = sequences.filter((sequence) => this.#queue.stateOf(sequence) === 'running');
    if (running.length > 0)
      return Promise.all(running.map((each) => this.#queue.gone(each))).then(() => undefined);
    const begun = files.filter((file) => {
      const sequence = this.#sequences.get(file);
      return sequence !== undefined && this.#queue.stateOf(sequence) === 'begun';
    });
    // The store may have these bytes or not: what is sent once more must be the same.
    if (begun.length > 0) return this.#part(begun);
    for (const sequence of sequences) this.#queue.hold(sequence);
    return undefined;
  }

  async #part(files: readonly string[]): Promise<void> {
    for (const file of files) {
      await this.#bytes.part(file);
      this.#sequences.delete(file);
    }
  }

  /** The writer is gone, whatever it has done. */
  giveBack(files: readonly string[]): void {
    for (const file of files) {
      const sequence = this.#sequences.get(file);
      if (sequence !== undefined) this.#queue.release(sequence);
    }
  }

  /** What concerns a key is at the store. */
  settle(key: string): Promise<void> {
    return this.#queue.settle(key);
  }

  /** Everything is at the store. Rejects when something is left. */
  async drain(): Promise<void> {
    await this.#queue.drain();
    if (this.#queue.size === 0) return;
    const problems = [...this.#queue.all()].flatMap(({ problem }) =>
      problem === undefined ? [] : [problem],
    );
    throw (
      problems[0] ??
      new MirageError(`${this.#queue.size} changes are not on their store yet`, { errno: 'EIO' })
    );
  }

  /** Changes that wait, in words. */
  pending(): string[] {
    return [...this.#queue.all()].map(({ intent, problem }) => {
      const why = problem === undefined ? '' : ` (${problem.message})`;
      return `${intentName(intent)}: ${words[intent.kind]}${why}`;
    });
  }

  get pendingCount(): number {
    return this.#queue.size;
  }

  /** Begins nothing more. What is left stays in the journal. */
  async close(): Promise<void> {
    const { timers } = this.#parts;
    let give: () => void = () => undefined;
    const late = new Promise<void>((resolve) => {
      give = resolve;
    });
    const timer = timers.after(CLOSING, () => give());
    await Promise.race([this.#queue.stop(), late]);
    timer.cancel();
    this.#bytes.close();
  }

  // The journal.

  async #accept(intent: Intent, rest = 0, bytes?: Uint8Array): Promise<void> {
    this.#queue.add(intent, (change) => this.#note(change, bytes), rest);
    await this.#parts.journal.durable();
  }

  #note({ drop, add }: Change, bytes: Uint8Array | undefined): void {
    const { journal, identity } = this.#parts;
    journal.change(
      drop.map(({ sequence }) => sequence),
      add.map(({ sequence, intent }) => ({
        sequence,
        identity,
        intent,
        bytes: intent.kind === 'put' ? (bytes ?? this.#inlineAgain(intent, drop)) : undefined,
      })),
    );
    const kept = new Set<string>();
    for (const { sequence, intent } of add) {
      if (intent.kind !== 'put') continue;
      kept.add(intent.file);
      this.#sequences.set(intent.file, sequence);
    }
    for (const { intent } of drop) {
      if (intent.kind !== 'put' || kept.has(intent.file)) continue;
      this.#sequences.delete(intent.file);
      this.#bytes.remove(intent.file);
      this.#less(intent.size);
    }
  }

  /** A put that takes the place of another one and sends the same bytes has them in the journal as that one had. */
  #inlineAgain({ file, size }: PutIntent, drop: readonly Work[]): Uint8Array | undefined {
    const same = drop.some(({ intent }) => intent.kind === 'put' && intent.file === file);
    return same ? this.#inlineOf({ file, size }) : undefined;
  }

  #inlineOf({ file, size }: Pick<PutIntent, 'file' | 'size'>): Uint8Array | undefined {
    return size <= INLINE ? this.#bytes.content(file) : undefined;
  }

  #done(work: Work): void {
    const { journal, log, identity } = this.#parts;
    // What waits for a version speaks of it as the store does from now on: the next start would not know.
    const renamed = this.#queue.reword(work.sequence, (intent) => this.#versions.named(intent));
    try {
      journal.change(
        [work.sequence],
        renamed.map(({ sequence, intent }) => ({
          sequence,
          identity,
          intent,
          bytes: intent.kind === 'put' ? this.#inlineOf(intent) : undefined,
        })),
      );
    } catch (error) {
      log.error(
        'the journal could not be told that a change is done; it is looked at again at the next start',
        {
          why: String(error),
        },
      );
    }
    if (work.intent.kind !== 'put') return;
    this.#sequences.delete(work.intent.file);
    this.#bytes.remove(work.intent.file);
    this.#less(work.intent.size);
  }

  #less(bytes: number): void {
    this.#staged -= bytes;
    const waiting = this.#whenLess;
    this.#whenLess = [];
    for (const tell of waiting) tell();
  }

  /** Waits until there is room for more bytes. ENOSPC: nothing makes room. */
  async #room(bytes: number): Promise<void> {
    const { limit } = this.#parts;
    while (this.#staged > 0 && this.#staged + bytes > limit) {
      const less = new Promise<void>((resolve) => this.#whenLess.push(resolve));
      const before = this.#staged;
      await Promise.race([less, this.#queue.drain()]);
      if (this.#staged < before) continue;
      throw new MirageError(`${limit} bytes wait for their store, which does not take them`, {
        errno: 'ENOSPC',
        hint: 'see .mirage/last-error for what keeps the store from taking them, or raise cache.size',
      });
    }
  }

  #refuseTooLong(key: string): void {
    if (Buffer.byteLength(key) <= this.#capabilities.maximumKeyBytes) return;
    throw new MirageError(`${key}: the store takes no key as long`, { errno: 'ENAMETOOLONG' });
  }

  /** Nothing that was asked for later speaks of the same key. */
  #isLatest(key: string, work: Work): boolean {
    return this.#queue.at(key).every(({ sequence }) => sequence <= work.sequence);
  }

  /** Where the volume has a key by now: directories above it may have been moved since. */
  #presentKey(key: string, work: Work): string {
    let now = key;
    for (const { sequence, intent } of this.#queue.trees) {
      if (sequence <= work.sequence || intent.kind !== 'moveTree') continue;
      if (now.startsWith(`${intent.from}/`)) now = intent.key + now.slice(intent.from.length);
    }
    return now;
  }

  #now(): Timestamp {
    const milliseconds = this.#parts.clock.wall();
    const seconds = Math.floor(milliseconds / 1000);
    return { seconds, nanoseconds: Math.floor((milliseconds - seconds * 1000) * 1e6) };
  }
}

const words: Record<Intent['kind'], string> = {
  put: 'to be stored',
  remove: 'to be removed',
  makeDirectory: 'directory to be made',
  removeDirectory: 'directory to be removed',
  setAttributes: 'attributes to be stored',
  copy: 'to be copied or renamed',
  moveTree: 'directory to be renamed',
};
