import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import { cli, root, run, Scratch, until } from './scratch.js';

// Each step is a process, and the machine may be busy.
jest.setTimeout(120_000);

let scratch: Scratch;
beforeEach(() => {
  scratch = new Scratch();
});
afterEach(() => scratch.dispose());

interface Daemons {
  daemons: {
    pid: number;
    mountpoint: string;
    state: string;
    binding: string;
    phase: string;
    pending: string[];
    mounts: { path: string; type: string; mode: string; reachable: boolean; probed: object }[];
  }[];
}
const status = async (): Promise<Daemons['daemons']> =>
  (JSON.parse((await scratch.mirage('status', '--json')).stdout) as Daemons).daemons;

const nameOf = (pid: number): string => readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
const isAlive = (pid: number): boolean => existsSync(`/proc/${pid}/exe`);

test('memory: mounted when the command returns, gone with its daemon after unmount', async () => {
  const mounted = await scratch.mirage('mount', 'ram:', scratch.mountpoint);
  expect(mounted).toMatchObject({ code: 0, stderr: '' });
  expect(await scratch.inside('echo hello > a && cat a && ls')).toMatchObject({
    code: 0,
    stdout: 'hello\na\n',
  });

  const [daemon] = await status();
  expect(daemon).toMatchObject({
    mountpoint: scratch.mountpoint,
    binding: 'raw',
    phase: 'mounted',
    pending: [],
    mounts: [{ path: '/', type: 'ram', mode: 'write', reachable: true, probed: expect.anything() }],
  });
  expect(await scratch.mirage('unmount', scratch.mountpoint)).toMatchObject({
    code: 0,
    stdout: `Unmounted ${scratch.mountpoint}\n`,
    stderr: '',
  });
  expect(scratch.isMounted()).toBe(false);
  expect(await status()).toEqual([]);
  await until('the daemon has ended', () => !isAlive(daemon!.pid));
});

test('a tree of several stores: read only unless the configuration says otherwise', async () => {
  const local = scratch.make('local');
  writeFileSync(join(local, 'note'), 'from outside\n');
  writeFileSync(join(local, 'tool'), '#!/bin/sh\necho ran\n', { mode: 0o755 });
  const config = scratch.write(
    'mirage.yaml',
    `mountpoint: ${scratch.mountpoint}
mounts:
  fixed: { type: local, path: ${local} }
  free: { type: local, path: ${local}, mode: exec }
  deep/tmp: { type: ram, mode: write }
`,
  );
  expect(await scratch.mirage('mount', '--config', config)).toMatchObject({ code: 0, stderr: '' });
  expect(await scratch.inside('ls && ls deep && cat fixed/note')).toMatchObject({
    stdout: 'deep\nfixed\nfree\ntmp\nfrom outside\n',
  });
  const refused = await scratch.inside('echo x > fixed/new');
  expect(refused).toMatchObject({ code: 2, stderr: expect.stringContaining('Read-only file system') });
  expect(await scratch.inside('./fixed/tool')).toMatchObject({ code: 126 });
  expect(await scratch.inside('./free/tool && echo new > free/new')).toMatchObject({
    code: 0,
    stdout: 'ran\n',
  });
  expect(readFileSync(join(local, 'new'), 'utf8')).toBe('new\n');
  expect(
    await scratch.inside('cp free/new deep/tmp/ && mv deep/tmp/new free/moved && cat free/moved'),
  ).toMatchObject({
    stdout: 'new\n',
  });
});

test('.mirage is there for who asks: status, last-error, conflicts; and is kept by the daemon', async () => {
  await scratch.mirage('mount', 'ram:', scratch.mountpoint);
  expect(await scratch.inside('ls -A && ls .mirage')).toMatchObject({
    stdout: 'conflicts\nlast-error\nstatus\n',
  });
  const text = (await scratch.inside('cat .mirage/status')).stdout;
  expect(JSON.parse(text)).toMatchObject({ mountpoint: scratch.mountpoint, mounts: [{ type: 'ram' }] });
  expect(await scratch.inside('cat .mirage/last-error')).toMatchObject({ stdout: 'no error so far\n' });
  for (const change of [
    'echo x > .mirage/status',
    'touch .mirage/new',
    'mkdir .mirage/d',
    'rm .mirage/status',
    'mv .mirage/status x',
  ]) {
    const { code, stderr } = await scratch.inside(change);
    expect([change, code === 0, stderr]).toEqual([
      change,
      false,
      expect.stringMatching(/Read-only|cross-device|Operation not/i),
    ]);
  }
});

