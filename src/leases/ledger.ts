import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { lockKey } from './lock-record.js';

export interface LedgerEntry {
  readonly epoch?: number | undefined;
  readonly nonce: string;
}

/** What this mount has taken, or has tried to take: so that after a crash it knows its own locks. */
export interface Ledger {
  has(name: string, entry: LedgerEntry): boolean;
  entry(name: string): LedgerEntry | undefined;
  note(name: string, entry: LedgerEntry): void;
  forget(name: string): void;
}

const schema = z.object({ epoch: z.int().optional(), nonce: z.string() });

/**
 * In a folder of the state directory, a file for each lock. Not made durable: after a power failure a lock of our own is one of a stranger, and
 * its term passes.
 */
export function ledgerIn(folder: string): Ledger {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const path = (name: string): string => join(folder, lockKey(name).replace(/.*\//, ''));
  const ledger: Ledger = {
    has(name, { epoch, nonce }) {
      const noted = ledger.entry(name);
      return noted !== undefined && noted.nonce === nonce && noted.epoch === epoch;
    },
    entry(name) {
      try {
        return schema.parse(JSON.parse(readFileSync(path(name), 'utf8')));
      } catch {
        return undefined;
      }
    },
    note(name, { epoch, nonce }) {
      writeFileSync(path(name), JSON.stringify({ epoch, nonce }), { mode: 0o600 });
    },
    forget: (name) => rmSync(path(name), { force: true }),
  };
  return ledger;
}
