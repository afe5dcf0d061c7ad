/**
 * What only a listing has told of: the request for the content of a file says the rest as well, so no question goes before it. Neither does one
 * go before it where somebody only looks at a small file, which most do who open it next: in a path, the kernel asks for attributes first.
 */
import type { ObjectInfo } from '../../backends/contract.js';
import type { CleanFile } from '../../content/contract.js';
import { MirageError } from '../../errors/mirage-error.js';
import type { EntryRecord } from '../../metadata/contract.js';
import type { Slot } from '../inodes/inode-table.js';
import type { ByteString } from '../operations.js';
import type { Nodes } from './nodes.js';

/** What is fetched for a look, bytes. */
const SMALL = 1024 * 1024;
/** Looks in a row without an open, after which the next ones fetch nothing: somebody wants to know about files, not what is in them. */
const LOOKS = 8;
/** Bytes that may be on their way for looks. */
const UNDER_WAY = 4 * SMALL;
const NEVER = new AbortController().signal;

/** Takes what the store said of a name to a question asked at `asked`, milliseconds. */
type Heard = (parent: Slot, name: ByteString, info: ObjectInfo | undefined, asked: number) => void;

export class ContentFirst {
  readonly #nodes: Nodes;
  readonly #heard: Heard;
  #looks = 0;
  #underWay = 0;

  constructor(nodes: Nodes, heard: Heard) {
    this.#nodes = nodes;
    this.#heard = heard;
  }

  /** Fetches a small file in order to say what it is. True: its row says it now. */
  async look(parent: Slot, record: EntryRecord): Promise<boolean> {
    const { size } = record;
    if (size > SMALL || this.#looks >= LOOKS || this.#underWay + size > UNDER_WAY) return false;
    const file = this.acquire(parent, record);
    if (file === undefined) return false;
    this.#underWay += size;
    this.#looks++;
    const heard = this.hear(parent, record, file, NEVER).catch(() => false);
    // The bytes are wanted too: who has looked opens it before they are all here.
    void heard
      .then((known) => (known ? file.ensureAll(NEVER) : undefined))
      .catch(() => undefined)
      .finally(() => {
        this.#underWay -= size;
        file.release();
      });
    return heard;
  }

  /** A file is opened for reading. */
  opened(): void {
    this.#looks = 0;
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
      if (stillThere && known?.attributes === undefined) this.#heard(parent, name, info, asked);
      return stillThere;
    } catch (error) {
      const another = MirageError.is(error, 'ESTALE') || MirageError.is(error, 'ENOENT');
      if (another || nodes.options.freshness === 'offline') return false;
      throw error;
    }
  }
}
