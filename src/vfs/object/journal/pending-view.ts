/** The store as it will be when everything that is still to be done is done: what reads and listings of the mount are answered from. */
import type { ListPage, ObjectInfo, StoredAttributes, Validator } from '../../../backends/contract.js';
import { MirageError } from '../../../errors/mirage-error.js';
import type { Fetched, FetchRequest, MountIndex, StorePort } from '../../../ports/store-port.js';
import { futureOf, type Intent, type IntentOf, isWithin, keysOf, nonceOf } from './intent.js';
import type { Queue, Work } from './queue.js';
import type { StagedBytes } from './staged-bytes.js';
import type { Versions } from './versions.js';

/** What the pending work makes of one key. */
interface Future {
  /** What will be there. */
  readonly info?: ObjectInfo;
  /** What will not be there any more, whatever takes its place: a key may be that of a file and of a directory. */
  readonly gone?: readonly ObjectInfo['kind'][];
  /** Attributes of what is there. */
  readonly attributes?: StoredAttributes;
}

/** A listing that goes on elsewhere: the rest of a directory on the move is still under its old key. */
const ELSEWHERE = 'mirage-elsewhere:';

export class PendingView {
  readonly #port: StorePort;
  readonly #mount: MountIndex;
  readonly #queue: Queue;
  readonly #versions: Versions;
  readonly #bytes: StagedBytes;

  constructor(port: StorePort, mount: MountIndex, queue: Queue, versions: Versions, bytes: StagedBytes) {
    this.#port = port;
    this.#mount = mount;
    this.#queue = queue;
    this.#versions = versions;
    this.#bytes = bytes;
  }

  /** A cursor of ours: the listing goes on here. */
  static goesOn(cursor: string): boolean {
    return cursor.startsWith(ELSEWHERE);
  }

