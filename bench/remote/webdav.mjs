// @ts-check
/**
 * A WebDAV mount beside davfs2 on the same Apache, `node bench/remote/webdav.mjs [milliseconds of round trip] [part of a row's name]`. Each side does
 * every row once a round, by turns, on a mount that was just made and has seen other names only.
 *
 * The same promise on both sides: davfs2 (`delay_upload 0`, its default is 10 s) sends a file after close has returned, and so does Mirage with
 * `writeBack: async`, which has it in its journal on disk by then. Rows that write end when every file is whole on the server. davfs2 locks a file while it
 * is open, as it does by default; without locks it may overwrite what another client wrote meanwhile, and is only shown, as is Mirage with
 * `writeBack: close`, which davfs2 has nothing like.
 */
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { freePort, timed } from '../shared/measure.mjs';
import { Mount } from '../shared/mount.mjs';
import { endChildren, run, start, until } from '../shared/processes.mjs';
import { median } from '../shared/statistics.mjs';
import { proxied } from './sides.mjs';

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const cli = join(process.env.MIRAGE_BUILD ?? join(root, 'dist'), 'cli', 'main.js');
const ROUNDS = 3;
const FILES = 1000;
const SMALL = 100;
const WITHOUT_LOCKS = 'davfs2 without locks';

/** @typedef {{ folder: string, url: string, server: string, source: string, fresh: () => string }} Bench */
/** @typedef {{ name: string, mount: (bench: Bench) => Promise<{ path: string, close: () => Promise<void> }> }} Side */

/** @param {string} directory */
async function startApache(directory) {
  const port = await freePort();
  const data = join(directory, 'data');
  for (const path of [directory, data]) mkdirSync(path, { mode: 0o777 });
  const modules = ['mpm_event', 'authz_core', 'authn_core', 'dav', 'dav_fs', 'dir', 'unixd'];
  const lines = [
    `ServerRoot ${directory}`,
    `PidFile ${directory}/pid`,
    `DefaultRuntimeDir ${directory}`,
    `Listen 127.0.0.1:${port}`,
    'ServerName localhost',
    `ErrorLog ${directory}/log`,
    ...modules
      .map((name) => [name, `/usr/lib/apache2/modules/mod_${name}.so`])
      .filter(([, file]) => existsSync(file ?? ''))
      .map(([name, file]) => `LoadModule ${name}_module ${file}`),
    'User www-data',
    'Group www-data',
    `DavLockDB ${directory}/locks`,
    `DocumentRoot ${data}`,
    `<Directory ${data}>`,
    'Dav On',
    'Require all granted',
    '</Directory>',
  ];
  const file = join(directory, 'configuration');
  writeFileSync(file, `${lines.join('\n')}\n`);
  await run(['chmod', '-R', '777', directory]);
  const server = start(['apache2', '-DFOREGROUND', '-f', file]);
  await run([
    'curl',
    '-s',
    '--retry',
    '50',
    '--retry-connrefused',
    '--retry-delay',
    '0',
    '-o',
    '/dev/null',
    `http://127.0.0.1:${port}/`,
  ]);
  return { port, data, server };
}

/** @param {'close' | 'async'} writeBack @returns {Side} */
const mirage = (writeBack) => ({
  name: writeBack === 'async' ? 'mirage' : 'mirage, writeBack: close',
  async mount({ url, fresh }) {
    const folder = fresh();
    const path = join(folder, 'mnt');
    for (const name of ['mnt', 'cache', 'state', 'run']) mkdirSync(join(folder, name));
    writeFileSync(
      join(folder, 'mirage.yaml'),
      JSON.stringify({
        mountpoint: path,
        state: join(folder, 'state'),
        cache: { directory: join(folder, 'cache') },
        mounts: { '/': { type: 'webdav', mode: 'exec', url, writeBack } },
      }),
    );
    const mount = new Mount(path);
    await mount.open(
      [process.execPath, cli, 'mount', '--foreground', '--config', join(folder, 'mirage.yaml')],
      {
        MIRAGE_RUNTIME: join(folder, 'run'),
      },
    );
    return { path, close: () => mount.close() };
  },
});

