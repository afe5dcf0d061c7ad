import { randomUUID } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { type Backend, hasLocks } from '../backends/contract.js';
import { bootTime } from '../clock/boot-time.js';
import type { Clock } from '../clock/clock.js';
import { MirageError } from '../errors/mirage-error.js';
import type { LeaseClock } from './deadline.js';
import { ledgerIn } from './ledger.js';
import type { LockMethod } from './lock-method.js';
import { lockObjects } from './lock-objects.js';
import { lockKey } from './lock-record.js';
import { NativeLocks } from './native-locks.js';
import { ObjectLocks } from './object-locks.js';

export interface LockPlace {
  /** Of the state directory: who this is, and what was taken. */
  readonly folder: string;
  /** The mount, of which the store may have several here. */
  readonly mount: string;
  /** Milliseconds. */
  readonly term: number;
  readonly clock: Clock;
}

/** The strongest locks that a store has. ENOTSUP: it has none. */
export function locksOf(backend: Backend, { folder, mount, term, clock }: LockPlace): LockMethod {
  const ledger = ledgerIn(join(folder, lockKey(mount).slice(-16)));
  const leaseClock: LeaseClock = { monotonic: () => clock.monotonic(), boot: bootTime };
  const nonce = randomUUID;
  if (hasLocks(backend)) {
    return new NativeLocks({ locks: backend.locks, term, clock: leaseClock, ledger, nonce });
  }
  const { writeAbsent, writeMatch } = backend.capabilities.preconditions;
  if (!writeAbsent || !writeMatch) {
    throw new MirageError('locking: lease is not for this store', {
      errno: 'ENOTSUP',
      cause: new Error('it was found not to honour the preconditions of a write'),
      hint: 'leave locking out (see `mirage status` for what the store was found to honour)',
    });
  }
  const owner = `${ownerIn(folder)}${mount}`;
  return new ObjectLocks({ objects: lockObjects(backend), owner, term, clock: leaseClock, ledger, nonce });
}

/** The name of this state directory, with that of the host for people. One daemon at a time has it. */
function ownerIn(folder: string): string {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const file = join(folder, 'owner');
  try {
    const owner = readFileSync(file, 'utf8').trim();
    if (owner !== '') return owner;
  } catch {
    // The first time.
  }
  const owner = `${hostname()}:${randomUUID()}`;
  writeFileSync(file, `${owner}\n`, { mode: 0o600 });
  return owner;
}
