import { constants, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '../../src/clock/clock.js';
import { errnoName } from '../../src/errors/errno.js';
import { errnoOf } from '../../src/errors/mirage-error.js';
import { localFiles } from '../../src/native/local-files.js';
import { Attributes } from '../../src/vfs/attributes.js';
import { HostVolume, type HostVolumeOptions } from '../../src/vfs/host/host-volume.js';
import {
  AttributesReply,
  type Call,
  type DirectorySink,
  EntryReply,
  ExtendedAttributeReply,
  type NodeId,
  OpenReply,
  ReadReply,
  type Reply,
  type WriteSource,
} from '../../src/vfs/operations.js';
import { rootOf, type VolumeContext } from '../../src/vfs/volume.js';
import { quietLog } from '../servers/quiet.js';

const O_PATH = 0o10000000;
export const INDEX = 3;
export const ROOT = rootOf(INDEX);

export const callOf = (uid: number, gid = uid): Call => ({
  uid,
  gid,
  pid: process.pid,
  signal: new AbortController().signal,
});
export const daemon = callOf(process.getuid!(), process.getgid!());

/** The errno's name of whatever an operation throws or says; 'ok' otherwise. */
export function outcome(action: () => unknown): string {
  try {
    const result = action();
    return result instanceof Object && 'errno' in result ? nameOf(result as Reply) : 'ok';
  } catch (error) {
    return errnoName(errnoOf(error));
  }
}

const nameOf = ({ errno }: Reply): string => (errno === 0 ? 'ok' : errnoName(errno));

export interface Entry {
  readonly node: NodeId;
  readonly errno: number;
  readonly attributes: Attributes;
  readonly entryValid: number;
  readonly attributesValid: number;
}

export interface Listed {
  readonly name: string;
  readonly cookie: number;
  readonly ino: number;
  readonly type: number;
  readonly node: NodeId;
}

/** A host volume driven by its operations, as a kernel binding does. */
export class Host {
  readonly volume: HostVolume;
  readonly invalidated: string[] = [];

  constructor(
    root: number,
    exclusive: boolean,
    options: Partial<HostVolumeOptions> = {},
    context: Partial<VolumeContext> = {},
  ) {
    const native = localFiles();
    this.volume = new HostVolume(
      { root, exclusive, close: () => void native.close(root) },
      {
        index: INDEX,
        path: '/host',
        mode: 'exec',
        uid: 0,
        gid: 0,
        notifier: {
          invalidateEntry: (parent, name) => this.invalidated.push(`entry ${parent} ${name}`),
          invalidateNode: (node, offset) => this.invalidated.push(`node ${node} ${offset}`),
          unsettle() {},
        },
        clock: systemClock,
        log: quietLog,
        ...context,
      },
      { freshness: 'now', ttl: 0, acl: true, ...options },
    );
  }

  lookup(parent: NodeId, name: string): Entry {
    const reply = new EntryReply();
    this.volume.lookup(daemon, parent, name, reply);
    return {
      node: reply.nodeId,
      errno: reply.errno,
      attributes: Object.assign(new Attributes(), reply.attributes),
      entryValid: reply.entryValid,
      attributesValid: reply.attributesValid,
    };
  }

  /** The node at a path below the root; throws where there is none. */
  node(path: string): NodeId {
    let node = ROOT;
    for (const name of path.split('/')) {
      const entry = this.lookup(node, name);
      if (entry.errno !== 0 || entry.node === 0) throw new Error(`${path}: ${errnoName(entry.errno)}`);
      node = entry.node;
    }
    return node;
  }

  getattr(node: NodeId): AttributesReply {
    const reply = new AttributesReply();
    this.volume.getattr(daemon, node, undefined, reply);
    if (reply.attributes) reply.attributes = Object.assign(new Attributes(), reply.attributes);
    return reply;
  }

  attributes(node: NodeId): Attributes {
    const reply = this.getattr(node);
    if (reply.attributes === undefined) throw new Error(errnoName(reply.errno));
    return reply.attributes;
  }

  open(node: NodeId, flags: number = constants.O_RDONLY, call: Call = daemon): OpenReply {
    const reply = new OpenReply();
    this.volume.open(call, node, { flags }, reply);
    return reply;
  }

  create(parent: NodeId, name: string, mode = 0o644, call: Call = daemon, flags: number = constants.O_RDWR) {
    return this.volume.create(call, parent, name, mode, { flags: flags | constants.O_CREAT });
  }

  read(node: NodeId, handle: number, offset = 0, size = 65_536): string {
    const reply = new ReadReply();
    this.volume.read(daemon, node, handle, offset, size, reply);
    if (reply.errno !== 0) throw new Error(errnoName(reply.errno));
    const buffer = Buffer.alloc(reply.length);
    const length = localFiles().pread(reply.fd, buffer, reply.position);
    return buffer.toString('latin1', 0, length);
  }

  write(node: NodeId, handle: number, offset: number, text: string, killPrivileges = false): number {
    return this.volume.write(daemon, node, handle, offset, source(text, killPrivileges));
  }

  release(node: NodeId, handle: number): void {
    this.volume.release(daemon, node, handle);
  }

  /** Creates a file with a content, and closes it. */
  file(parent: NodeId, name: string, content: string, mode = 0o644): NodeId {
    const { entry, open } = this.create(parent, name, mode);
    this.write(entry.nodeId, open.handle, 0, content);
    this.release(entry.nodeId, open.handle);
    return entry.nodeId;
  }

  opendir(node: NodeId): OpenReply {
    const reply = new OpenReply();
    this.volume.opendir(daemon, node, reply);
    return reply;
  }

  /** Entries from a cookie on, `room` of them at most. */
  readdir(node: NodeId, handle: number, cookie = 0, room = Infinity, wantsAttributes = false): Listed[] {
    const listed: Listed[] = [];
    const sink: DirectorySink = {
      wantsAttributes,
      fits: () => listed.length < room,
      add: (name, at, { nodeId, attributes }) =>
        listed.push({
          name,
          cookie: at,
          ino: attributes!.ino,
          type: attributes!.mode & 0o170000,
          node: nodeId,
        }),
      addName: (name, at, ino, type) => listed.push({ name, cookie: at, ino, type, node: 0 }),
    };
    this.volume.readdir(daemon, node, handle, cookie, sink);
    return listed;
  }

  list(node: NodeId): string[] {
    const { handle } = this.opendir(node);
    const names: string[] = [];
    for (let cookie = 0; ; ) {
      const page = this.readdir(node, handle, cookie);
      if (page.length === 0) break;
      names.push(...page.map(({ name }) => name));
      cookie = page.at(-1)!.cookie;
    }
    this.volume.releasedir(daemon, node, handle);
    return names.filter((name) => name !== '.' && name !== '..').sort();
  }

  xattr(node: NodeId, name: string): string {
    const reply = new ExtendedAttributeReply();
    this.volume.getxattr(daemon, node, name, reply);
    if (reply.errno !== 0) return errnoName(reply.errno);
    return Buffer.from(reply.value ?? []).toString();
  }

  close(): Promise<void> {
    return this.volume.close();
  }
}

export function source(text: string, killPrivileges = false): WriteSource {
  const bytes = Buffer.from(text, 'latin1');
  const native = localFiles();
  return {
    length: bytes.length,
    killPrivileges,
    writeTo: (fd, position) => native.pwrite(fd, bytes, position),
    // On a descriptor with O_APPEND, Linux appends wherever pwrite(2) is told to write.
    appendTo: (fd) => native.pwrite(fd, bytes, 0),
    retain: () => source(text, killPrivileges),
  };
}

/** An O_PATH descriptor of a folder, for a volume that closes it. */
export const openRoot = (path: string): number => localFiles().openPath(path, O_PATH | constants.O_DIRECTORY);

/** A temporary folder, and its O_PATH descriptor for a volume. */
export function temporaryFolder(): { path: string; root(): number; remove(): void } {
  const path = mkdtempSync(join(tmpdir(), 'mirage-host-'));
  return {
    path,
    root: () => openRoot(path),
    remove: () => rmSync(path, { recursive: true, force: true }),
  };
}

/** Waits until a condition holds; fails after five seconds. */
export async function until(what: string, condition: () => boolean): Promise<void> {
  const end = performance.now() + 5000;
  while (!condition()) {
    if (performance.now() > end) throw new Error(`never: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
