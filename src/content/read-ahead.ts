/** How far ahead of a reader to fetch: far for one that reads on and on, not at all for one that jumps about. */
import type { ReadCursor } from './contract.js';

const KIB = 1024;
const MIB = 1024 * KIB;

/** First request of a reader that begins at the start, bytes: what a look at a head needs. */
export const FIRST = MIB + 128 * KIB;
/** A reader that goes on by so much has its window widened, bytes: as often as it takes while what was first asked for arrives. */
const GOES_ON = FIRST / 4;
/** First request of a reader that reads on after it has jumped, bytes. */
const AFTER_JUMP = 32 * KIB;
/** The most to have ahead of one reader, bytes. */
const LARGEST = 32 * MIB;
/** Reads of one sequential pass reach us out of order within the kernel's own read-ahead; and a step back is no jump, bytes. */
const SLACK = MIB;
/** A step forward within what is under way waits for it, bytes. */
const STEP = 16 * MIB;
/** After a jump only a read that begins about where the last one ended counts as sequential, bytes. */
const NEAR = 32 * KIB;

/** A reader that has read nothing yet; most begin at the start and go on. */
export const newCursor = (): ReadCursor => ({ next: 0, window: FIRST });

/**
 * Moves the cursor on over a read of [offset, end). `frontier`: up to where bytes are here or under way from `cursor.next` on. False: the reader
 * has jumped, and from then on its window is 0 until it reads on again.
 */
export function follow(cursor: ReadCursor, offset: number, end: number, frontier: number): boolean {
  const step = offset - cursor.next;
  if (cursor.window === 0) {
    // What was read last is asked for once more when it has come.
    if (step < 0 && step >= -NEAR && end <= cursor.next) return false;
    cursor.next = end;
    if (step < -NEAR || step > NEAR) return false;
    cursor.window = AFTER_JUMP;
    return true;
  }
  const waits = step <= STEP && offset <= frontier;
  if (step >= -SLACK && (step <= SLACK || waits)) {
    cursor.next = Math.max(cursor.next, end);
    return true;
  }
  cursor.window = 0;
  cursor.next = end;
  return false;
}

/**
 * Bytes to have ahead of the reader from now on, `ahead` of which are here or under way; undefined: there is enough. The window widens faster
 * once the reader has shown that it reads on: until it is wide, each step costs a round trip. A wide one is kept full in whole parts of `part` bytes,
 * which leaves no small remainders to ask for. `largest`: bytes.
 */
export function widen(
  cursor: ReadCursor,
  ahead: number,
  part: number,
  largest = LARGEST,
): number | undefined {
  const { window } = cursor;
  if (window === 0) return undefined;
  const widest = Math.max(largest, AFTER_JUMP);
  if (window < widest) {
    const steady = window >= FIRST;
    if (ahead >= (steady ? window - GOES_ON : window / 2)) return undefined;
    cursor.window = Math.min(window * (steady ? 4 : 2), widest);
    return cursor.window;
  }
  const missing = window - ahead;
  const step = Math.min(part, window / 2);
  return missing < step ? undefined : ahead + missing - (missing % step);
}

/** Bytes that all readers together may have under way ahead of themselves: each request holds some of them in memory. */
export class ReadAheadBudget {
  #left: number;

  constructor(bytes = 128 * MIB) {
    this.#left = bytes;
  }

  take(bytes: number): boolean {
    if (bytes > this.#left) return false;
    this.#left -= bytes;
    return true;
  }

  give(bytes: number): void {
    this.#left += bytes;
  }
}
