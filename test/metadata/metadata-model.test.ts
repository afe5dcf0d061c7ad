import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import type {
  ListingWriter,
  LocationId,
  MetadataStore,
  NewEntryRecord,
} from '../../src/metadata/contract.js';
import { openMetadata } from '../../src/metadata/open-metadata.js';
import { MetadataModel } from './model.js';
import { silentLog } from './silent-log.js';

const directories = ['', 'a', 'a/b', 'ab', 'x', 'x/b'];
const names = ['f', 'b', '\u00ff'];

const aRecord = fc.record<NewEntryRecord>({
  name: fc.constantFrom(...names),
  kind: fc.constantFrom('file', 'directory', 'absent'),
  size: fc.constantFrom(0, 1, 2 ** 41),
  validator: fc.constantFrom(undefined, '"e1"', '"e2"'),
  modifiedSeconds: fc.constant(1_700_000_000),
  modifiedNanoseconds: fc.constant(5),
  attributes: fc.constantFrom(undefined, {}, { mode: 0o100644, linkGroup: 'one' }, { linkGroup: 'two' }),
  ino: fc.constantFrom(undefined, undefined, 2 ** 52 + 1),
  seenAt: fc.constantFrom(1000, 2000.5),
});
const aDirectory = fc.constantFrom(...directories);

const aStep = fc.oneof(
  { weight: 8, arbitrary: fc.record({ do: fc.constant('put' as const), key: aDirectory, record: aRecord }) },
  fc.record({ do: fc.constant('forget' as const), key: aDirectory, name: fc.constantFrom(...names) }),
  fc.record({
    do: fc.constant('startListing' as const),
    key: aDirectory,
    now: fc.integer({ min: 1, max: 9 }),
  }),
  fc.record({
    do: fc.constant('page' as const),
    which: fc.nat(3),
    records: fc.array(aRecord, { maxLength: 4 }),
  }),
  fc.record({ do: fc.constant('complete' as const), which: fc.nat(3) }),
  fc.record({
    do: fc.constant('markComplete' as const),
    key: aDirectory,
    now: fc.integer({ min: 1, max: 9 }),
  }),
  fc.record({ do: fc.constant('expire' as const), key: aDirectory }),
  fc.record({
    do: fc.constant('move' as const),
    move: fc.constantFrom(['a', 'x'], ['a/b', 'ab'], ['x', 'a'], ['ab', 'a/b'], ['x/b', 'a/b']),
  }),
  fc.record({ do: fc.constant('forgetTree' as const), key: aDirectory }),
  { weight: 3, arbitrary: fc.record({ do: fc.constant('turn' as const) }) },
  fc.record({ do: fc.constant('settled' as const) }),
  fc.record({ do: fc.constant('reopen' as const) }),
);

/** The store and its model side by side. */
class Pair {
  readonly model = new MetadataModel();
  readonly #writers: ListingWriter[] = [];
  /** The highest position ever given: each new one lies above. */
  #highest = 0;
  #location: LocationId;

  constructor(
    readonly file: string,
    public store: MetadataStore = openMetadata({ file, log: silentLog, inThread: true }),
  ) {
    this.#location = this.store.location('s3://bucket');
  }

  async run(step: typeof aStep extends fc.Arbitrary<infer T> ? T : never): Promise<void> {
    const { store, model } = this;
    const location = this.#location;
    if (step.do === 'put') {
      store.put(location, step.key, step.record);
      model.put(step.key, step.record);
    } else if (step.do === 'forget') {
      store.forget(location, step.key, step.name);
      model.forget(step.key, step.name);
    } else if (step.do === 'startListing') {
      this.#writers.push(store.startListing(location, step.key, step.now));
      model.startListing(step.key, step.now);
    } else if (step.do === 'page' && this.#writers.length > 0) {
      const which = step.which % this.#writers.length;
      this.#writers[which]!.page(step.records);
      model.page(model.listings[which]!, step.records);
    } else if (step.do === 'complete' && this.#writers.length > 0) {
      const which = step.which % this.#writers.length;
      this.#writers[which]!.complete();
      model.complete(model.listings[which]!);
    } else if (step.do === 'markComplete') {
      store.markComplete(location, step.key, step.now);
      model.markComplete(step.key, step.now);
    } else if (step.do === 'expire') {
      store.expire(location, step.key);
      model.expire(step.key);
    } else if (step.do === 'move') {
      const [from, to] = step.move as [string, string];
      store.moveDirectory(location, from, to);
      model.moveDirectory(from, to);
    } else if (step.do === 'forgetTree') {
      store.forgetTree(location, step.key);
      model.forgetTree(step.key);
    } else if (step.do === 'turn') {
      await nextTurn();
    } else if (step.do === 'settled') {
      await store.settled();
    } else if (step.do === 'reopen') {
      await store.close();
      this.store = openMetadata({ file: this.file, log: silentLog, inThread: true });
      expect(this.store.location('s3://bucket')).toBe(location);
      this.#writers.length = 0;
      model.restart();
    }
    this.compare();
  }

  compare(): void {
    const { store, model } = this;
    const location = this.#location;
    const fresh: { position: number; set(position: number): void }[] = [];
    for (const key of directories) {
      expect(store.listing(location, key).completeAt).toBe(model.directories.get(key)?.completeAt);
      for (const name of names) {
        const found = store.entry(location, key, name);
        const expected = model.entry(key, name);
        expect({ ...found, position: 0 }).toEqual({ ...expected, position: 0 });
        if (!found || !expected) continue;
        if (Number.isNaN(expected.position)) {
          const row = model.directories.get(key)!.rows.get(name)!;
          fresh.push({
            position: found.position,
            set: (position) => Object.assign(row, { record: { ...row.record, position } }),
          });
        } else {
          expect(found.position).toBe(expected.position);
        }
      }
    }
    for (const { position, set } of fresh.sort((a, b) => a.position - b.position)) {
      expect(position).toBeGreaterThan(this.#highest);
      this.#highest = position;
      set(position);
    }
    for (const key of directories) {
      const paged = [];
      for (let after = 0; ; ) {
        const page = store.entries(location, key, after, 2);
        paged.push(...page);
        if (page.length < 2) break;
        after = page[1]!.position;
      }
      expect(paged).toEqual(model.entries(key));
    }
    for (const group of ['one', 'two']) {
      const found = store.linkNames(location, group).map(({ directory, name }) => `${directory}|${name}`);
      expect(found.sort()).toEqual(model.linkNames(group));
    }
  }
}

test('random calls answer as plain maps would, whatever is on disk already', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'mirage-metadata-'));
  let runs = 0;
  try {
    await fc.assert(
      fc.asyncProperty(fc.array(aStep, { maxLength: 60 }), async (steps) => {
        const pair = new Pair(join(folder, `${runs++}.db`));
        try {
          for (const step of steps) await pair.run(step);
        } finally {
          await pair.store.close();
        }
      }),
      { numRuns: process.env.MIRAGE_TEST_LONG === undefined ? 120 : 1500 },
    );
  } finally {
    rmSync(folder, { recursive: true });
  }
}, 600_000);
