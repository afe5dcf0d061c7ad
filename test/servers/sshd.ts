import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { connect } from 'node:net';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';

/** Ports that are tried. */
const FIRST_PORT = 21_400;
const PORTS = 100;
const START_MILLISECONDS = 10_000;

export interface Sshd {
  readonly port: number;
  /** Folder that tests may fill: the server has no other root than this host. */
  readonly data: string;
  readonly folder: string;
  /** File of a private key that may log in, as the user of this process. */
  readonly identity: string;
  /** File of a private key that may not. */
  readonly strangeIdentity: string;
  /** Knows the host key of the server, at its port. */
  readonly knownHosts: string;
  /** `SHA256:…` of the host key. */
  readonly fingerprint: string;
  /** A user without privileges, who may log in with the password, too; only where the tests run as root. */
  readonly guest: { readonly user: string; readonly password: string; readonly uid: number } | undefined;
  /** A file of known hosts for the same server behind another port. */
  knownHostsFor(port: number): string;
  /** Another host key from the next connection on. */
  changeHostKey(): Promise<void>;
  stop(): Promise<void>;
}

export interface SshdOptions {
  /** Lines of sshd_config that go first, and so win. */
  readonly configuration?: readonly string[];
  /** False: the server knows no SFTP. */
  readonly sftp?: boolean;
}

/**
 * Starts an OpenSSH server of its own on a free port. It sees users that this host has not (a guest with a password): its files
 * of users are its own, in a mount namespace of its own.
 */
export async function startSshd({ configuration = [], sftp = true }: SshdOptions = {}): Promise<Sshd> {
  const folder = mkdtempSync(join(tmpdir(), 'mirage-sshd-'));
  const file = (name: string): string => join(folder, name);
  const isRoot = userInfo().uid === 0;
  const guest = isRoot ? { user: 'mirage-guest', password: 'guest password', uid: 54_321 } : undefined;
  const keys = (name: string): string => {
    rmSync(file(name), { force: true });
    rmSync(file(`${name}.pub`), { force: true });
    execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', name, '-f', file(name)]);
    return readFileSync(file(`${name}.pub`), 'utf8').trim();
  };
  const publicKey = (name: string): string =>
    readFileSync(file(`${name}.pub`), 'utf8')
      .split(' ', 2)
      .join(' ');
  keys('host-key');
  writeFileSync(file('authorized_keys'), `${keys('identity')}\n`);
  keys('strange-identity');
  const data = file('data');
  mkdirSync(data);
  if (isRoot) {
    mkdirSync('/run/sshd', { recursive: true, mode: 0o755 });
    execFileSync('chmod', ['755', folder]);
  }
  if (guest !== undefined) {
    const hash = execFileSync('openssl', ['passwd', '-6', guest.password], { encoding: 'utf8' }).trim();
    writeFileSync(file('passwd'), readFileSync('/etc/passwd'));
    appendFileSync(file('passwd'), `${guest.user}:x:${guest.uid}:${guest.uid}::${data}:/bin/sh\n`);
    writeFileSync(file('shadow'), readFileSync('/etc/shadow'), { mode: 0o600 });
    appendFileSync(file('shadow'), `${guest.user}:${hash}:19000:0:99999:7:::\n`);
  }
  const write = (port: number): void =>
    writeFileSync(
      file('sshd_config'),
      [
        ...configuration,
        `Port ${port}`,
        'ListenAddress 127.0.0.1',
        `HostKey ${file('host-key')}`,
        `AuthorizedKeysFile ${file('authorized_keys')}`,
        'PidFile none',
        'StrictModes no',
        'UsePAM no',
        `PasswordAuthentication ${guest === undefined ? 'no' : 'yes'}`,
        'PermitRootLogin prohibit-password',
        'MaxSessions 100',
        'MaxStartups 100',
        'AllowTcpForwarding yes',
        ...(sftp ? ['Subsystem sftp internal-sftp'] : []),
        '',
      ].join('\n'),
    );
  let port = 0;
  let child: ChildProcess | undefined;
  for (let slot = 0; slot < PORTS && child === undefined; slot++) {
    port = FIRST_PORT + ((process.pid + slot) % PORTS);
    if (await isTaken(port)) continue;
    write(port);
    child = await start(folder, port, guest !== undefined);
  }
  if (child === undefined) throw new Error(`sshd does not start: ${readFileSync(file('log'), 'utf8')}`);
  // The keys are read once, so another one means another server at the same port.
  let server = child;
  const end = (): void => {
    try {
      process.kill(-server.pid!, 'SIGKILL');
    } catch {
      // It has ended by itself.
    }
  };
  process.once('exit', end);
  const knownHostsFor = (at: number): string => {
    const path = file(`known_hosts-${at}`);
    writeFileSync(path, `[127.0.0.1]:${at} ${publicKey('host-key')}\n`);
    return path;
  };
  return {
    port,
    data,
    folder,
    identity: file('identity'),
    strangeIdentity: file('strange-identity'),
    knownHosts: knownHostsFor(port),
    get fingerprint() {
      const line = execFileSync('ssh-keygen', ['-lf', file('host-key.pub')], { encoding: 'utf8' });
      return line.split(' ')[1]!;
    },
    guest,
    knownHostsFor,
    async changeHostKey() {
      await ended(server, end);
      keys('host-key');
      const next = await start(folder, port, guest !== undefined);
      if (next === undefined) throw new Error('sshd does not start again');
      server = next;
    },
    async stop() {
      process.off('exit', end);
      await ended(server, end);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

async function ended(child: ChildProcess, end: () => void): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  end();
  await exited;
}

/** undefined: another process was faster at the port. Its connections are in its process group. */
async function start(folder: string, port: number, ownUsers: boolean): Promise<ChildProcess | undefined> {
  // Absolute paths: sshd runs itself again from /.
  const sshd = `exec /usr/sbin/sshd -D -f '${folder}/sshd_config' -E '${folder}/log'`;
  const script = ownUsers
    ? `mount --bind '${folder}/passwd' /etc/passwd && mount --bind '${folder}/shadow' /etc/shadow && ${sshd}`
    : sshd;
  const [program, ...args] = ownUsers
    ? ['unshare', '-m', '/bin/sh', '-c', script]
    : ['/bin/sh', '-c', script];
  // Of the log of this start alone: another server may listen at the same port, and this one give up.
  const log = join(folder, 'log');
  const before = existsSync(log) ? readFileSync(log, 'utf8').length : 0;
  const child = spawn(program!, args, { stdio: 'ignore', detached: true });
  await once(child, 'spawn');
  const deadline = Date.now() + START_MILLISECONDS;
  while (child.exitCode === null && Date.now() < deadline) {
    const said = existsSync(log) ? readFileSync(log, 'utf8').slice(before) : '';
    if (said.includes(`Server listening on 127.0.0.1 port ${port}.`)) return child;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  return undefined;
}

function isTaken(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}
