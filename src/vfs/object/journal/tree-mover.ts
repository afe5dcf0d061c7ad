/**
 * Everything below one directory to another at a store that has no rename: many copies at a time, then the old objects go. It can
 * be done again from any point: what was copied is found and not copied twice.
 */
import type { ObjectInfo, Removal, StoredAttributes, Validator } from '../../../backends/contract.js';
import { MirageError } from '../../../errors/mirage-error.js';
import type { Log } from '../../../log/log.js';
import type { MountIndex, StorePort } from '../../../ports/store-port.js';

/** Objects copied at the same time. */
const AT_ONCE = 48;
/** Objects removed by one call, and such calls at the same time. */
const BATCH = 1000;
const BATCHES_AT_ONCE = 4;
/** Times that a copy whose outcome nobody knows is looked up and, where it did not happen, asked for again. */
const UNKNOWN_OUTCOMES = 3;

export interface Moved {
  readonly from: string;
  readonly to: string;
  /** What was copied. */
  readonly source: Validator | undefined;
  /** Of the copy. */
  readonly validator: Validator | undefined;
}

export interface Copied {
  readonly objects: Moved[];
  /** Directories below, as keys below the source. */
  readonly folders: { readonly from: string; readonly to: string }[];
}

export class TreeMover {
  readonly #port: StorePort;
  readonly #mount: MountIndex;
  readonly #log: Log;
  readonly #conditional: boolean;

  /** `conditional`: objects are removed only as the version that was copied, where the store can tell. */
  constructor(port: StorePort, mount: MountIndex, log: Log, conditional: boolean) {
    this.#port = port;
    this.#mount = mount;
    this.#log = log;
    this.#conditional = conditional;
  }

  /** All of it. `again`: a part may be done already. */
  async move(
    from: string,
    to: string,
    attributes: StoredAttributes,
    again: boolean,
  ): Promise<{ made: ObjectInfo; copied: readonly Moved[] }> {
    const made = await this.makeMarker(to, attributes);
    const copied: Copied = { objects: [], folders: [] };
    await this.copy(from, to, copied, again);
    await this.remove(
      copied.objects.map(({ from: key, source }) => ({ key, validator: source })),
      [...copied.folders.map((folder) => folder.from), from],
    );
    return { made, copied: copied.objects };
  }

  async makeMarker(key: string, attributes: StoredAttributes): Promise<ObjectInfo> {
    try {
      return await this.#port.createDirectory(this.#mount, key, attributes);
    } catch (error) {
      if (!MirageError.is(error, 'EEXIST') || !this.#port.features(this.#mount).setAttributes) throw error;
      return this.#port.setAttributes(this.#mount, key, 'directory', attributes, { kind: 'any' });
    }
  }

  /** Copies what is below `from`, noting in `copied` what is done: also when it fails half-way. */
  async copy(from: string, to: string, copied: Copied, again = false): Promise<void> {
    const pool = new Pool(AT_ONCE);
    const walk = async (directory: string): Promise<void> => {
      let cursor: string | undefined;
      do {
        const page = await this.#port.list(this.#mount, directory, cursor);
        for (const info of page.entries) {
          if (info.key === directory) continue;
          const target = to + info.key.slice(from.length);
          if (info.kind === 'directory') {
            copied.folders.push({ from: info.key, to: target });
            pool.add(() => this.#copyMarker(info.key, target));
            pool.add(() => walk(info.key));
          } else pool.add(() => this.#copyOne(info, target, copied, again));
        }
        cursor = page.cursor;
      } while (cursor !== undefined);
    };
    pool.add(() => walk(from));
    await pool.ended();
  }

  async #copyOne(info: ObjectInfo, to: string, copied: Copied, again: boolean): Promise<void> {
    const moved = { from: info.key, to, source: info.validator };
    const absent = this.#port.capabilities(this.#mount).preconditions.copyAbsent;
    const there = again && !absent ? await this.#port.stat(this.#mount, to) : undefined;
    if (there?.kind === 'file') {
      if (await this.#isCopyOf(info, there)) copied.objects.push({ ...moved, validator: there.validator });
      else this.#stays(info.key);
      return;
    }
    for (let tries = 1; ; tries++) {
      try {
        const { validator } = await this.#port.copy(this.#mount, {
          from: info.key,
          to,
          ...(info.validator !== undefined && { match: info.validator }),
          ...(info.size !== undefined && { size: info.size }),
          precondition: absent ? { kind: 'absent' } : { kind: 'any' },
        });
        copied.objects.push({ ...moved, validator });
        return;
      } catch (error) {
        const unknown = MirageError.is(error) && error.outcomeUnknown;
        if (!unknown && !MirageError.is(error, 'ESTALE') && !MirageError.is(error, 'ENOENT')) throw error;
        const found = await this.#port.stat(this.#mount, to);
        if (found !== undefined && (await this.#isCopyOf(info, found))) {
          copied.objects.push({ ...moved, validator: found.validator });
          return;
        }
        // Nobody would know of a copy that came about after all: the same once more finds it.
        if (unknown && found === undefined && tries < UNKNOWN_OUTCOMES) continue;
        if (unknown || !again) throw error;
        this.#stays(info.key);
        return;
      }
    }
  }

  /** The same content, or at least the same change that made it: stores name large copies anew. */
  async #isCopyOf(source: ObjectInfo, copy: ObjectInfo): Promise<boolean> {
    if (copy.kind !== 'file' || copy.size !== source.size) return false;
    if (copy.validator === source.validator) return true;
    const writer = copy.attributes?.writer;
    if (writer === undefined) return false;
    const found = await this.#port.stat(this.#mount, source.key);
    return found?.attributes?.writer === writer;
  }

  #stays(key: string): void {
    this.#log.warn('another host wrote below a directory while it was renamed; its object stays', { key });
  }

