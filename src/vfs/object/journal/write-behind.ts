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
import { MirageError } from '../../../errors/mirage-error.js';
import type {
  CommitRequest,
  CopyRequest,
  Fetched,
  FetchRequest,
  MountIndex,
  StoreFeatures,
  StorePort,
} from '../../../ports/store-port.js';
import { timestamp } from '../../inodes/attributes-of.js';
import { Admission } from './admission.js';
import { type Begun, BegunChanges } from './begun-changes.js';
import { Bookkeeping, INLINE } from './bookkeeping.js';
import { CarryOut } from './carry-out.js';
import { attributesNonce, futureOf, type Intent, intentInWords, provisional } from './intent.js';
import { LentBytes } from './lent-bytes.js';
import type { Outcomes } from './outcomes.js';
import type { WriteBehindParts } from './parts.js';
import { PendingView } from './pending-view.js';
import { Queue } from './queue.js';
import { directoriesOf, recover } from './recovery.js';
import { StagedBytes } from './staged-bytes.js';
import { tellTo } from './telling.js';
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
/** How long attributes alone wait for more of them, milliseconds. */
const ATTRIBUTES_REST = 1000;

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
  readonly #lent: LentBytes;
  readonly #admission: Admission;
  readonly #books: Bookkeeping;
  readonly #begun: BegunChanges;
  /** Works that the journal does not have on the disk yet, or whose caller has not heard of it: what he notes first they may change. */
  readonly #unanswered = new Map<number, Promise<void>>();

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
        await undefined;
        await this.#unanswered.get(work.sequence);
        const outcome = await (this.#carryOut as CarryOut).run(work);
        if (outcome.kind === 'done') this.#books.done(work);
        return outcome;
      },
    });
    this.#lent = new LentBytes(this.#queue, this.#bytes);
    this.#admission = new Admission(parts.limit, () => this.#queue.drain());
    this.#begun = new BegunChanges(journal, identity, () => this.#now());
    this.#books = new Bookkeeping({
      journal,
      identity,
      queue: this.#queue,
      versions: this.#versions,
      bytes: this.#bytes,
      lent: this.#lent,
      admission: this.#admission,
      log,
    });
    this.#view = new PendingView(port, mount, this.#queue, this.#versions, this.#bytes);
    // Behind the journal the strongest way there is is taken; what is promised to the volume is the same for all.
    const all = { copyAbsent: true, removeMatch: true };
    this.#capabilities = this.async
      ? { ...capabilities, preconditions: { ...capabilities.preconditions, ...all } }
      : capabilities;
    for (const intent of recover(journal, identity, this.#queue)) {
      if (intent.kind === 'put') this.#admission.count(intent.size);
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
      outcomes: tellTo(outcomes, this.#queue, this.#bytes),
      log,
    });
    // Uploads that an earlier run began and nobody will go on with. It may fail as the store may: the next start sees to it then.
    const needed = [...this.#queue.all()].flatMap(({ intent }) => ('nonce' in intent ? intent.nonce : []));
    this.#port.abandonUploads(this.#mount, needed).catch(() => undefined);
    this.#queue.start();
  }

  /** Directories with changes that the volume may not know of: what is cached of them is to be asked again. */
  recoveredDirectories(): ReadonlySet<string> {
    return directoriesOf([...this.#queue.all()].map(({ intent }) => intent));
  }

  // What reads see.

  capabilities(): Capabilities {
    return this.#capabilities;
  }
  features(mount: MountIndex): StoreFeatures {
    return this.#port.features(mount);
  }
  stat(mount: MountIndex, key: string, signal?: AbortSignal): Promise<ObjectInfo | undefined> {
    const plain = this.#queue.size === 0 && !this.async;
    return plain ? this.#port.stat(mount, key, signal) : this.#view.stat(key, signal);
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
      const begun = this.#begun.begin(put);
      try {
        const now = await this.#versions.precondition(key, precondition);
        return await this.#port.commit(mount, { ...request, attributes, precondition: now }, signal);
      } finally {
        begun.end();
        this.#bytes.remove(file);
      }
    }
    this.#refuseTooLong(key);
    await this.#admission.admit(size);
    try {
      await this.#bytes.adopt(fd, size, file);
      const small = size <= INLINE ? this.#bytes.whole(fd, size) : undefined;
      if (small === undefined) await this.#bytes.durable(file);
      await this.#accept(put, request.open === true ? OPEN_REST : 0, small);
    } catch (error) {
      this.#bytes.remove(file);
      this.#admission.release(size);
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
    return this.#begun.move(request);
  }
  beginMoveTree(from: string, to: string, attributes: StoredAttributes): Promise<Begun> {
    return this.#begun.moveTree(from, to, attributes);
  }

  // Barriers.

  /** See `LentBytes`. */
  recall(files: readonly string[]): undefined | Promise<void> {
    return this.#lent.recall(files);
  }
  giveBack(files: readonly string[]): void {
    this.#lent.giveBack(files);
  }

  /** What concerns a key is at the store. */
  settle(key: string): Promise<void> {
    return this.#queue.settle(key);
  }

  /** Everything is at the store. Rejects when something is left. */
  async drain(): Promise<void> {
    await this.#queue.drain();
    if (this.#queue.size === 0) return;
    const problem = [...this.#queue.all()].find((work) => work.problem !== undefined)?.problem;
    const count = this.#queue.size;
    throw problem ?? new MirageError(`${count} changes are not on their store yet`, { errno: 'EIO' });
  }

  /** Changes that wait, in words. */
  pending(): string[] {
    return [...this.#queue.all()].map(({ intent, problem }) => {
      const why = problem === undefined ? '' : ` (${problem.message})`;
      return intentInWords(intent) + why;
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
    const works = this.#queue.add(intent, (change) => this.#books.note(change, bytes), rest);
    const durable = this.#parts.journal.durable();
    const answered = durable
      .catch(() => undefined)
      .then(() => new Promise<void>((resolve) => setImmediate(resolve)));
    for (const { sequence } of works) {
      this.#unanswered.set(sequence, answered);
      void answered.then(() => this.#unanswered.delete(sequence));
    }
    await durable;
  }

  #refuseTooLong(key: string): void {
    if (Buffer.byteLength(key) <= this.#capabilities.maximumKeyBytes) return;
    throw new MirageError(`${key}: the store takes no key as long`, { errno: 'ENAMETOOLONG' });
  }

  #now(): Timestamp {
    return timestamp(this.#parts.clock.wall());
  }
}
