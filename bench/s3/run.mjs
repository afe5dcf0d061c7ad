#!/usr/bin/env node
// @ts-check
/**
 * `npm run bench:s3`: Mirage, s3fs and rclone over one bucket of a real radosgw on loopback, which is also put 10 ms away, beside the SDK
 * doing the same alone. The store's own counters say what was transferred: a run in which it did not serve what was read is invalid.
 * Exit code 0: every goal reached; 1: one missed; 2: it could not be measured.
 */
import { mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, release, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { barChart } from '../shared/chart.mjs';
import { endChildren, run } from '../shared/processes.mjs';
import { median } from '../shared/statistics.mjs';
import { short, table } from '../shared/table.mjs';
import { Bench } from './bench.mjs';
import { judge } from './goals.mjs';
import { listings } from './listings.mjs';
import { coldReads, grep, memory, parallelReads, randomReads, warmReads } from './reads.mjs';
import { Store } from './store.mjs';
import { durableWrites, programs, renames, smallFiles } from './writes.mjs';

/** @typedef {import('./mounts.mjs').Name} Name */

const TRIPS = [0, 10];
/** @type {Record<string, { work: (bench: Bench) => Promise<void>, trips: readonly number[] }>} */
const works = {
  cold: { work: coldReads, trips: TRIPS },
  parallel: { work: parallelReads, trips: TRIPS },
  warm: { work: warmReads, trips: [0] },
  random: { work: randomReads, trips: TRIPS },
  list: { work: listings, trips: TRIPS },
  write: { work: durableWrites, trips: TRIPS },
  small: { work: smallFiles, trips: [10] },
  rename: { work: renames, trips: TRIPS },
  programs: { work: programs, trips: [10] },
  grep: { work: grep, trips: TRIPS },
  memory: { work: memory, trips: [0] },
};

const { values: options } = parseArgs({
  options: {
    work: { type: 'string' },
    only: { type: 'string' },
    trips: { type: 'string' },
    rounds: { type: 'string', default: '1' },
    directory: { type: 'string', default: tmpdir() },
    output: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
});
if (options.help) {
  console.log(`usage: npm run bench:s3 -- [options]
  --work A,B        of ${Object.keys(works).join(', ')}
  --only A,B        of mirage, s3fs, rclone
  --trips A,B       milliseconds of the round trip (${TRIPS.join(', ')})
  --rounds N        the whole, N times over (${options.rounds})
  --directory DIR   scratch on a disk, 20 GB (${options.directory})
  --output DIR      where bench-s3.json and bench-s3.svg go (docs, when everything is measured)`);
  process.exit(0);
}
const peers = /** @type {Name[]} */ (options.only?.split(',') ?? ['mirage', 's3fs', 'rclone']);
const trips = options.trips?.split(',').map(Number) ?? TRIPS;
const chosen = options.work?.split(',') ?? Object.keys(works);
const everything = options.only === undefined && options.work === undefined && options.trips === undefined;
const here = (/** @type {string} */ path) => fileURLToPath(new URL(path, import.meta.url));
const output = options.output ?? (everything ? here('../../docs') : undefined);

const folder = realpathSync(mkdtempSync(join(options.directory, 'mirage-bench-s3-')));
const store = new Store(folder);
for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP'])) {
  process.on(signal, () => {
    console.error('stopping: the mounts and the server end first');
    endChildren();
  });
}

/** @type {Map<number, Bench>} */
const benches = new Map();
/** @type {string[]} */
const failures = [];
try {
  const program = join(folder, 'files');
  await run(['cc', '-O2', '-Wall', '-Wextra', '-Werror', '-pthread', '-o', program, here('files.c')]);
  await store.open();
  /** @type {Map<string, unknown>} */
  const made = new Map();
  for (const trip of trips) {
    const endpoint = await store.endpoint(trip);
    benches.set(trip, new Bench({ store, folder, trip, endpoint, peers, program, made }));
  }
  for (let round = 0; round < Number(options.rounds); round++) {
    for (const name of chosen) {
      const entry = works[name];
      if (!entry) throw new Error(`there is no work ${name}: choose of ${Object.keys(works).join(', ')}`);
      for (const [trip, bench] of benches) {
        if (!entry.trips.includes(trip) && everything) continue;
        try {
          await entry.work(bench);
        } catch (error) {
          failures.push(`${name} at ${trip} ms: ${error instanceof Error ? error.message : error}`);
          process.stderr.write(`  ${failures.at(-1)}\n`);
        }
      }
    }
  }
} finally {
  await store.close();
  endChildren();
  rmSync(folder, { recursive: true, force: true });
}

const machine = `${cpus().length} processors (${cpus()[0]?.model.trim()}), Linux ${release()}, Node ${process.version}`;
const measured = [...benches].map(([trip, { figures }]) => {
  const medians = Object.fromEntries(
    Object.entries(figures).map(([row, variants]) => [
      row,
      Object.fromEntries(Object.entries(variants).map(([variant, values]) => [variant, median(values)])),
    ]),
  );
  return { trip, figures, medians, verdicts: judge(trip, medians) };
});
const columns = ['mirage', 'sdk', 's3fs', 'rclone', 'ext4'];
console.log(`${machine}; milliseconds, medians\n`);
console.log(
  table(
    ['work', 'round trip', ...columns],
    measured.flatMap(({ trip, medians }) =>
      Object.entries(medians).map(([row, variants]) => [
        row,
        `${trip} ms`,
        ...columns.map((column) => {
          const value = variants[column] ?? (column === 'sdk' ? variants['sdk, 64 at once'] : undefined);
          return value === undefined ? '' : short(value);
        }),
      ]),
    ),
  ),
);
const verdicts = measured.flatMap((each) => each.verdicts);
console.log(
  `\n${table(
    ['goal', 'round trip', '', 'measured', 'limit', ''],
    verdicts.map(({ row, trip, goal, value, limit, reached }) => [
      row,
      `${trip} ms`,
      goal,
      short(value),
      short(limit),
      reached ? 'reached' : 'MISSED',
    ]),
  )}`,
);
const missed = verdicts.filter(({ reached }) => !reached).length;
console.log(`\n${verdicts.length - missed} of ${verdicts.length} goals reached`);
for (const failure of failures) console.error(`not measured: ${failure}`);

if (output !== undefined) {
  const date = new Date().toISOString();
  const results = { machine, date, measured };
  writeFileSync(join(output, 'bench-s3.json'), `${JSON.stringify(results, undefined, 1)}\n`);
  const panels = measured.flatMap(({ trip, medians }) =>
    Object.entries(medians).map(([row, variants]) => ({
      title: row,
      note: `${trip} ms round trip, less is better`,
      bars: Object.entries(variants).map(([label, value]) => ({
        label,
        value,
        text: short(value),
        strong: label === 'mirage',
      })),
    })),
  );
  writeFileSync(
    join(output, 'bench-s3.svg'),
    barChart('An S3 bucket through the kernel', `${machine}, ${date.slice(0, 10)}; milliseconds`, panels),
  );
}
process.exitCode = failures.length > 0 ? 2 : missed > 0 ? 1 : 0;
