import { MirageError } from '../../errors/mirage-error.js';
import type {
  Context,
  ObjectInfo,
  Precondition,
  StoredAttributes,
  Validator,
  WriteOptions,
} from '../contract.js';
import { isEmpty } from './attributes.js';
import { type ContentParts, type Contents, conditionsOn, TRIES } from './contents.js';
import { anotherVersion, isUnknown } from './errors.js';
import type { Guard, Held } from './guard.js';
import type { NewFiles } from './new-files.js';
import { COLLECTION, timestampOf } from './properties.js';

const ANY: Precondition = { kind: 'any' };

/** Folders, and names that one request of the server gives to what is there: MKCOL, COPY, MOVE. */
export class Names {
  readonly #parts: ContentParts;
  readonly #contents: Contents;
  readonly #guard: Guard;
  readonly #newFiles: NewFiles;

  constructor(parts: ContentParts, contents: Contents, guard: Guard, newFiles: NewFiles) {
    this.#parts = parts;
    this.#contents = contents;
    this.#guard = guard;
    this.#newFiles = newFiles;
  }

  async createDirectory(key: string, attributes: StoredAttributes, context: Context): Promise<ObjectInfo> {
    const { addresses, client, folders, traits } = this.#parts;
    const { signal } = context;
    const path = addresses.path(key, 'directory');
    const attempt = { operation: 'createDirectory', subject: key, changes: true, signal };
    let date: string | undefined;
    for (let tries = 1; ; tries++) {
      try {
        // 405 by the standard; Apache redirects to the collection that is there.
        const { status, headers } = await folders.amid([addresses.parentOf(key)], signal, (ours) =>
          client.head({ method: 'MKCOL', path, headers: ours }, attempt, [405, 301]),
        );
        date = headers.date;
        if (status < 300 || tries > 1) break;
        throw new MirageError(`createDirectory ${key}: it exists`, { errno: 'EEXIST' });
      } catch (error) {
        if (!isUnknown(error) || tries === TRIES || signal.aborted) throw error;
      }
    }
    if (!isEmpty(attributes) && traits.attributes) {
      await this.#contents.saveAttributes(key, 'directory', attributes, undefined, {}, context);
    }
    return {
      key,
      kind: 'directory',
      size: 0,
      modified: timestampOf(date),
      validator: COLLECTION,
      attributes: traits.attributes ? attributes : undefined,
    };
  }

