/**
 * Brings what programs wrote to the store: content with its attributes in one conditional write, attributes alone when they
 * have rested for two seconds. A commit says which version it is based on; who loses the race keeps the bytes aside and hears ESTALE.
 */
import { randomUUID } from 'node:crypto';
import type { ObjectInfo, Precondition, StoredAttributes, Validator } from '../../backends/contract.js';
import type { StagedFile } from '../../content/contract.js';
import { MirageError } from '../../errors/mirage-error.js';
import { type Name, ROOT_SLOT } from '../inodes/inode-table.js';
import { Gate } from '../inodes/turn.js';
import { AttributeWrites } from './attribute-writes.js';
import { keepConflict } from './conflicts.js';
import type { Inode } from './inode.js';
import type { Nodes } from './nodes.js';
import { Retries } from './retries.js';

/** How long attribute changes wait for more of them, milliseconds. */
const ATTRIBUTES_REST = 2000;
/** Times that a write whose outcome nobody knows is looked up and, where it did not happen, sent again. */
const UNKNOWN_OUTCOMES = 3;

interface Put {
  readonly fd: number;
  readonly size: number;
  readonly attributes: StoredAttributes;
  readonly open?: boolean;
  /** Is told what the bytes are called where they wait for their store. */
  readonly onStaged?: (file: string) => void;
}

export class Commits {
  /** Single files go together, the rename of a directory alone. */
  readonly gate = new Gate();
  readonly #nodes: Nodes;
  readonly #attributes: AttributeWrites;
  readonly #unsaved = new Set<Inode>();
  readonly #running = new Set<Promise<unknown>>();
  readonly #retries = new Retries((inode) => this.inBackground(inode, this.#saveLater(inode), true));
  #timer: NodeJS.Timeout | undefined;

  constructor(nodes: Nodes) {
    this.#nodes = nodes;
    this.#attributes = new AttributeWrites(nodes);
  }

  /** Content and attributes are in the store (or the journal) when this resolves. Throws ESTALE for a lost race, once. */
  commit(inode: Inode): Promise<void> {
    return inode.turn.run(() => this.gate.together(() => this.commitNow(inode)));
  }

  /** The same for somebody who has the inode's turn and the gate. */
  async commitNow(inode: Inode): Promise<void> {
    await this.#nodes.confirmNames(inode);
    const names = this.#nodes.table.names(inode.slot);
    if (names.length === 0 || inode.superseded) return;
    if (inode.needsCommit) await this.#commitContent(inode, names, inode.writers > 0);
    else if (inode.needsAttributes) await this.#saveAttributes(inode, names);
  }

