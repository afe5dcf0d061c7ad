/** Mixes a whole number below 2^53 into 32 bits. */
export function hashNumber(value: number, seed: number): number {
  let hash = Math.imul((value | 0) ^ seed, 0x9e3779b1);
  hash = Math.imul(hash ^ (hash >>> 15) ^ ((value / 4294967296) | 0), 0x85ebca6b);
  return hash ^ (hash >>> 13);
}

/**
 * An open-addressing hash index over the slots of a table: 4 bytes a bucket, three quarters of them used at most, no objects. The keys stay in the
 * columns of the table; a subclass reads them.
 */
export abstract class SlotIndex {
  /** Slot + 1; 0 is free. */
  protected buckets = new Int32Array(64);
  protected mask = 63;
  private count = 0;

  protected abstract hashOf(slot: number): number;

  add(slot: number): void {
    if (++this.count * 4 > this.buckets.length * 3) this.grow();
    this.place(slot);
  }

  /** Removes a slot that is there, while its key columns still hold its key. */
  remove(slot: number): void {
    let at = this.hashOf(slot) & this.mask;
    while (this.buckets[at] !== slot + 1) {
      if (this.buckets[at] === 0) return;
      at = (at + 1) & this.mask;
    }
    this.count--;
    // Later entries of the probe run move up, so that no tombstones are needed.
    let hole = at;
    for (;;) {
      at = (at + 1) & this.mask;
      const entry = this.buckets[at]!;
      if (entry === 0) break;
      const home = this.hashOf(entry - 1) & this.mask;
      if (((at - home) & this.mask) >= ((at - hole) & this.mask)) {
        this.buckets[hole] = entry;
        hole = at;
      }
    }
    this.buckets[hole] = 0;
  }

  private place(slot: number): void {
    let at = this.hashOf(slot) & this.mask;
    while (this.buckets[at] !== 0) at = (at + 1) & this.mask;
    this.buckets[at] = slot + 1;
  }

  private grow(): void {
    const old = this.buckets;
    this.buckets = new Int32Array(old.length * 2);
    this.mask = this.buckets.length - 1;
    for (const entry of old) if (entry !== 0) this.place(entry - 1);
  }
}