test('a record of a conflict can be read there by the owner, and removed when it is dealt with', async () => {
  await scratch.mirage('mount', 'ram:', scratch.mountpoint);
  const [daemon] = await status();
  writeFileSync(join(daemon!.state, 'conflicts', 'note.bytes'), 'bytes that lost\n');
  expect(
    await scratch.inside(
      'cat .mirage/conflicts/note.bytes && rm .mirage/conflicts/note.bytes && ls .mirage/conflicts',
    ),
  ).toMatchObject({
    code: 0,
    stdout: 'bytes that lost\n',
  });
  expect(readdirSync(join(daemon!.state, 'conflicts'))).toEqual([]);
});

describe('the mount point', () => {
  test.each([
    ['missing', 3, 'does not exist', 'mkdir -p'],
    ['full', 1, 'is not empty', 'choose an empty folder'],
    ['file', 1, 'is not a folder', 'choose another path'],
  ])('%s', async (name, code, what, remedy) => {
    mkdirSync(join(scratch.folder, 'full', 'x'), { recursive: true });
    scratch.write('file', '');
    const ended = await scratch.mirage('mount', 'ram:', name);
    expect(ended).toMatchObject({ code, stdout: '' });
    const lines = ended.stderr.trimEnd().split('\n');
    expect(lines).toHaveLength(3);
    expect(lines[0]).toContain(what);
    expect(lines[1]).toMatch(/^ {2}why: ./);
    expect(lines[2]).toContain(`do:  ${remedy}`);
  });

  test('busy: the second mount is refused and the first one lives on', async () => {
    await scratch.mirage('mount', 'ram:', scratch.mountpoint);
    const second = await scratch.mirage(
      'mount',
      'ram:',
      scratch.mountpoint,
      '-o',
      `state=${scratch.folder}/other`,
    );
    expect(second).toMatchObject({ code: 1, stderr: expect.stringContaining('is busy') });
    expect(await scratch.inside('touch alive')).toMatchObject({ code: 0 });
  });

  test.each(['state', 'cache.directory'])('%s inside of it', async (key) => {
    const ended = await scratch.mirage(
      'mount',
      'ram:',
      scratch.mountpoint,
      '-o',
      `${key}=${scratch.mountpoint}/x`,
    );
    expect(ended).toMatchObject({ code: 1, stderr: expect.stringContaining('lies inside the mount point') });
    expect(readdirSync(scratch.mountpoint)).toEqual([]);
  });

  test.each(['state', 'cache.directory'])('inside of %s', async (key) => {
    const mountpoint = scratch.makeMountPoint('own/mnt');
    const ended = await scratch.mirage('mount', 'ram:', mountpoint, '-o', `${key}=${scratch.folder}/own`);
    expect(ended).toMatchObject({ code: 1, stderr: expect.stringContaining(`lies inside ${key}`) });
    expect(scratch.isMounted(mountpoint)).toBe(false);
  });

  test('inside of a folder that it would show', async () => {
    const ended = await scratch.mirage('mount', `file://${scratch.folder}`, scratch.mountpoint);
    expect(ended).toMatchObject({ code: 1, stderr: expect.stringContaining('lies inside the folder of /') });
    expect(scratch.isMounted()).toBe(false);
  });
});

test('one daemon for each state directory', async () => {
  const other = scratch.makeMountPoint('other');
  const state = ['-o', `state=${scratch.folder}/state`];
  expect(await scratch.mirage('mount', 'ram:', scratch.mountpoint, ...state)).toMatchObject({ code: 0 });
  const [daemon] = await status();
  expect(await scratch.mirage('mount', 'ram:', other, ...state)).toMatchObject({
    code: 1,
    stderr: expect.stringContaining(`process ${daemon!.pid} holds its lock`),
  });
  expect(await scratch.mirage('mount', 'ram:', other)).toMatchObject({ code: 0 });
  expect(await status()).toHaveLength(2);
  expect(await scratch.mirage('status', other, '--json')).toMatchObject({
    stdout: expect.not.stringContaining(`"${scratch.mountpoint}"`),
  });
});

