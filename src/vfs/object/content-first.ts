/** Opening a file that only a listing has told of: the request for its content says the rest as well, so no question goes before it. */
import type { CleanFile } from '../../content/contract.js';
import { MirageError } from '../../errors/mirage-error.js';
import type { EntryRecord } from '../../metadata/contract.js';
import type { Slot } from '../inodes/inode-table.js';
import type { Directories } from './directory.js';
import type { Nodes } from './nodes.js';

export class ContentFirst {
  readonly #nodes: Nodes;
  readonly #directories: Directories;

  constructor(nodes: Nodes, directories: Directories) {
    this.#nodes = nodes;
    this.#directories = directories;
  }

  /** The cache file of what a row speaks of, in use once; undefined: the row does not say which version that is, or there is nothing in it. */
  acquire(parent: Slot, record: EntryRecord): CleanFile | undefined {
    const { kind, validator, size, name } = record;
    const { mount, content } = this.#nodes;
    if (kind !== 'file' || validator === undefined || size === 0) return undefined;
    return content.acquire({ mount, key: this.#nodes.keyOf(parent, name), validator, size });
  }

  /**
   * Begins to fetch `file`, and resolves true when its row says what the store did, attributes included. False: nothing was heard; it is cached
   * already, or another version by now.
   */
  async hear(parent: Slot, record: EntryRecord, file: CleanFile, signal: AbortSignal): Promise<boolean> {
    const nodes = this.#nodes;
    const asked = nodes.now();
    try {
      const info = await file.begin(signal);
      if (info === undefined) return false;
      if (info.attributes === undefined && nodes.port.capabilities(nodes.mount).attributes) return false;
      const { name } = record;
      const stillThere =
        nodes.directoryKeyIfAny(parent) !== undefined && nodes.keyOf(parent, name) === file.version.key;
      // Who waited for the same request may have heard it before.
      const known = stillThere ? nodes.entry(parent, name) : undefined;
      if (stillThere && known?.attributes === undefined) this.#directories.heard(parent, name, info, asked);
      return stillThere;
    } catch (error) {
      const another = MirageError.is(error, 'ESTALE') || MirageError.is(error, 'ENOENT');
      if (another || nodes.options.freshness === 'offline') return false;
      throw error;
    }
  }
}
