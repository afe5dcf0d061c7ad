// @ts-check
import { cell, JUDGED_CLIENTS, workloads } from './workloads.mjs';

/** The file systems that people use today; the best of them at each work is the mark. */
const IN_USE = ['bindfs', 'sshfs', 'rclone'];
const OURS = 'mirage';

/**
 * @typedef {object} Goal
 * @property {string} variant
 * @property {string} workload key
 * @property {number} factor to reach
 * @property {readonly string[]} against the best of these
 *
 * @typedef {Goal & { clients: number, ratio: number, best: string, reached: boolean }} Verdict
 */

const SEQUENTIAL = ['read-1MiB', 'read-128KiB', 'write-1MiB', 'write-128KiB'];

/** @type {readonly Goal[]} */
export const goals = [
  ...['getattr', 'open', 'random', ...SEQUENTIAL].map((workload) => ({
    variant: OURS,
    workload,
    factor: 1,
    against: ['passthrough_ll'],
  })),
  { variant: OURS, workload: 'getattr', factor: 1.3, against: IN_USE },
  { variant: OURS, workload: 'open', factor: 1.2, against: IN_USE },
  ...SEQUENTIAL.map((workload) => ({ variant: OURS, workload, factor: 1, against: IN_USE })),
  ...['write-1MiB', 'write-128KiB'].map((workload) => ({
    variant: `${OURS}-no-passthrough`,
    workload,
    factor: 0.8,
    against: ['passthrough_ll'],
  })),
  ...['ls-cold', 'ls-warm'].map((workload) => ({ variant: OURS, workload, factor: 2, against: IN_USE })),
  ...['read-1MiB', 'read-128KiB'].map((workload) => ({
    variant: OURS,
    workload,
    factor: 0.9,
    against: ['native'],
  })),
];

/**
 * Holds medians against the goals. A goal whose figures are missing is not reached.
 * @param {(variant: string, cell: string) => number | undefined} figure
 * @returns {Verdict[]}
 */
export function judge(figure) {
  return goals.flatMap((goal) => {
    const workload = workloads.find(({ key }) => key === goal.workload);
    if (!workload) throw new Error(`no such work: ${goal.workload}`);
    const counts = workload.clients.length > 1 ? JUDGED_CLIENTS : workload.clients;
    return counts.map((clients) => {
      const name = cell(goal.workload, clients);
      const sign = workload.better === 'higher' ? 1 : -1;
      const ours = figure(goal.variant, name);
      const marks = goal.against
        .map((variant) => ({ variant, value: figure(variant, name) }))
        .filter((mark) => mark.value !== undefined)
        .sort((a, b) => sign * (Number(b.value) - Number(a.value)));
      const best = marks[0];
      const ratio = ours === undefined || !best?.value ? Number.NaN : (ours / best.value) ** sign;
      return { ...goal, clients, ratio, best: best?.variant ?? 'none', reached: ratio >= goal.factor };
    });
  });
}
