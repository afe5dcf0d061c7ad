import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type Sshd, startSshd } from '../servers/sshd.js';
import { calm, fileServerOf, type Given, openSftp, refusal } from './sftp-harness.js';

let server: Sshd;
/** Reached through `server`: it listens to nobody but it knows that. */
let behind: Sshd;
beforeAll(async () => {
  [server, behind] = await Promise.all([startSshd(), startSshd()]);
  writeFileSync(join(server.data, 'file'), 'content');
});
afterAll(async () => {
  await server?.stop();
  await behind?.stop();
});

/** Mounts and looks at the file that is there. */
async function reaches(given: Given): Promise<Record<string, unknown>> {
  const opened = await openSftp(server, given);
  try {
    const found = await fileServerOf(opened).lstat('file', calm());
    expect(found).toMatchObject({ size: 7 });
    return opened.probed;
  } finally {
    await opened.backend.close?.();
  }
}

describe.each(['ssh', 'ssh2'])('transport %s', (transport) => {
  test('with a key, and a host that is known', async () => {
    expect(await reaches({ transport })).toMatchObject({ transport, folder: server.data, posixRename: true });
  });

  test('a host that is unknown is refused, with its fingerprint', async () => {
    const knownHosts = join(server.folder, `none-${transport}`);
    const error = await refusal(openSftp(server, { transport, knownHosts }));
    expect(error.errno).toBe('EACCES');
    expect(error.message).toContain('is unknown');
    expect(error.message).toContain(server.fingerprint);
    expect(existsSync(knownHosts)).toBe(false);
  });

  test('accept-new takes an unknown host, once', async () => {
    const knownHosts = join(server.folder, `new-${transport}`);
    await reaches({ transport, knownHosts, hostKey: 'accept-new' });
    await reaches({ transport, knownHosts, hostKey: 'strict' });
    expect(readFileSync(knownHosts, 'utf8').trim().split('\n')).toHaveLength(1);
  });

  test('a fingerprint takes the host that has it, and no other', async () => {
    const knownHosts = join(server.folder, 'none');
    await reaches({ transport, knownHosts, hostKey: server.fingerprint });
    const wrong = `SHA256:${'A'.repeat(43)}`;
    const error = await refusal(openSftp(server, { transport, hostKey: wrong }));
    expect(error.errno).toBe('EACCES');
    expect(error.message).toContain(server.fingerprint);
    expect(error.message).toContain(wrong);
  });

  test('a host key that has changed is refused, with both fingerprints and what to do', async () => {
    const changed = await startSshd();
    try {
      const knownHosts = join(changed.folder, 'known_hosts');
      copyFileSync(changed.knownHosts, knownHosts);
      const before = changed.fingerprint;
      await changed.changeHostKey();
      expect(changed.fingerprint).not.toBe(before);
      for (const hostKey of ['strict', 'accept-new']) {
        const error = await refusal(openSftp(changed, { transport, knownHosts, hostKey }));
        expect(error.errno).toBe('EACCES');
        expect(error.message).toContain(before);
        expect(error.message).toContain(changed.fingerprint);
        expect(error.hint).toContain('ssh-keygen -R');
      }
    } finally {
      await changed.stop();
    }
  });

  test('a key that the server does not know is refused', async () => {
    const error = await refusal(openSftp(server, { transport, identity: server.strangeIdentity }));
    expect(error.errno).toBe('EACCES');
    expect(error.hint).toContain('authorized_keys');
  });

  test('a key file that is not there is named', async () => {
    const identity = join(server.folder, 'no such key');
    const error = await refusal(openSftp(server, { transport, identity }));
    expect(error.errno).toBe('EACCES');
  });

  test('a folder that is not there is named, and a file is no folder', async () => {
    const missing = await refusal(openSftp(server, { transport, path: `${server.data}/missing` }));
    expect([missing.errno, missing.message.includes('/missing')]).toEqual(['ENOENT', true]);
    const file = await refusal(openSftp(server, { transport, path: `${server.data}/file` }));
    expect(file.errno).toBe('ENOTDIR');
  });

  test('nobody listens: EHOSTDOWN', async () => {
    const error = await refusal(openSftp(server, { transport, port: 1 }));
    expect([error.errno, error.retryable]).toEqual(['EHOSTDOWN', true]);
  });

  test('somebody listens and says nothing: ETIMEDOUT after the timeout', async () => {
    const silent: Server = createServer((socket) => socket.resume()).listen(0, '127.0.0.1');
    await new Promise((resolve) => silent.once('listening', resolve));
    const { port } = silent.address() as { port: number };
    try {
      const error = await refusal(openSftp(server, { transport, port, timeout: '1s' }));
      expect([error.errno, error.retryable]).toEqual(['ETIMEDOUT', true]);
    } finally {
      silent.close();
    }
  });

  test('an abort ends the attempt', async () => {
    const silent: Server = createServer((socket) => socket.resume()).listen(0, '127.0.0.1');
    await new Promise((resolve) => silent.once('listening', resolve));
    const { port } = silent.address() as { port: number };
    const controller = new AbortController();
    try {
      const attempt = refusal(openSftp(server, { transport, port }, controller.signal));
      silent.once('connection', () => controller.abort());
      expect((await attempt).errno).toBe('EINTR');
    } finally {
      silent.close();
    }
  });

  test('a server without SFTP says so', async () => {
    const bare = await startSshd({ sftp: false });
    try {
      const error = await refusal(openSftp(bare, { transport }));
      expect(error.errno).toBe('ENOTSUP');
      expect(error.hint).toContain('Subsystem sftp');
    } finally {
      await bare.stop();
    }
  });

  test('a login script that prints is recognised', async () => {
    const chatty = await startSshd({
      configuration: ['ForceCommand echo Welcome to the machine; exec /usr/lib/openssh/sftp-server'],
    });
    try {
      const error = await refusal(openSftp(chatty, { transport }));
      expect(error.errno).toBe('EIO');
      expect(error.message).toContain('Welcome');
      expect(error.hint).toContain('login script');
    } finally {
      await chatty.stop();
    }
  });

  test('through a server on the way, whose key is checked, too', async () => {
    const knownHosts = join(server.folder, `jump-${transport}`);
    const both = readFileSync(server.knownHosts, 'utf8') + readFileSync(behind.knownHosts, 'utf8');
    writeFileSync(knownHosts, both);
    writeFileSync(join(behind.data, 'file'), 'content');
    // Both take the key of the first.
    copyFileSync(join(server.folder, 'authorized_keys'), join(behind.folder, 'authorized_keys'));
    const given = {
      transport,
      knownHosts,
      port: behind.port,
      path: behind.data,
      jump: `127.0.0.1:${server.port}`,
    };
    await reaches(given);
    await reaches({ ...given, hostKey: behind.fingerprint });
    const only = { ...given, knownHosts: behind.knownHosts };
    expect((await refusal(openSftp(server, only))).errno).toBe('EACCES');
  });
});

