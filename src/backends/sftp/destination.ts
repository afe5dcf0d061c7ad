import { homedir, userInfo } from 'node:os';
import { join } from 'node:path';
import type { HostKeyPolicy } from './host-keys.js';
import type { SftpOptions } from './options.js';

/** One server on the way: the one that is mounted, or the one to go through. */
export interface Destination {
  readonly host: string;
  readonly port: number;
  readonly user: string;
}

export const DEFAULT_PORT = 22;

export const destinationOf = ({ host, port, user }: SftpOptions): Destination => ({
  host: withoutBrackets(host),
  port: port ?? DEFAULT_PORT,
  user: user ?? userInfo().username,
});

/** `user@host:port`, an IPv6 address in brackets. */
export function jumpOf({ jump, user }: SftpOptions): Destination | undefined {
  if (jump === undefined) return undefined;
  const [, name, host, port] = /^(?:([^@]*)@)?(\[[^\]]+\]|[^:]+)(?::(\d+))?$/.exec(jump) ?? [];
  return {
    host: withoutBrackets(host ?? jump),
    port: port === undefined ? DEFAULT_PORT : Number(port),
    user: name || user || userInfo().username,
  };
}

export function hostKeyPolicy({ hostKey, knownHosts }: SftpOptions): HostKeyPolicy {
  const files =
    knownHosts === undefined
      ? [join(homedir(), '.ssh', 'known_hosts'), '/etc/ssh/ssh_known_hosts']
      : [expandHome(knownHosts)];
  return { accept: hostKey, files };
}

/** A fingerprint names one key, that of the server itself: the one on the way has to be known. */
export function jumpHostKeyPolicy(options: SftpOptions): HostKeyPolicy {
  const policy = hostKeyPolicy(options);
  return policy.accept.startsWith('SHA256:') ? { ...policy, accept: 'strict' } : policy;
}

export const expandHome = (path: string): string =>
  path === '~' || path.startsWith('~/') ? join(homedir(), path.slice(1)) : path;

const withoutBrackets = (host: string): string => host.replace(/^\[(.*)\]$/, '$1');
