// @ts-check
/** An SFTP mount beside sshfs on the same sshd. The server's tree is in the page cache; "cold" is a mount that was made for this row. */
import { mkdirSync, readFileSync, realpathSync, writeFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { freePort, timed } from '../shared/measure.mjs';
import { Mount } from '../shared/mount.mjs';
import { run, start } from '../shared/processes.mjs';
import { shuffled } from '../shared/statistics.mjs';
import { mirageMount, proxied } from './sides.mjs';

const here = (/** @type {string} */ path) => fileURLToPath(new URL(path, import.meta.url));
const ROUNDS = 3;
const FOLDERS = 100;
const FILES_EACH = 100;
const LARGE = 2;
const LARGE_BYTES = 256 * 2 ** 20;
const SECONDS = '1';
/** Milliseconds: longer than the second for which libfuse lets the kernel keep attributes when nothing else is said. */
const LISTED_BEFORE = 2000;

/** @param {string} folder */
async function startServer(folder) {
  const port = await freePort();
  const file = (/** @type {string} */ name) => join(folder, name);
  for (const key of ['host', 'user'])
    await run(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', file(key)]);
  const lines = [
    `Port ${port}`,
    'ListenAddress 127.0.0.1',
    `HostKey ${file('host')}`,
    `AuthorizedKeysFile ${file('user.pub')}`,
    `PidFile ${file('pid')}`,
    'StrictModes no',
    'UsePAM no',
    'PermitRootLogin yes',
    'MaxStartups 100',
    'MaxSessions 100',
    'Subsystem sftp internal-sftp',
  ];
  writeFileSync(file('sshd_config'), `${lines.join('\n')}\n`);
  mkdirSync('/run/sshd', { recursive: true });
  start(['/usr/sbin/sshd', '-D', '-f', file('sshd_config'), '-E', file('log')]);
  await run(
    ['sh', '-c', `until ssh-keyscan -p ${port} 127.0.0.1 2>/dev/null | grep -q ed25519; do :; done`],
    {
      seconds: 20,
    },
  );
  return { port, key: file('user'), hostKey: readFileSync(file('host.pub'), 'utf8').trim() };
}

/** @typedef {{ name: string, mount: (port: number) => Promise<{ path: string, close: () => Promise<void> }> }} Side */

/**
 * @param {string} folder scratch
 * @param {string} tree on the server
 * @param {Awaited<ReturnType<typeof startServer>>} server
 * @returns {Side[]}
 */
function sidesOf(folder, tree, { key, hostKey }) {
  let count = 0;
  const { username } = userInfo();
  const fresh = () => {
    const place = join(folder, `mount-${count++}`);
    mkdirSync(join(place, 'mnt'), { recursive: true });
    return place;
  };
  const knownHosts = (/** @type {string} */ place, /** @type {number} */ port) => {
    const file = join(place, 'known_hosts');
    writeFileSync(file, `[127.0.0.1]:${port} ${hostKey.split(' ').slice(0, 2).join(' ')}\n`);
    return file;
  };
  return [
    {
      name: 'mirage',
      mount(port) {
        const place = fresh();
        return mirageMount(place, {
          type: 'sftp',
          mode: 'exec',
          host: '127.0.0.1',
          port,
          user: username,
          path: tree,
          identity: key,
          knownHosts: knownHosts(place, port),
        });
      },
    },
    {
      name: 'sshfs',
      async mount(port) {
        const place = fresh();
        const path = join(place, 'mnt');
        const mount = new Mount(path);
        const options = [
          `UserKnownHostsFile=${knownHosts(place, port)}`,
          `IdentityFile=${key}`,
          'IdentitiesOnly=yes',
        ];
        await mount.open([
          'sshfs',
          '-f',
          '-p',
          String(port),
          '-o',
          options.join(','),
          `${username}@127.0.0.1:${tree}`,
          path,
        ]);
        return { path, close: () => mount.close() };
      },
    },
  ];
}

/** Operations, or bytes, a second. @param {string} load @param {...string} command */
async function rate(load, ...command) {
  const { count, seconds } = JSON.parse(await run([load, ...command], { seconds: 120 }));
  return count / seconds;
}

/** @param {string} folder @returns {Promise<import('./run.mjs').Figure[]>} */
export async function sftp(folder) {
  const load = join(folder, 'load');
  await run(['cc', '-O2', '-pthread', '-o', load, here('../kernel/load.c')]);
  const tree = join(realpathSync(folder), 'tree');
  mkdirSync(tree);
  await run([load, 'create', tree, '1000', String(LARGE), String(LARGE_BYTES)], { seconds: 120 });
  for (let index = 0; index < FOLDERS; index++) {
    const path = join(tree, 'walk', `folder-${index}`);
    mkdirSync(path, { recursive: true });
    for (let file = 0; file < FILES_EACH; file++) writeFileSync(join(path, `file-${file}`), '');
  }
  const server = await startServer(folder);
  const far = await proxied(server.port, 10);
  const sides = sidesOf(folder, tree, server);
  const rows = [
    {
      row: 'GETATTR of known files, forced past the kernel, a second, 4 clients',
      better: 'more',
      factor: 2,
      work: async (/** @type {string} */ path) => {
        await run(['ls', '-l', join(path, 'files')]);
        return rate(load, 'getattr', path, '4', SECONDS);
      },
    },
    {
      row: 'stat(2) of 1,000 names, listed 2 s before, the kernel may answer, ms',
      better: 'less',
      factor: undefined,
      work: async (/** @type {string} */ path) => {
        const names = (await run(['ls', '-l', join(path, 'files')]))
          .split('\n')
          .slice(1, 1001)
          .map((line) => join(path, 'files', line.split(' ').at(-1) ?? ''));
        await sleep(LISTED_BEFORE);
        return timed(() => run(['stat', '-c', '%s', ...names]));
      },
    },
    {
      row: 'find over 10,000 files in 100 folders, 10 ms away, cold, ms',
      better: 'less',
      factor: 0.7,
      port: far.port,
      work: (/** @type {string} */ path) =>
        timed(() => run(['find', join(path, 'walk'), '-printf', '%s\n'], { seconds: 300 })),
    },
    {
      row: 'sequential read, MB/s',
      better: 'more',
      factor: 1,
      work: async (/** @type {string} */ path) => {
        const read = timed(() => run(['dd', `if=${path}/large-00`, 'of=/dev/null', 'bs=1M', 'status=none']));
        return LARGE_BYTES / 1000 / (await read);
      },
    },
    {
      row: 'sequential write and close, MB/s',
      better: 'more',
      factor: 1,
      work: async (/** @type {string} */ path, /** @type {string} */ name) => {
        const target = join(path, `written-${name}`);
        const write = timed(() =>
          run(['dd', `if=${tree}/large-01`, `of=${target}`, 'bs=1M', 'status=none'], { seconds: 120 }),
        );
        const speed = LARGE_BYTES / 1000 / (await write);
        await run(['cmp', join(tree, 'large-01'), join(tree, `written-${name}`)]);
        await run(['rm', join(tree, `written-${name}`)]);
        return speed;
      },
    },
    {
      row: 'random 4 KiB reads, a second, over 3 s',
      better: 'more',
      factor: 1,
      work: async (/** @type {string} */ path) => await rate(load, 'random', path, '1', '3', '0'),
    },
  ];
  /** @type {import('./run.mjs').Figure[]} */
  const figures = [];
  for (const { row, better, factor, port = server.port, work } of rows) {
    /** @type {Record<string, number[]>} */
    const values = {};
    for (let round = 0; round < ROUNDS; round++) {
      for (const side of shuffled(sides)) {
        const mount = await side.mount(port);
        try {
          const value = await work(mount.path, `${side.name}-${round}`);
          values[side.name] = [...(values[side.name] ?? []), value];
        } finally {
          await mount.close();
        }
      }
    }
    figures.push({ row, better: /** @type {'less' | 'more'} */ (better), factor, values });
  }
  far.close();
  return figures;
}
