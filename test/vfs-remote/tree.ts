/** One host's mount of a file server, driven as the kernel drives it, without its caches. */
import { mkdirSync, mkdtempSync, readSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { FileServer, FileServerFeatures } from '../../src/backends/file-server.js';
import { errnoName } from '../../src/errors/errno.js';
import type { MetadataStore } from '../../src/metadata/contract.js';
import { openMetadata } from '../../src/metadata/open-metadata.js';
import { Attributes } from '../../src/vfs/attributes.js';
import {
  AttributesReply,
  type Call,
  type DirectorySink,
  EntryReply,
  type Handle,
  type NodeId,
  OpenReply,
  ReadReply,
  Reply,
  ROOT,
} from '../../src/vfs/operations.js';
import { BlockCache } from '../../src/vfs/remote/block-cache.js';
import type { RemoteVolumeOptions, RemoteVolumeParts } from '../../src/vfs/remote/parts.js';
import { RemoteVolume } from '../../src/vfs/remote/remote-volume.js';
import { silent, sourceOf } from '../vfs-object/tree.js';
import { LocalFileServer } from './local-file-server.js';

export interface RemoteTreeOptions extends Partial<RemoteVolumeOptions> {
  readonly features?: Partial<FileServerFeatures>;
  readonly limit?: number;
  /** Goes between the volume and the server. */
  readonly around?: (server: LocalFileServer) => FileServer;
  readonly connectNear?: RemoteVolumeParts['connectNear'];
}

export interface Open {
  readonly node: NodeId;
  readonly handle: Handle;
  readonly keepCache: boolean;
}

const failure = (number: number): Error =>
  Object.assign(new Error(errnoName(number)), { code: errnoName(number) });
const latin = (text: string): string => Buffer.from(text).toString('latin1');
const parts = (path: string): string[] => path.split('/').filter((part) => part !== '');

export class RemoteMount {
  readonly folder = mkdtempSync(join(tmpdir(), 'mirage-remote-'));
  /** The folder of the server. */
  readonly there = join(this.folder, 'there');
  readonly server: LocalFileServer;
  readonly call: Call = {
    uid: process.getuid?.() ?? 0,
    gid: process.getgid?.() ?? 0,
    pid: 1,
    signal: new AbortController().signal,
  };
  /** Nodes whose attributes were called settled too early; 0: any. */
  readonly unsettled: NodeId[] = [];
  /** Milliseconds that have passed beside the real ones. */
  later = 0;
  volume: RemoteVolume;
  readonly #options: RemoteTreeOptions;
  #metadata!: MetadataStore;
  #blocks!: BlockCache;

  /** Bytes in the cache. */
  get cached(): number {
    return this.#blocks.used;
  }

  constructor(options: RemoteTreeOptions = {}) {
    mkdirSync(this.there);
    this.#options = options;
    this.server = new LocalFileServer(this.there, options.features);
    this.volume = this.#mount();
  }

  #mount(): RemoteVolume {
    const { limit = 2 ** 30 } = this.#options;
    this.#metadata = openMetadata({ file: join(this.folder, 'metadata.db'), log: silent, inThread: true });
    this.#blocks = new BlockCache({ directory: join(this.folder, 'cache'), limit, log: silent });
    return this.beside();
  }

  /** A further volume of the server over the same caches; whoever asks for it closes it. */
  beside(): RemoteVolume {
    const { features: _, around, connectNear, limit: __, ...rest } = this.#options;
    return new RemoteVolume({
      server: around?.(this.server) ?? this.server,
      ...(connectNear && { connectNear }),
      identity: 'server',
      metadata: this.#metadata,
      blocks: this.#blocks,
      context: {
        index: 0,
        path: '/remote',
        mode: 'exec',
        uid: this.call.uid,
        gid: this.call.gid,
        notifier: {
          invalidateEntry() {},
          invalidateNode() {},
          unsettle: (node) => void this.unsettled.push(node),
        },
        clock: { wall: () => Date.now() + this.later, monotonic: () => performance.now() + this.later },
        log: silent,
      },
      options: { ttl: 60_000, freshness: 'ttl', ...rest },
    });
  }

  async #unmount(): Promise<void> {
    try {
      await this.volume.drain();
    } finally {
      await this.volume.close();
      this.#blocks.close();
      await this.#metadata.close();
    }
  }

  async remount(): Promise<void> {
    await this.#unmount();
    this.volume = this.#mount();
  }

  async close(): Promise<void> {
    await this.#unmount().catch(() => undefined);
    await this.server.loseHandles();
    rmSync(this.folder, { recursive: true, force: true });
  }

  async node(path: string): Promise<NodeId> {
    let node = ROOT;
    for (const name of parts(path)) {
      const reply = new EntryReply();
      await this.volume.lookup(this.call, node, latin(name), reply);
      if (reply.errno !== 0) throw failure(reply.errno);
      if (reply.nodeId === 0) throw failure(2);
      node = reply.nodeId;
    }
    return node;
  }

  async #parent(path: string): Promise<[NodeId, string]> {
    const names = parts(path);
    const name = names.pop() ?? '';
    return [await this.node(names.join('/')), latin(name)];
  }

  /** Whether the attributes may be answered again without asking the volume, and for how long, milliseconds. */
  async settled(path: string): Promise<{ settled: boolean; valid: number }> {
    const reply = new AttributesReply();
    await this.volume.getattr(this.call, await this.node(path), undefined, reply);
    if (reply.errno !== 0) throw failure(reply.errno);
    return { settled: reply.settled, valid: reply.attributesValid / 1e6 };
  }

  async stat(path: string): Promise<Attributes> {
    const reply = new AttributesReply();
    await this.volume.getattr(this.call, await this.node(path), undefined, reply);
    if (reply.errno !== 0) throw failure(reply.errno);
    return Object.assign(new Attributes(), reply.attributes);
  }

  async list(path: string): Promise<string[]> {
    const node = await this.node(path);
    const open = new OpenReply();
    await this.volume.opendir(this.call, node, open);
    const names: string[] = [];
    let cookie = 0;
    for (let more = true; more; ) {
      more = false;
      let room = 50;
      const sink: DirectorySink = {
        wantsAttributes: true,
        fits: () => room-- > 0,
        add: (name, next) => {
          more = true;
          names.push(Buffer.from(name, 'latin1').toString());
          cookie = next;
        },
        addName: (_name, next) => {
          more = true;
          cookie = next;
        },
      };
      await this.volume.readdir(this.call, node, open.handle, cookie, sink);
    }
    this.volume.releasedir(this.call, node, open.handle);
    return names.sort();
  }

  async unlink(path: string): Promise<void> {
    await this.node(path);
    const [parent, name] = await this.#parent(path);
    await this.volume.unlink(this.call, parent, name);
  }
  async rename(from: string, to: string): Promise<void> {
    await this.node(from);
    await this.node(to).catch(() => undefined);
    const [parent, name] = await this.#parent(from);
    const [newParent, newName] = await this.#parent(to);
    await this.volume.rename(this.call, parent, name, newParent, newName, 0);
  }
  async link(from: string, to: string): Promise<void> {
    const node = await this.node(from);
    const [parent, name] = await this.#parent(to);
    await this.volume.link(this.call, node, parent, name);
  }
  async mkdir(path: string): Promise<void> {
    const [parent, name] = await this.#parent(path);
    await this.volume.mkdir(this.call, parent, name, 0o755);
  }
  async change(path: string, change: Parameters<RemoteVolume['setattr']>[2]): Promise<void> {
    await this.volume.setattr(this.call, await this.node(path), change);
  }

  async create(path: string): Promise<Open> {
    const [parent, name] = await this.#parent(path);
    const { entry, open } = await this.volume.create(this.call, parent, name, 0o644, { flags: 2 });
    return { node: entry.nodeId, handle: open.handle, keepCache: open.keepCache };
  }

  /** Looks the name up once more after an ESTALE, as the kernel does. */
  async open(path: string, flags = 0): Promise<Open> {
    for (let tries = 0; ; tries++) {
      const node = await this.node(path);
      const reply = new OpenReply();
      try {
        await this.volume.open(this.call, node, { flags }, reply);
        return { node, handle: reply.handle, keepCache: reply.keepCache };
      } catch (error) {
        if ((error as { errno?: string }).errno !== 'ESTALE' || tries > 0) throw error;
      }
    }
  }

  async write(open: Open, offset: number, text: string): Promise<number> {
    return this.volume.write(this.call, open.node, open.handle, offset, sourceOf(text));
  }
  async read(open: Open, offset = 0, size = 1 << 20): Promise<string> {
    const reply = new ReadReply();
    await this.volume.read(this.call, open.node, open.handle, offset, size, reply);
    if (reply.fd < 0) return Buffer.from(reply.bytes ?? []).toString();
    const bytes = Buffer.alloc(reply.length);
    const length = readSync(reply.fd, bytes, 0, reply.length, reply.position);
    return bytes.subarray(0, length).toString();
  }
  async flush(open: Open): Promise<void> {
    await this.volume.flush(this.call, open.node, open.handle, new Reply());
  }
  release(open: Open): void {
    this.volume.release(this.call, open.node, open.handle);
  }
  /** close(2) of the last descriptor. */
  async closeFile(open: Open): Promise<void> {
    try {
      await this.flush(open);
    } finally {
      this.release(open);
    }
  }
  async readFile(path: string): Promise<string> {
    const open = await this.open(path);
    try {
      return await this.read(open);
    } finally {
      this.release(open);
    }
  }
}