  async removeDirectory(key: string, context: Context): Promise<void> {
    const { addresses, resources } = this.#parts;
    const target = { key, ...addresses.place(key, 'directory') };
    // DELETE takes everything below along; a lock on the collection keeps new members out.
    await this.#guard.exclusively(target, context, async (held) => {
      const { entries } = await resources.list(key, context.signal);
      if (entries.length > 0) {
        throw new MirageError(`removeDirectory ${key}: it is not empty`, { errno: 'ENOTEMPTY' });
      }
      await this.#contents.remove(target, held, context, [404, 410]);
    });
  }

  async copy(
    from: string,
    to: string,
    { precondition, attributes, match }: WriteOptions & { readonly match?: Validator },
    context: Context,
  ): Promise<ObjectInfo> {
    const { addresses, client, traits, resources } = this.#parts;
    const source = await this.#source(from, match, context);
    const target = { key: to, ...addresses.place(to, 'file') };
    const path = addresses.path(from, 'file');
    const attempt = { operation: 'copy', subject: to, changes: true, signal: context.signal };
    const wanted = attributes ?? source.attributes ?? {};
    if (precondition.kind === 'absent' && makesNames(traits)) {
      return this.#newFiles.moveIn(to, wanted, context, false, async (temporary) => {
        const headers = { destination: addresses.url(temporary, 'file'), overwrite: 'T', depth: '0' };
        await client.head({ method: 'COPY', path, headers, patient: true }, attempt);
        const [made] = await Promise.all([
          this.#contents.mustStat(temporary, context),
          this.#source(from, source.validator, context),
        ]);
        return made;
      });
    }
    const make = async (held: Held, overwrite: 'T' | 'F'): Promise<ObjectInfo> => {
      const headers = {
        destination: target.url,
        overwrite,
        depth: '0',
        ...conditionsOn(target.url, held.headers),
      };
      await client.head({ method: 'COPY', path, headers }, attempt);
      const [made, now] = await Promise.all([
        this.#contents.mustStat(to, context),
        resources.stat(from, context.signal),
      ]);
      if (now?.validator !== source.validator) {
        await this.#contents.remove(target, held, context).catch(() => undefined);
        throw anotherVersion(from);
      }
      return this.#contents.attributesSaved(made, wanted, held, context);
    };
    if (traits.locks && precondition.kind !== 'any') {
      return this.#guard.change(target, precondition, context, (held) => make(held, 'T'));
    }
    return this.#guard.change(target, ANY, context, async (held) => {
      const absent = precondition.kind === 'absent' && traits.overwrite;
      if (!absent) await this.expect(to, precondition, context);
      return make(held, absent ? 'F' : 'T');
    });
  }

  async rename(from: string, to: string, context: Context): Promise<void> {
    const { addresses, client, folders, locks, resources } = this.#parts;
    const { signal } = context;
    const [source, target] = await Promise.all([
      this.#source(from, undefined, context),
      resources.stat(to, signal),
    ]);
    const { kind } = source;
    if (target !== undefined && target.kind !== kind) {
      throw new MirageError(`rename to ${to}`, { errno: kind === 'file' ? 'EISDIR' : 'ENOTDIR' });
    }
    const path = addresses.path(from, kind);
    await Promise.all([folders.settled(path), folders.settled(addresses.path(to, kind))]);
    // A MOVE would take what is in it away.
    if (target?.kind === 'directory') await this.removeDirectory(to, context);
    const attempt = { operation: 'rename', subject: from, changes: true, signal };
    const headers = { destination: addresses.url(to, kind), overwrite: kind === 'file' ? 'T' : 'F' };
    const above = distinct([addresses.parentOf(from), addresses.parentOf(to)]);
    for (let tries = 1; ; tries++) {
      try {
        await folders.amid(above, signal, (ours) =>
          locks.inTurn(() =>
            client.head({ method: 'MOVE', path, headers: { ...headers, ...ours } }, attempt),
          ),
        );
        return;
      } catch (error) {
        if (!isUnknown(error) || tries === TRIES || signal.aborted) throw error;
        const [left, come] = await Promise.all([resources.stat(from, signal), resources.stat(to, signal)]);
        if (left === undefined && come?.kind === kind && come.validator === source.validator) return;
        if (left?.validator !== source.validator) throw error;
      }
    }
  }

  /** A look right before the change: it narrows the window of a lost update and cannot close it. */
  async expect(key: string, precondition: Precondition, { signal }: Context): Promise<void> {
    if (precondition.kind === 'any') return;
    const found = await this.#parts.resources.stat(key, signal);
    const holds =
      precondition.kind === 'absent' ? found === undefined : found?.validator === precondition.validator;
    if (!holds) throw anotherVersion(key);
  }

  async #source(key: string, match: Validator | undefined, { signal }: Context): Promise<ObjectInfo> {
    const found = await this.#parts.resources.stat(key, signal);
    if (found === undefined) throw new MirageError(`${key}: no such file`, { errno: 'ENOENT' });
    if (match !== undefined && found.validator !== match) throw anotherVersion(key);
    return found;
  }
}

/** A new name is best made under the lock on its folder, or elsewhere and moved into place, all of it at once. */
export const makesNames = (traits: ContentParts['traits']): boolean =>
  traits.locks && traits.overwrite && traits.moveKeepsVersion;

/** A lock is named once. */
const distinct = <T extends { readonly path: string }>(places: readonly T[]): T[] => [
  ...new Map(places.map((place) => [place.path, place])).values(),
];
