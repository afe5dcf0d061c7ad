import { connect as connectSocket } from 'node:net';
import type { Duplex } from 'node:stream';
import ssh2, { type AnyAuthMethod, type Client, type ClientChannel } from 'ssh2';
import { MirageError } from '../../errors/mirage-error.js';
import { abortReason } from './call.js';
import { type Channel, sendTo } from './channel.js';
import { type Destination, destinationOf, hostKeyPolicy, jumpHostKeyPolicy, jumpOf } from './destination.js';
import { checkHostKey, type HostKey, type HostKeyPolicy, hostKeyOf, knownTypes } from './host-keys.js';
import type { SftpOptions } from './options.js';
import { credentials } from './ssh2-credentials.js';

/** Without those of SHA-1. */
const HOST_KEY_ALGORITHMS = [
  'ssh-ed25519',
  'ecdsa-sha2-nistp256',
  'ecdsa-sha2-nistp384',
  'ecdsa-sha2-nistp521',
  'rsa-sha2-512',
  'rsa-sha2-256',
] as const;
type HostKeyAlgorithm = (typeof HOST_KEY_ALGORITHMS)[number];

/**
 * Connects with the ssh2 package, in this process. (ssh2-sftp-client stands on the same package, but always opens an SFTP channel of its
 * own and hides handles and pipelining behind whole files: only what lies below it is used here.)
 */
export async function connectWithSsh2(options: SftpOptions, signal: AbortSignal): Promise<Channel> {
  const destination = destinationOf(options);
  const jump = jumpOf(options);
  // Before anything is connected: a key that cannot be read needs no server.
  const methods = credentials(options, destination.user);
  const jumpMethods = jump === undefined ? [] : credentials(options, jump.user);
  const clients: Client[] = [];
  const destroy = (): void => {
    for (const client of clients.reverse()) client.destroy();
  };
  try {
    let stream: Duplex;
    if (jump === undefined) {
      stream = await dial(destination, options, signal);
    } else {
      const socket = await dial(jump, options, signal);
      const first = await logIn(socket, jump, jumpHostKeyPolicy(options), jumpMethods, options, signal);
      clients.push(first.client);
      stream = await forward(first.client, destination);
    }
    const { client, ended } = await logIn(
      stream,
      destination,
      hostKeyPolicy(options),
      methods,
      options,
      signal,
    );
    clients.push(client);
    const channel = await openSubsystem(client);
    // Its window is shared with the other output.
    channel.stderr.resume();
    channel.once('close', () => client.end());
    return { send: sendTo(channel), listen: (onBytes) => void channel.on('data', onBytes), ended, destroy };
  } catch (error) {
    destroy();
    throw error;
  }
}

/** Asks a server for its host key and goes no further. `stream`: a way to it. */
export function askHostKey(
  stream: Duplex,
  { host, port, user }: Destination,
  policy: HostKeyPolicy,
  timeout: number,
): Promise<HostKey> {
  return new Promise((resolve, reject) => {
    const client = new ssh2.Client();
    client.on('error', (error) => reject(connectError(error, { host, port, user })));
    client.on('close', () => reject(connectError(new Error('connection closed'), { host, port, user })));
    client.connect({
      sock: stream,
      username: user,
      readyTimeout: timeout,
      algorithms: { serverHostKey: algorithms(policy, host, port) },
      hostVerifier: (blob: Buffer) => {
        resolve(hostKeyOf(Buffer.from(blob)));
        client.destroy();
        return false;
      },
    });
  });
}

/** A TCP connection. */
export function dial(destination: Destination, options: SftpOptions, signal: AbortSignal): Promise<Duplex> {
  const { host, port } = destination;
  return new Promise((resolve, reject) => {
    if (signal.aborted) throw abortReason(signal);
    const socket = connectSocket({ host, port, noDelay: true, keepAlive: true });
    const give = (error: MirageError): void => {
      socket.destroy();
      signal.removeEventListener('abort', aborted);
      reject(error);
    };
    const aborted = (): void => give(abortReason(signal));
    signal.addEventListener('abort', aborted, { once: true });
    socket.setTimeout(options.timeout, () => give(noAnswer(destination, options.timeout)));
    socket.once('error', (error) => give(connectError(error, destination)));
    socket.once('connect', () => {
      socket.setTimeout(0);
      signal.removeEventListener('abort', aborted);
      resolve(socket);
    });
  });
}

