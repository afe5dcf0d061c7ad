import { ChannelNotifier } from '../../src/fuse/notifier.js';
import { Opcode } from '../../src/fuse/protocol.js';
import { Session } from '../../src/fuse/session.js';
import type { FileSystem } from '../../src/vfs/operations.js';
import { FakeChannel, SLOT_BYTES } from './fake-channel.js';
import { silentLog } from './silent-log.js';

/** A task that is certainly none of this process: the kernel's own. */
const FOREIGN_PID = 0;

/** A request record: header and arguments. `unique` must differ between requests that are pending together. */
export function request(
  opcode: number,
  options: { unique?: number; node?: number; pid?: number; body?: Uint8Array } = {},
): Buffer {
  const body = options.body ?? new Uint8Array(0);
  const record = Buffer.alloc(40 + body.length);
  record.writeUInt32LE(record.length, 0);
  record.writeUInt32LE(opcode, 4);
  record.writeBigUInt64LE(BigInt(options.unique ?? 2), 8);
  record.writeBigUInt64LE(BigInt(options.node ?? 1), 16);
  record.writeUInt32LE(1000, 24);
  record.writeUInt32LE(100, 28);
  record.writeUInt32LE(options.pid ?? FOREIGN_PID, 32);
  record.set(body, 40);
  return record;
}

export const words = (...values: number[]): Uint8Array => new Uint8Array(Uint32Array.from(values).buffer);
export const text = (value: string): Uint8Array => Buffer.from(`${value}\0`, 'latin1');
export const join = (...parts: Uint8Array[]): Uint8Array => Buffer.concat(parts);

/** The INIT request of a kernel that offers everything. */
export const init = (): Buffer =>
  request(Opcode.INIT, {
    unique: 1,
    body: words(7, 45, 131072, 0x73ff_fffb, 0x5fd, ...Array<number>(11).fill(0)),
  });

export interface Answered {
  readonly unique: number;
  /** Positive; 0 = success. */
  readonly errno: number;
  readonly body: Buffer;
}

export const parse = (reply: Buffer): Answered => ({
  unique: Number(reply.readBigUInt64LE(8)),
  errno: -reply.readInt32LE(4) + 0,
  body: reply.subarray(16),
});

/** A session over a file system without a kernel, past INIT. */
export class Harness {
  readonly channel = new FakeChannel();
  readonly notified: Buffer[] = [];
  readonly notifier = new ChannelNotifier({
    notify: (record) => this.notified.push(Buffer.from(record)),
    dropAttributes: (low, high) => this.channel.dropAttributes(low, high),
  });
  readonly session: Session;

  constructor(fileSystem: FileSystem, { acl = true } = {}) {
    const options = { passthrough: true, acl };
    this.session = new Session(fileSystem, this.channel, SLOT_BYTES, this.notifier, silentLog, options);
    this.send(init());
    this.channel.sent.length = 0;
  }

  /** Delivers a batch and returns what was answered by its end. */
  send(...records: Uint8Array[]): Answered[] {
    this.channel.sent.length = 0;
    this.channel.deliver(records, this.session.batch);
    return this.answers();
  }

  answers(): Answered[] {
    return this.channel.sent.map(parse);
  }
}

/** A file system of which only some operations are there; any other is a failure of the test. */
export const partly = (operations: Partial<FileSystem>): FileSystem => operations as FileSystem;

/** Lets every continuation run that can. */
export const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