  async stat(key: string, signal?: AbortSignal): Promise<ObjectInfo | undefined> {
    const before = this.#future(key);
    if (before?.info !== undefined) return before.info;
    let found = await this.#statStore(key, this.#moves(), signal);
    const future = this.#future(key) ?? before;
    if (future?.info !== undefined) return future.info;
    if (found !== undefined) found = isGone(found.kind, future) ? undefined : this.#called(key, found);
    if (found !== undefined && future?.attributes !== undefined) {
      found = { ...found, attributes: future.attributes };
    }
    return found ?? (this.#holdsSomething(key) ? implicitDirectory(key) : undefined);
  }

  async list(prefix: string, cursor: string | undefined, signal?: AbortSignal): Promise<ListPage> {
    let sources = cursor === undefined ? this.#sources(prefix, this.#moves()) : [prefix];
    let inner = cursor;
    if (cursor?.startsWith(ELSEWHERE) === true) {
      ({ sources, inner } = JSON.parse(cursor.slice(ELSEWHERE.length)) as {
        sources: string[];
        inner?: string;
      });
    }
    const [source, ...others] = sources;
    const page =
      source === undefined
        ? { entries: [], cursor: undefined }
        : await this.#port.list(this.#mount, source, inner, signal);
    const entries: ObjectInfo[] = [];
    for (const entry of page.entries) {
      const key = source === prefix ? entry.key : prefix + entry.key.slice((source as string).length);
      const future = this.#future(key);
      if (isGone(entry.kind, future) || future?.info?.kind === entry.kind) continue;
      const attributes = future?.attributes ?? entry.attributes;
      entries.push(
        key === entry.key && attributes === entry.attributes ? entry : { ...entry, key, attributes },
      );
    }
    const rest = page.cursor === undefined ? others : sources;
    if (page.cursor !== undefined && rest.length === 1 && source === prefix)
      return { entries, cursor: page.cursor };
    if (rest.length > 0) {
      return { entries, cursor: ELSEWHERE + JSON.stringify({ sources: rest, inner: page.cursor }) };
    }
    entries.push(...this.#added(prefix));
    return { entries, cursor: undefined };
  }

  async fetch(request: FetchRequest, signal?: AbortSignal): Promise<Fetched> {
    const { key, match } = request;
    if (match === undefined) return this.#fetch(request, signal);
    for (;;) {
      const known = this.#versions.known(key, match);
      try {
        return await this.#fetchAs(request, known, (asked) => this.#fetch(asked, signal));
      } catch (error) {
        if (!MirageError.is(error, 'ESTALE') || this.#queue.size === 0) throw error;
        // A change of ours may be what made another version of it.
        await this.#queue.settle(key).catch(() => undefined);
        if (this.#versions.known(key, match) === known) throw error;
      }
    }
  }

  /** Asks for a version under another name that it has; the answer calls it as the question did. */
  async #fetchAs(
    request: FetchRequest,
    name: Validator,
    ask: (request: FetchRequest) => Promise<Fetched>,
  ): Promise<Fetched> {
    const { match, onBegin } = request;
    if (name === match) return ask(request);
    const named = <T extends ObjectInfo>(info: T): T =>
      info.validator === name ? { ...info, validator: match } : info;
    return named(
      await ask({
        ...request,
        match: name,
        ...(onBegin && { onBegin: (info: ObjectInfo) => onBegin(named(info)) }),
      }),
    );
  }

  async #fetch(request: FetchRequest, signal?: AbortSignal): Promise<Fetched> {
    const { key, match } = request;
    const nonce = match === undefined ? undefined : nonceOf(match);
    if (nonce !== undefined) return this.#fetchPending(request, nonce, signal);
    const sources = this.#sources(key, this.#moves());
    if (sources.length === 1 && sources[0] === key) return this.#port.fetch(this.#mount, request, signal);
    for (const source of [...sources, key]) {
      try {
        return await this.#port.fetch(this.#mount, { ...request, key: source }, signal);
      } catch (error) {
        // It is on its way from one key to the other.
        if (!MirageError.is(error, 'ENOENT') && !MirageError.is(error, 'ESTALE')) throw error;
      }
    }
    throw new MirageError(`${key} is another version by now`, { errno: 'ESTALE' });
  }

  async #fetchPending(request: FetchRequest, nonce: string, signal?: AbortSignal): Promise<Fetched> {
    const { key, range, fd } = request;
    // Work goes by the name that the file had when it was accepted.
    const names = new Set([key, ...this.#sources(key, this.#moves())]);
    for (const { intent } of [...names].flatMap((name) => this.#queue.at(name))) {
      if (intent.kind === 'put' && intent.nonce === nonce) {
        await this.#bytes.read(intent.file, range, fd, request.position);
        request.onProgress?.(Math.min(range.offset + range.length, intent.size));
        return futureOf(intent, 'file', intent.size, intent.attributes);
      }
      if (intent.kind === 'copy' && intent.nonce === nonce) {
        const copy = futureOf(intent, 'file', intent.size, intent.attributes);
        const { match: _, onBegin, ...rest } = request;
        const source = {
          ...rest,
          key: intent.from,
          ...(intent.match !== undefined && { match: intent.match }),
          ...(onBegin && { onBegin: () => onBegin(copy) }),
        };
        try {
          const { checksums } = await this.fetch(source, signal);
          return { ...copy, ...(checksums && { checksums }) };
        } catch (error) {
          if (!MirageError.is(error, 'ENOENT') && !MirageError.is(error, 'ESTALE')) throw error;
          await this.#queue.settle(key);
        }
      }
    }
    const name = await this.#versions.resolve(key, request.match as Validator);
    return this.#fetchAs(request, name, (asked) => this.#port.fetch(this.#mount, asked, signal));
  }

  /**
   * A version as the volume calls it: what a change of attributes has made that nobody has heard of yet goes by the name from before, what such a
   * change has ended meanwhile by the name from after.
   */
  #called(key: string, found: ObjectInfo): ObjectInfo {
    let validator = found.validator;
    for (const { intent } of this.#queue.at(key)) {
      const { kind } = intent;
      if (kind !== 'setAttributes' || intent.precondition.kind !== 'match') continue;
      if (found.attributes?.writer === intent.nonce) validator = intent.precondition.validator;
    }
    if (validator !== undefined) validator = this.#versions.known(key, validator);
    return validator === found.validator ? found : { ...found, validator };
  }

  /** What the work that was accepted before `before` makes of a key: what comes along with a directory, and what was asked for since. */
  #future(key: string, before = Number.POSITIVE_INFINITY): Future | undefined {
    const move = this.#moveOf(key, before);
    const source = move === undefined ? undefined : sourceOf(key, move);
    let future = source === undefined ? undefined : this.#future(source, move?.sequence);
    if (future?.info !== undefined) future = { ...future, info: { ...future.info, key } };
    for (const { sequence, intent } of this.#queue.at(key)) {
      if (sequence >= before || sequence < (move?.sequence ?? 0)) continue;
      future = changed(future, intent, key);
    }
    return future;
  }

  /** The last move, before `before`, of a directory above a key: to it or away from it. */
  #moveOf(key: string, before: number): Work | undefined {
    return this.#queue.trees.findLast(({ sequence, intent }) => {
      if (sequence >= before || intent.kind !== 'moveTree') return false;
      return key.startsWith(`${intent.key}/`) || key.startsWith(`${intent.from}/`);
    });
  }

  /** What will be directly in a directory and may not be there yet. */
  #added(directory: string): ObjectInfo[] {
    const infos: ObjectInfo[] = [];
    for (const name of this.#namesIn(directory, Number.POSITIVE_INFINITY)) {
      const info = this.#future(directory === '' ? name : `${directory}/${name}`)?.info;
      if (info !== undefined) infos.push(info);
    }
    return infos;
  }

  /** Names of which work says something, also where it was asked for under an earlier name of the directory. */
  #namesIn(directory: string, before: number): Set<string> {
    const names = new Set<string>();
    for (const { sequence, intent } of this.#queue.in(directory)) {
      if (sequence < before) for (const key of keysOf(intent)) names.add(key.slice(key.lastIndexOf('/') + 1));
    }
    const move = this.#queue.trees.findLast(
      ({ sequence, intent }) =>
        sequence < before && intent.kind === 'moveTree' && isWithin(directory, intent.key),
    );
    const source = move === undefined ? undefined : sourceOf(directory, move);
    if (move === undefined || source === undefined) return names;
    for (const name of this.#namesIn(source, move.sequence)) names.add(name);
    return names;
  }

  #holdsSomething(directory: string): boolean {
    return this.#queue.in(directory).length > 0 && this.#added(directory).length > 0;
  }

  /** Directories on the move, the newest first. */
  #moves(): IntentOf<'moveTree'>[] {
    return this.#queue.trees.map(({ intent }) => intent as IntentOf<'moveTree'>).reverse();
  }

  /** Where the store may have what will be under a key: under that key, and under those it comes from. */
  #sources(key: string, moves: readonly IntentOf<'moveTree'>[]): string[] {
    for (const [index, move] of moves.entries()) {
      if (isWithin(key, move.key)) {
        const before = move.from + key.slice(move.key.length);
        return [key, ...this.#sources(before, moves.slice(index + 1))];
      }
      if (isWithin(key, move.from)) return [];
    }
    return [key];
  }

  async #statStore(
    key: string,
    moves: readonly IntentOf<'moveTree'>[],
    signal?: AbortSignal,
  ): Promise<ObjectInfo | undefined> {
    const sources = this.#sources(key, moves);
    // Between two questions it may have gone from the second place to the first.
    if (sources.length > 1) sources.push(key);
    for (const source of sources) {
      const found = await this.#port.stat(this.#mount, source, signal);
      if (found !== undefined) return source === key ? found : { ...found, key };
    }
    return undefined;
  }
}

