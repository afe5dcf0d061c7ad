#!/usr/bin/env node
// @ts-check
/**
 * Mirage and other FUSE file systems over one local tree that is in the page cache: a fresh mount for every file system and round,
 * file systems in random order within a round, medians of the rounds. Exit code 0: every goal reached; 1: one missed;
 * 2: it could not be measured.
 */
import { mkdirSync, mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { cpus, release, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Mount } from '../shared/mount.mjs';
import { endChildren, run } from '../shared/processes.mjs';
import { median, shuffled } from '../shared/statistics.mjs';
import { judge } from './goals.mjs';
import { print, write } from './report.mjs';
import { missingPackages, variants } from './variants.mjs';
import { cell, TREE, workloads } from './workloads.mjs';

const NATIVE = 'native';
const here = (/** @type {string} */ path) => fileURLToPath(new URL(path, import.meta.url));

const { values: options } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' },
    seconds: { type: 'string', default: '0.5' },
    only: { type: 'string' },
    work: { type: 'string' },
    directory: { type: 'string', default: tmpdir() },
    output: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
});
if (options.help) {
  console.log(`usage: npm run bench:kernel -- [options]
  --rounds N        fresh mounts of every file system (${options.rounds})
  --seconds S       time of one measurement (${options.seconds})
  --only A,B        of ${[NATIVE, ...variants.map(({ name }) => name)].join(', ')}
  --work A,B        of ${workloads.map(({ key }) => key).join(', ')}
  --directory DIR   where the tree is made, on a local disk: ${(2 * TREE.large * TREE.largeBytes) / 1e9} GB (${options.directory})
  --output DIR      where bench-kernel.json and bench-kernel.svg go (docs, when everything is measured)`);
  process.exit(0);
}
const names = options.only?.split(',');
const keys = options.work?.split(',');
const chosenVariants = variants.filter(({ name }) => names?.includes(name) ?? true);
const chosenWork = workloads.filter(({ key }) => keys?.includes(key) ?? true);
const output = options.output ?? (names || keys ? undefined : here('../../docs'));
const rounds = Number(options.rounds);
const seconds = Number(options.seconds);

const missing = missingPackages();
if (missing.length > 0) {
  console.error(`bench:kernel needs more programs: apt-get install ${missing.join(' ')}`);
  process.exit(2);
}

const place = realpathSync(mkdtempSync(join(options.directory, 'mirage-bench-kernel-')));
const source = join(place, 'tree');
const generator = join(place, 'load');
/** @param {string} line */
const log = (line) => process.stderr.write(`${line}\n`);
/** @type {Record<string, Record<string, number[]>>} */
const figures = {};
/** @type {Mount | undefined} */
let mounted;

/** @type {Promise<void> | undefined} */
let cleaned;
function clean() {
  cleaned ??= (async () => {
    await mounted?.close();
    endChildren();
    rmSync(place, { recursive: true, force: true });
  })();
  return cleaned;
}
for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP'])) {
  process.on(signal, () => {
    log(`${signal}: unmounting`);
    clean().finally(() => process.exit(130));
  });
}

/**
 * @param {readonly string[]} command arguments of the load generator
 * @param {Mount} [mount]
 */
async function load(command, mount) {
  const text = await run([generator, ...command], { seconds: 120, onTimeout: () => mount?.abort() });
  return text ? JSON.parse(text) : undefined;
}

/**
 * Puts every kind of work on one directory.
 * @param {string} name
 * @param {string} directory
 * @param {Mount} [mount]
 */
async function measure(name, directory, mount) {
  figures[name] ??= {};
  for (const work of chosenWork) {
    for (const clients of work.clients) {
      const key = cell(work.key, clients);
      const result = await load(work.load({ directory, clients, seconds, native: !mount }), mount);
      figures[name][key] = [...(figures[name][key] ?? []), work.value(result)];
      if (work.verify) await load(['verify', source, ...work.verify(clients)]);
    }
  }
  for (let client = 0; client < TREE.large; client++) {
    rmSync(join(directory, `written-${String(client).padStart(2, '0')}`), { force: true });
  }
}

/** @param {import('./variants.mjs').Variant} variant @param {number} round */
async function measureMounted(variant, round) {
  const mountpoint = join(place, `mount-${variant.name}-${round}`);
  const scratch = join(place, `scratch-${variant.name}-${round}`);
  mkdirSync(mountpoint);
  mkdirSync(scratch);
  const mount = new Mount(mountpoint);
  mounted = mount;
  try {
    await mount.open(await variant.command({ source, mountpoint, scratch, build: place }));
    await measure(variant.name, mountpoint, mount);
  } finally {
    await mount.close();
    mounted = undefined;
  }
}

async function main() {
  await run([
    'cc',
    '-std=c11',
    '-O2',
    '-Wall',
    '-Wextra',
    '-Werror',
    '-pthread',
    here('load.c'),
    '-o',
    generator,
  ]);
  log(
    `making ${TREE.files} files of 4 KiB and ${TREE.large} of ${TREE.largeBytes / 2 ** 20} MiB in ${source}`,
  );
  mkdirSync(source);
  await load(['create', source, String(TREE.files), String(TREE.large), String(TREE.largeBytes)]);
  // What is not on the disk yet would get there in the middle of a measurement.
  await run(['sync', '-f', source], { seconds: 300 });

  const failed = new Set();
  for (let round = 1; round <= rounds; round++) {
    const native = names?.includes(NATIVE) ?? true;
    for (const variant of shuffled([...(native ? [undefined] : []), ...chosenVariants])) {
      const name = variant?.name ?? NATIVE;
      if (failed.has(name)) continue;
      log(`round ${round} of ${rounds}: ${name}`);
      try {
        if (variant) await measureMounted(variant, round);
        else await measure(NATIVE, source);
      } catch (error) {
        if (cleaned) return 2;
        failed.add(name);
        log(`${name} failed: ${error instanceof Error ? error.message : error}`);
      }
    }
  }

  /** @type {import('./report.mjs').Results} */
  const results = {
    machine: `Linux ${release()}, ${cpus().length} × ${cpus()[0]?.model ?? 'CPU'}, Node ${process.versions.node}`,
    date: new Date().toISOString(),
    rounds,
    seconds,
    variants: [{ name: NATIVE, version: await fileSystemOf(source), options: 'the directory itself' }],
    figures,
    medians: Object.fromEntries(
      Object.entries(figures).map(([name, cells]) => [
        name,
        Object.fromEntries(Object.entries(cells).map(([key, values]) => [key, median(values)])),
      ]),
    ),
    verdicts: judge((variant, key) =>
      figures[variant]?.[key] ? median(figures[variant][key]) : undefined,
    ).filter(
      ({ workload, variant }) => (keys?.includes(workload) ?? true) && (names?.includes(variant) ?? true),
    ),
  };
  for (const { name, version, options } of chosenVariants) {
    const text = await version().catch(() => 'version unknown');
    results.variants = [...results.variants, { name, version: text, options }];
  }
  print(results);
  if (output) write(results, output);
  if (failed.size > 0) return 2;
  return results.verdicts.every(({ reached }) => reached) ? 0 : 1;
}

/** @param {string} path */
async function fileSystemOf(path) {
  return (await run(['stat', '-f', '-c', '%T', path])).trim();
}

try {
  process.exitCode = await main();
} catch (error) {
  if (!cleaned) log(error instanceof Error ? error.message : String(error));
  process.exitCode = 2;
} finally {
  await clean();
}
