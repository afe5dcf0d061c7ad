import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { Configuration } from '../../src/config/configuration.js';
import { configurationFiles, findConfiguration } from '../../src/config/directories.js';
import { configurationOfSource, loadConfiguration } from '../../src/config/load.js';
import { ConfigurationError, type Problem } from '../../src/config/problem.js';
import { MirageError } from '../../src/errors/mirage-error.js';
import { types } from './types.js';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'mirage-config-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

type Environment = Record<string, string>;

function write(text: string, mode = 0o600): string {
  const file = join(folder, 'mirage.yaml');
  writeFileSync(file, text, { mode });
  chmodSync(file, mode);
  return file;
}

const load = (text: string, environment: Environment = {}, mode?: number): Configuration =>
  loadConfiguration(write(text, mode), { types, environment: { HOME: folder, ...environment } });

function problems(run: () => unknown): readonly Problem[] {
  try {
    run();
  } catch (error) {
    if (error instanceof ConfigurationError) return error.problems;
    throw error;
  }
  throw new Error('it was accepted');
}

const complete = `
mountpoint: ./mnt
state: ~/state
cache: { directory: /var/cache/m, size: 10g }
ttl: 5m
allowOther: true
binding: raw
mounts:
  s3: { type: s3, mode: write, bucket: data, region: eu-central-1, ttl: 500ms, freshness: open, conflicts: reject }
  a/b:
    type: local
    path: /srv
  tmp: { type: ram, mode: exec, size: 1.5m }
`;

test('a whole configuration: defaults filled in, sizes in bytes, times in milliseconds, paths absolute', () => {
  const { mounts, file, ...rest } = load(complete);
  expect(file).toBe(join(folder, 'mirage.yaml'));
  expect(rest).toEqual({
    mountpoint: join(folder, 'mnt'),
    state: join(folder, 'state'),
    cache: { directory: '/var/cache/m', size: 10 * 2 ** 30 },
    allowOther: true,
    passthrough: true,
    listedNodes: 100_000,
    binding: 'raw',
    secrets: [],
  });
  const common = {
    mode: 'read',
    ttl: 300_000,
    ttls: {},
    freshness: 'inotify',
    // As other users may enter.
    acl: true,
    writeBack: 'close',
    conflicts: 'sidecar',
  };
  expect(mounts).toEqual([
    {
      ...common,
      path: '/s3',
      type: 's3',
      placement: 'remote',
      mode: 'write',
      ttl: 500,
      freshness: 'open',
      acl: false,
      conflicts: 'reject',
      options: { bucket: 'data', region: 'eu-central-1' },
    },
    { ...common, path: '/a/b', type: 'local', placement: 'inline', options: { path: '/srv' } },
    {
      ...common,
      path: '/tmp',
      type: 'ram',
      placement: 'inline',
      mode: 'exec',
      options: { size: 1.5 * 2 ** 20 },
    },
  ]);
});

test('folders may have a ttl of their own, however their path is written', () => {
  const text = 'mountpoint: /m\nmounts: { s: { type: s3, bucket: b, ttls: { logs/: 5s, /a/b: 1h } } }';
  expect(load(text).mounts[0]!.ttls).toEqual({ logs: 5000, 'a/b': 3_600_000 });
});

test('the keys of a store may stand below config', () => {
  const flat = load('mountpoint: /m\nmounts: { s3: { type: s3, bucket: b, pathStyle: true } }');
  const nested = load('mountpoint: /m\nmounts: { s3: { type: s3, config: { bucket: b, pathStyle: true } } }');
  expect(nested).toEqual(flat);
});

test('each mount point has a state and a cache of its own', () => {
  const at = (mountpoint: string) => load(`mountpoint: ${mountpoint}\nmounts: { t: { type: ram } }`);
  expect(at('/a-b').state).toBe(join(folder, '.local/state/mirage', 'a\\x2db'));
  expect(at('/a/b').state).toBe(join(folder, '.local/state/mirage/a-b'));
  expect(at('/a/b').cache.directory).toBe(join(folder, '.cache/mirage/a-b'));
});

