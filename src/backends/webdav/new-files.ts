import { randomUUID } from 'node:crypto';
import { MirageError } from '../../errors/mirage-error.js';
import type { ByteSource, Context, ObjectInfo, Precondition, StoredAttributes } from '../contract.js';
import { type ContentParts, type Contents, isRegular, TRIES } from './contents.js';
import { anotherVersion, isUnknown } from './errors.js';
import type { FolderPlace, Headers } from './folder-locks.js';
import { UNGUARDED } from './guard.js';
import { UPLOADS } from './resources.js';
import type { Turns } from './turns.js';

/** Bytes of a file that are on the server in no time: others can wait for it. */
const SOON = 4 * 2 ** 20;
const ANY: Precondition = { kind: 'any' };

/**
 * Makes a file where there is none. Names in a folder are made under the lock on it (see folder-locks.ts), so that of two hosts one is first. What is
 * not sent in no time, or is nothing without its attributes, is sent under a name of its own and moved into place as a whole.
 */
export class NewFiles {
  readonly #parts: ContentParts;
  readonly #contents: Contents;
  readonly #turns: Turns;
  /** Begins the names of what is not whole yet. */
  readonly #owner: string;
  #uploads: Promise<void> | undefined;

  constructor(parts: ContentParts, contents: Contents, turns: Turns, owner: string) {
    this.#parts = parts;
    this.#contents = contents;
    this.#turns = turns;
    this.#owner = owner;
  }

  /** ESTALE where the name is taken. */
  async make(
    key: string,
    source: ByteSource,
    attributes: StoredAttributes,
    context: Context,
  ): Promise<ObjectInfo> {
    // An empty file is as good as any other empty file: of that nobody could tell who made it.
    const direct = this.#parts.traits.writeAbsent && source.size > 0 && isRegular(attributes);
    if (direct && source.size <= SOON) {
      const { path } = this.#parts.addresses.place(key, 'file');
      return this.#refusing(key, () =>
        this.#turns.run(path, () => this.#putInPlace(key, source, attributes, context)),
      );
    }
    return this.moveIn(key, attributes, context, source.size <= SOON, (temporary) =>
      this.#contents.put(temporary, source, attributes, ANY, UNGUARDED, context),
    );
  }

  /**
   * Makes a file of what `fill` puts under another name, with its attributes. `soon`: that takes no longer than others can wait for
   * their turn in the folder.
   */
  async moveIn(
    key: string,
    attributes: StoredAttributes,
    context: Context,
    soon: boolean,
    fill: (temporary: string) => Promise<ObjectInfo>,
  ): Promise<ObjectInfo> {
    const { addresses, client, folders } = this.#parts;
    const temporary = `${UPLOADS}/${this.#owner}-${randomUUID()}`;
    // Before the lock: it may be on the folder that this one is made in.
    await this.#uploadsFolder();
    const place = soon ? folders.join(addresses.parentOf(key)) : undefined;
    try {
      return await this.#refusing(key, () =>
        this.#fillAndName(key, temporary, place, attributes, context, fill),
      );
    } catch (error) {
      const path = addresses.path(temporary, 'file');
      const attempt = { operation: 'clean up', subject: temporary, signal: AbortSignal.timeout(10_000) };
      await client.head({ method: 'DELETE', path }, attempt, [404, 410]).catch(() => undefined);
      throw error;
    } finally {
      place?.leave();
    }
  }

  async #refusing<T>(key: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (MirageError.is(error, 'EEXIST')) throw anotherVersion(key);
      throw error;
    }
  }

  /** The lock is kept until the attributes are saved: they say whose file it is. */
  #putInPlace(
    key: string,
    source: ByteSource,
    attributes: StoredAttributes,
    context: Context,
  ): Promise<ObjectInfo> {
    const { addresses, folders, resources } = this.#parts;
    return folders.inFolder(addresses.parentOf(key), async (lock) => {
      const headers = { ...lock, 'if-none-match': '*' };
      const held = { first: headers, headers, repeatable: false, removed() {} };
      let made: ObjectInfo;
      try {
        made = await this.#contents.put(key, source, attributes, { kind: 'absent' }, held, context);
      } catch (error) {
        if (!MirageError.is(error, 'ESTALE')) throw error;
        const found = await resources.stat(key, context.signal);
        if (found === undefined) throw error;
        // What an earlier life of ours could not finish is nobody else's.
        const nobodys = found.attributes?.writer === undefined;
        if (!nobodys || !(await this.#contents.holds(key, source, found, context))) throw exists(key);
        made = found;
      }
      return this.#contents.attributesSaved(made, attributes, UNGUARDED, context);
    });
  }

  async #fillAndName(
    key: string,
    temporary: string,
    place: FolderPlace | undefined,
    attributes: StoredAttributes,
    context: Context,
    fill: (temporary: string) => Promise<ObjectInfo>,
  ): Promise<ObjectInfo> {
    const { addresses, folders } = this.#parts;
    const made = await fill(temporary).catch(async (error: unknown) => {
      if (!MirageError.is(error, 'ENOENT')) throw error;
      // Somebody has tidied up.
      this.#uploads = undefined;
      place?.leave();
      await this.#uploadsFolder();
      return fill(temporary);
    });
    const saved = await this.#contents.attributesSaved(made, attributes, UNGUARDED, context);
    const name = (lock: Headers) => this.#name(temporary, key, made, lock, context);
    await folders.inFolder(addresses.parentOf(key), name, place);
    return { ...saved, key };
  }

  async #name(
    temporary: string,
    key: string,
    made: ObjectInfo,
    lock: Headers,
    context: Context,
  ): Promise<void> {
    const { addresses, client, folders, locks, resources } = this.#parts;
    const { signal } = context;
    const attempt = { operation: 'write', subject: key, changes: true, signal };
    const headers = { destination: addresses.url(key, 'file'), overwrite: 'F' };
    const path = addresses.path(temporary, 'file');
    for (let tries = 1; ; tries++) {
      try {
        await folders.amid([], signal, () =>
          locks.inTurn(() =>
            client.head({ method: 'MOVE', path, headers: { ...headers, ...lock } }, attempt),
          ),
        );
        return;
      } catch (error) {
        const unknown = isUnknown(error);
        if ((!unknown && !MirageError.is(error, 'ESTALE')) || signal.aborted) throw error;
        const [left, come] = await Promise.all([
          resources.stat(temporary, signal),
          resources.stat(key, signal),
        ]);
        if (left === undefined && come?.validator === made.validator) return;
        if (come !== undefined) throw exists(key);
        if (!unknown || tries === TRIES) throw error;
      }
    }
  }

  /** A folder that nobody locks. */
  #uploadsFolder(): Promise<void> {
    const { addresses, client, folders } = this.#parts;
    const signal = AbortSignal.timeout(10_000);
    const attempt = { operation: 'make a folder for uploads', subject: UPLOADS, changes: true, signal };
    const path = addresses.path(UPLOADS, 'directory');
    this.#uploads ??= folders
      .amid([addresses.parentOf(UPLOADS)], signal, (headers) =>
        client.head({ method: 'MKCOL', path, headers }, attempt, [405, 301]),
      )
      .then(
        () => undefined,
        () => undefined,
      );
    return this.#uploads;
  }
}

const exists = (key: string): MirageError => new MirageError(`${key} exists`, { errno: 'EEXIST' });
