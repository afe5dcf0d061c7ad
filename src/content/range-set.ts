/** A set of byte offsets, kept as sorted ranges [start, end) that neither overlap nor touch. */
export class RangeSet {
  /** start, end, start, end, … */
  #bounds: number[];
  #bytes = 0;

  constructor(bounds: readonly number[] = []) {
    this.#bounds = [...bounds];
    for (let i = 0; i < bounds.length; i += 2) this.#bytes += bounds[i + 1]! - bounds[i]!;
  }

  /** Offsets in the set. */
  get bytes(): number {
    return this.#bytes;
  }

  get bounds(): readonly number[] {
    return this.#bounds;
  }

  /** Each range as [start, end). */
  *ranges(): IterableIterator<readonly [start: number, end: number]> {
    const bounds = this.#bounds;
    for (let i = 0; i < bounds.length; i += 2) yield [bounds[i]!, bounds[i + 1]!];
  }

  /** Some offset of [start, end) is in the set. */
  touches(start: number, end: number): boolean {
    return start < end && (this.endFrom(start) > start || this.nextStart(start) < end);
  }

  has(start: number, end: number): boolean {
    if (start >= end) return true;
    const i = this.#above(start);
    return (i & 1) === 1 && this.#bounds[i]! >= end;
  }

  /** End of the range that holds `offset`; `offset` itself when none does. */
  endFrom(offset: number): number {
    const i = this.#above(offset);
    return (i & 1) === 1 ? this.#bounds[i]! : offset;
  }

  /** Start of the first range above `offset`, or `Infinity`. */
  nextStart(offset: number): number {
    const i = this.#above(offset);
    return this.#bounds[(i & 1) === 1 ? i + 1 : i] ?? Number.POSITIVE_INFINITY;
  }

  /** What of [start, end) is not in the set: start, end, start, end, … */
  gaps(start: number, end: number): number[] {
    const gaps: number[] = [];
    for (let at = this.endFrom(start); at < end; ) {
      const next = Math.min(this.nextStart(at), end);
      gaps.push(at, next);
      at = this.endFrom(next);
    }
    return gaps;
  }

  /** Returns how many offsets are new. */
  add(start: number, end: number): number {
    if (start >= end) return 0;
    const before = this.#bytes;
    const low = this.#from(start);
    const high = this.#above(end);
    const first = low & 1 ? this.#bounds[low - 1]! : start;
    const last = high & 1 ? this.#bounds[high]! : end;
    this.#replace(low & 1 ? low - 1 : low, high & 1 ? high + 1 : high, [first, last]);
    return this.#bytes - before;
  }

  /** Returns how many offsets are gone. */
  remove(start: number, end: number): number {
    if (start >= end) return 0;
    const before = this.#bytes;
    const low = this.#above(start);
    const high = this.#above(end);
    const left: number[] = [];
    if (low & 1 && this.#bounds[low - 1]! < start) left.push(this.#bounds[low - 1]!, start);
    if (high & 1 && this.#bounds[high]! > end) left.push(end, this.#bounds[high]!);
    this.#replace(low & 1 ? low - 1 : low, high & 1 ? high + 1 : high, left);
    return before - this.#bytes;
  }

  /** Puts whole ranges in the place of those with indexes [from, to). */
  #replace(from: number, to: number, ranges: readonly number[]): void {
    const bounds = this.#bounds;
    for (let i = from; i < to; i += 2) this.#bytes -= bounds[i + 1]! - bounds[i]!;
    for (let i = 0; i < ranges.length; i += 2) this.#bytes += ranges[i + 1]! - ranges[i]!;
    bounds.splice(from, to - from, ...ranges);
  }

  /** Index of the first bound above `offset`; odd: `offset` is in the set. */
  #above(offset: number): number {
    return this.#search(offset, 1);
  }

  /** Index of the first bound not below `offset`. */
  #from(offset: number): number {
    return this.#search(offset, 0);
  }

  #search(offset: number, strict: 0 | 1): number {
    const bounds = this.#bounds;
    let low = 0;
    let high = bounds.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const bound = bounds[middle]!;
      if (bound > offset || (strict === 0 && bound === offset)) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}
