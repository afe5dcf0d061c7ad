/** Open handles by small numbers, from 1; a closed one's number is given out again. */
export class HandleTable<T> {
  private readonly records: (T | undefined)[] = [undefined];
  private readonly free: number[] = [];

  add(record: T): number {
    const handle = this.free.pop() ?? this.records.length;
    this.records[handle] = record;
    return handle;
  }

  get(handle: number): T | undefined {
    return this.records[handle];
  }

  remove(handle: number): T | undefined {
    const record = this.records[handle];
    if (record === undefined) return undefined;
    this.records[handle] = undefined;
    this.free.push(handle);
    return record;
  }

  *values(): Iterable<T> {
    for (const record of this.records) if (record !== undefined) yield record;
  }
}
