import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync } from 'node:fs';
import { Duplex } from 'node:stream';
import { MirageError } from '../../errors/mirage-error.js';
import { abortReason } from './call.js';
import { type Channel, overSocket } from './channel.js';
import {
  DEFAULT_PORT,
  type Destination,
  destinationOf,
  expandHome,
  hostKeyPolicy,
  jumpHostKeyPolicy,
  jumpOf,
} from './destination.js';
import { checkHostKey, type HostKey, type HostKeyPolicy, knownName } from './host-keys.js';
import type { SftpOptions } from './options.js';
import { socketPair } from './socket-pair.js';
import { askHostKey, dial, lostConnection, noSubsystem, wrongCredentials } from './ssh2-transport.js';

const PROGRAM = 'ssh';
/** What ssh says last is why it ended. */
const KEPT_ERROR_BYTES = 8192;

/** A program that connects, and our end of its standard input and output, which whoever uses it closes. */
export interface SshProgram {
  readonly fd: number;
  /** Resolves with why the program has ended. */
  readonly ended: Promise<MirageError>;
  end(): void;
}

/** Connects with the ssh program of this host: encryption runs in a process of its own and natively, as that of sshfs. */
export async function connectWithSsh(options: SftpOptions, signal: AbortSignal): Promise<Channel> {
  const { fd, ended, end } = await startSsh(options, signal);
  const { send, listen, destroy } = overSocket(fd);
  return {
    send,
    listen,
    ended: ended.finally(destroy),
    destroy() {
      destroy();
      end();
    },
  };
}

/** Starts the ssh program of this host. What ~/.ssh/config says of the server holds; it never asks a person. */
export async function startSsh(options: SftpOptions, signal: AbortSignal): Promise<SshProgram> {
  const destination = destinationOf(options);
  const policy = hostKeyPolicy(options);
  // ssh has no policy by fingerprint: the key that has it is looked up first, and is then the only one known.
  const pinned = policy.accept.startsWith('SHA256:') ? await presentedKey(options, signal) : undefined;
  if (pinned !== undefined) checkHostKey(policy, destination.host, destination.port, pinned);
  const args = [
    ...connectionArguments(options, destination, policy, pinned),
    ...jumpArguments(options),
    ...(options.user === undefined ? [] : ['-l', options.user]),
    ...['-s', '--', destination.host, 'sftp'],
  ];
  const { ours, theirs } = socketPair();
  const child = start(args, theirs);
  closeSync(theirs);
  let said = '';
  // A program that is not there says so at once.
  const started = once(child, 'spawn');
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    said = (said + text).slice(-KEPT_ERROR_BYTES);
  });
  const ended = new Promise<MirageError>((resolve) => {
    child.once('error', (error) => resolve(noProgram(error)));
    child.once('close', () => {
      if (!/host key verification failed/i.test(said)) return resolve(failureOf(said, destination));
      // ssh has refused the key: which one, and why, is looked up again for the person who has to decide.
      explain(options, policy).then(resolve, () => resolve(failureOf(said, destination)));
    });
  });
  await started.catch((error: NodeJS.ErrnoException) => {
    closeSync(ours);
    throw noProgram(error);
  });
  return { fd: ours, ended, end: () => void child.kill() };
}

/** `stream`: its standard input and output; pipes without. */
function start(args: readonly string[], stream?: number): ChildProcess {
  // A group and session of its own: Ctrl-C in the terminal of a mount must not take the connection away before the rest is written.
  return spawn(PROGRAM, args, {
    stdio: stream === undefined ? ['pipe', 'pipe', 'pipe'] : [stream, stream, 'pipe'],
    detached: true,
    env: { ...process.env, LC_ALL: 'C', SSH_ASKPASS_REQUIRE: 'never' },
  });
}