describe('auto', () => {
  test('takes the ssh program where it will do', async () => {
    expect(await reaches({})).toMatchObject({ transport: 'ssh' });
  });

  test('takes the built-in client for a key that is a value, and one with a passphrase', async () => {
    const privateKey = readFileSync(server.identity, 'utf8');
    expect(await reaches({ identity: undefined, privateKey })).toMatchObject({ transport: 'ssh2' });
    const locked = join(server.folder, 'locked');
    copyFileSync(server.identity, locked);
    execFileSync('ssh-keygen', ['-q', '-p', '-P', '', '-N', 'a passphrase', '-f', locked]);
    expect(await reaches({ identity: locked, passphrase: 'a passphrase' })).toMatchObject({
      transport: 'ssh2',
    });
    const wrong = await refusal(openSftp(server, { identity: locked, passphrase: 'another one' }));
    expect([wrong.errno, JSON.stringify(wrong).includes('another one')]).toEqual(['EACCES', false]);
    const none = await refusal(openSftp(server, { identity: locked, transport: 'ssh2' }));
    expect(none.hint).toContain('passphrase');
  });

  test('takes the built-in client where there is no ssh program', async () => {
    const { PATH } = process.env;
    const empty = join(server.folder, 'empty');
    mkdirSync(empty, { recursive: true });
    process.env.PATH = empty;
    try {
      expect(await reaches({})).toMatchObject({ transport: 'ssh2' });
      expect((await refusal(openSftp(server, { transport: 'ssh' }))).hint).toContain('install');
    } finally {
      process.env.PATH = PATH;
    }
  });

  test('logs in with a password, and tells nobody', async () => {
    if (server.guest === undefined) return;
    const { user, password } = server.guest;
    const given = { identity: undefined, user, password, agent: 'none' };
    expect(await reaches(given)).toMatchObject({ transport: 'ssh2' });
    const error = await refusal(openSftp(server, { ...given, password: 'a wrong password' }));
    expect(error.errno).toBe('EACCES');
    expect(`${error.message} ${error.hint} ${error.cause}`).not.toContain('a wrong password');
  });
});

describe('an agent', () => {
  let agent: ChildProcess;
  let socket: string;
  beforeAll(async () => {
    socket = join(server.folder, 'agent');
    agent = spawn('ssh-agent', ['-D', '-a', socket], { stdio: 'ignore' });
    while (!existsSync(socket)) await new Promise((resolve) => setTimeout(resolve, 5));
    execFileSync('ssh-add', ['-q', server.identity], { env: { ...process.env, SSH_AUTH_SOCK: socket } });
  });
  afterAll(() => {
    agent.kill();
    rmSync(socket, { force: true });
  });

  test.each(['ssh', 'ssh2'])('holds the key (%s)', async (transport) => {
    await reaches({ transport, identity: undefined, agent: socket });
  });

  test.each(['ssh', 'ssh2'])('that is not there is no way in (%s)', async (transport) => {
    const given = { transport, identity: undefined, agent: `${socket}-gone` };
    expect((await refusal(openSftp(server, given))).errno).toBe('EACCES');
  });
});
