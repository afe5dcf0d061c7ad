import { describe, expect, test } from '@jest/globals';
import { errno, errnoName } from '../../src/errors/errno.js';
import { errnoOf } from '../../src/errors/mirage-error.js';
import { Attributes, S_IFDIR } from '../../src/vfs/attributes.js';
import { type Mount, MountTree } from '../../src/vfs/mount-tree.js';
import {
  AttributesReply,
  type Call,
  type DirectorySink,
  EntryReply,
  ExtendedAttributeReply,
  type NodeId,
  OpenReply,
  ROOT,
} from '../../src/vfs/operations.js';
import { NODE_SPAN, rootOf, type Volume } from '../../src/vfs/volume.js';

const call: Call = { uid: 0, gid: 0, pid: 1, signal: new AbortController().signal };

/** A volume that notes what it is asked. Every operation but `getattr` answers with its own name. */
function recorder(index: number, options: { fails?: number; later?: boolean } = {}) {
  const asked: string[] = [];
  const known = {
    getattr(_call: Call, node: NodeId, _handle: unknown, reply: AttributesReply) {
      asked.push(`getattr ${node}`);
      const answer = (): void => {
        if (options.fails !== undefined) reply.fail(options.fails);
        reply.attributes = Object.assign(new Attributes(), { ino: 1000 + index, mode: S_IFDIR | 0o700 });
        reply.attributesValid = 5;
      };
      return options.later ? Promise.resolve().then(answer) : answer();
    },
  };
  const note = (name: string) => () => {
    asked.push(name);
    return name;
  };
  const volume = new Proxy(known, {
    get: (target, name: string) => (name in target ? Reflect.get(target, name) : note(name)),
  }) as unknown as Volume;
  return { volume, asked };
}

function tree(paths: readonly string[], modes: Partial<Record<string, Mount['mode']>> = {}) {
  const volumes = paths.map((_, i) => recorder(i + 1));
  const control = recorder(4095);
  const mounts = paths.map((path, i) => ({
    path,
    volume: volumes[i]!.volume,
    mode: modes[path] ?? ('exec' as const),
    index: i + 1,
  }));
  return { tree: new MountTree(mounts, control.volume), volumes, control };
}

function lookup(fileSystem: MountTree, path: string): { node: NodeId; errno: string; entry: EntryReply } {
  let node = ROOT;
  const entry = new EntryReply();
  for (const name of path.split('/')) {
    expect(fileSystem.lookup(call, node, name, entry)).toBeUndefined();
    node = entry.nodeId;
  }
  return { node, errno: entry.errno === 0 ? 'ok' : errnoName(entry.errno), entry };
}

const names = (fileSystem: MountTree, node: NodeId, cookie = 0, room = 100): [string, number][] => {
  const listed: [string, number][] = [];
  const sink: DirectorySink = {
    wantsAttributes: true,
    fits: () => listed.length < room,
    add: () => expect('an entry with attributes').toBe('never needed'),
    addName: (name, at) => listed.push([name, at]),
  };
  expect(fileSystem.readdir(call, node, node, cookie, sink)).toBeUndefined();
  return listed;
};

const thrown = (action: () => unknown): string => {
  try {
    action();
    return 'ok';
  } catch (error) {
    return errnoName(errnoOf(error));
  }
};

