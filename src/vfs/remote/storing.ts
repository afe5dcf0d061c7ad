/** How what programs write comes to the server: bytes, sizes and times of files in use, at the latest when close or fsync is answered. */
import type { ServerAttributes } from '../../backends/file-server.js';
import { UNINTERRUPTED } from '../../clock/uninterrupted.js';
import { errno } from '../../errors/errno.js';
import { MirageError } from '../../errors/mirage-error.js';
import { setSize, timestamp, touchModified, versionHash } from '../inodes/attributes-of.js';
import { NONE } from '../inodes/inode-table.js';
import { isPassing, RemoteContent } from './remote-content.js';
import type { RemoteNode } from './remote-node.js';
import { versionOf } from './remote-rows.js';
import type { RemoteTree } from './remote-tree.js';

/** Bytes that no common file system gives a file: a server that refuses them without saying why means that. */
const LARGEST = 2 ** 43;
/** Wait before what could not be sent is tried again, milliseconds. */
const RETRY = 5000;

export class Storing {
  readonly #tree: RemoteTree;
  #retrying: NodeJS.Timeout | undefined;

  constructor(tree: RemoteTree) {
    this.#tree = tree;
  }

  /** The bytes of a node in use. */
  content(node: RemoteNode): RemoteContent {
    if (node.content !== undefined) return node.content;
    const { blocks } = this.#tree;
    const version = this.#tree.version(node);
    const content = blocks.resume(node.attributes.ino, version) ?? new RemoteContent(blocks, version);
    node.content = content;
    blocks.use(content);
    const { server } = this.#tree;
    content.serve({
      read: (range) => node.onServer.run(false, (handle) => server.read(handle, range, UNINTERRUPTED)),
      glance: (offset, length) => node.onServer.glance(offset, length),
      write: (range) => node.onServer.run(true, (handle) => server.write(handle, range, UNINTERRUPTED)),
      endsAt: (size) => this.#endsAt(node, size),
      failed: (error) => this.#failed(node, error),
    });
    return content;
  }

