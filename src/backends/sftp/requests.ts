import type { ServerUsage } from '../file-server.js';
import { readAttributes, type WireAttributes, writeAttributes } from './attributes.js';
import type { Call } from './call.js';
import { PacketType, RequestPacket } from './packet.js';
import type { RequestOptions, Session } from './session.js';

export interface NamedAttributes {
  readonly name: string;
  readonly longname: string;
  readonly attributes: WireAttributes;
}

/** What statvfs@openssh.com tells beyond `ServerUsage`. */
export interface Volume extends ServerUsage {
  /** `f_fsid`: which file system. */
  readonly id: number;
  readonly readOnly: boolean;
}

const ST_RDONLY = 1;

/** The requests of the protocol, one method each, for one call on one session. Paths are those of the server; a handle is the server's own text. */
export class Requests {
  constructor(
    readonly session: Session,
    readonly call: Call,
  ) {}

  /** The same for what must still be done when the caller is gone. */
  beyond(): Requests {
    return new Requests(this.session, this.call.beyond());
  }

  lstat(path: string): Promise<WireAttributes> {
    return this.#attributes(new RequestPacket(PacketType.lstat).text(path), `stat ${shown(path)}`);
  }

  /** Follows a symlink. */
  stat(path: string): Promise<WireAttributes> {
    return this.#attributes(new RequestPacket(PacketType.stat).text(path), `stat ${shown(path)}`);
  }

  fstat(handle: string): Promise<WireAttributes> {
    return this.#attributes(new RequestPacket(PacketType.fstat).text(handle), 'fstat');
  }

  realpath(path: string): Promise<string> {
    const packet = new RequestPacket(PacketType.realpath).text(path);
    return this.#one(packet, `realpath ${shown(path)}`);
  }

  readlink(path: string): Promise<string> {
    return this.#one(new RequestPacket(PacketType.readlink).text(path), `readlink ${shown(path)}`);
  }

  open(path: string, flags: number, attributes: WireAttributes, change: boolean): Promise<string> {
    const packet = new RequestPacket(PacketType.open).text(path).u32(flags);
    return this.#handle(writeAttributes(packet, attributes), { what: `open ${shown(path)}`, change });
  }

  opendir(path: string): Promise<string> {
    const packet = new RequestPacket(PacketType.opendir).text(path);
    return this.#handle(packet, { what: `list ${shown(path)}` });
  }

  /** The next names; none at the end. */
  async readdir(handle: string, what: string): Promise<readonly NamedAttributes[]> {
    const packet = new RequestPacket(PacketType.readdir).text(handle);
    return this.session.list(packet, this.call, what, (reply) => {
      const entries: NamedAttributes[] = [];
      for (let left = reply.u32(); left > 0; left--) {
        entries.push({ name: reply.text(), longname: reply.text(), attributes: readAttributes(reply) });
      }
      return entries;
    });
  }

  /** Nobody waits for the answer: what was asked of the handle before is answered first, and there is nothing to learn from it. */
  close(handle: string): Promise<void> {
    return this.session.change(new RequestPacket(PacketType.close).text(handle), this.call, {
      what: 'close',
      change: false,
    });
  }

  /** Resolves with the number of bytes that are in `into`, 0 at the end of the file; after a failure bytes may still arrive there. */
  read(handle: string, offset: number, into: Buffer): Promise<number> {
    const packet = new RequestPacket(PacketType.read).text(handle).u64(offset).u32(into.length);
    return this.session.read(packet, into, this.call, 'read');
  }

  /** `bytes` must stay as they are until this settles; after an abort, for ever. */
  write(handle: string, offset: number, bytes: Buffer): Promise<void> {
    const packet = new RequestPacket(PacketType.write).text(handle).u64(offset).u32(bytes.length);
    return this.session.change(packet, this.call, { what: 'write' }, bytes);
  }

  setstat(path: string, attributes: WireAttributes): Promise<void> {
    const packet = new RequestPacket(PacketType.setstat).text(path);
    return this.#change(writeAttributes(packet, attributes), `set attributes of ${shown(path)}`);
  }

  fsetstat(handle: string, attributes: WireAttributes): Promise<void> {
    const packet = new RequestPacket(PacketType.fsetstat).text(handle);
    return this.#change(writeAttributes(packet, attributes), 'set attributes');
  }

  /** Does not follow a symlink; knows no size. */
  lsetstat(path: string, attributes: WireAttributes): Promise<void> {
    const packet = new RequestPacket(PacketType.extended).text('lsetstat@openssh.com').text(path);
    return this.#change(writeAttributes(packet, attributes), `set attributes of ${shown(path)}`);
  }

