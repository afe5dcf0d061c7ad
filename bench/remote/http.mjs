// @ts-check
/**
 * A mount of an nginx on loopback beside curl. "cold" is a mount that was made for the row, without any cache. curl is measured twice: into a
 * file on the disk of the cache, which is the same work, and thrown away.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { freePort, timed } from '../shared/measure.mjs';
import { run, start } from '../shared/processes.mjs';
import { mirageMount } from './sides.mjs';

const ROUNDS = 3;
const ENTRIES = 10_000;
const MEGABYTES = 1000;

/** @param {string} folder */
async function startServer(folder) {
  const port = await freePort();
  const data = join(folder, 'data');
  for (const path of [join(data, 'many'), join(folder, 'tmp')]) mkdirSync(path, { recursive: true });
  const make = ['if=/dev/urandom', `of=${join(data, 'large')}`, 'bs=1M', `count=${MEGABYTES}`, 'status=none'];
  await run(['dd', ...make], { seconds: 300 });
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
  await run(['chmod', '-R', 'a+rX', folder]);
  start(['nginx', '-p', folder, '-c', file]);
  const url = `http://127.0.0.1:${port}/`;
  const wait = ['--retry', '50', '--retry-connrefused', '--retry-delay', '0'];
  await run(['curl', '-s', ...wait, '-o', '/dev/null', url]);
  return { url, requests: () => readFileSync(log, 'utf8').split('\n').length - 1 };
}

/** @param {string} folder @returns {Promise<import('./run.mjs').Figure[]>} */
export async function http(folder) {
  const server = await startServer(folder);
  const curl = (/** @type {string} */ target, name = 'large') =>
    timed(() => run(['curl', '-s', '-o', target, `${server.url}${name}`], { seconds: 300 }));
  const cold = async (/** @type {(path: string) => Promise<unknown>} */ work) => {
    const place = mkdtempSync(join(folder, 'mount-'));
    const mount = await mirageMount(place, { type: 'http', url: server.url });
    try {
      return await timed(() => work(mount.path));
    } finally {
      await mount.close();
      rmSync(place, { recursive: true, force: true });
    }
  };
  /** @type {Record<'read' | 'find' | 'stored' | 'thrown' | 'index', number[]>} */
  const values = { read: [], find: [], stored: [], thrown: [], index: [] };
  const copy = join(folder, 'copy');
  const requests = [];
  for (let round = 0; round < ROUNDS; round++) {
    values.read.push(await cold((path) => run(['cp', join(path, 'large'), '/dev/null'], { seconds: 300 })));
    values.stored.push(await curl(copy));
    rmSync(copy);
    values.thrown.push(await curl('/dev/null'));
    const before = server.requests();
    values.find.push(await cold((path) => run(['find', path, '-printf', '%s %f\n'], { seconds: 60 })));
    requests.push(server.requests() - before);
    values.index.push(await curl('/dev/null', 'many/'));
  }
  // Two folders, and what the mount asks before it stands.
  if (Math.max(...requests) > 6)
    throw new Error(`a walk of two folders cost ${Math.max(...requests)} requests`);
  return [
    {
      row: `${MEGABYTES} MB cold, beside curl into a file, ms`,
      better: 'less',
      factor: 1 / 0.9,
      values: { mirage: values.read, curl: values.stored },
    },
    {
      row: `${MEGABYTES} MB cold, beside curl that throws it away, ms`,
      better: 'less',
      factor: undefined,
      values: { mirage: values.read, curl: values.thrown },
    },
    {
      row: `find over ${ENTRIES} files, cold, beside curl of their index, ms`,
      better: 'less',
      factor: undefined,
      values: { mirage: values.find, 'curl of the index': values.index },
    },
  ];
}
