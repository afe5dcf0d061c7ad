import { afterAll, test } from '@jest/globals';
import fc from 'fast-check';
import { argumentSize, Opcode } from '../../src/fuse/protocol.js';
import { Harness, init, request, turn } from './harness.js';
import { MemoryFileSystem } from './memory-file-system.js';
import { unhurried } from './unhurried.js';

const open: MemoryFileSystem[] = [];
afterAll(() => {
  for (const fileSystem of open) fileSystem.close();
});

function harness(asynchronous: boolean): Harness {
  const fileSystem = new MemoryFileSystem({ bytes: true });
  open.push(fileSystem);
  return new Harness(unhurried(fileSystem, asynchronous).fileSystem);
}

/** Sizes and offsets that a kernel would not send, and small ones that it does. */
const field = fc.oneof(
  fc.nat({ max: 8 }),
  fc.nat({ max: 0xffff_ffff }),
  fc.constantFrom(0xffff_ffff, 0x8000_0000, 4096),
);
const body = fc.oneof(
  fc.uint8Array({ maxLength: 200 }),
  fc
    .tuple(fc.array(field, { maxLength: 26 }), fc.string({ maxLength: 40 }))
    .map(([fields, name]) =>
      Buffer.concat([Buffer.from(Uint32Array.from(fields).buffer), Buffer.from(name, 'latin1')]),
    ),
);
const opcodes = [
  ...Object.values(Opcode).filter((opcode) => opcode !== Opcode.INIT),
  0,
  7,
  99,
  4096,
  0xffff_ffff,
];
const record = fc
  .record({
    opcode: fc.constantFrom(...opcodes),
    node: fc.nat({ max: 6 }),
    unique: fc.integer({ min: 1, max: 40 }),
    body,
  })
  .map(({ opcode, ...rest }) => request(opcode, rest));

const unanswered: number[] = [Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT, Opcode.NOTIFY_REPLY];

test.each([false, true])(
  'whatever comes gets one well-formed answer (asynchronous: %s)',
  async (asynchronous) => {
    await fc.assert(
      fc.asyncProperty(fc.array(record, { maxLength: 12 }), async (records) => {
        const { channel, session } = harness(asynchronous);
        channel.sent.length = 0;
        let expected = 0;
        for (const [index, one] of records.entries()) {
          one.writeBigUInt64LE(BigInt(index + 1), 8);
          channel.deliver([one], session.batch);
          const opcode = one.readUInt32LE(4);
          const complete = one.length - 40 >= (argumentSize[opcode] ?? 0);
          if (!unanswered.includes(opcode) || !complete) expected++;
        }
        for (let i = 0; i < 100 && session.pending > 0; i++) await turn();
        // FakeChannel has thrown by now if an answer was out of bounds or of another length than it says.
        if (channel.sent.length !== expected) {
          throw new Error(`${channel.sent.length} answers to ${expected} requests`);
        }
        if (session.pending > 0) throw new Error('a request is left without an answer');
      }),
      { numRuns: 300 },
    );
  },
);

test('bytes that are no request are not answered', () => {
  const { channel, session } = harness(false);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
      channel.sent.length = 0;
      channel.deliver([bytes], session.batch);
      if (bytes.length < 40 && channel.sent.length > 0) throw new Error('an answer to nothing');
    }),
    { numRuns: 500 },
  );
});

test('any INIT is answered, and with nothing that was not offered', () => {
  fc.assert(
    fc.property(field, field, field, field, fc.nat({ max: 64 }), (major, minor, flags, flags2, length) => {
      const { channel, session } = harness(false);
      const bytes = init();
      bytes.writeUInt32LE(major, 40);
      bytes.writeUInt32LE(minor, 44);
      bytes.writeUInt32LE(flags, 52);
      bytes.writeUInt32LE(flags2, 56);
      const cut = bytes.subarray(0, 40 + length);
      cut.writeUInt32LE(cut.length, 0);
      channel.sent.length = 0;
      channel.deliver([cut], session.batch);
      const [reply] = channel.sent;
      if (channel.sent.length !== 1 || reply === undefined) throw new Error('one answer is due');
      if (reply.length === 80 && (reply.readUInt32LE(28) & ~flags) !== 0)
        throw new Error('a flag that was not offered');
    }),
  );
});
