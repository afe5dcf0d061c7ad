// @ts-check
/**
 * A mount of an nginx on loopback beside curl, `node bench/remote/http.mjs [megabytes]`. Every row is timed by turns; "cold" is a mount that was made
 * for this row, without any cache. curl is measured twice: thrown away, and into a file on the disk of the cache, which is the same work.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Mount } from '../shared/mount.mjs';
import { endChildren, run, start } from '../shared/processes.mjs';
import { median } from '../shared/statistics.mjs';
import { table } from '../shared/table.mjs';

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const cli = join(process.env.MIRAGE_BUILD ?? join(root, 'dist'), 'cli', 'main.js');
const ROUNDS = 3;
const ENTRIES = 10_000;

/** @typedef {{ folder: string, url: string, requests: () => number }} Bench */

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

/** @param {string} folder @param {number} megabytes @returns {Promise<Bench>} */
async function startNginx(folder, megabytes) {
  const port = await freePort();
  const data = join(folder, 'data');
  for (const path of [data, join(data, 'many'), join(folder, 'tmp')]) mkdirSync(path, { recursive: true });
  await run(['chmod', '755', folder]);
  await run(
    ['dd', 'if=/dev/urandom', `of=${join(data, 'large')}`, 'bs=1M', `count=${megabytes}`, 'status=none'],
    {
      seconds: 300,
    },
  );
  for (let i = 0; i < ENTRIES; i++) writeFileSync(join(data, 'many', `file-${i}`), `${i}`);
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((name) => `${name}_temp_path ${folder}/tmp/${name};`)
    .join(' ');
  const file = join(folder, 'nginx.conf');
  const log = join(folder, 'access');
  writeFileSync(
    file,
    `daemon off; master_process off; pid ${folder}/pid; error_log ${folder}/errors; events {}
http { access_log ${log}; sendfile on; tcp_nodelay on; ${temporary}
  server { listen 127.0.0.1:${port}; root ${data}; location / { autoindex on; autoindex_format json; } } }`,
  );
  start(['nginx', '-p', folder, '-c', file]);
  const url = `http://127.0.0.1:${port}/`;
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
    url,
  ]);
  return { folder, url, requests: () => readFileSync(log, 'utf8').split('\n').length - 1 };
}

/** A mount without any cache, for one piece of work. @param {Bench} bench @param {(path: string) => Promise<unknown>} work */
async function cold({ folder, url }, work) {
  const own = mkdtempSync(join(folder, 'mount-'));
  const path = join(own, 'mnt');
  for (const name of ['mnt', 'cache', 'state', 'run']) mkdirSync(join(own, name));
  const configuration = join(own, 'mirage.yaml');
  const cache = { directory: join(own, 'cache'), size: '8g' };
  const mounts = { '/': { type: 'http', url } };
  writeFileSync(
    configuration,
    JSON.stringify({ mountpoint: path, state: join(own, 'state'), cache, mounts }),
  );
  const mount = new Mount(path);
  await mount.open([process.execPath, cli, 'mount', '--foreground', '--config', configuration], {
    MIRAGE_RUNTIME: join(own, 'run'),
  });
  try {
    return await timed(() => work(path));
  } finally {
    await mount.close();
    rmSync(own, { recursive: true, force: true });
  }
}

/** A large file read from its start to its end, cold. @param {Bench} bench */
async function sequentialRead(bench) {
  /** @type {Record<'mirage' | 'thrown' | 'stored', number[]>} */
  const seconds = { mirage: [], thrown: [], stored: [] };
  const curl = (/** @type {string} */ target) =>
    timed(() => run(['curl', '-s', '-o', target, `${bench.url}large`], { seconds: 300 }));
  for (let round = 0; round < ROUNDS; round++) {
    const read = (/** @type {string} */ path) =>
      run(['cp', join(path, 'large'), '/dev/null'], { seconds: 300 });
    seconds.mirage.push(await cold(bench, read));
    seconds.thrown.push(await curl('/dev/null'));
    const copy = join(bench.folder, 'copy');
    seconds.stored.push(await curl(copy));
    rmSync(copy);
  }
  const own = median(seconds.mirage);
  return [
    [
      'large file, cold, curl into a file',
      own,
      median(seconds.stored),
      median(seconds.stored) / own,
      '≥ 0.9',
    ],
    ['large file, cold, curl thrown away', own, median(seconds.thrown), median(seconds.thrown) / own, ''],
  ];
}

/** A folder of 10,000 files, names and sizes, cold; and what it cost the server. @param {Bench} bench */
async function walk(bench) {
  const seconds = [];
  let requests = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const before = bench.requests();
    seconds.push(await cold(bench, (path) => run(['find', path, '-printf', '%s %f\n'], { seconds: 60 })));
    requests = bench.requests() - before;
  }
  const peer = [];
  for (let round = 0; round < ROUNDS; round++) {
    peer.push(await timed(() => run(['curl', '-s', '-o', '/dev/null', `${bench.url}many/`])));
  }
  const own = median(seconds);
  const name = `find over ${ENTRIES} files, cold (${requests} requests), curl of the index`;
  return [[name, own, median(peer), median(peer) / own, '']];
}

async function main() {
  const megabytes = Number(process.argv[2] ?? 1000);
  const folder = mkdtempSync(join(tmpdir(), 'mirage-bench-http-'));
  try {
    const bench = await startNginx(folder, megabytes);
    const rows = [...(await sequentialRead(bench)), ...(await walk(bench))];
    const shown = rows.map(([name, own, peer, ratio, goal]) => [
      String(name),
      `${Number(own).toFixed(2)} s`,
      `${Number(peer).toFixed(2)} s`,
      Number(ratio).toFixed(2),
      String(goal),
    ]);
    console.log(table(['work', 'mirage', 'curl', 'curl / mirage', 'goal'], shown));
  } finally {
    endChildren();
    rmSync(folder, { recursive: true, force: true });
  }
}

await main();
