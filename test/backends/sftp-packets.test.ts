import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import {
  readAttributes,
  toServerAttributes,
  userOwners,
  writeAttributes,
} from '../../src/backends/sftp/attributes.js';
import { PacketType, ReplyPacket, RequestPacket } from '../../src/backends/sftp/packet.js';
import { PacketStream } from '../../src/backends/sftp/packet-stream.js';
import { MirageError } from '../../src/errors/mirage-error.js';

const SPACE = 300_000;

/** What a stream of packets was cut into. */
function collect(chunks: readonly Uint8Array[]) {
  const found: { id: number; type: PacketType; bytes: string }[] = [];
  const space = Buffer.alloc(SPACE);
  const stream = new PacketStream({
    onReply(id, reply) {
      const bytes: number[] = [];
      while (reply.left >= 4) bytes.push(reply.u32());
      found.push({ id, type: reply.type, bytes: bytes.join() });
    },
    spaceFor: (id) => (id % 2 === 0 ? space : undefined),
    onData(id, length) {
      const bytes = id % 2 === 0 ? space.subarray(0, length).toString('hex') : 'nowhere';
      found.push({ id, type: PacketType.data, bytes });
    },
  });
  for (const chunk of chunks) {
    // As a socket does, one buffer is used again and again.
    const reused = Buffer.from(chunk);
    stream.push(reused);
    reused.fill(0xee);
  }
  return found;
}

const reply = (type: PacketType, id: number, words: readonly number[]): Buffer => {
  const packet = new RequestPacket(type);
  for (const word of words) packet.u32(word);
  return Buffer.from(packet.encode(id));
};
const data = (id: number, bytes: Uint8Array): Buffer =>
  Buffer.from(new RequestPacket(PacketType.data).bytes(bytes).encode(id));

describe('a stream of packets', () => {
  const packets = fc.array(
    fc.oneof(
      fc.tuple(fc.nat(1000), fc.array(fc.nat(), { maxLength: 100 })).map(([id, words]) => ({
        wire: reply(PacketType.status, id, words),
        wanted: { id, type: PacketType.status, bytes: words.join() },
      })),
      fc.tuple(fc.nat(1000), fc.uint8Array({ maxLength: 2000 })).map(([id, bytes]) => ({
        wire: data(id, bytes),
        wanted: {
          id,
          type: PacketType.data,
          bytes: id % 2 === 0 ? Buffer.from(bytes).toString('hex') : 'nowhere',
        },
      })),
    ),
    { maxLength: 20 },
  );

  test('is cut the same, however it arrives', () => {
    fc.assert(
      fc.property(packets, fc.array(fc.integer({ min: 1, max: 700 }), { minLength: 1 }), (sent, sizes) => {
        const wire = Buffer.concat(sent.map((packet) => packet.wire));
        const chunks: Buffer[] = [];
        for (let at = 0, i = 0; at < wire.length; i++) {
          const size = sizes[i % sizes.length]!;
          chunks.push(wire.subarray(at, at + size));
          at += size;
        }
        expect(collect(chunks)).toEqual(sent.map(({ wanted }) => wanted));
      }),
    );
  });

  test.each([
    ['a length of nothing', Buffer.alloc(13)],
    ['a length beyond all sense', Buffer.concat([Buffer.from([0xff, 0xff, 0xff, 0xff]), Buffer.alloc(9)])],
    ['text', Buffer.from('Welcome to the machine\n')],
    [
      'DATA that is shorter than it says',
      Buffer.from([0, 0, 0, 10, PacketType.data, 0, 0, 0, 2, 0, 0, 0, 9, 1]),
    ],
    ['more than was asked for', data(2, new Uint8Array(SPACE + 1))],
  ])('%s is refused', (_name, bytes) => {
    let error: unknown;
    try {
      collect([bytes]);
    } catch (thrown) {
      error = thrown;
    }
    expect(MirageError.is(error, 'EIO')).toBe(true);
  });
});

describe('fields', () => {
  test('a packet that ends too early is refused', () => {
    const cut = () => new ReplyPacket(PacketType.name, Buffer.from([0, 0, 0, 9, 65])).text();
    expect(cut).toThrow('cut short');
  });

  test('texts are bytes, numbers are exact', () => {
    const packet = new RequestPacket(PacketType.open)
      .text('\xff\x00ü')
      .u64(2 ** 53 - 1)
      .u32(2 ** 32 - 1);
    const fields = new ReplyPacket(PacketType.open, Buffer.from(packet.encode(1)).subarray(9));
    expect([fields.text(), fields.u64(), fields.u32(), fields.left]).toEqual([
      '\xff\x00ü',
      2 ** 53 - 1,
      2 ** 32 - 1,
      0,
    ]);
  });

  test('attributes go there and back, extended ones are passed over', () => {
    const given = { size: 2 ** 40, uid: 1, gid: 2, mode: 0o100644, accessed: 2 ** 32 - 1, modified: 0 };
    const wire = Buffer.from(writeAttributes(new RequestPacket(PacketType.setstat), given).encode(0));
    expect(readAttributes(new ReplyPacket(PacketType.attributes, wire.subarray(9)))).toEqual(given);
    const extended = new RequestPacket(PacketType.attributes)
      .u32(0x80000000 + 1)
      .u64(5)
      .u32(1)
      .text('name')
      .text('value');
    const fields = new ReplyPacket(PacketType.attributes, Buffer.from(extended.encode(0)).subarray(9));
    expect(readAttributes(fields)).toEqual({ size: 5 });
    expect(fields.left).toBe(0);
  });

  test.each([
    ['-rw-r--r--    2 root     root            0 Nov 21 14:12 name', 2],
    ['drwxr-xr-x   12 1000     1000         4096 Jan  1  2020 name', 12],
    ['lrwxrwxrwx    ? root     root            0 Nov 21 14:12 name', undefined],
    ['a server with lines of its own', undefined],
  ])('the number of names: %s', (longname, links) => {
    const same = (id: number) => id;
    const owners = { uidHere: same, gidHere: same, uidThere: same, gidThere: same };
    expect(toServerAttributes({}, owners, longname).links).toBe(links);
  });

  test('idmap user: who we are there is who we are here, and back', () => {
    const owners = userOwners({ uid: 1001, gid: 1002 }, { uid: 7, gid: 8 });
    const seen = toServerAttributes({ mode: 0o100644, uid: 1001, gid: 1002 }, owners);
    expect([seen.uid, seen.gid]).toEqual([7, 8]);
    const others = toServerAttributes({ mode: 0o100644, uid: 0, gid: 7 }, owners);
    expect([others.uid, others.gid]).toEqual([0, 7]);
    expect([owners.uidThere(7), owners.gidThere(8), owners.uidThere(0)]).toEqual([1001, 1002, 0]);
  });
});
