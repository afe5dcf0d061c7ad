import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { Backend } from '../../src/backends/contract.js';
import { type Call, chaos, type Fault } from '../../src/backends/layers/chaos.js';
import { limit } from '../../src/backends/layers/limit.js';
import { readBack } from '../../src/backends/layers/read-back.js';
import { defaultRetry, retry } from '../../src/backends/layers/retry.js';
import { timeout } from '../../src/backends/layers/timeout.js';
import { open } from '../../src/backends/sftp/open.js';
import { type SftpOptions, sftpOptions } from '../../src/backends/sftp/options.js';
import { systemClock } from '../../src/clock/clock.js';
import { systemTimers } from '../../src/clock/timers.js';
import { quietLog } from '../servers/quiet.js';
import { type Sshd, startSshd } from '../servers/sshd.js';
import { conformanceSuite } from './suite.js';

/** One call in so many goes wrong, but never more than so many times in a row: layers give up, too. */
const ONE_IN = 6;
const IN_A_ROW = 2;

describe('SFTP keeps the contract, against OpenSSH', () => {
  let server: Sshd;
  const opened: Backend[] = [];

  const openWith = async (transport: SftpOptions['transport']): Promise<Backend> => {
    const { port, identity, knownHosts, data } = server;
    const options = sftpOptions.parse({
      host: '127.0.0.1',
      port,
      identity,
      knownHosts,
      path: data,
      sshConfig: 'none',
      transport,
    });
    const signal = new AbortController().signal;
    const { backend } = await open(options, { log: quietLog, clock: systemClock, writable: true, signal });
    opened.push(backend);
    return backend;
  };

  let program: Backend;
  let builtIn: Backend;
  let mended: Backend;
  const counted = { faults: 0 };
  beforeAll(async () => {
    server = await startSshd();
    [program, builtIn] = await Promise.all([openWith('ssh'), openWith('ssh2')]);
    mended = overBadLine(program, counted);
  });
  afterAll(async () => {
    await Promise.all(opened.map((backend) => backend.close?.()));
    await server?.stop();
  });

  describe('through the ssh program', () => conformanceSuite(() => program));
  describe('through the built-in client', () => conformanceSuite(() => builtIn));
  describe('over a bad line', () => {
    conformanceSuite(() => mended);
    test('and much went wrong', () => expect(counted.faults).toBeGreaterThan(100));
  });
});

/** A bad store with the layers that make it good again. */
function overBadLine(store: Backend, counted: { faults: number }): Backend {
  let seed = 42;
  const random = () => {
    // The linear congruential generator of Numerical Recipes.
    seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0;
    return seed / 2 ** 32;
  };
  const inARow = new Map<string, number>();
  const next = ({ operation, key, match }: Call): Fault => {
    const call = `${operation} ${key}`;
    const before = inARow.get(call) ?? 0;
    // A rename that nobody answered is looked at by whoever asked for it, not by a layer.
    if (operation === 'rename' || before === IN_A_ROW || random() * ONE_IN >= 1) {
      inARow.delete(call);
      return { kind: 'none' };
    }
    inARow.set(call, before + 1);
    counted.faults++;
    const kind = Math.floor(random() * 3);
    if (kind === 0) return { kind: 'latency', milliseconds: 5 };
    if (kind === 1) return { kind: 'unavailable' };
    return { kind: 'reset', bytes: match === undefined ? 0 : Math.floor(random() * 100_000) };
  };
  const bad = chaos(store, { next, timers: systemTimers });
  return readBack(retry(limit(timeout(bad), 64), { ...defaultRetry, firstDelay: 1 }));
}