describe('variables', () => {
  const value = (text: string, environment: Environment = {}): unknown =>
    load(`mountpoint: /m\nmounts:\n  s3:\n    type: s3\n    bucket: ${text}`, environment).mounts[0]!.options
      .bucket;

  test.each([
    ['${A}', { A: 'x' }, 'x'],
    ['pre-${A}-${B}', { A: 'x', B: 'y' }, 'pre-x-y'],
    ['${A:-b}', {}, 'b'],
    ['${A:-b}', { A: '' }, 'b'],
    ['${A:-b}', { A: 'x' }, 'x'],
    ['${A:?why}', { A: 'x' }, 'x'],
    ['$${A} costs $5', {}, '${A} costs $5'],
  ])('%s', (text, environment, expected) => {
    expect(value(text, environment as Environment)).toBe(expected);
  });

  test('of a file: its text without the last newline', () => {
    writeFileSync(join(folder, 'name'), 'bucket-name\n');
    expect(value(`\${file:${folder}/name}`)).toBe('bucket-name');
  });

  test('a variable can hold a truth value or a number', () => {
    const text = 'mountpoint: /m\nmounts: { s3: { type: s3, bucket: b, pathStyle: "${P}", ttl: "${T}" } }';
    const { options, ttl } = load(text, { P: 'true', T: '30' }).mounts[0]!;
    expect([options.pathStyle, ttl]).toEqual([true, 30_000]);
  });

  test.each([
    ['${NOPE}', 'the variable NOPE is not set'],
    ['${NOPE:?the name of the bucket}', 'NOPE is not set: the name of the bucket'],
    ['${file:/no/such/file}', 'cannot read /no/such/file'],
    ['${not a name}', '${not a name} is no variable'],
  ])('%s: file, line and what is missing', (text, what) => {
    const [problem] = problems(() => value(text));
    expect(problem).toMatchObject({
      place: `${folder}/mirage.yaml:5`,
      what,
      why: 'mounts.s3.bucket needs it',
    });
    expect(problem!.remedy).not.toBe('');
  });
});

