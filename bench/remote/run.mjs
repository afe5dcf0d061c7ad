#!/usr/bin/env node
// @ts-check
/**
 * `npm run bench:remote`: SFTP beside sshfs, HTTP beside curl, WebDAV beside davfs2, each on the same server on loopback.
 * Exit code 0: every goal reached; 1: one missed; 2: it could not be measured.
 */
import { mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, release, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { barChart } from '../shared/chart.mjs';
import { endChildren } from '../shared/processes.mjs';
import { median } from '../shared/statistics.mjs';
import { short, table } from '../shared/table.mjs';
import { http } from './http.mjs';
import { sftp } from './sftp.mjs';
import { webdav } from './webdav.mjs';

/**
 * @typedef {object} Figure
 * @property {string} row
 * @property {'less' | 'more'} better
 * @property {number | undefined} factor Mirage's median must be at least (or at most) so many times the best peer's; undefined: only shown
 * @property {Record<string, number[]>} values side → one value a round; `mirage` is ours, another name that begins like that is only shown
 */

/** @type {Record<string, (folder: string) => Promise<Figure[]>>} */
const works = { sftp, http, webdav };
const { values: options } = parseArgs({
  options: {
    work: { type: 'string' },
    directory: { type: 'string', default: tmpdir() },
    output: { type: 'string' },
  },
});
const chosen = options.work?.split(',') ?? Object.keys(works);
const docs = fileURLToPath(new URL('../../docs', import.meta.url));
const output = options.output ?? (options.work === undefined ? docs : undefined);
for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP'])) {
  process.on(signal, () => {
    console.error('stopping: the mounts and the servers end first');
    endChildren();
  });
}

const folder = realpathSync(mkdtempSync(join(options.directory, 'mirage-bench-remote-')));
/** @type {{ store: string, figures: Figure[] }[]} */
const measured = [];
let failed = false;
try {
  for (const store of chosen) {
    const work = works[store];
    if (!work) throw new Error(`there is no work ${store}: choose of ${Object.keys(works).join(', ')}`);
    const place = join(folder, store);
    mkdirSync(place);
    try {
      measured.push({ store, figures: await work(place) });
    } catch (error) {
      failed = true;
      console.error(`${store} could not be measured: ${error instanceof Error ? error.message : error}`);
    }
    endChildren();
  }
} finally {
  endChildren();
  rmSync(folder, { recursive: true, force: true });
}

const machine = `${cpus().length} processors (${cpus()[0]?.model.trim()}), Linux ${release()}, Node ${process.version}`;
const judged = measured.flatMap(({ store, figures }) =>
  figures.map(({ row, better, factor, values }) => {
    const medians = Object.fromEntries(Object.entries(values).map(([side, each]) => [side, median(each)]));
    const { mirage = Number.NaN } = medians;
    const peers = Object.entries(medians).filter(([side]) => !side.startsWith('mirage'));
    const best = (better === 'more' ? Math.max : Math.min)(...peers.map(([, value]) => value));
    const ratio = mirage / best;
    const reached = factor === undefined ? undefined : better === 'more' ? ratio >= factor : ratio <= factor;
    return { store, row, better, factor, values, medians, ratio, reached };
  }),
);
console.log(`${machine}; medians\n`);
console.log(
  table(
    ['work', 'mirage', 'others', 'ratio', 'goal', ''],
    judged.map(
      ({ store, row, better, factor, medians: { mirage = Number.NaN, ...peers }, ratio, reached }) => [
        `${store}: ${row}`,
        short(mirage),
        Object.entries(peers)
          .map(([side, value]) => `${side} ${short(value)}`)
          .join(', '),
        ratio.toFixed(2),
        factor === undefined ? '' : `${better === 'more' ? '≥' : '≤'} ${Number(factor.toFixed(2))}`,
        reached === undefined ? '' : reached ? 'reached' : 'MISSED',
      ],
    ),
  ),
);
const goals = judged.filter(({ reached }) => reached !== undefined);
const missed = goals.filter(({ reached }) => reached === false).length;
console.log(`\n${goals.length - missed} of ${goals.length} goals reached`);
if (output !== undefined) {
  const date = new Date().toISOString();
  writeFileSync(
    join(output, 'bench-remote.json'),
    `${JSON.stringify({ machine, date, judged }, undefined, 1)}\n`,
  );
  const panels = judged.map(({ store, row, better, medians }) => ({
    title: `${store}: ${row}`,
    note: `${better} is better`,
    bars: Object.entries(medians).map(([label, value]) => ({
      label,
      value,
      text: short(value),
      strong: label === 'mirage',
    })),
  }));
  const subtitle = `${machine}, ${date.slice(0, 10)}`;
  writeFileSync(
    join(output, 'bench-remote.svg'),
    barChart('Servers of files through the kernel', subtitle, panels),
  );
}
process.exitCode = failed ? 2 : missed > 0 ? 1 : 0;
