import { MirageError } from '../../errors/mirage-error.js';
import type { Log } from '../../log/log.js';
import type {
  AttributeBackend,
  Backend,
  ByteRange,
  ByteSink,
  ByteSource,
  Capabilities,
  Context,
  CopyBackend,
  DirectoryBackend,
  ListPage,
  LockBackend,
  ObjectInfo,
  Precondition,
  RenameBackend,
  StoredAttributes,
  UsageBackend,
  Validator,
  WriteOptions,
} from '../contract.js';
import type { Addresses } from './addresses.js';
import type { Client } from './client.js';
import { type ContentParts, Contents } from './contents.js';
import { anotherVersion } from './errors.js';
import { FolderLocks } from './folder-locks.js';
import { Guard } from './guard.js';
import { LeaseLocks } from './lease-locks.js';
import type { Owner } from './leftovers.js';
import { ListingPages } from './listing-pages.js';
import { LockHolder } from './lock-holder.js';
import type { Locks } from './locks.js';
import { makesNames, Names } from './names.js';
import { NewFiles } from './new-files.js';
import { Reader } from './reader.js';
import { Resources } from './resources.js';
import type { Traits } from './traits.js';
import { Turns } from './turns.js';
import type { ChunkedUploads } from './uploads.js';

const ANY: Precondition = { kind: 'any' };

export interface WebdavParts {
  readonly client: Client;
  readonly addresses: Addresses;
  readonly locks: Locks;
  readonly traits: Traits;
  /** Where large files travel in chunks. */
  readonly uploads: ChunkedUploads | undefined;
  readonly owner: Owner;
  readonly log: Log;
}