/** @param {0 | 1} locks @returns {Side} */
const davfs = (locks) => ({
  name: locks === 1 ? 'davfs2' : WITHOUT_LOCKS,
  async mount({ url, fresh }) {
    const folder = fresh();
    const path = join(folder, 'mnt');
    for (const name of ['mnt', 'cache']) mkdirSync(join(folder, name));
    const configuration = join(folder, 'davfs2.conf');
    const keys = { ask_auth: 0, use_locks: locks, delay_upload: 0, buf_size: 256 };
    const more = {
      ...keys,
      cache_dir: join(folder, 'cache'),
      cache_size: 1000,
      secrets: join(folder, 'secrets'),
    };
    writeFileSync(join(folder, 'secrets'), '', { mode: 0o600 });
    writeFileSync(
      configuration,
      Object.entries(more)
        .map(([key, value]) => `${key} ${value}\n`)
        .join(''),
    );
    // It gives up root.
    await run(['chmod', '777', folder, join(folder, 'cache')]);
    await run(['mount.davfs', url, path, '-o', `conf=${configuration}`]);
    await run(['stat', path]);
    return {
      path,
      async close() {
        // umount.davfs would wait for a process id file that only the system's own folder has.
        await run(['umount', '-i', path], { seconds: 60 }).catch(() => run(['umount', '-i', '-l', path]));
      },
    };
  },
});

/**
 * Files whose names and sizes the mount shows are whole on the server, too.
 * @param {string} path in the mount
 * @param {string} there the same on the server
 */
async function arrived(path, there) {
  const shown = await run(['find', path, '-type', 'f', '-printf', '%s %P\n']);
  const missing = shown.split('\n').filter((line) => line !== '');
  const whole = () => {
    for (let line = missing.at(-1); line !== undefined; line = missing.at(-1)) {
      const [size, name = ''] = line.split(/ (.*)/s);
      if (statSync(join(there, name), { throwIfNoEntry: false })?.size !== Number(size)) return false;
      missing.pop();
    }
    return true;
  };
  if (!(await until(whole, 120))) throw new Error(`${path}: ${missing.at(-1)} is not on the server`);
}

/**
 * Every row: one piece of work on a mount that has not seen these names. Rows that write are told from those that read: only in them locks matter.
 * @type {{ name: string, writes?: true, before?: (path: string) => Promise<unknown>, work: (path: string, bench: Bench, tag: string) => Promise<unknown> }[]}
 */
export const rows = [
  { name: `ls -l of ${FILES} files, cold`, work: (path) => run(['ls', '-l', join(path, 'many')]) },
  {
    name: `ls -l of ${FILES} files, warm`,
    before: (path) => run(['ls', '-l', join(path, 'many')]),
    work: (path) => run(['ls', '-l', join(path, 'many')]),
  },
  {
    name: `find -printf of ${FILES} files, cold`,
    work: (path) => run(['find', join(path, 'found'), '-printf', '%s %T@ %p\n']),
  },
  { name: 'read 1 MB, cold', work: (path) => run(['cat', join(path, 'medium')]) },
  {
    name: 'read 100 MB, cold',
    work: (path) => run(['dd', `if=${path}/large`, 'of=/dev/null', 'bs=1M', 'status=none']),
  },
  {
    name: 'write 1 MB',
    writes: true,
    async work(path, { server, source }, tag) {
      const name = `written-${tag}`;
      await run(['cp', join(source, 'medium'), join(path, name)]);
      await arrived(join(path, name), join(server, name));
    },
  },
  {
    name: `cp -r of ${SMALL} small files`,
    writes: true,
    async work(path, { server, source }, tag) {
      const name = `tree-${tag}`;
      await run(['cp', '-r', join(source, 'tree'), join(path, name)], { seconds: 300 });
      await arrived(join(path, name), join(server, name));
    },
  },
  {
    name: 'git clone',
    writes: true,
    async work(path, { server, source }, tag) {
      const name = `clone-${tag}`;
      const command = ['git', 'clone', '-q', '--no-hardlinks', join(source, 'repository'), join(path, name)];
      await run(command, { seconds: 600 });
      await arrived(join(path, name), join(server, name));
    },
  },
];

/** @param {string} folder */
async function prepare(folder) {
  const source = join(folder, 'source');
  mkdirSync(join(source, 'tree'), { recursive: true });
  writeFileSync(join(source, 'medium'), Buffer.alloc(1e6, 'medium'));
  for (let index = 0; index < SMALL; index++)
    writeFileSync(join(source, 'tree', `file-${index}`), `small ${index}\n`);
  const git = [
    'git',
    '-C',
    join(source, 'repository'),
    '-c',
    'user.name=Bench',
    '-c',
    'user.email=bench@example.com',
  ];
  await run(['git', 'init', '-q', '-b', 'main', join(source, 'repository')]);
  cpSync(join(source, 'tree'), join(source, 'repository', 'files'), { recursive: true });
  await run([...git, 'add', '.']);
  await run([...git, 'commit', '-q', '-m', 'files']);
  return source;
}

/**
 * Other work before the clock starts, to the end: what is cold are names and bytes, not programs.
 * @param {string} path @param {string} there the same on the server @param {string} tag
 */