function connectionArguments(
  options: SftpOptions,
  { port }: Destination,
  policy: HostKeyPolicy,
  pinned: HostKey | undefined,
): string[] {
  const settings: Record<string, string> = {
    BatchMode: 'yes',
    ConnectTimeout: String(Math.max(1, Math.ceil(options.timeout / 1000))),
    ConnectionAttempts: '1',
    LogLevel: 'ERROR',
    // A connection of our own, that carries nothing else.
    ControlMaster: 'no',
    ControlPath: 'none',
    ClearAllForwardings: 'yes',
    ForwardAgent: 'no',
    ForwardX11: 'no',
    PermitLocalCommand: 'no',
    RemoteCommand: 'none',
    RequestTTY: 'no',
    UpdateHostKeys: 'no',
    // With the AES instructions of today's processors twice as fast as the default.
    Ciphers: '^aes128-gcm@openssh.com,aes256-gcm@openssh.com',
  };
  if (pinned !== undefined) {
    settings.StrictHostKeyChecking = 'yes';
    settings.UserKnownHostsFile = 'none';
    settings.GlobalKnownHostsFile = 'none';
    settings.KnownHostsCommand = `/bin/echo %H ${pinned.type} ${pinned.blob.toString('base64')}`;
    settings.HostKeyAlgorithms =
      pinned.type === 'ssh-rsa' ? 'rsa-sha2-512,rsa-sha2-256' : pinned.type.replace(/[^\w@.-]/g, '');
  } else {
    settings.StrictHostKeyChecking = policy.accept === 'accept-new' ? 'accept-new' : 'yes';
    if (options.knownHosts !== undefined) {
      settings.UserKnownHostsFile = quoted(expandHome(options.knownHosts));
      settings.GlobalKnownHostsFile = 'none';
    }
  }
  if (options.identity !== undefined) {
    settings.IdentityFile = quoted(expandHome(options.identity));
    settings.IdentitiesOnly = 'yes';
  }
  if (options.agent !== undefined) {
    settings.IdentityAgent = options.agent === 'none' ? 'none' : quoted(expandHome(options.agent));
  }
  const file = options.sshConfig;
  return [
    ...(file === undefined ? [] : ['-F', file === 'none' ? 'none' : expandHome(file)]),
    ...(options.port === undefined && port === DEFAULT_PORT ? [] : ['-p', String(port)]),
    ...Object.entries(settings).flatMap(([key, value]) => ['-o', `${key}=${value}`]),
  ];
}

/** Not -J: what the mount says of keys and host keys holds for the server on the way, too. */
function jumpArguments(options: SftpOptions): string[] {
  const jump = jumpOf(options);
  if (jump === undefined) return [];
  const command = [PROGRAM, ...tunnelArguments(options, jump, '[%h]:%p')];
  // In the value of the option, % begins a token of its own; those that we mean are the target alone.
  const line = command.map((word) => (word === '[%h]:%p' ? word : shellQuoted(word).replaceAll('%', '%%')));
  return ['-o', `ProxyCommand=${line.join(' ')}`];
}

const tunnelArguments = (options: SftpOptions, jump: Destination, target: string): string[] => [
  ...connectionArguments({ ...options, port: jump.port }, jump, jumpHostKeyPolicy(options), undefined),
  ...['-W', target, '-l', jump.user, '--', jump.host],
];

/** The host key that the server shows, over the same way. */
async function presentedKey(options: SftpOptions, signal: AbortSignal): Promise<HostKey> {
  const destination = await resolved(options);
  const jump = jumpOf(options);
  const policy = hostKeyPolicy(options);
  if (jump === undefined) {
    const socket = await dial(destination, options, signal);
    return askHostKey(socket, destination, policy, options.timeout);
  }
  const target = `[${destination.host}]:${destination.port}`;
  const tunnel = start(tunnelArguments(options, jump, target));
  tunnel.stderr?.resume();
  tunnel.on('error', () => undefined);
  const give = (): void => void tunnel.kill();
  signal.addEventListener('abort', give, { once: true });
  try {
    const stream = Duplex.from({ readable: tunnel.stdout!, writable: tunnel.stdin! });
    stream.on('error', () => undefined);
    return await askHostKey(stream, destination, policy, options.timeout);
  } catch (error) {
    throw signal.aborted ? abortReason(signal) : error;
  } finally {
    signal.removeEventListener('abort', give);
    tunnel.kill();
  }
}

