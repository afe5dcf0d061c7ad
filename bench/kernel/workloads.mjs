// @ts-check
import { median } from '../shared/statistics.mjs';

export const CLIENTS = [1, 4, 16];
/** Client counts that the goals are judged at; one client measures the scheduler's placement above all. */
export const JUDGED_CLIENTS = [4, 16];

export const TREE = {
  files: 10_000,
  /** One a client. */
  large: 16,
  largeBytes: 128 * 2 ** 20,
  writtenBytes: 64 * 2 ** 20,
};

const MEGABYTE = 1e6;

/**
 * @typedef {object} Workload
 * @property {string} key
 * @property {string} title with its unit
 * @property {string} method how it is measured, for the reader of the table
 * @property {'higher' | 'lower'} better
 * @property {readonly number[]} clients
 * @property {(run: { directory: string, clients: number, seconds: number, native: boolean }) => string[]} load arguments of the load generator
 * @property {(clients: number) => string[]} [verify] arguments of the load generator that prove, at the source, what was written
 * @property {(result: { count: number, seconds: number | number[] }) => number} value
 */

/** @param {{ count: number, seconds: number | number[] }} result */
const perSecond = ({ count, seconds }) => count / Number(seconds);
/** @param {{ count: number, seconds: number | number[] }} result */
const megabytesPerSecond = (result) => perSecond(result) / MEGABYTE;
/** @param {{ seconds: number | number[] }} result */
const milliseconds = ({ seconds }) => 1000 * median([seconds].flat());

/**
 * @param {string} key
 * @param {string} title
 * @param {string} method
 * @returns {Workload}
 */
const operations = (key, title, method) => ({
  key,
  title,
  method,
  better: 'higher',
  clients: CLIENTS,
  load: ({ directory, clients, seconds }) => [key, directory, String(clients), String(seconds)],
  value: perSecond,
});

/**
 * @param {'read' | 'write'} kind
 * @param {number} chunk
 * @param {string} size
 * @returns {Workload}
 */
const sequential = (kind, chunk, size) => ({
  key: `${kind}-${size.replace(' ', '')}`,
  title: `sequential ${kind}, ${size}, MB/s`,
  method:
    kind === 'read'
      ? `one ${TREE.largeBytes / 2 ** 20} MiB file a client, cold in the page cache of the mount, warm in the source's`
      : `${TREE.writtenBytes / 2 ** 20} MiB into an empty file a client, close() included`,
  better: 'higher',
  clients: CLIENTS,
  load: ({ directory, clients, seconds, native }) => [
    kind,
    directory,
    String(clients),
    String(seconds),
    ...(kind === 'read' ? [native ? '1' : '0'] : [String(TREE.writtenBytes)]),
    String(chunk),
  ],
  ...(kind === 'write' && {
    verify: (clients) => [String(clients), String(TREE.writtenBytes), String(chunk)],
  }),
  value: megabytesPerSecond,
});

/**
 * @param {string} key
 * @param {string} title
 * @param {string} method
 * @param {number} times
 * @param {number} pause seconds before each
 * @returns {Workload}
 */
const listing = (key, title, method, times, pause) => ({
  key,
  title: `ls -l of ${TREE.files} entries, ${title}, ms`,
  method,
  better: 'lower',
  clients: [1],
  load: ({ directory }) => ['run', String(times), String(pause), 'ls', '-l', `${directory}/files`],
  value: milliseconds,
});

/** In the order in which they run on a fresh mount. @type {readonly Workload[]} */
export const workloads = [
  listing('ls-cold', 'cold', 'the first thing done on a fresh mount', 1, 0),
  listing(
    'ls-at-once',
    'again at once',
    'median of 3; within the second for which the kernel keeps the entries of the others, it is the kernel that answers',
    3,
    0,
  ),
  listing(
    'ls-warm',
    'warm',
    'median of 2, each 2 s after the last: the file systems answer, from their caches',
    2,
    2,
  ),
  operations(
    'getattr',
    'GETATTR/s',
    'statx(AT_STATX_FORCE_SYNC) on O_PATH descriptors: one request a call, never a cached answer',
  ),
  operations('stat', 'stat by path/s', 'the same by path: with what the mount spends on revalidating names'),
  operations('open', 'open+read+close 4 KiB, files/s', '1,000 files, each opened once before'),
  {
    ...operations(
      'random',
      'random read 4 KiB, 1/s',
      'each block once, pages of the mount dropped before: its page cache never answers',
    ),
    load: ({ directory, clients, seconds, native }) => [
      'random',
      directory,
      String(clients),
      String(seconds),
      native ? '1' : '0',
    ],
  },
  sequential('read', 2 ** 20, '1 MiB'),
  sequential('read', 128 * 2 ** 10, '128 KiB'),
  sequential('write', 2 ** 20, '1 MiB'),
  sequential('write', 128 * 2 ** 10, '128 KiB'),
];

/** @param {string} key @param {number} clients */
export const cell = (key, clients) => `${key} @${clients}`;