/** What one more change makes of a key. */
function changed(future: Future | undefined, intent: Intent, key: string): Future | undefined {
  const gone = future?.gone ?? [];
  const there = (info: ObjectInfo): Future => ({ gone, info });
  switch (intent.kind) {
    case 'put':
      return there(futureOf(intent, 'file', intent.size, intent.attributes));
    case 'makeDirectory':
      return there(futureOf(intent, 'directory', undefined, intent.attributes));
    case 'remove':
      return { gone: [...gone, 'file'] };
    case 'removeDirectory':
      return { gone: [...gone, 'directory'] };
    case 'copy':
      if (intent.key === key) return there(futureOf(intent, 'file', intent.size, intent.attributes));
      return intent.removes ? { gone: [...gone, 'file'] } : future;
    case 'moveTree':
      if (intent.key === key) return there(futureOf(intent, 'directory', undefined, intent.attributes));
      return { gone: [...gone, 'directory'] };
    case 'setAttributes':
      return future?.info === undefined
        ? { ...future, attributes: intent.attributes }
        : there({ ...future.info, attributes: intent.attributes });
  }
}

const isGone = (kind: ObjectInfo['kind'], future: Future | undefined): boolean =>
  future?.gone?.includes(kind) === true;

/** Where something below the target of a move comes from. */
function sourceOf(key: string, { intent }: Work): string | undefined {
  if (intent.kind !== 'moveTree' || !isWithin(key, intent.key)) return undefined;
  return intent.from + key.slice(intent.key.length);
}

const implicitDirectory = (key: string): ObjectInfo => ({
  key,
  kind: 'directory',
  size: undefined,
  modified: { seconds: 0, nanoseconds: 0 },
  validator: undefined,
  attributes: undefined,
});