describe('unmount', () => {
  test('a mount in use stays, and says who uses it; force ends it', async () => {
    await scratch.mirage('mount', 'ram:', scratch.mountpoint);
    const child = scratch.startProgram('sleep', ['60'], scratch.mountpoint);
    const folder = () => readlinkSync(`/proc/${child.pid}/cwd`);
    await until(
      'the program is in there',
      () => nameOf(child.pid!) === 'sleep' && folder() === scratch.mountpoint,
    );
    expect(await scratch.mirage('unmount', scratch.mountpoint)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining(`sleep (${child.pid})`),
    });
    expect((await status())[0]).toMatchObject({ phase: 'mounted' });
    expect(await scratch.mirage('unmount', '--force', scratch.mountpoint)).toMatchObject({ code: 0 });
    expect(scratch.isMounted()).toBe(false);
    child.kill();
  });

  test('what is not mounted is not found', async () => {
    expect(await scratch.mirage('unmount', scratch.mountpoint)).toMatchObject({ code: 3 });
    expect(await scratch.mirage('status', scratch.mountpoint)).toMatchObject({ code: 3 });
  });

  test('a mount whose daemon was killed is told by doctor, and can be removed', async () => {
    await scratch.mirage('mount', 'ram:', scratch.mountpoint);
    const [daemon] = await status();
    process.kill(daemon!.pid, 'SIGKILL');
    await until('it is dead', () => !isAlive(daemon!.pid));
    const doctor = await scratch.mirage('doctor');
    expect(doctor.stdout).toContain(`fail  mount ${scratch.mountpoint}: its daemon is gone`);
    expect(doctor.code).toBe(1);
    expect(await scratch.mirage('status', scratch.mountpoint)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('mount it again'),
    });
    expect(await scratch.mirage('unmount', scratch.mountpoint)).toMatchObject({ code: 0 });
    expect(scratch.isMounted()).toBe(false);
  });

  test('the next mount takes the place of one whose daemon was killed', async () => {
    await scratch.mirage('mount', 'ram:', scratch.mountpoint);
    const [daemon] = await status();
    process.kill(daemon!.pid, 'SIGKILL');
    await until('it is dead', () => !isAlive(daemon!.pid));
    expect(await scratch.mirage('mount', 'ram:', scratch.mountpoint)).toMatchObject({ code: 0, stderr: '' });
    expect(await scratch.inside('touch alive')).toMatchObject({ code: 0 });
    expect(await scratch.mirage('unmount', scratch.mountpoint)).toMatchObject({ code: 0 });
    expect(scratch.isMounted()).toBe(false);
  });
});

describe('in the foreground', () => {
  test.each(['SIGTERM', 'SIGINT'] as const)('%s drains and unmounts: exit code 0', async (signal) => {
    const { child, ended, output } = scratch.start('mount', 'ram:', scratch.mountpoint, '--foreground');
    await until('it is mounted', () => output().includes('Mounted at'));
    child.kill(signal);
    expect(await ended).toBe(0);
    expect(scratch.isMounted()).toBe(false);
  });

  test('unmounted from outside: exit code 0', async () => {
    const { ended, output } = scratch.start('mount', 'ram:', scratch.mountpoint, '--foreground');
    await until('it is mounted', () => output().includes('Mounted at'));
    expect(await run('umount', [scratch.mountpoint])).toMatchObject({ code: 0 });
    expect(await ended).toBe(0);
    expect(await status()).toEqual([]);
  });
});

test('a detached daemon ends when its mount is unmounted from outside', async () => {
  await scratch.mirage('mount', 'ram:', scratch.mountpoint);
  const [daemon] = await status();
  expect(await run('umount', [scratch.mountpoint])).toMatchObject({ code: 0 });
  await until('it has ended', () => !isAlive(daemon!.pid));
});

