/**
 * `user.mirage.*`: what the mount knows of a file and can do with it. They are readable by name and not listed, so that no copying tool takes
 * them along.
 */
import type { Version } from '../../content/contract.js';
import { MirageError } from '../../errors/mirage-error.js';
import type { Slot } from '../inodes/inode-table.js';
import type { Answer, ByteString } from '../operations.js';
import type { Commits } from './commit.js';
import type { Copies } from './copies.js';
import type { Directories } from './directory.js';
import type { Nodes } from './nodes.js';

export const OWN_PREFIX = 'user.mirage.';

export class OwnAttributes {
  readonly #nodes: Nodes;
  readonly #directories: Directories;
  readonly #commits: Commits;
  readonly #copies: Copies;

  constructor(nodes: Nodes, directories: Directories, commits: Commits, copies: Copies) {
    this.#nodes = nodes;
    this.#directories = directories;
    this.#commits = commits;
    this.#copies = copies;
  }

  /** `name` without the prefix; undefined: there is none. */
  get(slot: Slot, name: ByteString): Answer<string | undefined> {
    const nodes = this.#nodes;
    const key = this.#keyOf(slot);
    if (key === undefined) return undefined;
    switch (name) {
      case 'etag':
        return this.#validator(slot);
      case 'version':
        return nodes.port.stat(nodes.mount, key).then((info) => info?.version);
      case 'cached':
        return this.#cached(slot, key)?.toString();
      case 'backend':
        return nodes.context.path;
      case 'key':
        return key;
      case 'url':
        return `${nodes.identity.replace(/\/+$/, '')}/${key}`;
      case 'pin':
        return nodes.content.isPinned(nodes.mount, key) ? '1' : '0';
      default:
        return undefined;
    }
  }

  /** `name` without the prefix. Throws EPERM for what only tells something, EINVAL for a value that means nothing. */
  set(slot: Slot, name: ByteString, value: string): Answer<void> {
    const nodes = this.#nodes;
    const key = this.#keyOf(slot);
    if (key === undefined) throw new MirageError('the name is gone', { errno: 'ESTALE' });
    switch (name) {
      case 'refresh':
        return this.#directories.revalidate(slot);
      case 'cached':
        if (value === 'all') return this.#fetch(slot);
        if (value !== 'none') throw unknownValue(name, 'all or none');
        nodes.content.drop(nodes.mount, key);
        // The kernel's pages are a cache as well.
        nodes.context.notifier.invalidateNode(nodes.table.id(slot), 0, 0);
        return undefined;
      case 'pin':
        if (value !== '0' && value !== '1') throw unknownValue(name, '1 or 0');
        return this.#pin(slot, key, value === '1');
      default:
        throw new MirageError(`${OWN_PREFIX}${name} is read only`, { errno: 'EPERM' });
    }
  }

  #keyOf(slot: Slot): string | undefined {
    const nodes = this.#nodes;
    const [first] = nodes.table.names(slot);
    if (first === undefined) return undefined;
    return nodes.directoryKeyIfAny(slot) === '' ? '' : nodes.keyOf(first.parent, first.name);
  }

  #validator(slot: Slot): string | undefined {
    const inode = this.#nodes.inUse(slot);
    const [first] = this.#nodes.table.names(slot);
    if (inode === undefined || first === undefined) return this.#nodes.record(slot)?.validator;
    return inode.base(first.parent, first.name);
  }

  /** Bytes of a file that are here; all of one that is being written. */
  #cached(slot: Slot, key: string): number | undefined {
    const nodes = this.#nodes;
    const inode = nodes.inUse(slot);
    if (inode?.staged !== undefined) return inode.staged.size;
    const version = this.#version(slot, key);
    return version === undefined ? undefined : nodes.content.cached(version);
  }

  #version(slot: Slot, key: string): Version | undefined {
    const nodes = this.#nodes;
    const record = nodes.record(slot);
    const validator = this.#validator(slot);
    if (record?.kind !== 'file' || validator === undefined) return undefined;
    const size = nodes.inUse(slot)?.attributes.size ?? record.size;
    return { mount: nodes.mount, key, validator, size };
  }

  async #fetch(slot: Slot): Promise<void> {
    if (this.#nodes.table.isDirectory(slot))
      throw new MirageError('a directory has no content', { errno: 'EISDIR' });
    const inode = this.#nodes.use(slot);
    // Held while it comes: nothing else may.
    inode.handles++;
    try {
      await (inode.staged ?? this.#copies.clean(inode)).ensureAll(NEVER);
    } finally {
      inode.handles--;
      this.#commits.rest(inode);
    }
  }

  async #pin(slot: Slot, key: string, pinned: boolean): Promise<void> {
    const { content, mount } = this.#nodes;
    content.pin(mount, key, pinned);
    if (!pinned || this.#nodes.table.isDirectory(slot)) return;
    const version = this.#version(slot, key);
    if (version === undefined) return;
    // One that lay among others gets a file of its own.
    const file = content.acquire(version, true);
    try {
      await file.ensureAll(NEVER);
    } finally {
      file.release();
    }
  }
}

const unknownValue = (name: string, values: string): MirageError =>
  new MirageError(`${OWN_PREFIX}${name} takes ${values}`, { errno: 'EINVAL' });

const NEVER = new AbortController().signal;
