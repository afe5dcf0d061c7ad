/** Content at rest: the cache file of an object, and the object under another name. */
import type { ObjectInfo, StoredAttributes, Validator } from '../../backends/contract.js';
import type { CleanFile } from '../../content/contract.js';
import { MirageError } from '../../errors/mirage-error.js';
import type { Name } from '../inodes/inode-table.js';
import type { Commits } from './commit.js';
import type { Inode } from './inode.js';
import type { Nodes } from './nodes.js';

/** Up to this size, bytes, a store whose copies know no precondition gets the bytes again, in a write that does. */
const REWRITE_LIMIT = 8 * 1024 * 1024;

export class Copies {
  readonly #nodes: Nodes;
  readonly #commits: Commits;

  constructor(nodes: Nodes, commits: Commits) {
    this.#nodes = nodes;
    this.#commits = commits;
  }

  /** The cache file of the version that an inode is based on. ESTALE: it has none any more. */
  clean(inode: Inode): CleanFile {
    if (inode.clean !== undefined) return inode.clean;
    const nodes = this.#nodes;
    const [name] = nodes.table.names(inode.slot);
    const validator = name === undefined ? undefined : inode.base(name.parent, name.name);
    if (name === undefined || validator === undefined) throw otherVersion();
    const key = nodes.keyOf(name.parent, name.name);
    inode.clean = nodes.content.acquire({ mount: nodes.mount, key, validator, size: inode.attributes.size });
    return inode.clean;
  }

  /** The same with every byte in it. */
  async wholeFile(inode: Inode): Promise<{ fd: number; size: number }> {
    let file = this.clean(inode);
    if (file.shared) {
      inode.clean = this.#nodes.content.acquire(file.version, true);
      file.release();
      file = inode.clean;
    }
    await file.ensureAll(NEVER);
    return { fd: file.fd, size: file.version.size };
  }

  /** The store no longer has the version that an inode is based on: what rows say of its names is asked anew. */
  outdated(inode: Inode): void {
    const nodes = this.#nodes;
    for (const { parent, name } of nodes.table.names(inode.slot)) {
      const base = inode.base(parent, name);
      if (base !== undefined && nodes.entry(parent, name)?.validator === base) nodes.expire(parent, name);
    }
  }

  /**
   * Copies what the store has of an inode by the strongest means there are: a conditional copy; else, for what is not large or
   * is cached anyway, the bytes again in a conditional write; else a look at the target and a plain copy.
   */
  async copy(
    inode: Inode,
    from: Name,
    to: Name,
    target: Validator | undefined,
    attributes: StoredAttributes,
  ): Promise<ObjectInfo> {
    const nodes = this.#nodes;
    const { port, mount } = nodes;
    const precondition = this.#commits.precondition(target);
    const sound =
      precondition.kind === 'any' ||
      (precondition.kind === 'absent' && port.capabilities(mount).preconditions.copyAbsent);
    const near = inode.staged !== undefined || inode.clean?.complete === true;
    if (!port.features(mount).copy || (!sound && (near || inode.attributes.size <= REWRITE_LIMIT))) {
      if (inode.staged !== undefined) {
        return inode.staged.commit((fd, size) =>
          this.#commits.putContent(inode, to, target, { fd, size, attributes }),
        );
      }
      return this.#commits.putContent(inode, to, target, { ...(await this.wholeFile(inode)), attributes });
    }
    const key = nodes.keyOf(to.parent, to.name);
    if (!sound) {
      const found = await port.stat(mount, key);
      if (found?.validator !== target) throw new MirageError(`${key} has changed`, { errno: 'ESTALE' });
    }
    const match = inode.base(from.parent, from.name);
    return port.copy(mount, {
      from: nodes.keyOf(from.parent, from.name),
      to: key,
      ...(match === undefined ? {} : { match }),
      precondition: sound ? precondition : { kind: 'any' },
      attributes,
      size: inode.attributes.size,
    });
  }
}

/** What calls on a handle hear when its content is not to be had any more. */
export const otherVersion = (): MirageError =>
  new MirageError('another version of the file has come', { errno: 'ESTALE', hint: 'open it again' });

const NEVER = new AbortController().signal;
