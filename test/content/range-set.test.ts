import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { RangeSet } from '../../src/content/range-set.js';

const SIZE = 40;

test('random additions and removals answer as a plain set of offsets would', () => {
  const step = fc.tuple(fc.boolean(), fc.nat(SIZE), fc.nat(SIZE));
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30 }), fc.nat(SIZE), fc.nat(SIZE), (steps, from, to) => {
      let ranges = new RangeSet();
      const model = new Set<number>();
      for (const [adds, start, end] of steps) {
        const before = model.size;
        for (let i = start; i < end; i++) adds ? model.add(i) : model.delete(i);
        const changed = adds ? ranges.add(start, end) : ranges.remove(start, end);
        expect(changed).toBe(Math.abs(model.size - before));
      }
      ranges = new RangeSet(ranges.bounds);
      expect(ranges.bytes).toBe(model.size);
      for (let i = 1; i < ranges.bounds.length; i++) {
        expect(ranges.bounds[i]).toBeGreaterThan(ranges.bounds[i - 1]!);
      }
      const wanted = Array.from({ length: Math.max(0, to - from) }, (_, i) => from + i);
      const missing = wanted.filter((offset) => !model.has(offset));
      expect(ranges.has(from, to)).toBe(missing.length === 0);
      const gaps = ranges.gaps(from, to);
      const inGaps: number[] = [];
      for (let i = 0; i < gaps.length; i += 2) {
        for (let offset = gaps[i]!; offset < gaps[i + 1]!; offset++) inGaps.push(offset);
      }
      expect(inGaps).toEqual(missing);
      let end = from;
      while (model.has(end)) end++;
      expect(ranges.endFrom(from)).toBe(end);
    }),
    { numRuns: 2000 },
  );
});
