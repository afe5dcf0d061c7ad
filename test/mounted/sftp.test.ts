/** A folder on an SSH server (OpenSSH): the same suite as for a disk. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe } from '@jest/globals';
import { type Sshd, startSshd } from '../servers/sshd.js';
import { sftpLimits } from './expectations.js';
import { Mirage } from './mount.js';
import { describePosix } from './posix.js';
import { describePrograms } from './programs.js';
import { sftpMount } from './sftp-mount.js';

describe('an SFTP mount', () => {
  let server: Sshd;
  let mirage: Mirage;
  beforeAll(async () => {
    server = await startSshd();
    mkdirSync(join(server.data, 'root'));
    mirage = await Mirage.start({ mounts: { '/sftp': sftpMount(server, 'root', { mode: 'exec' }) } });
  }, 60_000);
  afterAll(async () => {
    await mirage?.dispose();
    await server?.stop();
  }, 60_000);

  describePosix(() => mirage.path('sftp'), { limits: sftpLimits, entries: 1000 });
  describePrograms(() => mirage.path('sftp'), { limits: sftpLimits, holes: false });
});