describe('the directories above the mounts', () => {
  test('lead to the roots of the volumes', () => {
    const { tree: fileSystem } = tree(['/s3', '/deep/a', '/deep/b']);
    expect(lookup(fileSystem, 's3').node).toBe(rootOf(1));
    expect(lookup(fileSystem, 'deep/b').node).toBe(rootOf(3));
    expect(lookup(fileSystem, 'deep/b').entry.attributes).toMatchObject({ ino: 1003 });
    const deep = lookup(fileSystem, 'deep');
    expect(deep.entry.attributes).toMatchObject({ mode: S_IFDIR | 0o755, nlink: 4 });
    expect(Math.floor(deep.node / NODE_SPAN)).toBe(0);
    expect(lookup(fileSystem, 'missing')).toMatchObject({ node: 0, errno: 'ok' });
  });

  test('are listed, from any position', () => {
    const { tree: fileSystem } = tree(['/s3', '/deep/a', '/deep/b', '/ünïcode']);
    const latin1 = Buffer.from('ünïcode').toString('latin1');
    const all = names(fileSystem, ROOT);
    expect(all.map(([name]) => name)).toEqual(['.', '..', 's3', 'deep', latin1]);
    expect(names(fileSystem, ROOT, all[1]![1], 2).map(([name]) => name)).toEqual(['s3', 'deep']);
    expect(names(fileSystem, ROOT, all.at(-1)![1])).toEqual([]);
    expect(names(fileSystem, lookup(fileSystem, 'deep').node).map(([name]) => name)).toEqual([
      '.',
      '..',
      'a',
      'b',
    ]);
    expect(lookup(fileSystem, latin1).node).toBe(rootOf(4));
  });

  test('have attributes, and say no to xattrs as a store does', () => {
    const { tree: fileSystem } = tree(['/a']);
    const attributes = new AttributesReply();
    void fileSystem.getattr(call, ROOT, undefined, attributes);
    expect(attributes.attributes).toMatchObject({ ino: 1, nlink: 3, mode: S_IFDIR | 0o755 });
    const value = new ExtendedAttributeReply();
    void fileSystem.getxattr(call, ROOT, 'user.a', value);
    expect(value.errno).toBe(errno.ENODATA);
    expect(fileSystem.listxattr(call, ROOT)).toEqual([]);
    expect(fileSystem.statfs(call, ROOT)).toMatchObject({ nameLength: 255 });
  });

  test('refuse changes', () => {
    const { tree: fileSystem } = tree(['/deep/a']);
    for (const node of [ROOT, lookup(fileSystem, 'deep').node]) {
      expect(thrown(() => fileSystem.mkdir(call, node, 'x', 0o755))).toBe('EROFS');
      expect(thrown(() => fileSystem.create(call, node, 'x', 0o644, { flags: 0 }))).toBe('EROFS');
      expect(thrown(() => fileSystem.rmdir(call, node, 'a'))).toBe('EROFS');
      expect(thrown(() => fileSystem.rename(call, node, 'a', node, 'b', 0))).toBe('EROFS');
      expect(thrown(() => fileSystem.setattr(call, node, { mode: 0o700 }))).toBe('EROFS');
      expect(thrown(() => fileSystem.setxattr(call, node, 'user.a', new Uint8Array(), 0))).toBe('EROFS');
    }
  });
});

describe('a request goes to the volume of its node', () => {
  test('by the range of its id', () => {
    const { tree: fileSystem, volumes } = tree(['/a', '/b']);
    void fileSystem.readlink(call, rootOf(2) + 77);
    void fileSystem.forget(rootOf(1) + 5, 1);
    expect(volumes.map(({ asked }) => asked)).toEqual([['forget'], ['readlink']]);
    expect(thrown(() => fileSystem.readlink(call, rootOf(9)))).toBe('ESTALE');
    fileSystem.forget(rootOf(9), 1);
  });

  test('not when it would span two', () => {
    const { tree: fileSystem, volumes } = tree(['/a', '/b']);
    const [a, b] = [rootOf(1), rootOf(2)];
    expect(thrown(() => fileSystem.rename(call, a, 'x', b, 'x', 0))).toBe('EXDEV');
    expect(thrown(() => fileSystem.link(call, a + 1, b, 'x'))).toBe('EXDEV');
    const at = (node: NodeId) => ({ node, handle: 1, offset: 0 });
    expect(thrown(() => fileSystem.copyFileRange(call, at(a), at(b), 1))).toBe('EXDEV');
    expect(volumes.flatMap(({ asked }) => asked)).toEqual([]);
    expect(fileSystem.rename(call, a, 'x', a, 'y', 0)).toBe('rename');
  });

  test('a root that answers later, or fails, is waited for', async () => {
    const later = recorder(1, { later: true });
    const dead = recorder(2, { fails: errno.EHOSTDOWN });
    const fileSystem = new MountTree(
      [
        { path: '/later', volume: later.volume, mode: 'exec', index: 1 },
        { path: '/dead', volume: dead.volume, mode: 'exec', index: 2 },
      ],
      undefined,
    );
    const reply = new EntryReply();
    await fileSystem.lookup(call, ROOT, 'later', reply);
    expect(reply).toMatchObject({ nodeId: rootOf(1), attributes: { ino: 1001 } });
    expect(lookup(fileSystem, 'dead').errno).toBe('EHOSTDOWN');
  });
});

