/** Attributes alone, as the store keeps them: with the object of a file, or of a directory. */
import { randomUUID } from 'node:crypto';
import type { ObjectInfo, Precondition, StoredAttributes, Validator } from '../../backends/contract.js';
import { MirageError } from '../../errors/mirage-error.js';
import type { Name } from '../inodes/inode-table.js';
import type { Inode } from './inode.js';
import type { Nodes } from './nodes.js';

export class AttributeWrites {
  readonly #nodes: Nodes;

  constructor(nodes: Nodes) {
    this.#nodes = nodes;
  }

  /** Under every name; resolves with those under which another host has put something else, so that the store is to be asked again. */
  async save(inode: Inode, names: readonly Name[]): Promise<readonly Name[]> {
    const nodes = this.#nodes;
    const { port, mount } = nodes;
    // A nonce of its own, by which an answer that was lost is read back.
    const attributes = nodes.stored(inode, randomUUID());
    const features = port.features(mount);
    const changedElsewhere: Name[] = [];
    for (const { parent, name } of names) {
      const key = nodes.keyOf(parent, name);
      const base = inode.base(parent, name);
      let info: ObjectInfo | undefined;
      if (inode.kind === 'directory' && base === undefined) {
        if (features.directories) info = await this.makeMarker(key, attributes);
      } else if (features.setAttributes) {
        info = await this.#setAttributes(key, inode.kind, attributes, base);
        if (info === undefined) changedElsewhere.push({ parent, name });
      }
      if (info?.validator === undefined) continue;
      inode.setBase(parent, name, info);
      if (inode.kind === 'file' && name === names[0]?.name) await nodes.relabel(inode, { parent, name });
    }
    return changedElsewhere;
  }

  /** The object of a directory itself, with these attributes whether it was there or not. */
  async makeMarker(key: string, attributes: StoredAttributes): Promise<ObjectInfo> {
    const { port, mount } = this.#nodes;
    try {
      return await port.createDirectory(mount, key, attributes);
    } catch (error) {
      if (!MirageError.is(error, 'EEXIST') || !port.features(mount).setAttributes) throw error;
      return port.setAttributes(mount, key, 'directory', attributes, { kind: 'any' });
    }
  }

  /**
   * Attributes do not depend on the content: where another version came in between, they go to that one. Undefined: what is there, if
   * anything, is not known here until the store is asked again.
   */
  async #setAttributes(
    key: string,
    kind: 'file' | 'directory',
    attributes: StoredAttributes,
    base: Validator | undefined,
  ): Promise<ObjectInfo | undefined> {
    const { port, mount } = this.#nodes;
    const precondition: Precondition =
      base === undefined ? { kind: 'any' } : { kind: 'match', validator: base };
    try {
      return await port.setAttributes(mount, key, kind, attributes, precondition);
    } catch (error) {
      if (!MirageError.is(error, 'ESTALE') && !MirageError.is(error, 'ENOENT')) throw error;
      const found = await port.stat(mount, key);
      // Removed by another host: what nobody has any more needs no attributes.
      if (found?.validator === undefined || found.kind !== kind) return undefined;
      // A file of another host's in place of a name of a hard link is none.
      if (attributes.linkGroup !== found.attributes?.linkGroup) return undefined;
      const kept = { ...attributes, writer: found.attributes?.writer };
      await port.setAttributes(mount, key, kind, kept, { kind: 'match', validator: found.validator });
      return undefined;
    }
  }
}
