import type { Log, LogFields } from './log.js';
import type { Redaction } from './redaction.js';

export const levels = ['debug', 'info', 'warn', 'error'] as const;
export type Level = (typeof levels)[number];

/** One event, as it crosses from one thread to another. */
export interface LogRecord {
  readonly level: Level;
  readonly message: string;
  readonly fields: LogFields;
}

/** A log that hands every record at or above `least` to `write`. */
export function logTo(write: (record: LogRecord) => void, least: Level = 'info', fixed: LogFields = {}): Log {
  const wanted = levels.slice(levels.indexOf(least));
  const at = (level: Level) => (message: string, fields?: LogFields) => {
    if (wanted.includes(level)) write({ level, message, fields: { ...fixed, ...fields } });
  };
  return {
    debug: at('debug'),
    info: at('info'),
    warn: at('warn'),
    error: at('error'),
    with: (fields) => logTo(write, least, { ...fixed, ...fields }),
  };
}

/** syslog(3) severities, which journald reads from the start of a line (`<6>`). */
const severities: Record<Level, number> = { debug: 7, info: 6, warn: 4, error: 3 };

/** `2026-11-21T10:00:00.000Z warn message key=value`; journald adds time and takes the level from the prefix. */
export function formatRecord(
  record: LogRecord,
  form: 'text' | 'journal',
  redaction: Redaction,
  now: Date,
): string {
  const { level, message, fields } = record;
  const parts = [message.replaceAll('\n', ' ')];
  for (const [key, value] of Object.entries(fields)) {
    if (value === undefined) continue;
    const text = String(value);
    parts.push(`${key}=${/^[^\s"=]+$/.test(text) ? text : JSON.stringify(text)}`);
  }
  const line = redaction.apply(parts.join(' '));
  return form === 'journal' ? `<${severities[level]}>${line}\n` : `${now.toISOString()} ${level} ${line}\n`;
}