  async #commitContent(inode: Inode, names: readonly Name[], open: boolean): Promise<void> {
    const staged = inode.staged;
    if (staged === undefined) return;
    await inode.revalidation;
    const changes = inode.attributesChanged;
    const mustCommit = inode.mustCommit;
    const writer = randomUUID();
    const attributes = this.#nodes.stored(inode, writer);
    inode.mustCommit = false;
    inode.committing = true;
    const lost: { name: Name; error: MirageError }[] = [];
    const files: string[] = [];
    const onStaged = (file: string) => void files.push(file);
    try {
      await staged.commit((fd, size) =>
        this.#putEverywhere(inode, names, { fd, size, attributes, open, onStaged }, lost),
      );
    } catch (error) {
      inode.mustCommit ||= mustCommit;
      if (MirageError.is(error, 'ESTALE')) throw await this.#lost(inode, names[0] as Name, error);
      throw error;
    } finally {
      inode.committing = false;
    }
    this.#lend(staged, files);
    inode.unconfirmed.clear();
    inode.attributesSaved = Math.max(inode.attributesSaved, changes);
    if (!inode.needsAttributes) this.#unsaved.delete(inode);
    for (const { name } of lost) {
      const { port, mount } = this.#nodes;
      this.#nodes.loseName(inode, name, await port.stat(mount, this.#nodes.keyOf(name.parent, name.name)));
    }
    this.#nodes.publish(inode, true);
    const [first] = this.#nodes.table.names(inode.slot);
    if (first !== undefined) this.#nodes.sameVersion(inode.slot, inode.base(first.parent, first.name));
  }

  /** The journal has the same bytes until the store has them. */
  #lend(staged: StagedFile, files: readonly string[]): void {
    const { writeBehind } = this.#nodes;
    if (writeBehind?.async !== true) return;
    staged.lend({
      recall: () => writeBehind.recall(files),
      giveBack: () => writeBehind.giveBack(files),
    });
  }

  /** To every name of a hard link; where another host has taken one, the others still are ours. */
  async #putEverywhere(
    inode: Inode,
    names: readonly Name[],
    put: Put,
    lost: { name: Name; error: MirageError }[],
  ): Promise<ObjectInfo> {
    let first: ObjectInfo | undefined;
    for (const name of names) {
      try {
        const info = await this.putContent(inode, name, inode.base(name.parent, name.name), put);
        inode.setBase(name.parent, name.name, info);
        first ??= info;
      } catch (error) {
        if (!MirageError.is(error, 'ESTALE')) throw error;
        lost.push({ name, error });
      }
    }
    if (first === undefined) throw (lost[0] as { error: MirageError }).error;
    return first;
  }

  /**
   * Puts the content under one name. The writer's nonce in the attributes tells our write from another's where the answer was lost,
   * or where a repetition below us met its own success. An earlier write of ours whose answer never came is the version to replace.
   */
  async putContent(
    inode: Inode,
    name: Name,
    known: Validator | undefined,
    { onStaged, ...put }: Put,
  ): Promise<ObjectInfo> {
    const { port, mount } = this.#nodes;
    const stagedAs = randomUUID();
    const key = this.#nodes.keyOf(name.parent, name.name);
    const { writer } = put.attributes;
    let base = known;
    for (let attempt = 1; ; attempt++) {
      const precondition = this.precondition(base);
      try {
        const info = await port.commit(mount, { key, ...put, stagedAs, precondition });
        onStaged?.(stagedAs);
        return info;
      } catch (error) {
        const unknown = error instanceof MirageError && error.outcomeUnknown;
        if (!unknown && !MirageError.is(error, 'ESTALE')) throw error;
        if (unknown && writer !== undefined) inode.unconfirmed.add(writer);
        const found = await port.stat(mount, key);
        const author = found?.attributes?.writer;
        if (found !== undefined && author !== undefined && author === writer) return found;
        const untouched = found?.validator === base;
        if (!untouched && author !== undefined && inode.unconfirmed.has(author)) {
          base = found?.validator;
          continue;
        }
        if (!unknown || attempt === UNKNOWN_OUTCOMES) throw error;
        if (!untouched && precondition.kind !== 'any') {
          throw new MirageError(`${key} was changed by another writer`, { errno: 'ESTALE', cause: error });
        }
      }
    }
  }

  precondition(base: Validator | undefined): Precondition {
    if (this.#nodes.options.conflicts === 'lastWriterWins') return { kind: 'any' };
    return base === undefined ? { kind: 'absent' } : { kind: 'match', validator: base };
  }

  /** Another host was first: our bytes go aside, the name shows theirs from now on. */
  async #lost(inode: Inode, name: Name, cause: MirageError): Promise<MirageError> {
    const nodes = this.#nodes;
    const key = nodes.keyOf(name.parent, name.name);
    const found = await nodes.port.stat(nodes.mount, key).catch(() => undefined);
    const staged = inode.staged;
    const { conflicts, conflictDirectory } = nodes.options;
    let kept = '';
    if (staged !== undefined && conflicts !== 'lastWriterWins') {
      inode.staged = undefined;
      // From here on nothing more is taken that would be in neither file.
      inode.lost = true;
      const record = {
        key,
        path: `${nodes.context.path}/${key}`,
        base: inode.base(name.parent, name.name),
        found: found?.validator,
        attributes: nodes.stored(inode),
        size: inode.attributes.size,
        reason: cause.message,
      };
      const stamp = new Date(nodes.now()).toISOString().replaceAll(':', '').replace('.', '');
      const file = `${stamp}-${randomUUID().slice(0, 8)}`;
      kept = await keepConflict(record, staged, file, conflictDirectory, conflicts, nodes.context).catch(
        (error: unknown) => {
          nodes.context.log.error('bytes that lost a race could not be kept as a conflict', {
            key,
            reason: String(error),
            do: 'they stay in staging/ of the cache directory, and the next mount moves them to recovered/ there',
          });
          return '';
        },
      );
    }
    this.#unsaved.delete(inode);
    inode.lost = true;
    for (const each of nodes.table.names(inode.slot)) {
      const other = nodes.keyOf(each.parent, each.name);
      nodes.loseName(inode, each, other === key ? found : await nodes.port.stat(nodes.mount, other));
    }
    nodes.supersede(inode.slot);
    nodes.context.log.warn('another host changed the file first; the bytes written here were kept aside', {
      key,
      record: kept,
    });
    return new MirageError(`${key} was changed by another host since it was read`, {
      errno: 'ESTALE',
      hint: kept === '' ? 'read it again' : `what was written here is kept: ${kept}`,
      cause,
    });
  }

  // Attributes alone.

  /**
   * Something that `stat` or getxattr shows was changed: visible at once, in the store within two seconds. With `writeBack: async` the
   * promise is that of the journal.
   */
  attributesChanged(inode: Inode): undefined | Promise<void> {
    inode.attributesChanged++;
    this.#nodes.publish(inode);
    if (inode.slot === ROOT_SLOT || this.#nodes.table.names(inode.slot).length === 0) {
      inode.attributesSaved = inode.attributesChanged;
      return undefined;
    }
    this.#unsaved.add(inode);
    const journaled = this.#nodes.writeBehind?.async === true;
    if (journaled && !(inode.needsCommit && inode.writers > 0)) return this.#saveLater(inode);
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      for (const each of [...this.#unsaved]) this.inBackground(each, this.#saveLater(each));
    }, ATTRIBUTES_REST);
    return undefined;
  }

  async #saveLater(inode: Inode): Promise<void> {
    // Content that is still being written takes its attributes along.
    if (inode.needsCommit && inode.writers > 0) {
      this.#unsaved.delete(inode);
      return;
    }
    await this.commit(inode);
    this.rest(inode);
  }

  async #saveAttributes(inode: Inode, names: readonly Name[]): Promise<void> {
    const changes = inode.attributesChanged;
    const changedElsewhere = await this.#attributes.save(inode, names);
    inode.attributesSaved = Math.max(inode.attributesSaved, changes);
    if (!inode.needsAttributes) this.#unsaved.delete(inode);
    this.#nodes.publish(inode, true);
    for (const { parent, name } of changedElsewhere) this.#nodes.expire(parent, name);
  }

  /** The object of a directory itself, with these attributes whether it was there or not. */
  makeMarker(key: string, attributes: StoredAttributes): Promise<ObjectInfo> {
    return this.#attributes.makeMarker(key, attributes);
  }

  /** Nobody has the file open and all of it is in the store: what was staged becomes the clean cache file. */
  rest(inode: Inode): void {
    const nodes = this.#nodes;
    if (inode.handles > 0 || inode.turn.busy) return;
    const [name] = nodes.table.names(inode.slot);
    if (name === undefined || inode.superseded) {
      this.forget(inode);
      inode.staged?.discard();
      inode.staged = undefined;
    } else if (inode.staged !== undefined && !inode.needsCommit) {
      const validator = inode.base(name.parent, name.name);
      if (validator === undefined) return;
      inode.clean?.release();
      const size = inode.staged.size;
      const key = nodes.keyOf(name.parent, name.name);
      inode.clean = inode.staged.settle({ mount: nodes.mount, key, validator, size });
      inode.staged = undefined;
    }
    nodes.unuse(inode);
  }

  /** Nothing of the inode is to be saved any more: it has no name. */
  forget(inode: Inode): void {
    this.#unsaved.delete(inode);
    inode.attributesSaved = inode.attributesChanged;
    inode.mustCommit = false;
  }

  // What goes on behind programs' backs.

  /** Keeps a failure for the next fsync or open, for nobody waits for this; `again`: it was told already. */
  inBackground(inode: Inode, work: Promise<void>, again = false): void {
    const watched = work
      .then(
        () => {
          if (!inode.needsCommit) inode.failure = undefined;
          this.#retries.succeeded();
        },
        (error: unknown) => {
          if (!again) {
            inode.failure =
              error instanceof MirageError
                ? error
                : new MirageError('commit failed', { errno: 'EIO', cause: error });
          }
          this.#nodes.context.log.error('a change could not be brought to the store', {
            node: this.#nodes.table.name(inode.slot),
            reason: String(error),
          });
          this.#retryLater(inode, error);
        },
      )
      .finally(() => this.#running.delete(watched));
    this.#running.add(watched);
  }

  #retryLater(inode: Inode, error: unknown): void {
    if (error instanceof MirageError && (error.retryable || error.outcomeUnknown)) this.#retries.add(inode);
  }

  /** Nothing happens behind anybody's back any more. */
  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#retries.stop();
  }

  async drain(): Promise<void> {
    this.stop();
    const failures: unknown[] = [];
    const inodes = [...this.#nodes.allInUse()].filter((inode) => inode.needsCommit || inode.needsAttributes);
    await Promise.all(
      inodes.map((inode) =>
        this.commit(inode).then(
          () => this.rest(inode),
          (error: unknown) => {
            failures.push(error);
            this.#retryLater(inode, error);
          },
        ),
      ),
    );
    while (this.#running.size > 0) await Promise.all(this.#running);
    if (failures.length > 0)
      throw failures.length === 1
        ? failures[0]
        : new AggregateError(failures, 'not everything could be brought to the store');
  }

  pending(): readonly string[] {
    const { table, context } = this.#nodes;
    const lines: string[] = [];
    for (const inode of this.#nodes.allInUse()) {
      const name = table.names(inode.slot)[0];
      if (name === undefined || (!inode.needsCommit && !inode.needsAttributes)) continue;
      const what = inode.needsCommit ? `${inode.attributes.size} bytes` : 'attributes';
      lines.push(`${context.path}/${this.#nodes.keyOf(name.parent, name.name)}: ${what} to commit`);
    }
    return lines;
  }
}