/** `ended`: why the connection is over, when it is. */
function logIn(
  stream: Duplex,
  destination: Destination,
  policy: HostKeyPolicy,
  methods: AnyAuthMethod[],
  options: SftpOptions,
  signal: AbortSignal,
): Promise<{ client: Client; ended: Promise<MirageError> }> {
  const { host, port, user } = destination;
  return new Promise((resolve, reject) => {
    const client = new ssh2.Client();
    let refusal: unknown;
    let failure: Error | undefined;
    const aborted = (): void => {
      reject(abortReason(signal));
      client.destroy();
    };
    signal.addEventListener('abort', aborted, { once: true });
    const ended = new Promise<MirageError>((end) => {
      client.once('close', () => {
        signal.removeEventListener('abort', aborted);
        reject(refusal ?? connectError(failure ?? new Error('connection closed'), destination));
        end(lostConnection(destination, failure));
      });
    });
    client.on('error', (error: Error & { level?: string }) => {
      // Another way to log in is tried after it.
      if (error.level === 'agent') return;
      failure = error;
      reject(refusal ?? connectError(error, destination));
      client.destroy();
    });
    client.once('ready', () => {
      signal.removeEventListener('abort', aborted);
      resolve({ client, ended });
    });
    client.connect({
      sock: stream,
      username: user,
      readyTimeout: options.timeout,
      authHandler: methods,
      algorithms: { serverHostKey: algorithms(policy, host, port) },
      hostVerifier: (blob: Buffer) => {
        try {
          checkHostKey(policy, host, port, hostKeyOf(Buffer.from(blob)));
          return true;
        } catch (error) {
          refusal = error;
          return false;
        }
      },
    });
  });
}

function forward(client: Client, { host, port }: Destination): Promise<Duplex> {
  return new Promise((resolve, reject) => {
    client.forwardOut('127.0.0.1', 0, host, port, (error, stream) => {
      if (error === undefined || error === null) return resolve(stream);
      reject(
        new MirageError(`the jump host cannot reach ${host}:${port}`, {
          errno: 'EHOSTDOWN',
          retryable: true,
          cause: error,
          hint: 'check host and port, and AllowTcpForwarding of the jump host',
        }),
      );
    });
  });
}

function openSubsystem(client: Client): Promise<ClientChannel> {
  return new Promise((resolve, reject) => {
    client.subsys('sftp', (error, channel) => {
      if (error === undefined || error === null) resolve(channel);
      else reject(noSubsystem(error));
    });
  });
}

/** The types that are known of the host come first: it should show the key that can be checked. */
function algorithms(policy: HostKeyPolicy, host: string, port: number): HostKeyAlgorithm[] {
  const known = policy.accept.startsWith('SHA256:') ? [] : knownTypes(policy, host, port);
  const isKnown = (algorithm: string): boolean =>
    known.includes(algorithm) || (algorithm.startsWith('rsa-') && known.includes('ssh-rsa'));
  return [
    ...HOST_KEY_ALGORITHMS.filter(isKnown),
    ...HOST_KEY_ALGORITHMS.filter((algorithm) => !isKnown(algorithm)),
  ];
}

export const noSubsystem = (cause: unknown): MirageError =>
  new MirageError('the server offers no SFTP', {
    errno: 'ENOTSUP',
    cause,
    hint: 'add `Subsystem sftp internal-sftp` to sshd_config of the server',
  });

export const noAnswer = ({ host, port }: Destination, timeout: number): MirageError =>
  new MirageError(`${host}:${port} did not answer for ${Math.round(timeout / 1000)} s`, {
    errno: 'ETIMEDOUT',
    retryable: true,
    hint: 'check host and port of the mount, and the network',
  });

export const lostConnection = ({ host, port }: Destination, cause: unknown): MirageError =>
  new MirageError(`the connection to ${host}:${port} was lost`, {
    errno: 'EHOSTDOWN',
    retryable: true,
    cause,
    hint: 'check the network and the server; the mount connects again by itself',
  });

export const wrongCredentials = ({ host, user }: Destination, cause: unknown): MirageError =>
  new MirageError(`${host} does not let ${user} in with these credentials`, {
    errno: 'EACCES',
    cause,
    hint: 'check user, identity, agent and password of the mount, and authorized_keys on the server',
  });

function connectError(
  error: Error & { level?: string; code?: string },
  destination: Destination,
): MirageError {
  if (error instanceof MirageError) return error;
  if (error.level === 'client-authentication') return wrongCredentials(destination, error);
  if (error.level === 'client-timeout') {
    return new MirageError(`${destination.host} did not finish the greeting in time`, {
      errno: 'ETIMEDOUT',
      retryable: true,
      cause: error,
      hint: 'check the network to the server',
    });
  }
  const { host, port } = destination;
  return new MirageError(`${host}:${port} cannot be reached: ${error.message}`, {
    errno: error.code === 'ETIMEDOUT' ? 'ETIMEDOUT' : 'EHOSTDOWN',
    retryable: true,
    cause: error,
    hint: 'check host and port of the mount, and that sshd runs there',
  });
}
