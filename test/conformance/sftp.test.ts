import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { Backend } from '../../src/backends/contract.js';
import { open } from '../../src/backends/sftp/open.js';
import { type SftpOptions, sftpOptions } from '../../src/backends/sftp/options.js';
import { systemClock } from '../../src/clock/clock.js';
import { quietLog } from '../servers/quiet.js';
import { type Sshd, startSshd } from '../servers/sshd.js';
import { overBadLine } from './bad-line.js';
import { conformanceSuite } from './suite.js';

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
    mended = overBadLine(program, counted, ['rename']);
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
