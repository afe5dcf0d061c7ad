import { mkdtempSync, readSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Backend } from '../../src/backends/contract.js';
import { systemTimers, type Timers } from '../../src/clock/timers.js';
import type { ContentStore } from '../../src/content/contract.js';
import { openContent } from '../../src/content/open-content.js';
import { errno, errnoName } from '../../src/errors/errno.js';
import { errnoOf } from '../../src/errors/mirage-error.js';
import type { Log } from '../../src/log/log.js';
import type { MetadataStore } from '../../src/metadata/contract.js';
import { Journal } from '../../src/metadata/journal.js';
import { openMetadata } from '../../src/metadata/open-metadata.js';
import type { LeasePort } from '../../src/ports/lease-port.js';
import { RoutedStores } from '../../src/ports/routed-stores.js';
import { Transfer } from '../../src/transfer/transfer.js';
import { Attributes, S_IFDIR, S_IFMT } from '../../src/vfs/attributes.js';
import { WriteBehind } from '../../src/vfs/object/journal/write-behind.js';
import { ObjectVolume } from '../../src/vfs/object/object-volume.js';
import type { ObjectVolumeOptions } from '../../src/vfs/object/parts.js';
import {
  type Answer,
  AttributesReply,
  type Call,
  type DirectorySink,
  EntryReply,
  ExtendedAttributeReply,
  type Handle,
  type NodeId,
  OpenReply,
  ReadReply,
  Reply,
  ROOT,
  type WriteSource,
} from '../../src/vfs/operations.js';
import type { AccessMode } from '../../src/vfs/volume.js';
import type { Bucket } from './bucket.js';

export const silent: Log = { debug() {}, info() {}, warn() {}, error() {}, with: () => silent };

export interface TreeOptions extends Partial<ObjectVolumeOptions> {
  readonly mode?: AccessMode;
  readonly writeBack?: 'close' | 'async';
  readonly timers?: Timers;
  /** The bucket as this mount reaches it. */
  readonly backend?: Backend;
  /** Bytes of the cache. */
  readonly limit?: number;
  /** State of an earlier tree: the same host after a restart. */
  readonly folder?: string;
  /** `locking: lease`. */
  readonly leases?: LeasePort;
  /** Another mount of the same daemon, whose metadata database is used. */
  readonly beside?: Tree;
}

export interface Open {
  readonly node: NodeId;
  readonly handle: Handle;
  readonly keepCache: boolean;
}

/** One host's mount of a bucket, driven as the kernel drives it, without its caches: every path is looked up anew. */
export class Tree {
  readonly folder: string;
  readonly volume: ObjectVolume;
  readonly conflicts: string;
  readonly call: Call = { uid: 1000, gid: 1000, pid: 1, signal: new AbortController().signal };
  /** What the kernel was told. */
  readonly invalidated: string[] = [];
  /** Nodes whose attributes were called settled too early; 0: any. */
  readonly unsettled: NodeId[] = [];
  /** Keys of what was looked for in the content cache. */
  readonly acquired: string[] = [];
  /** Milliseconds that have passed beside the real ones. */
  later = 0;
  readonly #metadata: MetadataStore;
  readonly #ownsMetadata: boolean;
  readonly #content: ContentStore;
  readonly #journal: Journal;
  readonly writeBehind: WriteBehind;

