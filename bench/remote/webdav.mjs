// @ts-check
/**
 * A WebDAV mount beside davfs2 on the same Apache, `node bench/remote/webdav.mjs [milliseconds of round trip]`. Every row is one piece of work, timed
 * by turns on each mount; "cold" is a mount that was made for this row and has seen other names only. Files are written until they are on the server: davfs2
 * runs with `delay_upload 0`, which makes close upload them.
 */
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Mount } from '../shared/mount.mjs';
import { endChildren, run, start, until } from '../shared/processes.mjs';
import { median } from '../shared/statistics.mjs';
import { proxied } from './sides.mjs';

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const cli = join(process.env.MIRAGE_BUILD ?? join(root, 'dist'), 'cli', 'main.js');
const ROUNDS = 3;
const FILES = 1000;
const SMALL = 100;

/** @typedef {{ folder: string, url: string, server: string, source: string, fresh: () => string }} Bench */
/** @typedef {{ name: string, mount: (bench: Bench) => Promise<{ path: string, close: () => Promise<void> }> }} Side */

/** @returns {Promise<number>} */
function freePort() {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once('error', reject);
    probe.listen(0, '127.0.0.1', () => {
      const address = probe.address();
      probe.close(() => resolve(address && typeof address === 'object' ? address.port : 0));
    });
  });
}

/** @param {() => Promise<unknown>} work @returns {Promise<number>} seconds */
async function timed(work) {
  const started = performance.now();
  await work();
  return (performance.now() - started) / 1000;
}

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
  name: writeBack === 'close' ? 'mirage' : 'mirage, writeBack async',
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
  name: `davfs2, use_locks ${locks}`,
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
 * Every row: seconds of one piece of work on a mount that was just made.
 * @type {{ name: string, rounds?: number, work: (path: string, bench: Bench, side: string) => Promise<number> }[]}
 */
export const rows = [
  {
    name: `ls -l of ${FILES} files, cold`,
    work: (path) => timed(() => run(['ls', '-l', join(path, 'many')])),
  },
  {
    name: `ls -l of ${FILES} files, warm`,
    async work(path) {
      await run(['ls', '-l', join(path, 'many')]);
      return timed(() => run(['ls', '-l', join(path, 'many')]));
    },
  },
  { name: 'read 1 MB, cold', work: (path) => timed(() => run(['cat', join(path, 'medium')])) },
  {
    name: 'read 100 MB, cold',
    work: (path) => timed(() => run(['dd', `if=${path}/large`, 'of=/dev/null', 'bs=1M', 'status=none'])),
  },
  {
    name: 'write 1 MB, until it is on the server',
    async work(path, { server, source }, side) {
      const name = `written-${side}-${process.hrtime.bigint()}`;
      // davfs2 sends it when the kernel lets go of the file, which nobody waits for: what counts is when it is there.
      const whole = () => statSync(join(server, name), { throwIfNoEntry: false })?.size === 1e6;
      const seconds = await timed(async () => {
        await run(['cp', join(source, 'medium'), join(path, name)]);
        if (!(await until(whole, 60))) throw new Error(`${name} is not on the server`);
      });
      return seconds;
    },
  },
  {
    name: `cp -r of ${SMALL} small files, durable`,
    async work(path, { server, source }, side) {
      const name = `tree-${side}-${process.hrtime.bigint()}`;
      const seconds = await timed(async () => {
        await run(['cp', '-r', join(source, 'tree'), join(path, name)], { seconds: 300 });
        const whole = () =>
          readdirSync(join(server, name)).filter((file) => !file.startsWith('.')).length === SMALL;
        if (!(await until(whole, 120))) throw new Error(`${name} is not whole on the server`);
      });
      return seconds;
    },
  },
  {
    name: 'git clone',
    rounds: 1,
    work: (path, { source }, side) =>
      timed(() =>
        run(
          ['git', 'clone', '-q', '--no-hardlinks', join(source, 'repository'), join(path, `clone-${side}`)],
          {
            seconds: 600,
          },
        ),
      ),
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

/** Other work before the clock starts: what is cold are names and bytes, not programs. @param {string} path @param {string} tag */
async function exercise(path, tag) {
  const folder = join(path, 'other');
  await run(['sh', '-c', `ls -l '${folder}' && cat '${folder}'/*`]);
  for (let index = 0; index < 5; index++)
    await run(['cp', join(folder, 'file-0'), join(path, `made-${tag}-${index}`)]);
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
  mkdirSync(join(data, 'many'), { mode: 0o777 });
  for (let index = 0; index < FILES; index++) writeFileSync(join(data, 'many', `file-${index}`), `${index}`);
  mkdirSync(join(data, 'other'), { mode: 0o777 });
  for (let index = 0; index < 30; index++)
    writeFileSync(join(data, 'other', `file-${index}`), 'x'.repeat(9999));
  writeFileSync(join(data, 'medium'), Buffer.alloc(1e6, 'medium'));
  writeFileSync(join(data, 'large'), Buffer.alloc(100e6, 'large'));
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
  const sides = [mirage('close'), mirage('async'), davfs(1), davfs(0)];
  const figures = [];
  try {
    for (const { name, rounds = ROUNDS, work } of rows.filter((row) => row.name.includes(only))) {
      /** @type {Record<string, number[]>} */
      const values = Object.fromEntries(sides.map((side) => [side.name, []]));
      for (let round = 0; round < rounds; round++) {
        for (const [index, side] of sides.entries()) {
          const mount = await side.mount(context);
          try {
            await exercise(mount.path, `${index}-${round}`);
            values[side.name]?.push(await work(mount.path, context, `${index}-${round}`));
          } catch (error) {
            // A peer that cannot do a row has no figure in it.
            if (side.name.startsWith('mirage')) throw error;
            console.error(`${side.name}, ${name}: ${String(error)}`);
          } finally {
            await mount.close();
          }
        }
      }
      const row = `${name}, ${roundTrip} ms`;
      figures.push({ row, better: /** @type {'less'} */ ('less'), factor: 1, values });
      const shown = Object.entries(values).map(
        ([side, seconds]) => `${side} ${median(seconds).toFixed(3)} s`,
      );
      console.error(`${row}: ${shown.join(', ')}`);
    }
  } finally {
    proxy?.close();
    server.child.kill('SIGTERM');
    await until(() => server.child.exitCode !== null || server.child.signalCode !== null, 5);
  }
  return figures;
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
