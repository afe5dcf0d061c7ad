import { describe, expect, test } from '@jest/globals';
import { mendModificationTime } from '../../src/fuse/fuse-native/fuse-native-module.js';
import { fromMilliseconds, inodeNumber, toStat, toStatfs } from '../../src/fuse/fuse-native/records.js';
import { Attributes } from '../../src/vfs/attributes.js';

describe('records of fuse-native', () => {
  test('times are cut to milliseconds, and a time before 1970 does not become one in the far future', () => {
    const attributes = new Attributes();
    attributes.modifiedSeconds = 1_700_000_000;
    attributes.modifiedNanoseconds = 123_999_999;
    attributes.accessedSeconds = -5;
    const stat = toStat(attributes);
    expect(stat.mtime).toBe(1_700_000_000_123);
    expect(stat.atime).toBe(0);
  });

  test('milliseconds become seconds and nanoseconds, before 1970 too', () => {
    expect(fromMilliseconds(1500)).toEqual({ seconds: 1, nanoseconds: 500_000_000 });
    expect(fromMilliseconds(-1)).toEqual({ seconds: -1, nanoseconds: 999_000_000 });
  });

  test('inode numbers keep their low 32 bits and are never 0', () => {
    expect(inodeNumber(2 ** 40 + 7)).toBe(7);
    expect(inodeNumber(2 ** 40)).toBe(1);
  });

  test('a store of petabytes is counted in larger blocks', () => {
    const blocks = 2 ** 40;
    const usage = { blockSize: 4096, blocks, blocksFree: blocks / 2, blocksAvailable: blocks / 4 };
    const stat = toStatfs({ ...usage, files: 2 ** 50, filesFree: 2 ** 50, nameLength: 255 });
    expect(stat.blocks).toBeLessThan(2 ** 32);
    expect(stat.blocks * stat.frsize).toBe(blocks * 4096);
    expect(stat.bavail * stat.frsize).toBe((blocks / 4) * 4096);
    expect(stat.files).toBe(2 ** 32 - 1);
  });
});

describe('the modification time that fuse-native drops', () => {
  const UTIMENS = 12;
  function call(record: Buffer, accessed: bigint): unknown[] {
    const seen: unknown[][] = [];
    const handlers: ((thread: Buffer, operation: number, ...args: unknown[]) => unknown)[] = [];
    handlers[UTIMENS] = (_thread, _operation, ...args) => seen.push(args);
    mendModificationTime(handlers);
    const bits = BigInt.asUintN(64, accessed);
    const low = Number(bits & 0xffff_ffffn);
    const high = Number(bits >> 32n);
    handlers[UTIMENS]?.(record, UTIMENS, '/f', low, high, low, high);
    return seen[0] as unknown[];
  }
  const record = (accessed: bigint, modified: bigint): Buffer => {
    const bytes = Buffer.alloc(360);
    bytes.writeBigInt64LE(accessed, 104);
    bytes.writeBigInt64LE(modified, 112);
    return bytes;
  };

  test('is read from the thread record', () => {
    expect(call(record(1_111_000_000_123n, 2_222_000_000_987n), 1_111_000_000_123n)).toEqual([
      '/f',
      1_111_000_000_123,
      0,
      2_222_000_000_987,
      0,
    ]);
    expect(call(record(-5000n, -7123n), -5000n)).toEqual(['/f', -5000, 0, -7123, 0]);
  });

  test('is unknown where the record does not have the layout we know', () => {
    expect(call(record(1n, 2n), 3n)).toEqual(['/f', 3, 0, Number.NaN, 0]);
    expect(call(Buffer.alloc(64), 0n)).toEqual(['/f', 0, 0, Number.NaN, 0]);
  });
});
