// @ts-check
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { barChart } from '../shared/chart.mjs';
import { short, table } from '../shared/table.mjs';
import { cell, workloads } from './workloads.mjs';

/**
 * @typedef {object} Results
 * @property {string} machine
 * @property {string} date
 * @property {number} rounds
 * @property {number} seconds of one measurement
 * @property {readonly { name: string, version: string, options: string }[]} variants the native directory first
 * @property {Record<string, Record<string, number[]>>} figures variant → cell → one value a round
 * @property {Record<string, Record<string, number>>} medians
 * @property {readonly import('./goals.mjs').Verdict[]} verdicts
 */

/** Client count that the chart shows. */
const CHARTED_CLIENTS = 4;

/** @param {Results} results */
export function print({ machine, rounds, seconds, variants, medians, verdicts }) {
  const names = variants.map(({ name }) => name);
  const rows = workloads.flatMap((work) =>
    work.clients
      .map((clients) => ({ clients, key: cell(work.key, clients) }))
      .filter(({ key }) => names.some((name) => medians[name]?.[key] !== undefined))
      .map(({ clients, key }) => [
        work.title,
        String(clients),
        ...names.map((name) => short(medians[name]?.[key] ?? Number.NaN)),
      ]),
  );
  console.log(`${machine}; medians of ${rounds} rounds, ${seconds} s a measurement\n`);
  for (const { name, version, options } of variants) console.log(`${name}: ${version} (${options})`);
  console.log(`\n${table(['work', 'clients', ...names], rows)}\n`);
  for (const { title, method } of workloads) console.log(`${title}: ${method}`);
  const judged = verdicts.map(({ variant, workload, clients, ratio, best, against, factor, reached }) => [
    variant,
    workload,
    String(clients),
    `${against.length > 1 ? `best of ${against.length}: ` : ''}${best}`,
    Number.isNaN(ratio) ? '-' : ratio.toFixed(2),
    factor.toFixed(1),
    reached ? 'reached' : 'MISSED',
  ]);
  console.log(`\n${table(['goal', 'work', 'clients', 'against', 'ratio', 'wanted', ''], judged)}`);
  const missed = verdicts.filter(({ reached }) => !reached).length;
  console.log(
    missed ? `\n${missed} of ${verdicts.length} goals missed` : `\nall ${verdicts.length} goals reached`,
  );
}

/**
 * Writes `bench-kernel.json` and `bench-kernel.svg`.
 * @param {Results} results
 * @param {string} directory
 */
export function write(results, directory) {
  writeFileSync(join(directory, 'bench-kernel.json'), `${JSON.stringify(results, undefined, 1)}\n`);
  const panels = workloads.map((work) => {
    const clients = work.clients.includes(CHARTED_CLIENTS) ? CHARTED_CLIENTS : 1;
    const key = cell(work.key, clients);
    return {
      title: work.title,
      note: `${clients} client${clients > 1 ? 's' : ''}, ${work.better} is better`,
      bars: results.variants.flatMap(({ name }) => {
        const value = results.medians[name]?.[key];
        return value === undefined
          ? []
          : [{ label: name, value, text: short(value), strong: name === 'mirage' }];
      }),
    };
  });
  const subtitle = `${results.machine}, ${results.date.slice(0, 10)}; medians of ${results.rounds} rounds`;
  writeFileSync(
    join(directory, 'bench-kernel.svg'),
    barChart(
      'A local tree through the kernel',
      subtitle,
      panels.filter(({ bars }) => bars.length > 0),
    ),
  );
}