  /** The server has fewer bytes than it said: somebody truncated the file. */
  #endsAt(node: RemoteNode, size: number): void {
    if (node.holdsTruth || size >= node.attributes.size) return;
    setSize(node.attributes, size);
    node.seenAt = 0;
    this.#tree.context.notifier.invalidateNode(this.#tree.table.id(node.slot), -1, 0);
  }

  #failed(node: RemoteNode, error: MirageError): void {
    if (!isPassing(error)) node.failure ??= error;
    this.#tree.context.log.warn('what was written could not be stored on the server', {
      path: this.#tree.pathIfAny(node.slot),
      errno: error.errno,
      why: error.message,
      do: error.hint,
    });
  }

  // Sizes.

  /** Brings a file to a size, on the server when it resolves. */
  resize(node: RemoteNode, size: number): Promise<void> {
    return node.turn.run(async () => {
      const tree = this.#tree;
      const { attributes } = node;
      const before = attributes.size;
      const content = this.content(node);
      // First: nothing beyond it is fetched any more.
      setSize(attributes, Math.min(before, size));
      try {
        await content.resize(before, size);
        const now = timestamp(tree.now());
        const change = { size, ...timesOf(node), modified: now };
        const target = node.onServer.hasWriter ? undefined : tree.pathIfAny(node.slot);
        const said = await (target === undefined
          ? node.onServer.run(true, (handle) => tree.server.setAttributes(handle, change, UNINTERRUPTED))
          : tree.server.setAttributes(target, change, UNINTERRUPTED));
        setSize(attributes, size);
        touchModified(attributes, now);
        this.stored(node, said);
      } catch (error) {
        setSize(attributes, before);
        node.seenAt = 0;
        throw size > LARGEST && MirageError.is(error, 'EIO')
          ? MirageError.system('truncate', errno.EFBIG, error)
          : error;
      }
    });
  }

  /** The server has made the file empty while opening it. */
  async truncated(node: RemoteNode, said: ServerAttributes): Promise<void> {
    await this.content(node).resize(node.attributes.size, 0);
    setSize(node.attributes, 0);
    touchModified(node.attributes, timestamp(this.#tree.now()));
    node.timesPending = true;
    this.stored(node, said);
  }

  // What was written comes to the server.

  /** Everything that was written through any handle is on the server when it resolves; its failure is thrown once. */
  flush(node: RemoteNode, durable = false): Promise<void> {
    return node.turn.run(async () => {
      const gone = this.#tree.table.parent(node.slot) === NONE;
      if (node.holdsTruth || durable) await this.#flush(node, durable, gone);
      const { failure } = node;
      node.failure = undefined;
      if (failure !== undefined) throw failure;
    });
  }

  async #flush(node: RemoteNode, durable: boolean, gone: boolean): Promise<void> {
    const { server } = this.#tree;
    const sent = { ...timesOf(node), ...(node.modePending && { mode: node.attributes.mode & 0o7777 }) };
    let said: ServerAttributes | undefined;
    await this.content(node).flush(async () => {
      const work: Promise<unknown>[] = [];
      if (node.timesPending && !gone) {
        Object.assign(sent, timesOf(node));
        work.push(
          this.#setTimes(node, sent).then((attributes) => {
            said = attributes;
          }),
        );
      }
      if (durable && server.features.fsync) {
        work.push(
          node.onServer.run(node.onServer.hasWriter, (handle) => server.fsync(handle, UNINTERRUPTED)),
        );
      }
      await Promise.all(work);
    });
    const { modified } = timesOf(node);
    if (modified.seconds === sent.modified.seconds && modified.nanoseconds === sent.modified.nanoseconds) {
      node.timesPending = false;
      node.modePending = false;
    }
    if (said === undefined) return;
    const grown = said.size !== node.attributes.size && node.unsent === 0;
    // Somebody else writes to the file, too: what is told now is of all that we have written.
    if (grown) said = await this.#setTimes(node, timesOf(node));
    this.stored(node, said);
    if (said.size === node.attributes.size || node.unsent > 0) return;
    setSize(node.attributes, said.size);
    node.content?.replaced(this.#tree.version(node), said.size);
    this.#tree.context.notifier.invalidateNode(this.#tree.table.id(node.slot), 0, 0);
  }

  /** A server may not let us: whoever may write a file need not own it. Then its own time stands. */
  async #setTimes(node: RemoteNode, change: ReturnType<typeof timesOf>): Promise<ServerAttributes> {
    const { server } = this.#tree;
    try {
      return await node.onServer.run(true, (handle) => server.setAttributes(handle, change, UNINTERRUPTED));
    } catch (error) {
      if (!MirageError.is(error, 'EPERM') && !MirageError.is(error, 'EACCES')) throw error;
      return node.onServer.run(true, (handle) => server.fstat(handle, UNINTERRUPTED));
    }
  }

  /** The server has what programs see: what it tells of it is the version of our bytes. */
  stored(node: RemoteNode, said: ServerAttributes): void {
    const tree = this.#tree;
    const { table } = tree;
    const kernelHad = table.version(node.slot) === versionHash(tree.version(node));
    tree.publish(node, said);
    if (node.content !== undefined) {
      node.content.version = tree.version(node);
      node.content.trusted = true;
    }
    if (kernelHad) table.setVersion(node.slot, versionHash(tree.version(node)));
  }

  /** The server changed the bytes itself (a copy inside of it). */
  async changedOnServer(node: RemoteNode): Promise<void> {
    const said = await node.onServer.run(true, (handle) => this.#tree.server.fstat(handle, UNINTERRUPTED));
    node.content?.replaced(versionOf(said), said.size);
    setSize(node.attributes, said.size);
    touchModified(node.attributes, timestamp(this.#tree.now()));
    node.timesPending = true;
    this.#tree.publish(node, said);
  }

  /** What a write by somebody without privilege takes from a file. */
  async clearPrivileges(node: RemoteNode): Promise<void> {
    if (!clearPrivileges(node)) return;
    const change = { mode: node.attributes.mode & 0o7777 };
    await node.onServer.run(true, (handle) => this.#tree.server.setAttributes(handle, change, UNINTERRUPTED));
    node.modePending = false;
    this.#tree.publish(node);
  }

  /** Flushes while nobody waits for it; tried again later where it may succeed then. */
  flushBehind(node: RemoteNode): void {
    this.flush(node).then(
      () => this.#tree.unuse(node),
      () => {
        if (node.holdsTruth) this.#retryLater();
        else this.#tree.unuse(node);
      },
    );
  }

  #retryLater(): void {
    this.#retrying ??= setTimeout(() => {
      this.#retrying = undefined;
      for (const node of this.#tree.allInUse()) {
        if (node.holdsTruth && node.handles === 0 && !node.turn.busy) this.flushBehind(node);
      }
    }, RETRY);
  }

  pending(): readonly string[] {
    const left: string[] = [];
    for (const node of this.#tree.allInUse()) {
      if (!node.holdsTruth || this.#tree.table.parent(node.slot) === NONE) continue;
      const path = Buffer.from(this.#tree.pathIfAny(node.slot) ?? '', 'latin1').toString('utf8');
      left.push(`${this.#tree.context.path.replace(/\/$/, '')}/${path} (${node.unsent} bytes)`);
    }
    return left;
  }

  async drain(): Promise<void> {
    const results = await Promise.allSettled(
      [...this.#tree.allInUse()].filter((node) => node.holdsTruth).map((node) => this.flush(node)),
    );
    const failed = results.find((result) => result.status === 'rejected');
    if (failed?.status === 'rejected') throw failed.reason;
  }

  close(): void {
    if (this.#retrying) clearTimeout(this.#retrying);
  }
}

/** The times of a node, both: a server may know them only together. */
export function timesOf({ attributes }: RemoteNode): {
  accessed: { seconds: number; nanoseconds: number };
  modified: { seconds: number; nanoseconds: number };
} {
  return {
    accessed: { seconds: attributes.accessedSeconds, nanoseconds: attributes.accessedNanoseconds },
    modified: { seconds: attributes.modifiedSeconds, nanoseconds: attributes.modifiedNanoseconds },
  };
}

/** True: there was something to clear. */
export function clearPrivileges(node: RemoteNode): boolean {
  const { attributes } = node;
  const mode = attributes.mode & ~0o4000 & ~((attributes.mode & 0o010) !== 0 ? 0o2000 : 0);
  if (mode === attributes.mode) return false;
  attributes.mode = mode;
  node.modePending = true;
  return true;
}
