/** The store as it will be when everything that is still to be done is done: what reads and listings of the mount are answered from. */
import type { ListPage, ObjectInfo, StoredAttributes, Validator } from '../../../backends/contract.js';
import { MirageError } from '../../../errors/mirage-error.js';
import type { Fetched, FetchRequest, MountIndex, StorePort } from '../../../ports/store-port.js';
import { futureOf, type IntentOf, isWithin, keysOf, nonceOf } from './intent.js';
import type { Queue, Work } from './queue.js';
import type { StagedBytes } from './staged-bytes.js';
import type { Versions } from './versions.js';

/** What the pending work makes of one key. */
interface Future {
  /** What will be there. */
  readonly info?: ObjectInfo;
  /** What will not be there any more. */
  readonly gone?: ObjectInfo['kind'];
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
    if (found !== undefined && future?.gone === found.kind) found = undefined;
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
      if (future?.gone === entry.kind || future?.info?.kind === entry.kind) continue;
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

  /** What the work that was accepted before `before` makes of a key: what comes along with a directory, and what was asked for since. */
  #future(key: string, before = Number.POSITIVE_INFINITY): Future | undefined {
    const move = this.#moveOf(key, before);
    const source = move === undefined ? undefined : sourceOf(key, move);
    let future = source === undefined ? undefined : this.#future(source, move?.sequence);
    if (future?.info !== undefined) future = { info: { ...future.info, key } };
    for (const { sequence, intent } of this.#queue.at(key)) {
      if (sequence >= before || sequence < (move?.sequence ?? 0)) continue;
      switch (intent.kind) {
        case 'put':
          future = { info: futureOf(intent, 'file', intent.size, intent.attributes) };
          break;
        case 'makeDirectory':
          future = { info: futureOf(intent, 'directory', undefined, intent.attributes) };
          break;
        case 'remove':
          future = { gone: 'file' };
          break;
        case 'removeDirectory':
          future = { gone: 'directory' };
          break;
        case 'copy':
          if (intent.key === key) future = { info: futureOf(intent, 'file', intent.size, intent.attributes) };
          else if (intent.removes) future = { gone: 'file' };
          break;
        case 'moveTree':
          future =
            intent.key === key
              ? { info: futureOf(intent, 'directory', undefined, intent.attributes) }
              : { gone: 'directory' };
          break;
        case 'setAttributes':
          future =
            future?.info === undefined
              ? { ...future, attributes: intent.attributes }
              : { info: { ...future.info, attributes: intent.attributes } };
      }
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
