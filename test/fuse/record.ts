/**
 * Makes fixtures/kernel-records.json: serves the memory tree to a real kernel while every_operation.py works on it, and keeps each
 * request as it came and each reply as it left. Run it again when the operations change:
 *
 *     node --import ./test/fuse/typescript.mjs test/fuse/record.ts
 */
import { execFile } from 'node:child_process';
import { mkdtempSync, rmdirSync, writeFileSync } from 'node:fs';
import { release, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { mountKernel, unmountKernel } from '../../src/fuse/kernel-mount.js';
import { MAX_WRITE } from '../../src/fuse/negotiation.js';
import { ChannelNotifier } from '../../src/fuse/notifier.js';
import { Session } from '../../src/fuse/session.js';
import { fuseTransport } from '../../src/native/fuse-transport.js';
import { MemoryFileSystem } from './memory-file-system.js';
import { silentLog } from './silent-log.js';

const SLOT_BYTES = MAX_WRITE + 4096;
const here = fileURLToPath(new URL('.', import.meta.url));
const transport = fuseTransport();
const mountpoint = mkdtempSync(join(tmpdir(), 'mirage-fuse-record-'));
const options = {
  slots: 8,
  slotBytes: SLOT_BYTES,
  replyBytes: 1 << 22,
  spinMicroseconds: 0,
  notifications: 16,
};
const channel = transport.open(
  mountKernel(transport, { mountpoint, source: 'record', allowOther: false }),
  options,
);

const records: { request: string; reply?: string }[] = [];
const byUnique = new Map<string, { reply?: string }>();
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const keep = (reply: Uint8Array): void => {
  const record = byUnique.get(hex(reply.subarray(8, 16)));
  if (record) record.reply = hex(reply);
};
const tapped = {
  ...channel,
  reply(offset: number, length: number) {
    keep(new Uint8Array(channel.replies, offset, length));
    channel.reply(offset, length);
  },
  replyBuffer(buffer: Uint8Array, length: number) {
    keep(buffer.subarray(0, length));
    channel.replyBuffer(buffer, length);
  },
};
const session = new Session(
  new MemoryFileSystem({ bytes: true }),
  tapped,
  SLOT_BYTES,
  new ChannelNotifier(channel),
  silentLog,
  { passthrough: true, acl: true },
);
const ended = new Promise<void>((resolve) => {
  channel.start((count) => {
    if (count < 0) {
      resolve();
      return false;
    }
    const lengths = new Int32Array(channel.lengths);
    for (let slot = 0; slot < count; slot++) {
      channel.fetchPayload(slot);
      const request = new Uint8Array(channel.requests, slot * SLOT_BYTES, lengths[slot]);
      const record: { request: string; reply?: string } = { request: hex(request) };
      records.push(record);
      byUnique.set(hex(request.subarray(8, 16)), record);
    }
    return session.batch(count);
  });
});

await new Promise<void>((resolve, reject) => {
  execFile('python3', [join(here, 'every_operation.py'), mountpoint], (error) =>
    error ? reject(error) : resolve(),
  );
});
await unmountKernel(transport, mountpoint);
await ended;
channel.close();
rmdirSync(mountpoint);
const kernel = release().split('-')[0];
const lines = records.map((record) => `    ${JSON.stringify(record)}`).join(',\n');
writeFileSync(
  join(here, 'fixtures', 'kernel-records.json'),
  `{\n  "kernel": "${kernel}",\n  "records": [\n${lines}\n  ]\n}\n`,
);
