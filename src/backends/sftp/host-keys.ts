import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import { appendFileSync, existsSync, mkdirSync, readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { MirageError } from '../../errors/mirage-error.js';

/** A public key in the form of the SSH protocol (RFC 4253 section 6.6): its type, and the key as base64 has it. */
export interface HostKey {
  readonly type: string;
  readonly blob: Buffer;
}

export interface HostKeyPolicy {
  /** `strict`: known or refused; `accept-new`: an unknown host becomes a known one; else the SHA256 fingerprint. */
  readonly accept: string;
  /** Files that are read; a new key is added to the first. */
  readonly files: readonly string[];
}

type Marker = 'revoked' | 'cert-authority' | undefined;

interface KnownHost {
  readonly marker: Marker;
  readonly hosts: string;
  readonly key: HostKey;
  readonly place: string;
}

/** `SHA256:…` as ssh-keygen -l shows it. */
export const fingerprint = (blob: Uint8Array): string =>
  `SHA256:${createHash('sha256').update(blob).digest('base64').replace(/=+$/, '')}`;

/** The type stands in front of the key, with its length. */
export function hostKeyOf(blob: Buffer): HostKey {
  const length = blob.length >= 4 ? blob.readUInt32BE(0) : 0;
  return { type: blob.toString('latin1', 4, 4 + length), blob };
}

/** The form under which a host stands in the file: a port other than 22 is part of the name. */
export const knownName = (host: string, port: number): string =>
  port === 22 ? host.toLowerCase() : `[${host.toLowerCase()}]:${port}`;

/** sshd(8), SSH_KNOWN_HOSTS FILE FORMAT: markers, lists with wildcards and `!`, hashed names. Lines that are no entries are skipped, as ssh does. */
export function knownKeys(policy: HostKeyPolicy, host: string, port: number): readonly KnownHost[] {
  const name = knownName(host, port);
  return policy.files.flatMap((file) =>
    entriesOf(file).filter((entry) => matches(entry.hosts, name) && entry.marker !== 'cert-authority'),
  );
}

/** Types of the keys that are known of a host, to be asked for first: another key of the same host would be an unknown one. */
export const knownTypes = (policy: HostKeyPolicy, host: string, port: number): readonly string[] => [
  ...new Set(
    knownKeys(policy, host, port)
      .filter(({ marker }) => marker === undefined)
      .map(({ key }) => key.type),
  ),
];

/**
 * Throws EACCES where the key is not the one to expect, with both fingerprints and what to do. With `accept-new`, adds the key of a
 * host that has none.
 */
export function checkHostKey(policy: HostKeyPolicy, host: string, port: number, key: HostKey): void {
  const name = knownName(host, port);
  const shown = `${key.type} ${fingerprint(key.blob)}`;
  if (policy.accept.startsWith('SHA256:')) {
    const wanted = policy.accept.replace(/=+$/, '');
    if (wanted === fingerprint(key.blob)) return;
    throw refused(
      `the host key of ${name} is ${shown}, and hostKey says ${wanted}`,
      'ask the administrator of the server which is right; if the key was changed on purpose, correct `hostKey` of the mount',
    );
  }
  const known = knownKeys(policy, host, port);
  const same = known.filter((entry) => equal(entry.key.blob, key.blob));
  const revoked = same.find(({ marker }) => marker === 'revoked');
  if (revoked !== undefined) {
    throw refused(
      `the host key ${shown} of ${name} was revoked (${revoked.place})`,
      'do not connect; ask the administrator of the server for its new key',
    );
  }
  if (same.length > 0) return;
  const others = known.filter(({ marker }) => marker === undefined);
  if (others.length > 0) {
    const expected = others
      .map((entry) => `${entry.key.type} ${fingerprint(entry.key.blob)} (${entry.place})`)
      .join(', ');
    throw refused(
      `the host key of ${name} has changed: it is ${shown}, expected was ${expected}`,
      `somebody may stand between you and the server. If the key was changed on purpose: ssh-keygen -R '${name}' -f ${policy.files[0]}, and accept the new one`,
    );
  }
  if (policy.accept === 'accept-new') {
    remember(policy.files[0]!, name, key);
    return;
  }
  throw refused(
    `the host ${name} is unknown: its key is ${shown}`,
    `compare the fingerprint with the server's (ssh-keygen -lf /etc/ssh/ssh_host_*.pub there), then set hostKey: ${fingerprint(key.blob)}, or hostKey: accept-new`,
  );
}

function entriesOf(file: string): KnownHost[] {
  let text: string;
  try {
    text = readFileSync(file, 'latin1');
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw new MirageError(`cannot read the known hosts in ${file}`, {
      errno: 'EACCES',
      cause,
      hint: 'make the file readable for this user, or name another one with `knownHosts`',
    });
  }
  return text.split('\n').flatMap((line, index) => {
    const fields = line.trim().split(/\s+/);
    if (line.trim() === '' || fields[0]!.startsWith('#')) return [];
    const marker = fields[0]!.startsWith('@') ? fields.shift()!.slice(1) : undefined;
    const [hosts, type, base64] = fields;
    if (hosts === undefined || type === undefined || base64 === undefined) return [];
    const key = { type, blob: Buffer.from(base64, 'base64') };
    return [{ marker: marker as Marker, hosts, key, place: `${file}:${index + 1}` }];
  });
}

function matches(hosts: string, name: string): boolean {
  const [, salt, hash] = /^\|1\|([^|]+)\|([^|]+)$/.exec(hosts) ?? [];
  if (salt !== undefined && hash !== undefined) {
    const computed = createHmac('sha1', Buffer.from(salt, 'base64')).update(name).digest();
    return equal(computed, Buffer.from(hash, 'base64'));
  }
  let found = false;
  for (const pattern of hosts.toLowerCase().split(',')) {
    const negated = pattern.startsWith('!');
    if (!wildcard(negated ? pattern.slice(1) : pattern).test(name)) continue;
    if (negated) return false;
    found = true;
  }
  return found;
}

function wildcard(pattern: string): RegExp {
  const source = pattern.replace(/[.*+?^${}()|[\]\\]/g, (c) =>
    c === '*' ? '.*' : c === '?' ? '.' : `\\${c}`,
  );
  return new RegExp(`^${source}$`);
}

const equal = (a: Uint8Array, b: Uint8Array): boolean => a.length === b.length && timingSafeEqual(a, b);

function remember(file: string, name: string, key: HostKey): void {
  try {
    mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
    const unended = existsSync(file) && /[^\n]$/.test(readFileSync(file, 'latin1'));
    const line = `${name} ${key.type} ${key.blob.toString('base64')}\n`;
    appendFileSync(file, unended ? `\n${line}` : line, { mode: 0o600 });
  } catch (cause) {
    throw new MirageError(`the host key of ${name} cannot be kept in ${file}`, {
      errno: 'EACCES',
      cause,
      hint: 'make the file writable, or name another one with `knownHosts`',
    });
  }
}

const refused = (message: string, hint: string): MirageError =>
  new MirageError(message, { errno: 'EACCES', hint });
