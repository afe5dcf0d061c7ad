import { expect, test } from '@jest/globals';
import { NodeTable } from '../../src/vfs/host/node-table.js';

test('a file is found behind an older one that had its inode number', () => {
  const table = new NodeTable(() => undefined);
  const file = (birth: number) => ({ device: 1, ino: 7, birth, kind: 8 });
  table.add({ device: 1, ino: 1, birth: 1, kind: 4 }, -1, '');
  const older = table.add(file(1), 0, 'older');
  const newer = table.add(file(2), 0, 'newer');
  expect(table.find(file(2))).toBe(newer);
  expect(table.find(file(1))).toBe(-1);
  expect(table.slotOf(table.numbers[older]!)).toBe(older);
});