async function exercise(path, there, tag) {
  const folder = join(path, 'other');
  for (let round = 0; round < 3; round++) await run(['ls', '-l', join(path, `before-${round}`)]);
  await run(['sh', '-c', `cat '${path}/before' '${folder}'/* > /dev/null`]);
  for (let index = 0; index < 5; index++)
    await run(['cp', join(folder, 'file-0'), join(folder, `made-${tag}-${index}`)]);
  await arrived(folder, join(there, 'other'));
}

/**
 * @param {string} folder where everything of this run goes
 * @param {number} roundTrip milliseconds
 * @param {string} [only] a part of the names of the rows to measure
 */
async function measure(folder, roundTrip, only = '') {
  // The server runs as another user.
  chmodSync(folder, 0o755);
  const source = await prepare(folder);
  const { port, data, server } = await startApache(join(folder, 'apache'));
  for (const name of ['many', 'found', 'before-0', 'before-1', 'before-2']) {
    mkdirSync(join(data, name), { mode: 0o777 });
    for (let index = 0; index < FILES; index++) writeFileSync(join(data, name, `file-${index}`), `${index}`);
  }
  mkdirSync(join(data, 'other'), { mode: 0o777 });
  for (let index = 0; index < 30; index++)
    writeFileSync(join(data, 'other', `file-${index}`), 'x'.repeat(9999));
  writeFileSync(join(data, 'medium'), Buffer.alloc(1e6, 'medium'));
  writeFileSync(join(data, 'large'), Buffer.alloc(100e6, 'large'));
  writeFileSync(join(data, 'before'), Buffer.alloc(20e6, 'before'));
  await run(['chown', '-R', 'www-data', data]);
  const proxy = roundTrip > 0 ? await proxied(port, roundTrip) : undefined;
  let mounts = 0;
  /** @type {Bench} */
  const context = {
    folder,
    url: `http://127.0.0.1:${proxy?.port ?? port}/`,
    server: data,
    source,
    fresh() {
      const path = join(folder, `mount-${mounts++}`);
      mkdirSync(path);
      return path;
    },
  };
  const sides = [mirage('async'), davfs(1), davfs(0), mirage('close')];
  const chosen = rows.filter((row) => row.name.includes(only));
  /** @type {Map<string, Record<string, number[]>>} row → side → seconds */
  const seconds = new Map(chosen.map((row) => [row.name, {}]));
  try {
    for (let round = 0; round < ROUNDS; round++) {
      for (const [index, side] of sides.entries()) {
        const tag = `${index}-${round}`;
        const mount = await side.mount(context);
        try {
          await exercise(mount.path, data, tag);
          for (const row of chosen) {
            // Locks and the moment of writing do not matter to what is read.
            if (!row.writes && index > 1) continue;
            await row.before?.(mount.path);
            const time = await timed(() => row.work(mount.path, context, tag));
            const values = seconds.get(row.name) ?? {};
            values[side.name] ??= [];
            values[side.name]?.push(time / 1000);
          }
        } catch (error) {
          // A peer that cannot do a row has no figure in it.
          if (side.name.startsWith('mirage')) throw error;
          console.error(`${side.name}: ${String(error)}`);
        } finally {
          await mount.close();
        }
      }
    }
  } finally {
    proxy?.close();
    server.child.kill('SIGTERM');
    await until(() => server.child.exitCode !== null || server.child.signalCode !== null, 5);
  }
  const better = /** @type {'less'} */ ('less');
  return [...seconds].flatMap(([name, { [WITHOUT_LOCKS]: without, ...values }]) => {
    const row = `${name}, ${roundTrip} ms`;
    console.error(
      `${row}: ${[...Object.entries(values), [WITHOUT_LOCKS, without ?? []]]
        .map(([side, each]) => `${side} ${median(/** @type {number[]} */ (each)).toFixed(3)} s`)
        .join(', ')}`,
    );
    const figure = { row, better, factor: 1, values };
    if (without === undefined) return [figure];
    const shown = { mirage: values.mirage ?? [], [WITHOUT_LOCKS]: without };
    return [
      figure,
      { row: `${row}, beside one that may overwrite`, better, factor: undefined, values: shown },
    ];
  });
}

/** Seconds of every row, on the server next door and on one that is 10 ms away. @param {string} folder */
export async function webdav(folder) {
  const near = join(folder, 'near');
  const far = join(folder, 'far');
  for (const path of [folder, near, far]) {
    mkdirSync(path, { recursive: true });
    chmodSync(path, 0o755);
  }
  chmodSync(dirname(folder), 0o755);
  return [...(await measure(near, 0)), ...(await measure(far, 10))];
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const folder = mkdtempSync(join(tmpdir(), 'mirage-bench-webdav-'));
  try {
    await measure(folder, Number(process.argv[2] ?? 0), process.argv[3]);
  } finally {
    endChildren();
    rmSync(folder, { recursive: true, force: true });
  }
}