/** A folder of a WebDAV server (RFC 4918). Content goes by GET and PUT, attributes of ours as a dead property. */
export class WebdavBackend
  implements
    DirectoryBackend,
    CopyBackend,
    UsageBackend,
    Partial<AttributeBackend>,
    Partial<RenameBackend>,
    Partial<LockBackend>
{
  readonly capabilities: Capabilities;
  /** Only where versions survive it: what is cached and what is being written must go on under the new name. */
  declare readonly rename?: RenameBackend['rename'];
  /** Only where the server keeps them. */
  declare readonly setAttributes?: AttributeBackend['setAttributes'];
  /** Only where others are kept from what is locked. */
  declare readonly locks?: LockBackend['locks'];
  readonly #parts: ContentParts;
  readonly #contents: Contents;
  readonly #pages: ListingPages;
  readonly #guard: Guard;
  readonly #newFiles: NewFiles;
  readonly #names: Names;
  readonly #turns = new Turns();
  readonly #owner: Owner;

  constructor({ client, addresses, locks, traits, uploads, owner, log }: WebdavParts) {
    const resources = new Resources(client, addresses, traits.attributes, log);
    const reader = new Reader(client, addresses, resources);
    const holder = new LockHolder(locks, traits.lockConditions, log);
    const turns = this.#turns;
    this.#owner = owner;
    const folders = new FolderLocks(holder, turns);
    this.#pages = new ListingPages((key, signal) => resources.entries(key, signal));
    const stat: Backend['stat'] = (key, { signal }) => resources.stat(key, signal);
    this.#parts = { client, addresses, locks, folders, traits, resources, reader, uploads, log };
    this.#guard = new Guard({ traits, holder, folders, turns, stat });
    this.#contents = new Contents(this.#parts);
    this.#newFiles = new NewFiles(this.#parts, this.#contents, turns, owner.name);
    this.#names = new Names(this.#parts, this.#contents, this.#guard, this.#newFiles);
    this.capabilities = capabilitiesOf(traits);
    if (traits.attributes) {
      this.setAttributes = (...[key, kind, attributes, precondition, context]) =>
        this.#setAttributes(key, kind, attributes, precondition, context);
    }
    if (traits.locks) {
      const { lockConditions } = traits;
      const makeFolder = (key: string, context: Context) => this.createDirectory(key, {}, context);
      this.locks = new LeaseLocks({ client, addresses, locks, lockConditions, makeFolder });
    }
    if (traits.moveKeepsVersion) this.rename = (from, to, context) => this.#names.rename(from, to, context);
  }

  stat(key: string, { signal }: Context): Promise<ObjectInfo | undefined> {
    return this.#parts.resources.stat(key, signal);
  }

  list(prefix: string, cursor: string | undefined, { signal }: Context): Promise<ListPage> {
    return this.#pages.page(prefix, cursor, signal);
  }

  read(
    key: string,
    range: ByteRange,
    sink: ByteSink,
    context: Context,
    match?: Validator,
  ): Promise<ObjectInfo> {
    return this.#parts.reader.read(key, range, sink, context, match);
  }

  async write(
    key: string,
    source: ByteSource,
    { precondition, attributes = {} }: WriteOptions,
    context: Context,
  ): Promise<ObjectInfo> {
    const { addresses, resources, traits } = this.#parts;
    if (precondition.kind === 'absent' && makesNames(traits)) {
      return this.#newFiles.make(key, source, attributes, context);
    }
    const target = { key, ...addresses.place(key, 'file') };
    try {
      return await this.#guard.change(target, precondition, context, async (held) => {
        const made = await this.#contents.put(key, source, attributes, precondition, held, context);
        return this.#contents.attributesSaved(made, attributes, held, context);
      });
    } catch (error) {
      if (!MirageError.is(error, 'ESTALE') || precondition.kind !== 'match') throw error;
      const found = await resources.stat(key, context.signal);
      // What an earlier life of ours has written without its attributes is nobody else's.
      const nobodys = traits.attributes && found !== undefined && found.attributes?.writer === undefined;
      if (!nobodys || !(await this.#contents.holds(key, source, found, context))) throw error;
      return this.#guard.exclusively(target, context, (held) =>
        this.#contents.attributesSaved(found, attributes, held, context),
      );
    }
  }

  async remove(key: string, precondition: Precondition, context: Context): Promise<void> {
    if (precondition.kind === 'absent') return;
    const { addresses, traits } = this.#parts;
    const target = { key, ...addresses.place(key, 'file') };
    // Without a lock the file may change between the look and the DELETE: `capabilities` says so.
    if (!traits.locks) await this.#names.expect(key, precondition, context);
    await this.#guard.change(target, traits.locks ? precondition : ANY, context, (held) =>
      this.#contents.remove(target, held, context, precondition.kind === 'any' ? [404, 410] : []),
    );
  }

  createDirectory(key: string, attributes: StoredAttributes, context: Context): Promise<ObjectInfo> {
    return this.#names.createDirectory(key, attributes, context);
  }

  removeDirectory(key: string, context: Context): Promise<void> {
    return this.#names.removeDirectory(key, context);
  }

  copy(
    from: string,
    to: string,
    options: WriteOptions & { readonly match?: Validator },
    context: Context,
  ): Promise<ObjectInfo> {
    return this.#names.copy(from, to, options, context);
  }

  usage({ signal }: Context): Promise<{ total?: number; free?: number }> {
    return this.#parts.resources.quota(signal);
  }

  async close(): Promise<void> {
    this.#pages.close();
    this.#parts.folders.close();
    await this.#turns.allSettled();
    await this.#parts.client.close();
    this.#owner.done();
  }

  async #setAttributes(
    key: string,
    kind: ObjectInfo['kind'],
    attributes: StoredAttributes,
    precondition: Precondition,
    context: Context,
  ): Promise<ObjectInfo> {
    const found = await this.#parts.resources.stat(key, context.signal, kind);
    if (found?.kind !== kind) {
      const errno = precondition.kind === 'match' ? 'ESTALE' : 'ENOENT';
      throw new MirageError(`setAttributes ${key}: no such ${kind}`, { errno });
    }
    if (precondition.kind === 'match' && found.validator !== precondition.validator)
      throw anotherVersion(key);
    // Where another content comes in between, the property says of which one it is.
    await this.#contents.saveAttributes(key, kind, attributes, found.validator, {}, context);
    return { ...found, attributes };
  }
}

function capabilitiesOf(traits: Traits): Capabilities {
  const writeAbsent = traits.locks || traits.writeAbsent;
  const writeMatch = traits.locks || traits.writeMatch !== false;
  return {
    preconditions: {
      writeAbsent,
      writeMatch,
      multipartAbsent: writeAbsent,
      multipartMatch: writeMatch,
      copyAbsent: traits.locks || traits.overwrite,
      removeMatch: traits.locks,
    },
    attributes: traits.attributes,
    directories: 'real',
    maximumSize: Number.MAX_SAFE_INTEGER,
    maximumKeyBytes: Number.POSITIVE_INFINITY,
  };
}
