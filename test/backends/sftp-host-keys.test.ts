import { execFileSync } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, test } from '@jest/globals';
import {
  checkHostKey,
  fingerprint,
  type HostKey,
  hostKeyOf,
  knownTypes,
} from '../../src/backends/sftp/host-keys.js';
import { MirageError } from '../../src/errors/mirage-error.js';

const folder = mkdtempSync(join(tmpdir(), 'mirage-host-keys-'));
const file = join(folder, 'known_hosts');
afterAll(() => rmSync(folder, { recursive: true }));
beforeEach(() => rmSync(file, { force: true }));

/** A public key as the SSH protocol has it: its type and 32 bytes. */
function newKey(): HostKey {
  const raw = generateKeyPairSync('ed25519').publicKey.export({ type: 'spki', format: 'der' }).subarray(-32);
  const type = Buffer.from('ssh-ed25519');
  const length = (bytes: number) => Buffer.from([0, 0, 0, bytes]);
  return hostKeyOf(Buffer.concat([length(type.length), type, length(raw.length), raw]));
}

const key = newKey();
const other = newKey();
const line = (hosts: string, { type, blob }: HostKey, marker = '') =>
  `${marker}${hosts} ${type} ${blob.toString('base64')} comment\n`;
const check = (accept: string, host = 'example.org', port = 22, shown = key) => {
  try {
    checkHostKey({ accept, files: [file] }, host, port, shown);
    return 'accepted';
  } catch (error) {
    if (!MirageError.is(error, 'EACCES')) throw error;
    return `${error.message}\n${error.hint}`;
  }
};

test('a fingerprint is the one that ssh-keygen shows', () => {
  writeFileSync(file, line('host', key));
  expect(execFileSync('ssh-keygen', ['-lf', file], { encoding: 'utf8' })).toContain(fingerprint(key.blob));
});

describe('strict', () => {
  test('a key that stands in the file is accepted, for this host and this port only', () => {
    writeFileSync(file, line('example.org', key) + line('[example.org]:2222', other));
    expect(check('strict')).toBe('accepted');
    expect(check('strict', 'EXAMPLE.org')).toBe('accepted');
    expect(check('strict', 'example.org', 2222, other)).toBe('accepted');
    expect(check('strict', 'example.org', 2222, key)).toContain('has changed');
    expect(check('strict', 'example.com')).toContain('unknown');
    expect(check('strict', 'example.org', 23)).toContain('unknown');
  });

  test('names that ssh-keygen has hashed are found', () => {
    writeFileSync(file, line('example.org', key) + line('[other.example.org]:2222', other));
    execFileSync('ssh-keygen', ['-q', '-H', '-f', file], { stdio: 'ignore' });
    expect(readFileSync(file, 'utf8')).not.toContain('example.org');
    expect(check('strict')).toBe('accepted');
    expect(check('strict', 'other.example.org', 2222, other)).toBe('accepted');
    expect(check('strict', 'other.example.org', 22, other)).toContain('unknown');
  });

  test('lists, wildcards and exceptions', () => {
    writeFileSync(file, line('10.0.0.1,*.example.org,!bad.example.org,host?', key));
    expect(check('strict', '10.0.0.1')).toBe('accepted');
    expect(check('strict', 'good.example.org')).toBe('accepted');
    expect(check('strict', 'host7')).toBe('accepted');
    expect(check('strict', 'bad.example.org')).toContain('unknown');
    expect(check('strict', '10x0.0.1')).toContain('unknown');
  });

  test('an unknown host is refused with its fingerprint and what to do', () => {
    const answer = check('strict');
    expect(answer).toContain('the host example.org is unknown');
    expect(answer).toContain(fingerprint(key.blob));
    expect(answer).toContain('hostKey: accept-new');
  });

  test('a changed key is refused with both fingerprints, the place and what to do', () => {
    writeFileSync(file, `# a comment\n\n${line('example.org', other)}`);
    const answer = check('strict');
    expect(answer).toContain(fingerprint(key.blob));
    expect(answer).toContain(fingerprint(other.blob));
    expect(answer).toContain(`${file}:3`);
    expect(answer).toContain("ssh-keygen -R 'example.org'");
  });

  test('a revoked key is refused, also where it is known', () => {
    writeFileSync(file, line('example.org', key) + line('*', key, '@revoked '));
    expect(check('strict')).toContain('was revoked');
    expect(check('accept-new')).toContain('was revoked');
  });

  test('an authority is no host key', () => {
    writeFileSync(file, line('*', key, '@cert-authority '));
    expect(check('strict')).toContain('unknown');
  });

  test('lines that are no entries are passed over', () => {
    writeFileSync(file, `garbage\n\0\x01\nexample.org ssh-ed25519\n${line('example.org', key)}`);
    expect(check('strict')).toBe('accepted');
  });

  test('the types that are known of a host are asked for', () => {
    writeFileSync(file, line('example.org', key) + line('example.org', key, '@revoked '));
    expect(knownTypes({ accept: 'strict', files: [file] }, 'example.org', 22)).toEqual(['ssh-ed25519']);
  });
});

describe('accept-new', () => {
  test('an unknown host becomes a known one, and another key is then refused', () => {
    expect(check('accept-new', 'example.org', 2222)).toBe('accepted');
    expect(check('strict', 'example.org', 2222)).toBe('accepted');
    expect(check('accept-new', 'example.org', 2222, other)).toContain('has changed');
    expect(statSync(file).mode & 0o777).toBe(0o600);
    const found = execFileSync('ssh-keygen', ['-F', '[example.org]:2222', '-f', file], { encoding: 'utf8' });
    expect(found).toContain(key.blob.toString('base64'));
  });

  test('a last line without an end stays whole', () => {
    writeFileSync(file, line('example.com', other).trimEnd());
    expect(check('accept-new')).toBe('accepted');
    expect(check('strict', 'example.com', 22, other)).toBe('accepted');
    expect(check('strict')).toBe('accepted');
  });
});

describe('a fingerprint', () => {
  test('accepts the key that has it, whatever is known, and no other', () => {
    writeFileSync(file, line('example.org', other));
    expect(check(fingerprint(key.blob))).toBe('accepted');
    expect(check(`${fingerprint(key.blob)}=`)).toBe('accepted');
    const answer = check(fingerprint(key.blob), 'example.org', 22, other);
    expect(answer).toContain(fingerprint(key.blob));
    expect(answer).toContain(fingerprint(other.blob));
  });
});