describe('usage', () => {
  test.each([
    [['mount', '--bogus'], "unknown option '--bogus'"],
    [['mount', '--bogus'], 'do:  see what there is: mirage --help'],
    [['moutn'], 'do:  Did you mean mount?'],
    [['mount', 'ram:'], 'no mount point'],
    [['mount', '/srv', '/mnt'], 'write file:///srv'],
    [['mount', 'ram:', '/mnt', '-o', 'mdoe=write'], 'did you mean mode?'],
    [
      ['mount', 's3://b', '/mnt', '-o', 'secretAccessKey=hunter2hunter2'],
      'must not stand on the command line',
    ],
  ])('%j', async (options, says) => {
    const ended = await scratch.mirage(...options);
    expect(ended).toMatchObject({ code: 2, stderr: expect.stringContaining(says) });
    expect(ended.stdout + ended.stderr).not.toContain('hunter2');
  });

  test.each([['--help'], ['mount --help'], ['config --help']])('%s fits on a screen', async (words) => {
    const { code, stdout } = await scratch.mirage(...words.split(' '));
    expect(code).toBe(0);
    const lines = stdout.trimEnd().split('\n');
    expect(lines.length).toBeLessThanOrEqual(30);
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(120);
  });

  test('a reader that has seen enough is no error', async () => {
    const piped = await run('sh', ['-c', '"$0" "$1" config schema | head -c 10', process.execPath, cli]);
    expect(piped).toMatchObject({ code: 0, stdout: expect.stringContaining('{'), stderr: '' });
  });

  test('plain in a pipe: no colour, tab-separated', async () => {
    await scratch.mirage('mount', 'ram:', scratch.mountpoint);
    const { stdout } = await scratch.mirage('status');
    expect(stdout).toMatch(new RegExp(`^${scratch.mountpoint}\tram\twrite\tmounted\traw\t\\d+\n$`));
  });
});

describe('config', () => {
  test('init writes one that is right, and its schema; and overwrites nothing', async () => {
    expect(await scratch.mirage('config', 'init')).toMatchObject({ code: 0 });
    const file = join(scratch.folder, 'mirage.yaml');
    expect(readFileSync(file, 'utf8')).toMatch(
      /^# yaml-language-server: \$schema=\.\/mirage\.schema\.json\n/,
    );
    expect(JSON.parse(readFileSync(join(scratch.folder, 'mirage.schema.json'), 'utf8'))).toMatchObject({
      type: 'object',
    });
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(await scratch.mirage('config', 'check', file)).toMatchObject({ code: 0 });
    expect(await scratch.mirage('config', 'init')).toMatchObject({ code: 1 });
    expect(await scratch.mirage('config', 'init', 'nowhere/mirage.yaml')).toMatchObject({
      code: 3,
      stderr: expect.stringContaining('mkdir -p'),
    });
  });

  test('check says what is wrong with file and line', async () => {
    const file = scratch.write('wrong.yaml', 'mountpoint: /m\nmounts:\n  t:\n    type: ram\n    mod: read\n');
    expect(await scratch.mirage('config', 'check', file)).toMatchObject({
      code: 2,
      stderr: expect.stringContaining(`${file}:5: unknown key "mod" in mounts.t`),
    });
    expect(await scratch.mirage('config', 'check', '/no/such.yaml')).toMatchObject({ code: 3 });
  });

  test('schema is JSON', async () => {
    const { code, stdout } = await scratch.mirage('config', 'schema');
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toHaveProperty('properties.mounts');
  });
});

test('cache is told of a path that is on no mount', async () => {
  for (const command of ['stat', 'warm', 'drop']) {
    expect(await scratch.mirage('cache', command, scratch.folder)).toMatchObject({
      code: 3,
      stderr: expect.stringContaining('is not on a mount of Mirage'),
    });
  }
  await scratch.mirage('mount', 'ram:', scratch.mountpoint);
  expect(await scratch.mirage('cache', 'stat', scratch.mountpoint)).toMatchObject({ code: 0 });
});

test('the command of the package is the one that was tested', () => {
  const { bin } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { bin: { mirage: string } };
  expect(join(root, bin.mirage)).toBe(cli);
  expect(statSync(cli).mode & 0o111).not.toBe(0);
});