describe('what is wrong is said with file, line and the nearest valid key', () => {
  const at = (line: number) => `${folder}/mirage.yaml:${line}`;

  test.each([
    ['mountpoit: /m\nmounts: { t: { type: ram } }', 1, 'unknown key "mountpoit"', 'did you mean mountpoint?'],
    [
      'mountpoint: /m\ncache:\n  sise: 1g\nmounts: { t: { type: ram } }',
      3,
      'unknown key "sise" in cache',
      'did you mean size?',
    ],
    [
      'mountpoint: /m\nmounts:\n  s3:\n    type: s3\n    buckt: b',
      5,
      'unknown key "buckt" in mounts.s3',
      'did you mean bucket?',
    ],
    [
      'mountpoint: /m\nmounts:\n  s3:\n    type: s3\n    bucket: b\n    mod: read',
      6,
      'unknown key "mod" in mounts.s3',
      'did you mean mode?',
    ],
    [
      'mountpoint: /m\nmounts:\n  s3:\n    type: s3\n    config:\n      bucket: b\n      regoin: x',
      7,
      'unknown key "regoin" in mounts.s3.config',
      'did you mean region?',
    ],
    [
      'mountpoint: /m\nmounts:\n  s3:\n    type: s3\n    bucket: b\n    config: { region: x }',
      5,
      'bucket stands beside config',
      'move bucket below config',
    ],
    ['mountpoint: /m\nmounts:\n  t:\n    type: rma', 4, 'unknown type "rma"', 'did you mean ram?'],
    [
      'mountpoint: /m\nmounts:\n  t: {}',
      3,
      'the mount t has no type',
      'add type: with one of ram, local, s3',
    ],
    [
      'mountpoint: /m\nmounts:\n  t:\n    type: ram\n    mode: wirte',
      5,
      'mounts.t.mode has a wrong value',
      'it takes read, write, exec',
    ],
    [
      'mountpoint: /m\nmounts:\n  t:\n    type: ram\n    ttl: soon',
      5,
      'mounts.t.ttl has a wrong value',
      'it takes seconds, or a number with ms, s, m, h, d: 60s',
    ],
    [
      'mountpoint: /m\ncache:\n  size: much\nmounts: { t: { type: ram } }',
      3,
      'cache.size has a wrong value',
      'it takes bytes, or a number with k, m, g, t: 10g',
    ],
    [
      'mountpoint: /m\nttl: soon\nmounts: { t: { type: ram } }',
      2,
      'ttl has a wrong value',
      'it takes seconds, or a number with ms, s, m, h, d: 60s',
    ],
    [
      'mountpoint: /m\nallowOther: perhaps\nmounts: { t: { type: ram } }',
      2,
      'allowOther has a wrong value',
      'it takes true or false',
    ],
    [
      'mountpoint: /m\nmounts:\n  s3:\n    type: s3\n    bucketName: b',
      5,
      'unknown key "bucketName" in mounts.s3',
      'did you mean bucket?',
    ],
    [
      'mountpoint: /m\nmounts:\n  t:\n    type: s3\n    bucket: b\n    ttls:\n      a/../b: 5s',
      7,
      '"a/../b" names no folder of the mount',
      'write it without empty names, . and ..',
    ],
    [
      'mountpoint: /m\nmounts:\n  t:\n    type: ram\n    freshness: open',
      5,
      'freshness: open is not for a mount of type ram',
      'write one of them, or leave the key out (inotify)',
    ],
    [
      'mountpoint: /m\nmounts:\n  s:\n    type: s3\n    bucket: b\n    acl: true',
      6,
      'acl is not for a mount of type s3',
      'leave the key out',
    ],
    [
      'mountpoint: /m\nmounts:\n  t:\n    type: ram\n    writeBack: async',
      5,
      'writeBack: async is not for a mount of type ram',
      'write close, or leave the key out',
    ],
    ['mountpoint: /m\nmounts:\n  l:\n    type: local', 3, 'mounts.l.path is missing', 'add it'],
    [
      'mountpoint: /m\nmounts:\n  a: { type: ram }\n  a/b: { type: ram }',
      4,
      '"a/b" cannot be a mount',
      'put them side by side',
    ],
    [
      'mountpoint: /m\nmounts:\n  a: { type: ram }\n  /a/: { type: ram }',
      4,
      '"/a/" cannot be a mount',
      'remove one of them',
    ],
    [
      'mountpoint: /m\nmounts:\n  /: { type: ram }\n  a: { type: ram }',
      4,
      '"a" cannot be a mount',
      'keep it alone, or give it a name',
    ],
    ['mountpoint: /m\nmounts:\n  ../a: { type: ram }', 3, '"../a" cannot be a mount', 'write it like a/b'],
    [
      'mountpoint: /m\nmounts:\n  .mirage: { type: ram }',
      3,
      '".mirage" cannot be a mount',
      'choose another name',
    ],
    ['mountpoint: /m\nmounts: {}', 2, 'no mounts', expect.stringContaining('add for example')],
    ['mounts: { t: { type: ram } }', 1, 'no mount point', expect.stringContaining('mountpoint: /mirage')],
    ['mountpoint: [', 1, 'the file is not valid YAML', expect.any(String)],
    ['', 1, 'there is no configuration here', 'write one with: mirage config init'],
  ] as const)('%j', (text, line, what, remedy) => {
    expect(problems(() => load(text))[0]).toMatchObject({ place: at(line), what, remedy });
  });

  test('everything at once, in the order of the file', () => {
    const found = problems(() =>
      load(
        'mountpoint: /m\nttk: 1\nmounts:\n  a: { type: rma }\n  s: { type: s3, buckt: b }\n\n\n\n\ncach: {}',
      ),
    );
    expect(found.map(({ what }) => what)).toEqual([
      'unknown key "ttk"',
      'unknown type "rma"',
      'unknown key "buckt" in mounts.s',
      'unknown key "cach"',
    ]);
  });
});

