/** How far ahead a reader is fetched for. */
import type { ReadCursor } from '../../content/contract.js';

/** First window of a sequential reader, bytes, and the largest. */
const FIRST_WINDOW = 128 * 1024;
const LAST_WINDOW = 8 * 1024 * 1024;
/** Reads of one sequential pass reach us out of order within the kernel's own read-ahead, bytes. */
const SLACK = 1024 * 1024;

/** Moves the cursor on: the window doubles while reads follow each other, and closes after a jump. */
export function follow(cursor: ReadCursor, offset: number, end: number): void {
  if (offset === 0 && cursor.next === 0) cursor.window = FIRST_WINDOW;
  else if (Math.abs(offset - cursor.next) > SLACK || cursor.next === 0) {
    cursor.window = 0;
    cursor.next = end;
    return;
  } else if (end > cursor.next) {
    cursor.window = cursor.window === 0 ? FIRST_WINDOW : Math.min(cursor.window * 2, LAST_WINDOW);
  }
  cursor.next = Math.max(cursor.next, end);
}
