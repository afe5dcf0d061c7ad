/** Walking through sets of ranges. */
import type { RangeSet } from '../../content/range-set.js';

/** A list of bounds as [start, end) pairs. */
export function* pairs(bounds: readonly number[]): Iterable<readonly [number, number]> {
  for (let i = 0; i < bounds.length; i += 2) yield [bounds[i]!, bounds[i + 1]!];
}

/** What of [start, end) is in the set. */
export function* overlaps(set: RangeSet, start: number, end: number): Iterable<readonly [number, number]> {
  let at = start;
  for (const [from, to] of pairs(set.gaps(start, end))) {
    if (from > at) yield [at, from];
    at = to;
  }
  if (at < end) yield [at, end];
}