  constructor(
    readonly bucket: Bucket,
    options: TreeOptions = {},
  ) {
    const {
      mode = 'exec',
      folder,
      beside,
      leases,
      writeBack = 'close',
      timers = systemTimers,
      limit = 2 ** 30,
      backend = bucket,
      ...rest
    } = options;
    this.folder = folder ?? mkdtempSync(join(tmpdir(), 'mirage-object-'));
    this.conflicts = join(this.folder, 'conflicts');
    const stores = new RoutedStores(new Transfer([backend], { log: silent }));
    const clock = { wall: () => Date.now() + this.later, monotonic: () => performance.now() + this.later };
    const file = join(this.folder, 'metadata.db');
    this.#ownsMetadata = beside === undefined;
    this.#metadata =
      beside !== undefined ? beside.#metadata : openMetadata({ file, log: silent, inThread: true });
    const directory = join(this.folder, 'cache');
    this.#content = openContent({ directory, limit, port: stores.port, log: silent, clock });
    const acquire = this.#content.acquire.bind(this.#content);
    this.#content.acquire = (version, alone) => {
      this.acquired.push(version.key);
      return acquire(version, alone);
    };
    this.#journal = Journal.open(join(this.folder, 'journal.log'), silent);
    this.writeBehind = new WriteBehind({
      port: new Transfer([backend], { log: silent }),
      mount: 0,
      identity: 'bucket',
      journal: this.#journal,
      directory: join(this.folder, 'cache', 'journal'),
      answers: writeBack,
      limit,
      conditional: rest.conflicts !== 'lastWriterWins',
      clock,
      timers,
      log: silent,
    });
    stores.route(0, this.writeBehind);
    this.volume = new ObjectVolume({
      ...(leases && { leases }),
      port: this.writeBehind,
      writeBehind: this.writeBehind,
      mount: 0,
      identity: 'bucket',
      metadata: this.#metadata,
      content: this.#content,
      context: {
        index: 0,
        path: beside === undefined ? '/s3' : '/beside',
        mode,
        uid: 1000,
        gid: 1000,
        notifier: {
          invalidateEntry: (parent, name) => void this.invalidated.push(`${parent}/${name}`),
          invalidateNode: (node) => void this.invalidated.push(`${node}`),
          unsettle: (node) => void this.unsettled.push(node),
        },
        clock,
        log: silent,
      },
      options: {
        ttl: 60_000,
        ttls: {},
        freshness: 'ttl',
        listedNodes: 100_000,
        conflicts: 'sidecar',
        conflictDirectory: this.conflicts,
        ...rest,
      },
    });
  }

  /** Ends without bringing anything to the store, as far as a process can that lives on. */
  async crash(): Promise<void> {
    await this.volume.close();
    await this.#content.close();
    if (this.#ownsMetadata) await this.#metadata.close();
    await this.#journal.close();
  }

  /** Ends the mount as an unmount does; `keep`: the state stays for a restart. */
  async close(keep = false): Promise<void> {
    try {
      await this.volume.drain();
    } finally {
      await this.volume.close();
      await this.#content.close();
      await this.#metadata.close();
      await this.#journal.close();
      if (!keep) rmSync(this.folder, { recursive: true, force: true });
    }
  }

  // Names.

  async lookup(parent: NodeId, name: string): Promise<EntryReply> {
    const reply = new EntryReply();
    await this.volume.lookup(this.call, parent, latin(name), reply);
    if (reply.errno !== 0) throw failure(reply.errno);
    return reply;
  }

  node(path: string): Promise<NodeId> {
    return again(() => this.#walk(path));
  }

  async #walk(path: string): Promise<NodeId> {
    let node = ROOT;
    for (const name of parts(path)) {
      // Below a file there is nothing: the kernel says ENOTDIR without asking.
      if (((await this.fstat(node)).mode & S_IFMT) !== S_IFDIR) throw failure(errno.ENOENT);
      node = (await this.lookup(node, name)).nodeId;
      if (node === 0) throw failure(errno.ENOENT);
    }
    return node;
  }

  async #parent(path: string): Promise<[NodeId, string]> {
    const names = parts(path);
    const name = names.pop() ?? '';
    const parent = await this.node(names.join('/'));
    if (((await this.fstat(parent)).mode & S_IFMT) !== S_IFDIR) throw failure(errno.ENOENT);
    return [parent, latin(name)];
  }

  stat(path: string): Promise<Attributes> {
    return again(async () => this.fstat(await this.#walk(path)));
  }

  /** Whether the attributes may be answered again without asking the volume. */
  async settled(node: NodeId): Promise<boolean> {
    const reply = new AttributesReply();
    await this.volume.getattr(this.call, node, undefined, reply);
    if (reply.errno !== 0) throw failure(reply.errno);
    return reply.settled;
  }

  async fstat(node: NodeId): Promise<Attributes> {
    const reply = new AttributesReply();
    await this.volume.getattr(this.call, node, undefined, reply);
    if (reply.errno !== 0) throw failure(reply.errno);
    return Object.assign(new Attributes(), reply.attributes);
  }

  async exists(path: string): Promise<boolean> {
    return this.node(path).then(
      () => true,
      (error) => {
        if (errnoOf(error) === errno.ENOENT) return false;
        throw error;
      },
    );
  }

  async list(path: string): Promise<string[]> {
    const node = await this.node(path);
    const open = new OpenReply();
    await this.volume.opendir(this.call, node, open);
    const names: string[] = [];
    let cookie = 0;
    // As the kernel does: until a reply is empty.
    for (let more = true; more; ) {
      more = false;
      let room = 50;
      const sink: DirectorySink = {
        wantsAttributes: true,
        fits: () => room-- > 0,
        add: (name, next, entry) => {
          more = true;
          names.push(Buffer.from(name, 'latin1').toString());
          cookie = next;
          if (entry.nodeId !== 0) this.volume.forget(entry.nodeId, 1);
        },
        addName: (_name, next) => {
          more = true;
          cookie = next;
        },
      };
      await this.volume.readdir(this.call, node, open.handle, cookie, sink);
    }
    await this.volume.releasedir(this.call, node, open.handle);
    return names.sort();
  }

  async mkdir(path: string, mode = 0o755): Promise<void> {
    const [parent, name] = await this.#parent(path);
    await this.volume.mkdir(this.call, parent, name, mode);
  }
  async rmdir(path: string): Promise<void> {
    await this.node(path);
    const [parent, name] = await this.#parent(path);
    await this.volume.rmdir(this.call, parent, name);
  }
  async unlink(path: string): Promise<void> {
    await this.node(path);
    const [parent, name] = await this.#parent(path);
    await this.volume.unlink(this.call, parent, name);
  }
  async rename(from: string, to: string, flags = 0): Promise<void> {
    const [parent, name] = await this.#parent(from);
    const [newParent, newName] = await this.#parent(to);
    await this.volume.rename(this.call, parent, name, newParent, newName, flags);
  }
  async link(from: string, to: string): Promise<void> {
    const node = await this.node(from);
    const [parent, name] = await this.#parent(to);
    await this.volume.link(this.call, node, parent, name);
  }
  async symlink(target: string, path: string): Promise<void> {
    const [parent, name] = await this.#parent(path);
    await this.volume.symlink(this.call, parent, name, latin(target));
  }
  async readlink(path: string): Promise<string> {
    return Buffer.from(await this.volume.readlink(this.call, await this.node(path)), 'latin1').toString();
  }
  async mknod(path: string, mode: number, rdev = 0): Promise<void> {
    const [parent, name] = await this.#parent(path);
    await this.volume.mknod(this.call, parent, name, mode, rdev);
  }

  // Attributes.

  async change(path: string, change: Parameters<ObjectVolume['setattr']>[2]): Promise<void> {
    await this.volume.setattr(this.call, await this.node(path), change);
  }
  async getxattr(path: string, name: string): Promise<string> {
    const reply = new ExtendedAttributeReply();
    await this.volume.getxattr(this.call, await this.node(path), name, reply);
    if (reply.errno !== 0) throw failure(reply.errno);
    return Buffer.from(reply.value as Uint8Array).toString();
  }
  async setxattr(path: string, name: string, value: string): Promise<void> {
    await this.volume.setxattr(this.call, await this.node(path), name, Buffer.from(value), 0);
  }

  // Content.

  async create(path: string, mode = 0o644, flags = 2): Promise<Open> {
    const [parent, name] = await this.#parent(path);
    const { entry, open } = await this.volume.create(this.call, parent, name, mode, { flags });
    return { node: entry.nodeId, handle: open.handle, keepCache: open.keepCache };
  }

  open(path: string, flags = 0): Promise<Open> {
    return again(async () => this.openNode(await this.#walk(path), flags));
  }

  async openNode(node: NodeId, flags = 0): Promise<Open> {
    const reply = new OpenReply();
    await this.volume.open(this.call, node, { flags }, reply);
    if (reply.errno !== 0) throw failure(reply.errno);
    return { node, handle: reply.handle, keepCache: reply.keepCache };
  }

  async write(open: Open, offset: number, text: string): Promise<number> {
    return this.volume.write(this.call, open.node, open.handle, offset, sourceOf(text));
  }

  async read(open: Open, offset = 0, size = 1 << 20): Promise<string> {
    const reply = new ReadReply();
    await this.volume.read(this.call, open.node, open.handle, offset, size, reply);
    if (reply.errno !== 0) throw failure(reply.errno);
    if (reply.fd < 0) return Buffer.from(reply.bytes ?? []).toString();
    const bytes = Buffer.alloc(reply.length);
    const length = readSync(reply.fd, bytes, 0, reply.length, reply.position);
    return bytes.subarray(0, length).toString();
  }

  async flush(open: Open): Promise<void> {
    await this.volume.flush(this.call, open.node, open.handle, new Reply());
  }
  async fsync(open: Open): Promise<void> {
    await this.volume.fsync(this.call, open.node, open.handle, false);
  }
  async release(open: Open): Promise<void> {
    await this.volume.release(this.call, open.node, open.handle);
  }
  /** close(2): the last descriptor of the open file. */
  async close2(open: Open): Promise<void> {
    try {
      await this.flush(open);
    } finally {
      await this.release(open);
    }
  }

  async writeFile(path: string, text: string): Promise<void> {
    const open = (await this.exists(path)) ? await this.open(path, 1 | 0o1000) : await this.create(path);
    if (text !== '') await this.write(open, 0, text);
    await this.close2(open);
  }

  async readFile(path: string): Promise<string> {
    const open = await this.open(path);
    try {
      return await this.read(open);
    } finally {
      await this.release(open);
    }
  }
}

export function sourceOf(text: string): WriteSource {
  const bytes = Buffer.from(text);
  const source: WriteSource = {
    length: bytes.length,
    writeTo: (fd, position) => writeSync(fd, bytes, 0, bytes.length, position),
    appendTo: (fd) => writeSync(fd, bytes),
    retain: () => source,
  };
  return source;
}

/** The name of the error that a call ends with. */
export async function errorOf(call: Answer<unknown> | (() => Answer<unknown>)): Promise<string> {
  try {
    await (typeof call === 'function' ? call() : call);
    return 'success';
  } catch (error) {
    return errnoName(errnoOf(error));
  }
}

/** A call that names a path begins once more after an ESTALE, as in the kernel. */
async function again<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (errnoOf(error) !== errno.ESTALE) throw error;
    return work();
  }
}

const failure = (number: number): Error =>
  Object.assign(new Error(errnoName(number)), { code: errnoName(number) });
const latin = (text: string): string => Buffer.from(text).toString('latin1');
const parts = (path: string): string[] => path.split('/').filter((part) => part !== '');
