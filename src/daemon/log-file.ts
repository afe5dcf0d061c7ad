import { appendFileSync, renameSync, statSync, writeSync } from 'node:fs';
import type { Redaction } from '../log/redaction.js';
import { formatRecord, type LogRecord } from '../log/text-log.js';

/** Bytes of one log file; the one before is kept beside it. */
const LIMIT = 10 * 2 ** 20;

/** Appends to a file of bounded size that only this user can read. A log that cannot be written stops nobody. */
export function writeToFile(file: string, redaction: Redaction): (record: LogRecord) => void {
  let size = sizeOf(file);
  return (record) => {
    const line = formatRecord(record, 'text', redaction, new Date());
    try {
      if (size > LIMIT) {
        renameSync(file, `${file}.1`);
        size = 0;
      }
      appendFileSync(file, line, { mode: 0o600 });
      size += Buffer.byteLength(line);
    } catch {
      // A full disk: the mount goes on.
    }
  };
}

/** To the terminal or the journal. */
export function writeToErrorOutput(redaction: Redaction): (record: LogRecord) => void {
  const form = process.env.JOURNAL_STREAM ? 'journal' : 'text';
  return (record) => {
    try {
      writeSync(2, formatRecord(record, form, redaction, new Date()));
    } catch {
      // Nobody reads it any more.
    }
  };
}

function sizeOf(file: string): number {
  try {
    return statSync(file).size;
  } catch {
    return 0;
  }
}
