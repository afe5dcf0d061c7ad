import { readFileSync } from 'node:fs';
import { afterAll, expect, test } from '@jest/globals';
import { ChannelNotifier } from '../../src/fuse/notifier.js';
import { Opcode, opcodeName } from '../../src/fuse/protocol.js';
import { Session } from '../../src/fuse/session.js';
import { FakeChannel, SLOT_BYTES } from './fake-channel.js';
import { MemoryFileSystem } from './memory-file-system.js';
import { silentLog } from './silent-log.js';

const { kernel, records } = JSON.parse(
  readFileSync(new URL('./fixtures/kernel-records.json', import.meta.url), 'utf8'),
) as { kernel: string; records: { request: string; reply?: string }[] };

const fileSystem = new MemoryFileSystem({ bytes: true });
afterAll(() => fileSystem.close());

const opcodeOf = (record: { request: string }): number => Buffer.from(record.request, 'hex').readUInt32LE(4);

test(`requests of Linux ${kernel} lead to the replies that it accepted`, () => {
  const channel = new FakeChannel();
  const notifier = new ChannelNotifier({ notify() {}, dropAttributes() {} });
  const session = new Session(fileSystem, channel, SLOT_BYTES, notifier, silentLog, {
    passthrough: true,
    acl: true,
  });
  for (const [index, record] of records.entries()) {
    channel.sent.length = 0;
    channel.deliver([Buffer.from(record.request, 'hex')], session.batch);
    const replies = channel.sent.map((reply) => reply.toString('hex'));
    const what = `${index} ${opcodeName(opcodeOf(record))}`;
    expect([what, ...replies]).toEqual([what, ...(record.reply === undefined ? [] : [record.reply])]);
  }
});

test('the records hold every operation that such a mount is asked', () => {
  const recorded = new Set(records.map(opcodeOf));
  // Only older kernels, only readers without READDIRPLUS, only programs that are interrupted, only other file systems.
  const elsewhere: number[] = [
    Opcode.COPY_FILE_RANGE,
    Opcode.READDIR,
    Opcode.INTERRUPT,
    Opcode.DESTROY,
    Opcode.NOTIFY_REPLY,
  ];
  const missing = Object.values(Opcode).filter(
    (opcode) => !recorded.has(opcode) && !elsewhere.includes(opcode),
  );
  expect(missing.map(opcodeName)).toEqual([]);
});
