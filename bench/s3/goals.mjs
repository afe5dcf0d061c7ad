// @ts-check
/** What must be reached: Mirage's median ≤ factor × the other's median + plus, at one distance or at each. */

/**
 * @typedef {object} Goal
 * @property {string} row
 * @property {readonly number[]} trips milliseconds of the round trips it is judged at
 * @property {string} [against] variant; without one `plus` alone is the limit
 * @property {number} [factor]
 * @property {number} [plus] milliseconds (or what the row counts)
 */

const [NEAR, FAR] = [0, 10];
const BOTH = [NEAR, FAR];

/** @type {readonly Goal[]} */
export const goals = [
  { row: 'cold read 1 KB', trips: BOTH, against: 'sdk', factor: 1.3 },
  { row: 'cold read 1 KB', trips: [FAR], against: 's3fs', factor: 0.5 },
  { row: 'cold read 1 MB', trips: BOTH, against: 'sdk', factor: 1.2 },
  { row: 'cold read 1 MB', trips: [FAR], against: 's3fs', factor: 0.5 },
  { row: 'cold read 100 MB', trips: [NEAR], against: 'sdk', factor: 1 },
  { row: 'cold read 100 MB', trips: [FAR], against: 'sdk', factor: 0.8 },
  { row: '16 × 1 MB at once', trips: BOTH, against: 'sdk', factor: 1.2 },
  { row: 'warm re-read of 100 MB', trips: [NEAR], against: 'ext4', factor: 1.2 },
  { row: 'random 4 KiB reads, mean', trips: BOTH, against: 's3fs', factor: 1 },
  { row: 'random 4 KiB reads, mean: bytes fetched a byte asked', trips: BOTH, plus: 8 },
  { row: 'ls -l of 10,000, cold', trips: BOTH, against: 'sdk', factor: 1.2, plus: 150 },
  { row: 'ls -l of 10,000, warm', trips: BOTH, plus: 150 },
  { row: 'find -printf of 10,000, warm', trips: BOTH, plus: 50 },
  { row: 'ls -l of 10,000, after a restart', trips: BOTH, plus: 150 },
  { row: 'find -printf of 10,000, after a restart', trips: BOTH, plus: 50 },
  { row: 'write 1 MB and close', trips: BOTH, against: 'sdk', factor: 1.4 },
  { row: 'write 1 MB and close', trips: [FAR], against: 's3fs', factor: 0.3 },
  { row: 'cp -r of 6,400 small files', trips: [FAR], against: 's3fs', factor: 1 / 5 },
  { row: 'cp -r of 6,400 small files', trips: [FAR], against: 'rclone', factor: 1 / 5 },
  { row: 'rm -r of 6,400 small files', trips: [FAR], against: 's3fs', factor: 1 / 5 },
  { row: 'rm -r of 6,400 small files', trips: [FAR], against: 'rclone', factor: 1 / 5 },
  { row: 'rename a folder of 1,000 objects', trips: BOTH, against: 'sdk', factor: 1.3 },
  { row: 'git clone of 200 files', trips: [FAR], against: 'rclone', factor: 1 },
  { row: 'sqlite3, 1,000 rows in 10 transactions', trips: [FAR], against: 'rclone', factor: 1 },
  { row: 'grep -r over 10,000 × 4 KB, cold', trips: BOTH, against: 'sdk, 64 at once', factor: 1.5 },
  { row: 'grep -r over 10,000 × 4 KB, again', trips: BOTH, against: 'ext4', factor: 2 },
  { row: 'peak resident set, 4 GB read five times, MB', trips: [NEAR], plus: 250 },
];

/**
 * @typedef {object} Verdict
 * @property {string} row
 * @property {number} trip
 * @property {string} goal in words
 * @property {number} value
 * @property {number} limit
 * @property {boolean} reached
 */

/**
 * Judges what was measured; a goal without figures is left out.
 * @param {number} trip
 * @param {Record<string, Record<string, number>>} medians row → variant → value
 * @returns {Verdict[]}
 */
export function judge(trip, medians) {
  return goals.flatMap(({ row, trips, against, factor = 0, plus = 0 }) => {
    const value = medians[row]?.mirage;
    const other = against === undefined ? 0 : medians[row]?.[against];
    if (!trips.includes(trip) || value === undefined || other === undefined) return [];
    const limit = factor * other + plus;
    const words = [
      ...(against === undefined ? [] : [`${Number(factor.toFixed(2))} × ${against}`]),
      ...(plus > 0 ? [String(plus)] : []),
    ];
    return [{ row, trip, goal: `≤ ${words.join(' + ')}`, value, limit, reached: value <= limit }];
  });
}
