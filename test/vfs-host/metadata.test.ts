import { execFileSync } from 'node:child_process';
import { chmodSync, statfsSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { daemon, Host, outcome, ROOT, temporaryFolder } from './host-harness.js';

const asRoot = process.getuid!() === 0 ? test : test.skip;

describe('attributes of a host volume', () => {
  let folder: ReturnType<typeof temporaryFolder>;
  let host: Host;
  const at = (name: string): string => join(folder.path, name);
  const set = (node: number, change: object) => host.volume.setattr(daemon, node, change).attributes;

  beforeEach(() => {
    folder = temporaryFolder();
    host = new Host(folder.root(), false);
  });
  afterEach(async () => {
    await host.close();
    folder.remove();
  });

  test('times to the nanosecond, now, and left alone', () => {
    const node = host.file(ROOT, 'file', 'x');
    const modified = { seconds: 1_700_000_000, nanoseconds: 123_456_789 };
    set(node, { accessed: { seconds: -1, nanoseconds: 5 }, modified });
    expect(statSync(at('file'), { bigint: true }).mtimeNs).toBe(1_700_000_000_123_456_789n);
    const before = Date.now() / 1000 - 1;
    const now = set(node, { accessed: 'now' });
    expect(now.accessedSeconds).toBeGreaterThanOrEqual(Math.floor(before));
    expect([now.modifiedSeconds, now.modifiedNanoseconds]).toEqual([1_700_000_000, 123_456_789]);
  });

  test('times of a symlink are its own', () => {
    writeFileSync(at('target'), 'x');
    const { nodeId } = host.volume.symlink(daemon, ROOT, 'link', 'target');
    const changed = set(nodeId, { modified: { seconds: 5, nanoseconds: 6 } });
    expect([changed.modifiedSeconds, changed.modifiedNanoseconds]).toEqual([5, 6]);
    expect(statSync(at('target')).mtimeMs).toBeGreaterThan(5006);
  });

  test('the size, with and without a handle', () => {
    const { entry, open } = host.create(ROOT, 'file');
    host.write(entry.nodeId, open.handle, 0, 'hello');
    expect(set(entry.nodeId, { size: 3, handle: open.handle }).size).toBe(3);
    host.release(entry.nodeId, open.handle);
    expect(set(entry.nodeId, { size: 10 }).size).toBe(10);
    expect(host.read(entry.nodeId, host.open(entry.nodeId).handle)).toBe('hel\0\0\0\0\0\0\0');
    expect(outcome(() => set(ROOT, { size: 0 }))).toBe('EISDIR');
  });

  test('a truncation ends suid and sgid when told to', () => {
    const node = host.file(ROOT, 'file', 'hello');
    set(node, { mode: 0o6775 });
    expect(set(node, { size: 1 }).mode & 0o7777).toBe(0o6775);
    expect(set(node, { size: 0, killPrivileges: true }).mode & 0o7777).toBe(0o775);
    // sgid without the x bit of the group marks mandatory locks, not privilege.
    set(node, { mode: 0o6645 });
    expect(set(node, { size: 0, killPrivileges: true }).mode & 0o7777).toBe(0o2645);
  });

  asRoot('a new owner ends suid and sgid of a file, not of a directory', () => {
    const node = host.file(ROOT, 'file', 'x');
    set(node, { mode: 0o6775 });
    expect(set(node, { uid: 1234, gid: 5678 })).toMatchObject({ uid: 1234, gid: 5678, mode: 0o100775 });
    expect(set(node, { gid: 1 })).toMatchObject({ uid: 1234, gid: 1 });
    const { nodeId } = host.volume.mkdir(daemon, ROOT, 'directory', 0o755);
    set(nodeId, { mode: 0o2775 });
    expect(set(nodeId, { uid: 1234 }).mode & 0o7777).toBe(0o2775);
  });

  test('a file that is open without a name changes through its handle', () => {
    const { entry, open } = host.create(ROOT, 'file');
    host.volume.unlink(daemon, ROOT, 'file');
    expect(set(entry.nodeId, { mode: 0o600, handle: open.handle }).mode & 0o7777).toBe(0o600);
    expect(set(entry.nodeId, { size: 9, handle: open.handle }).size).toBe(9);
  });

  test('extended attributes', () => {
    const node = host.file(ROOT, 'file', 'x');
    expect(host.xattr(node, 'user.none')).toBe('ENODATA');
    expect(host.xattr(node, 'security.selinux')).toBe('ENOTSUP');
    host.volume.setxattr(daemon, node, 'user.a', Buffer.from('1'), 1);
    expect(outcome(() => host.volume.setxattr(daemon, node, 'user.a', Buffer.from('2'), 1))).toBe('EEXIST');
    expect(outcome(() => host.volume.setxattr(daemon, node, 'user.b', Buffer.from('2'), 2))).toBe('ENODATA');
    host.volume.setxattr(daemon, node, 'user.b\xff', Buffer.alloc(0), 0);
    expect(host.xattr(node, 'user.a')).toBe('1');
    expect(host.xattr(node, 'user.b\xff')).toBe('');
    expect(
      host.volume
        .listxattr(daemon, node)
        .filter((name) => name.startsWith('user.'))
        .sort(),
    ).toEqual(['user.a', 'user.b\xff']);
    host.volume.removexattr(daemon, node, 'user.a');
    expect(outcome(() => host.volume.removexattr(daemon, node, 'user.a'))).toBe('ENODATA');
    expect(host.volume.listxattr(daemon, host.file(ROOT, 'none', ''))).toEqual([]);
  });

  asRoot('trusted, security and ACL attributes', () => {
    const node = host.file(ROOT, 'file', 'x');
    host.volume.setxattr(daemon, node, 'trusted.a', Buffer.from('t'), 0);
    host.volume.setxattr(daemon, node, 'security.a', Buffer.from('s'), 0);
    expect([host.xattr(node, 'trusted.a'), host.xattr(node, 'security.a')]).toEqual(['t', 's']);
    execFileSync('setfacl', ['-m', 'u:1234:rw', at('file')]);
    expect(host.volume.listxattr(daemon, node)).toContain('system.posix_acl_access');
    host.volume.removexattr(daemon, node, 'system.posix_acl_access');
    expect(execFileSync('getfacl', ['-c', at('file')], { encoding: 'utf8' })).not.toContain('1234');
  });

  asRoot('a mount without ACLs shows none and takes none', async () => {
    const plain = new Host(folder.root(), false, { acl: false });
    host.file(ROOT, 'file', 'x');
    execFileSync('setfacl', ['-m', 'u:1234:rw', at('file')]);
    const node = plain.node('file');
    expect(plain.volume.listxattr(daemon, node)).not.toContain('system.posix_acl_access');
    expect(plain.xattr(node, 'system.posix_acl_access')).toBe('ENOTSUP');
    const acl = 'system.posix_acl_access';
    expect(outcome(() => plain.volume.setxattr(daemon, node, acl, Buffer.from('x'), 0))).toBe('ENOTSUP');
    expect(outcome(() => plain.volume.removexattr(daemon, node, acl))).toBe('ENOTSUP');
    expect(execFileSync('getfacl', ['-c', at('file')], { encoding: 'utf8' })).toContain('1234');
    await plain.close();
  });

  test('the figures are those of the file system below', () => {
    const usage = host.volume.statfs(daemon, ROOT);
    const expected = statfsSync(folder.path);
    expect(usage).toMatchObject({ blocks: expected.blocks, files: expected.files, nameLength: 255 });
    expect(usage.blockSize).toBe(expected.bsize);
    expect(usage.blocksAvailable).toBeGreaterThan(0);
  });

  test('without exec, regular files show and keep no x bit', async () => {
    writeFileSync(at('script'), '#!/bin/sh\n', { mode: 0o755 });
    await host.close();
    host = new Host(folder.root(), false, {}, { mode: 'write' });
    const script = host.lookup(ROOT, 'script');
    expect(script.attributes.mode & 0o777).toBe(0o644);
    chmodSync(at('script'), 0o644);
    expect(set(script.node, { mode: 0o755 }).mode & 0o777).toBe(0o644);
    host.create(ROOT, 'made', 0o755, { ...daemon, requestedMode: 0o777 });
    for (const name of ['script', 'made']) expect(statSync(at(name)).mode & 0o111).toBe(0);
    const { attributes } = host.volume.mkdir(daemon, ROOT, 'directory', 0o755);
    expect(attributes.mode & 0o777).toBe(0o755);
  });
});
