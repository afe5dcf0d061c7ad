/**
 * Does at the store what an intent says, once: an attempt whose outcome nobody knows is read back by its nonce, and what was begun before
 * is looked at before it is done again.
 */
import { closeSync, constants, fstatSync, openSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import type { ObjectInfo, Precondition, Validator } from '../../../backends/contract.js';
import { MirageError } from '../../../errors/mirage-error.js';
import type { Log } from '../../../log/log.js';
import type { MountIndex, StorePort } from '../../../ports/store-port.js';
import { type IntentOf, isOf, nonceOf, type PutIntent } from './intent.js';
import type { Outcome, Work } from './queue.js';
import { Removals } from './removals.js';
import type { TreeMover } from './tree-mover.js';
import type { Versions } from './versions.js';

/** Up to this size, bytes, a store whose copies know no precondition gets the bytes again, in a write that does. */
const REWRITE_LIMIT = 8 * 1024 * 1024;

/** Who is told what became of a change, before it leaves the queue. */
export interface Told {
  /** A key is at the store as it was promised. `before`: what its version was called until now. */
  settled(key: string, before: Validator | undefined, info: ObjectInfo | undefined, work: Work): void;
  /** Another host, or the store itself, stood in the way: what was promised will not come. */
  refused(work: Work, error: MirageError, found: ObjectInfo | undefined): Promise<void>;
  /** `writer` belongs to a change of the same key that was accepted after this one. */
  isOvertaken(work: Work, writer: string): boolean;
}

export interface CarryOutParts {
  readonly port: StorePort;
  readonly mount: MountIndex;
  /** Folder of the staged bytes. */
  readonly directory: string;
  readonly versions: Versions;
  readonly trees: TreeMover;
  readonly outcomes: Told;
  readonly log: Log;
}

export class CarryOut {
  readonly #parts: CarryOutParts;
  readonly #removals: Removals;

  constructor(parts: CarryOutParts) {
    this.#parts = parts;
    this.#removals = new Removals(parts.port, parts.mount);
  }

  async run(work: Work): Promise<Outcome> {
    try {
      await this.#attempt(work);
      return { kind: 'done' };
    } catch (error) {
      return this.#failed(work, asMirageError(error));
    }
  }

  async #failed(work: Work, error: MirageError): Promise<Outcome> {
    const { port, mount, log, outcomes } = this.#parts;
    const { intent } = work;
    if (isPassing(error)) {
      log.warn('a change waits for its store', { key: intent.key, why: error.message, do: error.hint });
      return { kind: 'failed', error, everything: true };
    }
    if (isCurable(error)) {
      log.error('a change could not be brought to the store; it is tried again', {
        key: intent.key,
        why: error.message,
        do: error.hint,
      });
      return { kind: 'failed', error, everything: false };
    }
    try {
      const found = await port.stat(mount, intent.key);
      const writer = found?.attributes?.writer;
      // The journal of a machine that stopped may have forgotten that this one was done, and not what came after it.
      const overtaken = work.begun && writer !== undefined && outcomes.isOvertaken(work, writer);
      if (overtaken) outcomes.settled(intent.key, undefined, undefined, work);
      else await outcomes.refused(work, error, found);
      return { kind: 'done' };
    } catch (cause) {
      return { kind: 'failed', error: asMirageError(cause), everything: true };
    }
  }

  async #attempt(work: Work): Promise<void> {
    const { outcomes } = this.#parts;
    const { intent } = work;
    switch (intent.kind) {
      case 'put':
        return this.#made(work, intent, await this.#put(work, intent));
      case 'copy':
        return this.#copied(work, intent);
      case 'remove':
        await this.#remove(intent);
        return outcomes.settled(intent.key, undefined, undefined, work);
      case 'makeDirectory':
        return this.#made(work, intent, await this.#makeDirectory(intent));
      case 'removeDirectory':
        await this.#removeDirectory(intent);
        return outcomes.settled(intent.key, undefined, undefined, work);
      case 'setAttributes':
        return this.#setAttributes(work, intent);
      case 'moveTree':
        return this.#moveTree(work, intent);
    }
  }

  #made(work: Work, { key, nonce }: { key: string; nonce: string }, info: ObjectInfo): void {
    const before = `pending:${nonce}`;
    if (info.validator !== undefined) this.#parts.versions.became(key, before, info.validator);
    this.#parts.outcomes.settled(key, before, info, work);
  }

  async #put(work: Work, intent: PutIntent): Promise<ObjectInfo> {
    const { port, mount, versions } = this.#parts;
    const { key, nonce } = intent;
    const earlier = work.begun ? await this.#own(key, nonce) : undefined;
    if (earlier !== undefined) return earlier;
    const fd = this.#open(intent.file);
    try {
      const precondition = await versions.precondition(key, intent.precondition);
      // Whoever wrote on after an fsync may have made it longer.
      const { size } = fstatSync(fd);
      const { attributes } = intent;
      return await this.#readBack(key, nonce, () =>
        port.commit(mount, {
          key,
          fd,
          size,
          precondition,
          attributes: { ...attributes, writer: nonce },
          again: true,
        }),
      );
    } finally {
      closeSync(fd);
    }
  }

  #open(file: string): number {
    try {
      return openSync(join(this.#parts.directory, file), constants.O_RDONLY);
    } catch (cause) {
      const missing = (cause as NodeJS.ErrnoException).code === 'ENOENT';
      throw new MirageError(`the staged bytes ${file} cannot be read`, {
        errno: missing ? 'ENOENT' : 'EIO',
        cause,
        hint: 'somebody has emptied cache.directory: it holds what was not stored yet',
      });
    }
  }

  /** The object, if it is the one that carries our nonce. */
  async #own(key: string, nonce: string): Promise<ObjectInfo | undefined> {
    const found = await this.#parts.port.stat(this.#parts.mount, key);
    return found?.kind === 'file' && isOf(found.attributes?.writer, nonce) ? found : undefined;
  }

  async #readBack(key: string, nonce: string, change: () => Promise<ObjectInfo>): Promise<ObjectInfo> {
    try {
      return await change();
    } catch (error) {
      if (!MirageError.is(error) || (!error.outcomeUnknown && error.errno !== 'ESTALE')) throw error;
      const own = await this.#own(key, nonce).catch(() => undefined);
      if (own !== undefined) return own;
      throw error;
    }
  }

  async #copied(work: Work, intent: IntentOf<'copy'>): Promise<void> {
    const { port, mount, versions, outcomes } = this.#parts;
    const { key, from, nonce, removes } = intent;
    const match = intent.match === undefined ? undefined : await this.#sourceOf(work, from, intent.match);
    const info = (await this.#own(key, nonce)) ?? (await this.#copy(intent, match));
    if (info.validator !== undefined) versions.became(key, `pending:${nonce}`, info.validator);
    if (removes) {
      const condition =
        match === undefined ? { kind: 'any' as const } : { kind: 'match' as const, validator: match };
      try {
        await this.#remove({ key: from, precondition: condition });
        outcomes.settled(from, undefined, undefined, work);
      } catch (error) {
        if (!MirageError.is(error, 'ESTALE')) throw error;
        // Another host wrote under the old name meanwhile: that is its file, and stays.
        const found = await port.stat(mount, from);
        outcomes.settled(from, undefined, found, work);
      }
    }
    outcomes.settled(key, `pending:${nonce}`, info, work);
  }

  /** The version to copy; where an earlier life has copied and removed it already, it is of no interest. */
  async #sourceOf(work: Work, from: string, match: Validator): Promise<Validator> {
    const { versions } = this.#parts;
    if (!work.begun || nonceOf(match) === undefined) return versions.resolve(from, match);
    return versions.resolve(from, match).catch((error: unknown) => {
      if (MirageError.is(error, 'ESTALE')) return match;
      throw error;
    });
  }

  async #copy(intent: IntentOf<'copy'>, match: Validator | undefined): Promise<ObjectInfo> {
    const { port, mount, versions } = this.#parts;
    const { key, from, nonce, size } = intent;
    const attributes = { ...intent.attributes, writer: nonce };
    const precondition = await versions.precondition(key, intent.precondition);
    const sound =
      precondition.kind === 'any' ||
      (precondition.kind === 'absent' && port.capabilities(mount).preconditions.copyAbsent);
    if (!port.features(mount).copy || (!sound && size <= REWRITE_LIMIT)) {
      return this.#readBack(key, nonce, async () => {
        const path = join(this.#parts.directory, `copy-${nonce}`);
        const fd = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_TRUNC, 0o600);
        unlinkSync(path);
        try {
          const range = { offset: 0, length: size };
          if (size > 0)
            await port.fetch(mount, { key: from, range, fd, ...(match !== undefined && { match }) });
          return await port.commit(mount, { key, fd, size, precondition, attributes });
        } finally {
          closeSync(fd);
        }
      });
    }
    return this.#readBack(key, nonce, () =>
      port.copy(mount, { from, to: key, ...(match !== undefined && { match }), precondition, attributes }),
    );
  }

  async #remove({ key, precondition }: Pick<IntentOf<'remove'>, 'key' | 'precondition'>): Promise<void> {
    const { port, mount, versions } = this.#parts;
    const honoured = port.capabilities(mount).preconditions.removeMatch;
    try {
      await this.#removals.remove(
        key,
        honoured ? await versions.precondition(key, precondition) : { kind: 'any' },
      );
    } catch (error) {
      // An earlier attempt may have done it.
      if (!MirageError.is(error, 'ESTALE') || (await port.stat(mount, key))?.kind === 'file') throw error;
    }
  }

  async #makeDirectory({ key, attributes }: IntentOf<'makeDirectory'>): Promise<ObjectInfo> {
    const { port, mount } = this.#parts;
    try {
      return await port.createDirectory(mount, key, attributes);
    } catch (error) {
      if (!MirageError.is(error, 'EEXIST') || !port.features(mount).setAttributes) throw error;
      return port.setAttributes(mount, key, 'directory', attributes, { kind: 'any' });
    }
  }

  async #removeDirectory({ key }: IntentOf<'removeDirectory'>): Promise<void> {
    const { port, mount } = this.#parts;
    try {
      await port.removeDirectory(mount, key);
    } catch (error) {
      if (!MirageError.is(error, 'ENOENT')) throw error;
    }
  }

  async #setAttributes(work: Work, intent: IntentOf<'setAttributes'>): Promise<void> {
    const { port, mount, versions, outcomes } = this.#parts;
    const { key, of, nonce, attributes } = intent;
    const before = intent.precondition.kind === 'match' ? intent.precondition.validator : undefined;
    const set = (writer: string | undefined, precondition: Precondition): Promise<ObjectInfo> =>
      port.setAttributes(
        mount,
        key,
        of,
        of === 'file' ? { ...attributes, writer } : attributes,
        precondition,
      );
    try {
      const done = work.begun ? await this.#own(key, nonce) : undefined;
      const precondition: Precondition =
        before === undefined || of === 'directory'
          ? { kind: 'any' }
          : { kind: 'match', validator: await versions.resolve(key, before) };
      const info = done ?? (await set(nonce, precondition));
      if (info.validator !== undefined && before !== undefined) versions.became(key, before, info.validator);
      outcomes.settled(key, before, info, work);
    } catch (error) {
      if (!MirageError.is(error, 'ESTALE') && !MirageError.is(error, 'ENOENT')) throw error;
      // Attributes do not depend on the content: they go to the version that came in between, if there is one, which stays that of its writer.
      const found = await port.stat(mount, key);
      if (found?.validator === undefined || found.kind !== of) return;
      // A file of another host's in place of a name of a hard link is none.
      if (attributes.linkGroup !== found.attributes?.linkGroup) return;
      const { writer } = found.attributes ?? {};
      const info = await set(writer, { kind: 'match', validator: found.validator });
      outcomes.settled(key, undefined, info, work);
    }
  }

  async #moveTree(work: Work, intent: IntentOf<'moveTree'>): Promise<void> {
    const { trees, versions, outcomes } = this.#parts;
    const { key, from, attributes, nonce } = intent;
    const { made, copied } = await trees.move(from, key, attributes, work.begun);
    for (const { to, source, validator } of copied) {
      if (source !== undefined && validator !== undefined) versions.became(to, source, validator);
      if (source !== validator)
        outcomes.settled(to, source, { ...made, key: to, kind: 'file', validator }, work);
    }
    outcomes.settled(from, undefined, undefined, work);
    outcomes.settled(key, `pending:${nonce}`, made, work);
  }
}

/** The store may take it later, without anybody changing anything. */
const isPassing = (error: MirageError): boolean =>
  error.retryable ||
  error.outcomeUnknown ||
  ['EHOSTDOWN', 'ETIMEDOUT', 'ECANCELED', 'EINTR'].includes(error.errno);

/** Somebody can change that: credentials, a quota, a full disk. */
const isCurable = (error: MirageError): boolean =>
  ['EACCES', 'EPERM', 'EDQUOT', 'ENOSPC', 'EROFS', 'EIO'].includes(error.errno);

const asMirageError = (error: unknown): MirageError =>
  MirageError.is(error) ? error : new MirageError(String(error), { errno: 'EIO', cause: error });
