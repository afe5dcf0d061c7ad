/** Brings what became of changes that were answered early into what the volume shows: rows, nodes in use and cached bytes. */
import { randomUUID } from 'node:crypto';
import type { ObjectInfo, Validator } from '../../../backends/contract.js';
import type { NewEntryRecord } from '../../../metadata/contract.js';
import { versionHash } from '../../inodes/attributes-of.js';
import { NONE, ROOT_SLOT, type Slot } from '../../inodes/inode-table.js';
import { absentRecord, recordOf } from '../../inodes/records.js';
import type { Commits } from '../commit.js';
import { keepConflict } from '../conflicts.js';
import type { Inode } from '../inode.js';
import { nameOf, nameOfFileBesideDirectory } from '../names.js';
import type { Nodes } from '../nodes.js';
import { parentOf, provisional } from './intent.js';
import type { Outcomes, Refused, Settled } from './outcomes.js';

export class Settling implements Outcomes {
  readonly #nodes: Nodes;
  readonly #commits: Commits;

  constructor(nodes: Nodes, commits: Commits) {
    this.#nodes = nodes;
    this.#commits = commits;
  }

  /** Carries out what is pending, also what an earlier run left; of that the rows know nothing for sure. */
  begin(): void {
    const { writeBehind, metadata, location } = this.#nodes;
    if (writeBehind === undefined) return;
    for (const directory of writeBehind.recoveredDirectories()) metadata.expire(location, directory);
    writeBehind.start(this);
  }

  settled({ key, before, info, latest, release }: Settled): void {
    const nodes = this.#nodes;
    const validator = info?.validator;
    if (info?.kind === 'file' && before !== undefined && validator !== undefined) {
      const version = { mount: nodes.mount, key, validator: before, size: info.size ?? 0 };
      nodes.content.relabel(version, validator, release);
      this.#renamed(key, before, validator, info);
    } else {
      release();
      if (info === undefined) {
        if (latest) this.#stillAbsent(key);
      } else if (before === undefined) {
        if (latest) this.#show(key, info);
      } else this.#renamed(key, before, validator, info);
    }
  }