describe('a mount that is only read', () => {
  const { tree: fileSystem, volumes } = tree(['/fixed'], { '/fixed': 'read' });
  const node = rootOf(1);

  test('refuses every change', () => {
    const changes: (() => unknown)[] = [
      () => fileSystem.setattr(call, node, {}),
      () => fileSystem.mknod(call, node, 'x', 0o644, 0),
      () => fileSystem.mkdir(call, node, 'x', 0o755),
      () => fileSystem.symlink(call, node, 'x', 'y'),
      () => fileSystem.link(call, node + 1, node, 'x'),
      () => fileSystem.create(call, node, 'x', 0o644, { flags: 0 }),
      () => fileSystem.temporary(call, node, 0o644, { flags: 0 }),
      () => fileSystem.unlink(call, node, 'x'),
      () => fileSystem.rmdir(call, node, 'x'),
      () => fileSystem.rename(call, node, 'x', node, 'y', 0),
      () => fileSystem.setxattr(call, node, 'user.a', new Uint8Array(), 0),
      () => fileSystem.removexattr(call, node, 'user.a'),
      () => fileSystem.fallocate(call, node, 1, 0, 0, 1),
    ];
    for (const change of changes) expect(thrown(change)).toBe('EROFS');
    for (const flags of [1, 2, 0o1000]) {
      const reply = new OpenReply();
      void fileSystem.open(call, node, { flags }, reply);
      expect(reply.errno).toBe(errno.EROFS);
    }
    expect(volumes[0]!.asked).toEqual([]);
  });

  test('is read, and told what is no change of it', () => {
    void fileSystem.open(call, node, { flags: 0 }, new OpenReply());
    void fileSystem.setxattr(call, node, 'user.mirage.refresh', new Uint8Array(), 0);
    expect(volumes[0]!.asked).toEqual(['open', 'setxattr']);
  });
});

describe('.mirage', () => {
  test('is found at the root alone, and listed nowhere', () => {
    const { tree: fileSystem, volumes, control } = tree(['/a']);
    expect(lookup(fileSystem, '.mirage').node).toBe(rootOf(4095));
    expect(control.asked).toEqual([`getattr ${rootOf(4095)}`]);
    expect(names(fileSystem, ROOT).map(([name]) => name)).not.toContain('.mirage');
    void fileSystem.lookup(call, rootOf(1), '.mirage', new EntryReply());
    expect(volumes[0]!.asked).toEqual(['lookup']);
  });

  test('cannot be replaced in a mount at /, which is otherwise the whole tree', () => {
    const whole = recorder(0);
    const control = recorder(4095);
    const mount: Mount = { path: '/', volume: whole.volume, mode: 'exec', index: 0 };
    const fileSystem = new MountTree([mount], control.volume);
    expect(lookup(fileSystem, '.mirage').node).toBe(rootOf(4095));
    expect(thrown(() => fileSystem.mkdir(call, ROOT, '.mirage', 0o755))).toBe('EBUSY');
    expect(thrown(() => fileSystem.rename(call, ROOT, 'x', ROOT, '.mirage', 0))).toBe('EBUSY');
    expect(thrown(() => fileSystem.rmdir(call, ROOT, '.mirage'))).toBe('EBUSY');
    expect(whole.asked).toEqual([]);
    void fileSystem.mkdir(call, ROOT, 'x', 0o755);
    expect(whole.asked).toEqual(['mkdir']);
  });
});

test('mounts that overlap are refused', () => {
  const row = (path: string, index: number): Mount => ({
    path,
    volume: recorder(index).volume,
    mode: 'exec',
    index,
  });
  const build = (...rows: Mount[]) => thrown(() => new MountTree(rows, undefined));
  expect(build(row('/a', 1), row('/a', 2))).toBe('EINVAL');
  expect(build(row('/a', 1), row('/a/b', 2))).toBe('EINVAL');
  expect(build(row('/a/b', 1), row('/a', 2))).toBe('EINVAL');
  expect(build(row('/', 0), row('/a', 1))).toBe('EINVAL');
  expect(build(row('/', 1))).toBe('EINVAL');
  expect(build(row('/a', 0))).toBe('EINVAL');
  expect(build(row('/a', 1), row('/b', 1))).toBe('EINVAL');
  expect(build(row('/a', 1), row('/b', 2))).toBe('ok');
});