/** What ~/.ssh/config makes of the host. */
function resolved(options: SftpOptions): Promise<Destination> {
  const { host, user, port } = destinationOf(options);
  const file = options.sshConfig;
  return new Promise((resolve) => {
    const args = [
      ...(file === undefined ? [] : ['-F', file === 'none' ? 'none' : expandHome(file)]),
      ...(options.port === undefined ? [] : ['-p', String(port)]),
      ...['-G', '--', host],
    ];
    const child = spawn(PROGRAM, args, { stdio: ['ignore', 'pipe', 'ignore'] });
    let text = '';
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
    });
    child.once('error', () => resolve({ host, port, user }));
    child.once('close', () => {
      const value = (key: string): string | undefined => new RegExp(`^${key} (.+)$`, 'm').exec(text)?.[1];
      resolve({ host: value('hostname') ?? host, port: Number(value('port') ?? port), user });
    });
  });
}

/** Why ssh refused the host key: the answer of our own check of it. */
async function explain(options: SftpOptions, policy: HostKeyPolicy): Promise<MirageError> {
  const destination = await resolved(options);
  const key = await presentedKey(options, AbortSignal.timeout(options.timeout));
  try {
    checkHostKey({ ...policy, accept: 'strict' }, destination.host, destination.port, key);
  } catch (error) {
    if (MirageError.is(error)) return error;
  }
  return new MirageError(
    `ssh refuses the host key of ${knownName(destination.host, destination.port)}, or that of the host before it`,
    {
      errno: 'EACCES',
      hint: `see why: ssh -p ${destination.port} ${destination.host}`,
    },
  );
}

/** ssh ends with 255 for everything: what it said has to tell the cases apart. */
function failureOf(said: string, destination: Destination): MirageError {
  const last = said.trim().split('\n').at(-1)?.trim();
  const cause = last ? new Error(last) : undefined;
  if (/permission denied|no more authentication|too many authentication/i.test(said)) {
    return wrongCredentials(destination, cause);
  }
  if (/subsystem request failed/i.test(said)) return noSubsystem(cause);
  if (/host key verification failed/i.test(said)) {
    return new MirageError(`ssh refuses the host key of ${destination.host}`, { errno: 'EACCES', cause });
  }
  if (/bad configuration option|unsupported option|unknown option|bad .* spec/i.test(said)) {
    return new MirageError('the ssh program of this host does not know our options', {
      errno: 'ENOTSUP',
      cause,
      hint: 'set `transport: ssh2`',
    });
  }
  if (/timed out/i.test(said)) {
    return new MirageError(`${destination.host}:${destination.port} did not answer: ${last}`, {
      errno: 'ETIMEDOUT',
      retryable: true,
      cause,
      hint: 'check host and port of the mount, and the network',
    });
  }
  if (/connection refused|could not resolve|no route|unreachable|connection closed by/i.test(said)) {
    return new MirageError(`${destination.host}:${destination.port} cannot be reached: ${last}`, {
      errno: 'EHOSTDOWN',
      retryable: true,
      cause,
      hint: 'check host and port of the mount, and that sshd runs there',
    });
  }
  return lostConnection(destination, cause);
}

const noProgram = (cause: NodeJS.ErrnoException): MirageError =>
  new MirageError(`the program ${PROGRAM} cannot be run`, {
    errno: cause.code === 'ENOENT' ? 'ENOTSUP' : 'EIO',
    cause,
    hint: 'install an OpenSSH client, or set `transport: ssh2`',
  });

/** A path as one word of ssh_config(5): it expands % and splits at blanks. */
const quoted = (path: string): string => `"${path.replace(/["\\]/g, '\\$&').replaceAll('%', '%%')}"`;

const shellQuoted = (word: string): string =>
  /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