  /** The version that is shown at a key has the name that the store gave it. */
  #renamed(key: string, before: Validator, now: Validator | undefined, info: ObjectInfo): void {
    const nodes = this.#nodes;
    const directory = parentOf(key);
    const component = key.slice(directory === '' ? 0 : directory.length + 1);
    for (const name of [nameOf(component), nameOfFileBesideDirectory(component)]) {
      // Where the other names of a hard link are still being sent its row is not written yet.
      this.#renamedInUse(directory, name, before, now, info);
      const record = nodes.metadata.entry(nodes.location, directory, name);
      if (record === undefined || record.kind !== info.kind || record.validator !== before) continue;
      const { position: _, ...rest } = record;
      const isFile = info.kind === 'file';
      const row: NewEntryRecord = {
        ...rest,
        validator: now,
        modifiedSeconds: isFile ? info.modified.seconds : rest.modifiedSeconds,
        modifiedNanoseconds: isFile ? info.modified.nanoseconds : rest.modifiedNanoseconds,
        seenAt: nodes.now(),
      };
      nodes.putIn(directory, row);
    }
  }

  #renamedInUse(
    directory: string,
    name: string,
    before: Validator,
    now: Validator | undefined,
    info: ObjectInfo,
  ): void {
    const { table } = this.#nodes;
    const parent = this.#slotOf(directory);
    const slot = parent === NONE ? NONE : table.child(parent, name);
    if (slot === NONE) return;
    const inode = this.#nodes.inUse(slot);
    if (inode !== undefined && inode.base(parent, name) === before) {
      inode.setBase(parent, name, { validator: now, modified: info.modified });
    }
    // The kernel's pages are of the same bytes.
    if (table.version(slot) === versionHash(before)) table.setVersion(slot, versionHash(now));
  }

  /** A listing that was asked before the removal does not bring the name back. */
  #stillAbsent(key: string): void {
    const nodes = this.#nodes;
    const directory = parentOf(key);
    const name = nameOf(key.slice(directory === '' ? 0 : directory.length + 1));
    const record = nodes.metadata.entry(nodes.location, directory, name);
    if (record !== undefined && record.kind !== 'absent') return;
    nodes.putIn(directory, absentRecord(name, nodes.now()));
  }

  /** What the store has under a key is shown from now on. */
  #show(key: string, found: ObjectInfo | undefined): void {
    const nodes = this.#nodes;
    const directory = parentOf(key);
    const name = nameOf(key.slice(directory === '' ? 0 : directory.length + 1));
    const parent = this.#slotOf(directory);
    if (parent !== NONE) nodes.context.notifier.invalidateEntry(nodes.table.id(parent), name);
    const previous = nodes.metadata.entry(nodes.location, directory, name);
    const now = nodes.now();
    if (previous?.kind === 'directory' || found?.kind === 'directory') nodes.recount(directory);
    const row = found === undefined ? absentRecord(name, now) : recordOf(found, name, previous, now);
    nodes.putIn(directory, row);
  }

  async refused({ intent, key, error, found, latest, keep }: Refused): Promise<void> {
    const nodes = this.#nodes;
    const { log, path } = nodes.context;
    let kept = '';
    if (intent.kind === 'put') {
      const { conflicts, conflictDirectory } = nodes.options;
      const stamp = new Date(nodes.now()).toISOString().replaceAll(':', '').replace('.', '');
      const record = {
        key,
        path: `${path}/${key}`,
        base: intent.precondition.kind === 'match' ? intent.precondition.validator : undefined,
        found: found?.validator,
        attributes: intent.attributes,
        size: intent.size,
        reason: error.message,
      };
      kept = await keepConflict(
        record,
        { keep, discard: () => undefined },
        `${stamp}-${randomUUID().slice(0, 8)}`,
        conflictDirectory,
        conflicts === 'reject' ? 'reject' : 'sidecar',
        nodes.context,
      );
    }
    log.warn('a change that was promised could not be made; what the store has is shown again', {
      key,
      change: intent.kind,
      why: error.message,
      ...(kept !== '' && { record: kept }),
    });
    if (intent.kind === 'put' && latest) this.#lose(key, provisional(intent.nonce), error, found);
    if (intent.kind === 'copy') {
      const source = await nodes.port.stat(nodes.mount, intent.from);
      this.#show(intent.from, source);
      if (latest) this.#lose(key, provisional(intent.nonce), error, found);
    } else if (intent.kind === 'moveTree') {
      nodes.settled.changed();
      nodes.metadata.expire(nodes.location, intent.from);
      nodes.metadata.expire(nodes.location, key);
      this.#show(intent.from, await nodes.port.stat(nodes.mount, intent.from));
      this.#show(key, found);
    } else if (intent.kind !== 'put' && latest) this.#show(key, found);
  }

  /** The version that programs here believe in will never be: those who have it open hear ESTALE. */
  #lose(key: string, version: Validator, error: Inode['failure'], found: ObjectInfo | undefined): void {
    const nodes = this.#nodes;
    const directory = parentOf(key);
    const name = nameOf(key.slice(directory === '' ? 0 : directory.length + 1));
    const parent = this.#slotOf(directory);
    const slot = parent === NONE ? NONE : nodes.table.child(parent, name);
    const inode = slot === NONE ? undefined : nodes.inUse(slot);
    if (inode !== undefined && inode.base(parent, name) === version) {
      inode.failure = error;
      inode.lost = true;
      nodes.loseName(inode, { parent, name }, found);
      nodes.supersede(slot);
      this.#commits.rest(inode);
      return;
    }
    if (inode?.holdsTruth === true) return;
    if (slot !== NONE) nodes.supersede(slot);
    this.#show(key, found);
  }

  /** The node of a directory, where the kernel or a program knows it. */
  #slotOf(key: string): Slot {
    let slot = ROOT_SLOT;
    for (const component of key === '' ? [] : key.split('/')) {
      slot = this.#nodes.table.child(slot, nameOf(component));
      if (slot === NONE) return NONE;
    }
    return slot;
  }
}
