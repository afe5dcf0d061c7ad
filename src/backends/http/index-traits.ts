import type { Timestamp, Validator } from '../contract.js';
import { type Described, timeAndSize } from '../web/versions.js';
import type { IndexEntry } from './index-page.js';

/** How far the index of a tree can be believed: found out once, by asking for one file that it lists. */
export interface IndexTraits {
  /** Its sizes are true to the byte. */
  readonly exactSizes: boolean;
  /** Seconds to add to its times: a page of HTML shows them in the server's zone. */
  readonly zone: number;
  /** Seconds that its times are cut to. */
  readonly grain: number;
  /** The version of a file by its time and size, where the server makes its versions of no more than these. */
  readonly versionOf: ((modified: number, size: number) => Validator) | undefined;
}

export const unbelieved: IndexTraits = { exactSizes: false, zone: 0, grain: 1, versionOf: undefined };

const MINUTE = 60;
const QUARTER = 900;

/** Compares what the index says of a file with what the server says of it. */
export function traitsOf(entry: IndexEntry, truth: Described): IndexTraits {
  if (entry.size === undefined || entry.size !== truth.size) return unbelieved;
  const modified = truth.modified.seconds;
  if (entry.modified === undefined || modified === 0) return { ...unbelieved, exactSizes: true };
  const grain = (modified - entry.modified) % QUARTER === 0 ? 1 : MINUTE;
  const zone = modified - (modified % grain) - entry.modified;
  // Zones differ by quarters of an hour: this is no zone but another version.
  if (zone % QUARTER !== 0) return unbelieved;
  const { modified: listed, size } = entry;
  const exact = grain === 1 && zone === 0;
  const versionOf = exact ? VERSIONS.find((version) => version(listed, size) === truth.validator) : undefined;
  return { exactSizes: true, zone, grain, versionOf };
}

const VERSIONS: readonly ((modified: number, size: number) => Validator)[] = [
  // The ETags of nginx.
  (modified, size) => `"${modified.toString(16)}-${size.toString(16)}"`,
  timeAndSize,
];

/** The same time wherever it comes from: an answer is cut to what the index shows. */
export const cutTo = (grain: number, { seconds }: Timestamp): Timestamp => ({
  seconds: seconds - (seconds % grain),
  nanoseconds: 0,
});
