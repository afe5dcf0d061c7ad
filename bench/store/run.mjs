// @ts-check
/**
 * `npm run bench:store`: an S3 mount over a real radosgw on loopback.
 *
 *   stat while downloading  latency of stat(2) of paths whose names are known, any of 500, while four programs read a 100 MB object each, cold;
 *                           beside it, not judged, that of statx(2) which is forced to the daemon
 *   memory of a large read  peak resident set of the daemon while `cat` reads a 4 GB object, cold
 *
 * The server, the programs and Mirage share this machine's processors, so the probe also says how late it is woken itself: below that no answer
 * that needs a thread to be woken can come. It runs at high priority, to measure the file system and not its own turn. Known names are those that
 * somebody looked at within the time to live; half were made through the mount, half by another tool.
 * `-- --large MB` takes another size for the large object: a shorter run, which says nothing of the goal.
 * A run is invalid unless the daemon's cache grew by what was read: it proves that the store was read and no page cache.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import {
  CompleteMultipartUploadCommand,
  CreateBucketCommand,
  CreateMultipartUploadCommand,
  PutObjectCommand,
  S3Client,
  UploadPartCommand,
} from '@aws-sdk/client-s3';
import { SERVER_PORTS } from '../s3/store.mjs';
import { freePort } from '../shared/measure.mjs';
import { Mount } from '../shared/mount.mjs';
import { endChildren, run, start } from '../shared/processes.mjs';
import { table } from '../shared/table.mjs';

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const MB = 1e6;
const PART = 64 * MB;
const SMALL_FILES = 500;
const { values: options } = parseArgs({ options: { large: { type: 'string', default: '4000' } } });
const largeBytes = Number(options.large) * MB;
const cacheBytes = 2 * largeBytes + 1000 * MB;
const goals = { p99Milliseconds: 1, residentMegabytes: 250 };

/**
 * @param {S3Client} client
 * @param {string} key
 * @param {number} bytes
 */
async function putObject(client, key, bytes) {
  const target = { Bucket: 'bench', Key: key };
  if (bytes <= 2 * PART) {
    await client.send(new PutObjectCommand({ ...target, Body: Buffer.alloc(bytes, key) }));
    return;
  }
  const { UploadId } = await client.send(new CreateMultipartUploadCommand(target));
  const parts = [];
  for (let offset = 0, number = 1; offset < bytes; offset += PART, number++) {
    const body = Buffer.alloc(Math.min(PART, bytes - offset), `${key} ${number}`);
    const part = { ...target, UploadId, PartNumber: number };
    const { ETag } = await client.send(new UploadPartCommand({ ...part, Body: body }));
    parts.push({ ETag, PartNumber: number });
  }
  await client.send(
    new CompleteMultipartUploadCommand({ ...target, UploadId, MultipartUpload: { Parts: parts } }),
  );
}

/** @typedef {{ calls: number, p50: number, p99: number, max: number }} Latency microseconds */

/** Resident set, MB: now and at its peak since the last reset. @param {number} pid */
function resident(pid) {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const field = (/** @type {string} */ name) =>
    (Number(new RegExp(`${name}:\\s+(\\d+) kB`).exec(status)?.[1]) * 1024) / MB;
  return { now: field('VmRSS'), peak: field('VmHWM') };
}

/** Bytes on disk below a folder. @param {string} folder */
async function diskUsage(folder) {
  return Number((await run(['du', '-s', '--block-size=1', folder])).split('\t')[0]);
}

/** Reads a file to its end in a process of its own and answers the seconds it took. @param {string} path */
async function cat(path) {
  const started = performance.now();
  await run(['dd', `if=${path}`, 'of=/dev/null', 'bs=1M', 'status=none'], { seconds: 300 });
  return (performance.now() - started) / 1000;
}