  mkdir(path: string, mode: number): Promise<void> {
    const packet = new RequestPacket(PacketType.mkdir).text(path);
    return this.#change(writeAttributes(packet, { mode }), `mkdir ${shown(path)}`);
  }

  rmdir(path: string): Promise<void> {
    return this.#change(new RequestPacket(PacketType.rmdir).text(path), `rmdir ${shown(path)}`);
  }

  remove(path: string): Promise<void> {
    return this.#change(new RequestPacket(PacketType.remove).text(path), `remove ${shown(path)}`);
  }

  /** Fails where `to` exists. */
  rename(from: string, to: string): Promise<void> {
    const packet = new RequestPacket(PacketType.rename).text(from).text(to);
    return this.#change(packet, `rename ${shown(from)} to ${shown(to)}`);
  }

  /** rename(2) */
  posixRename(from: string, to: string): Promise<void> {
    const packet = new RequestPacket(PacketType.extended)
      .text('posix-rename@openssh.com')
      .text(from)
      .text(to);
    return this.#change(packet, `rename ${shown(from)} to ${shown(to)}`);
  }

  /** In OpenSSH's order, which the draft has the other way round and most servers follow. */
  symlink(target: string, path: string): Promise<void> {
    const packet = new RequestPacket(PacketType.symlink).text(target).text(path);
    return this.#change(packet, `symlink ${shown(path)}`);
  }

  link(existing: string, path: string): Promise<void> {
    const packet = new RequestPacket(PacketType.extended)
      .text('hardlink@openssh.com')
      .text(existing)
      .text(path);
    return this.#change(packet, `link ${shown(path)}`);
  }

  fsync(handle: string): Promise<void> {
    const packet = new RequestPacket(PacketType.extended).text('fsync@openssh.com').text(handle);
    return this.session.change(packet, this.call, { what: 'fsync', slow: true });
  }

  /** `length` 0: to the end of the file. */
  copyData(from: string, fromOffset: number, length: number, to: string, toOffset: number): Promise<void> {
    const packet = new RequestPacket(PacketType.extended)
      .text('copy-data')
      .text(from)
      .u64(fromOffset)
      .u64(length)
      .text(to)
      .u64(toOffset);
    return this.session.change(packet, this.call, { what: 'copy', slow: true });
  }

  statvfs(path: string): Promise<Volume> {
    const packet = new RequestPacket(PacketType.extended).text('statvfs@openssh.com').text(path);
    return this.#volume(packet, `statfs ${shown(path)}`);
  }

  fstatvfs(handle: string): Promise<Volume> {
    return this.#volume(
      new RequestPacket(PacketType.extended).text('fstatvfs@openssh.com').text(handle),
      'statfs',
    );
  }

  #change(packet: RequestPacket, what: string): Promise<void> {
    return this.session.change(packet, this.call, { what });
  }

  #attributes(packet: RequestPacket, what: string): Promise<WireAttributes> {
    return this.session.request(packet, this.call, { what }, PacketType.attributes, readAttributes);
  }

  #one(packet: RequestPacket, what: string): Promise<string> {
    return this.session.request(packet, this.call, { what }, PacketType.name, (reply) => {
      reply.u32();
      return reply.text();
    });
  }

  /** A handle that comes after its caller gave up is closed. */
  #handle(packet: RequestPacket, options: RequestOptions): Promise<string> {
    const { session, call } = this;
    const onLate = (handle: string): void => {
      session
        .change(new RequestPacket(PacketType.close).text(handle), call.beyond(), {
          what: 'close',
          change: false,
        })
        .catch(() => undefined);
    };
    return session.request(
      packet,
      call,
      { ...options, onLate: (reply) => onLate(reply.text()) },
      PacketType.handle,
      (reply) => reply.text(),
    );
  }

  #volume(packet: RequestPacket, what: string): Promise<Volume> {
    return this.session.request(packet, this.call, { what }, PacketType.extendedReply, (reply) => {
      reply.u64();
      const blockSize = reply.u64();
      const blocks = reply.u64();
      const blocksFree = reply.u64();
      const blocksAvailable = reply.u64();
      const files = reply.u64();
      const filesFree = reply.u64();
      reply.u64();
      const id = reply.u64();
      const readOnly = (reply.u64() & ST_RDONLY) !== 0;
      const nameLength = reply.u64();
      return { blockSize, blocks, blocksFree, blocksAvailable, files, filesFree, id, readOnly, nameLength };
    });
  }
}

/** A path of the server for a message: its bytes read as UTF-8. */
export const shown = (path: string): string => JSON.stringify(Buffer.from(path, 'latin1').toString());