  async #copyMarker(from: string, to: string): Promise<void> {
    const info = await this.#port.stat(this.#mount, from);
    if (info?.kind !== 'directory' || info.validator === undefined) return;
    try {
      await this.#port.createDirectory(this.#mount, to, info.attributes ?? {});
    } catch (error) {
      if (!MirageError.is(error, 'EEXIST')) throw error;
    }
  }

  /** What another host has written meanwhile stays where it is, with the directories that hold it. */
  async remove(
    objects: readonly { readonly key: string; readonly validator: Validator | undefined }[],
    folders: readonly string[],
  ): Promise<void> {
    const honoured = this.#conditional && this.#port.capabilities(this.#mount).preconditions.removeMatch;
    const removals = objects.map(
      ({ key, validator }): Removal => ({
        key,
        precondition: honoured && validator !== undefined ? { kind: 'match', validator } : { kind: 'any' },
      }),
    );
    const pool = new Pool(BATCHES_AT_ONCE);
    for (let at = 0; at < removals.length; at += BATCH) {
      const batch = removals.slice(at, at + BATCH);
      pool.add(async () => {
        const outcomes = await this.#port.removeMany(this.#mount, batch);
        outcomes.forEach((error, index) => {
          if (error === undefined || error.errno === 'ENOENT') return;
          if (error.errno !== 'ESTALE') throw error;
          this.#stays((batch[index] as Removal).key);
        });
      });
    }
    await pool.ended();
    // The deepest first: a store with real directories removes empty ones only.
    const depthOf = (key: string): number => key.split('/').length;
    const depths = [...new Set(folders.map(depthOf))].sort((left, right) => right - left);
    for (const depth of depths) {
      const level = new Pool(AT_ONCE);
      for (const key of folders.filter((folder) => depthOf(folder) === depth)) {
        level.add(() =>
          this.#port.removeDirectory(this.#mount, key).catch((error: unknown) => {
            if (!MirageError.is(error, 'ENOTEMPTY') && !MirageError.is(error, 'ENOENT')) throw error;
          }),
        );
      }
      await level.ended();
    }
  }
}

/** Runs what is added, some of it at a time; the first failure ends it all. */
class Pool {
  readonly #parallel: number;
  readonly #waiting: (() => Promise<void>)[] = [];
  #running = 0;
  #failure: { readonly error: unknown } | undefined;
  #end: (() => void) | undefined;

  constructor(parallel: number) {
    this.#parallel = parallel;
  }

  add(work: () => Promise<void>): void {
    this.#waiting.push(work);
    this.#next();
  }

  /** When nothing runs any more. */
  async ended(): Promise<void> {
    if (this.#running > 0) {
      await new Promise<void>((resolve) => {
        this.#end = resolve;
      });
    }
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  #next(): void {
    while (this.#running < this.#parallel && this.#failure === undefined) {
      const work = this.#waiting.shift();
      if (work === undefined) break;
      this.#running++;
      void work()
        .catch((error: unknown) => {
          this.#failure ??= { error };
        })
        .finally(() => {
          this.#running--;
          this.#next();
        });
    }
    if (this.#running === 0) this.#end?.();
  }
}