async function main() {
  const folder = mkdtempSync(join(tmpdir(), 'mirage-bench-store-'));
  const server = join(root, 'test', 'servers', 'radosgw.sh');
  const [mountpoint, cache, state] = ['mnt', 'cache', 'state'].map((name) => join(folder, name));
  const mount = new Mount(/** @type {string} */ (mountpoint));
  try {
    for (const path of [mountpoint, cache, state]) mkdirSync(/** @type {string} */ (path));
    const port = await freePort(SERVER_PORTS);
    await run([server, 'start', join(folder, 'ceph'), String(port)], { seconds: 120 });
    const credentials = { accessKeyId: 'testkey', secretAccessKey: 'testsecret' };
    const endpoint = `http://127.0.0.1:${port}`;
    const client = new S3Client({
      endpoint,
      credentials,
      region: 'us-east-1',
      forcePathStyle: true,
      requestChecksumCalculation: 'WHEN_REQUIRED',
    });
    await client.send(new CreateBucketCommand({ Bucket: 'bench' }));
    const names = ['a', 'b', 'c', 'd'];
    for (const name of names) await putObject(client, `object-${name}`, 100 * MB);
    await putObject(client, 'large', largeBytes);
    const numbers = Array.from({ length: SMALL_FILES / 2 }, (_, number) => number);
    await Promise.all(numbers.map((number) => putObject(client, `others/${number}`, 1000)));
    client.destroy();

    const configuration = join(folder, 'mirage.yaml');
    const store = {
      type: 's3',
      bucket: 'bench',
      endpoint,
      region: 'us-east-1',
      pathStyle: true,
      mode: 'write',
    };
    writeFileSync(
      configuration,
      JSON.stringify({
        mountpoint,
        state,
        cache: { directory: cache, size: cacheBytes },
        mounts: { s3: store },
      }),
      { mode: 0o600 },
    );
    const daemon = [process.execPath, join(root, 'dist', 'cli', 'main.js'), 'mount', '--foreground'];
    await mount.open([...daemon, '--config', configuration], {
      AWS_ACCESS_KEY_ID: credentials.accessKeyId,
      AWS_SECRET_ACCESS_KEY: credentials.secretAccessKey,
    });
    const pid = mount.pid ?? 0;
    const tree = join(/** @type {string} */ (mountpoint), 's3');

    const probe = join(folder, 'latency');
    const source = join(root, 'bench', 'store', 'latency.c');
    await run(['cc', '-O2', '-Wall', '-Wextra', '-Werror', '-o', probe, source]);
    // Half of the files were made here, half by another tool.
    mkdirSync(join(tree, 'own'));
    const own = numbers.map((number) => join(tree, 'own', String(number)));
    await Promise.all(own.map((path) => writeFile(path, Buffer.alloc(1000))));
    const paths = [...own, ...numbers.map((number) => join(tree, 'others', String(number)))];
    /** @param {() => Promise<unknown>} work @returns {Promise<{ stat: Latency, forced: Latency, late: Latency }>} */
    const measure = async (work) => {
      // Each was looked at once: what is measured is known.
      await run(['stat', ...paths]);
      const latency = start(['nice', '-n', '-15', probe, ...paths], { input: true });
      await work();
      latency.child.stdin?.end('end\n');
      const { code } = await latency.ended;
      if (code !== 0) throw new Error(`latency: ${latency.errors()}`);
      return JSON.parse(latency.output());
    };
    const idle = await measure(() => new Promise((resolve) => setTimeout(resolve, 2000)));
    const before = await diskUsage(/** @type {string} */ (cache));
    const busy = await measure(() => Promise.all(names.map((name) => cat(join(tree, `object-${name}`)))));
    const downloaded = (await diskUsage(/** @type {string} */ (cache))) - before;

    writeFileSync(`/proc/${pid}/clear_refs`, '5');
    const rest = resident(pid);
    const seconds = await cat(join(tree, 'large'));
    const peak = resident(pid).peak;
    const cached = (await diskUsage(/** @type {string} */ (cache))) - before - downloaded;
    if (downloaded < 400 * MB * 0.99 || cached < largeBytes * 0.99) {
      throw new Error(`invalid run: the cache grew by ${downloaded} and ${cached} bytes, less than was read`);
    }
    const milliseconds = (/** @type {number} */ microseconds) => `${(microseconds / 1000).toFixed(2)} ms`;
    const met = (/** @type {boolean} */ reached) => (reached ? 'met' : 'MISSED');
    const p99 = busy.stat.p99 / 1000;
    const downloads = 'four 100 MB downloads';
    const calls = (/** @type {Latency} */ { calls, p50 }) => `(${calls} calls, p50 ${p50.toFixed(1)} µs)`;
    console.log(
      table(
        ['work', 'measured', 'goal', ''],
        [
          [`stat p99, nothing else running ${calls(idle.stat)}`, milliseconds(idle.stat.p99), '', ''],
          [
            `stat p99, ${downloads} ${calls(busy.stat)}`,
            milliseconds(busy.stat.p99),
            `< ${goals.p99Milliseconds} ms`,
            met(p99 < goals.p99Milliseconds),
          ],
          [
            `statx forced to the daemon, p99, nothing else ${calls(idle.forced)}`,
            milliseconds(idle.forced.p99),
            '',
            '',
          ],
          [
            `statx forced to the daemon, p99, ${downloads} ${calls(busy.forced)}`,
            milliseconds(busy.forced.p99),
            '',
            '',
          ],
          ['the probe itself woken too late, p99, nothing else', milliseconds(idle.late.p99), '', ''],
          [`the probe itself woken too late, p99, ${downloads}`, milliseconds(busy.late.p99), '', ''],
          ['resident set before the large read', `${rest.now.toFixed(0)} MB`, '', ''],
          [
            `peak resident set, cat of ${largeBytes / MB} MB (${(largeBytes / MB / seconds).toFixed(0)} MB/s)`,
            `${peak.toFixed(0)} MB`,
            `<= ${goals.residentMegabytes} MB`,
            met(peak <= goals.residentMegabytes),
          ],
        ],
      ),
    );
    if (p99 >= goals.p99Milliseconds || peak > goals.residentMegabytes) process.exitCode = 1;
  } finally {
    await mount.close();
    await run([server, 'stop', join(folder, 'ceph')], { seconds: 60 }).catch((error) =>
      console.error(String(error)),
    );
    endChildren();
    rmSync(folder, { recursive: true, force: true });
  }
}

for (const signal of ['SIGINT', 'SIGTERM']) {
  process.once(signal, () => {
    console.error('stopping: the mount and the server end first');
    endChildren();
  });
}
await main();
