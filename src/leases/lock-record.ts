import { createHash } from 'node:crypto';
import { z } from 'zod';
import { MirageError } from '../errors/mirage-error.js';

/** Where lock objects are, below the root of what is mounted. */
const FOLDER = '.mirage/locks/';

/** What a lock object says. No two of its versions are alike, so that an ETag that is a hash of the bytes tells them apart, too. */
export interface LockRecord {
  /** Of what the lock is, for people. */
  readonly of: string;
  /** Fencing token: one more with every holder. */
  readonly epoch: number;
  /** Host, state directory and mount of the (last) holder. */
  readonly owner: string;
  /** Of this taking of the lock, and of no other one. */
  readonly nonce: string;
  /** Renewals since it was taken. */
  readonly renewals: number;
  /** Milliseconds that the holder may go without renewing it. */
  readonly term: number;
  /** The holder is done: whoever comes next need not wait. */
  readonly released: boolean;
  /** Another host has asked for it. */
  readonly wanted: boolean;
}

/** The longest term that is believed, milliseconds. */
export const LONGEST_TERM = 3_600_000;

const schema = z.object({
  of: z.string(),
  epoch: z.int().positive(),
  owner: z.string(),
  nonce: z.string().min(1),
  renewals: z.int().nonnegative(),
  term: z.number().positive().max(LONGEST_TERM),
  released: z.boolean(),
  wanted: z.boolean(),
});

/** The object of a name, which may be longer than a key. */
export const lockKey = (name: string): string =>
  FOLDER + createHash('sha256').update(name).digest('hex').slice(0, 40);

export const encodeRecord = (record: LockRecord): Buffer => Buffer.from(`${JSON.stringify(record)}\n`);

export function decodeRecord(bytes: Uint8Array, key: string): LockRecord {
  try {
    return schema.parse(JSON.parse(Buffer.from(bytes).toString()));
  } catch (cause) {
    throw new MirageError(`${key} is not a lock object`, {
      errno: 'EIO',
      cause,
      hint: 'another program wrote it: remove it while no host has files of this mount open for writing',
    });
  }
}