describe('secrets', () => {
  const text = (value: string) =>
    `mountpoint: /m\nmounts:\n  s3:\n    type: s3\n    bucket: b\n    accessKeyId: a\n    secretAccessKey: ${value}`;

  test('in a file that others can read: refused, and not repeated', () => {
    const found = problems(() => load(text('hunter2-hunter2'), {}, 0o644));
    expect(found).toMatchObject([
      { place: `${folder}/mirage.yaml:7`, remedy: expect.stringContaining('chmod 600') },
    ]);
    expect(JSON.stringify(found)).not.toContain('hunter2');
  });

  test('in a private file, in a variable or in a file: accepted, and known as secrets', () => {
    writeFileSync(join(folder, 'secret'), 'from-a-file\n');
    expect(load(text('in-the-text'), {}, 0o600).secrets).toEqual(['in-the-text']);
    expect(load(text('${S3_KEY}'), { S3_KEY: 'from-a-variable' }, 0o644).secrets).toEqual([
      'from-a-variable',
    ]);
    expect(load(text(`\${file:${folder}/secret}`), {}, 0o644).secrets).toEqual(['from-a-file']);
  });

  test('on the command line: refused unless it is a variable', () => {
    const source = (secretAccessKey: string) =>
      configurationOfSource('s3://b', {
        types,
        environment: { S3_KEY: 'from-a-variable' },
        mountpoint: '/m',
        options: { accessKeyId: 'a', secretAccessKey },
      });
    expect(problems(() => source('hunter2-hunter2'))).toMatchObject([
      { what: 'secretAccessKey must not stand on the command line' },
    ]);
    expect(source('${S3_KEY}').secrets).toEqual(['from-a-variable']);
  });
});

describe('a source on the command line', () => {
  const mounted = (source: string, options: Environment = {}) =>
    configurationOfSource(source, { types, environment: { HOME: folder }, mountpoint: '/m', options });

  test.each([
    ['s3://bucket/some/prefix/', 's3', { bucket: 'bucket', prefix: 'some/prefix/' }, 'read'],
    ['s3://bucket', 's3', { bucket: 'bucket' }, 'read'],
    ['file:///srv/my%20data', 'local', { path: '/srv/my data' }, 'read'],
    ['ram:', 'ram', {}, 'write'],
  ])('%s', (source, type, options, mode) => {
    expect(mounted(source).mounts).toMatchObject([{ path: '/', type, options, mode }]);
  });

  test('-o says keys of the mount and of the whole', () => {
    const { mounts, binding, cache } = mounted('s3://b', {
      mode: 'exec',
      pathStyle: 'true',
      binding: 'raw',
      'cache.size': '1g',
    });
    expect(mounts).toMatchObject([{ mode: 'exec', options: { bucket: 'b', pathStyle: true } }]);
    expect([binding, cache.size]).toEqual(['raw', 2 ** 30]);
  });

  test.each([
    ['/srv', 'write file:///srv'],
    ['s3://', 'see: mirage mount --help'],
    ['azure://account', 'see: mirage mount --help'],
    ['ftp://x', 'see: mirage mount --help'],
    ['file://srv/data', 'a folder begins with a slash: file:///srv/data'],
  ])('%s is none', (source, remedy) => {
    expect(problems(() => mounted(source))).toMatchObject([{ what: 'this is no source', remedy }]);
  });

  test('an unknown key is told with its nearest', () => {
    expect(problems(() => mounted('s3://b', { regoin: 'x' }))).toMatchObject([
      { place: '-o', what: 'unknown key "regoin"', remedy: 'did you mean region?' },
    ]);
    expect(problems(() => mounted('s3://b', { mode: 'rwx', 'cache.size': 'much' }))).toMatchObject([
      { place: '-o', what: 'cache.size has a wrong value' },
      { place: '-o', what: 'mode has a wrong value', remedy: 'it takes read, write, exec' },
    ]);
  });
});

describe('where the configuration is looked for', () => {
  test('named, in the environment, here, below the home, for the machine', () => {
    const environment = { HOME: folder };
    expect(configurationFiles(environment)).toEqual([
      join(process.cwd(), 'mirage.yaml'),
      join(folder, '.config/mirage/config.yaml'),
      join(folder, '.mirage/config.yaml'),
      '/etc/mirage/config.yaml',
    ]);
    mkdirSync(join(folder, '.mirage'));
    writeFileSync(join(folder, '.mirage/config.yaml'), '');
    expect(findConfiguration(undefined, environment)).toBe(join(folder, '.mirage/config.yaml'));
    expect(findConfiguration(undefined, { ...environment, MIRAGE_CONFIG: '/x.yaml' })).toBe('/x.yaml');
    expect(findConfiguration('/y.yaml', { ...environment, MIRAGE_CONFIG: '/x.yaml' })).toBe('/y.yaml');
  });

  test('a file that is not there is not found, not wrong', () => {
    const missing = () => loadConfiguration('/no/such.yaml', { types, environment: {} });
    expect(missing).toThrow(MirageError);
    expect(missing).toThrow(expect.objectContaining({ errno: 'ENOENT' }));
  });
});
