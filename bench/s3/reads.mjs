// @ts-check
/** Reading: objects of three sizes cold, sixteen at once, again, and in small pieces. Their names are known (the folder was listed), their bytes are not. */
import { copyFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { GetObjectCommand } from '@aws-sdk/client-s3';
import { run } from '../shared/processes.mjs';
import { shuffled } from '../shared/statistics.mjs';
import { BUCKET } from './store.mjs';

/** @typedef {import('./bench.mjs').Bench} Bench */

const KB = 1000;
const MB = 1000 * KB;
const RANDOM_READS = 200;

/** @param {number} bytes @param {string} seed */
const content = (bytes, seed) => Buffer.alloc(bytes, `${seed} `);

/** One whole object with the SDK, its bytes thrown away. @param {import('@aws-sdk/client-s3').S3Client} client @param {string} key */
async function get(client, key) {
  const { Body } = await client.send(new GetObjectCommand({ Bucket: BUCKET, Key: key }));
  const stream = /** @type {import('node:stream').Readable} */ (Body);
  for await (const _ of stream);
}

/** @param {Bench} bench */
export async function coldReads(bench) {
  const sizes = [
    { row: 'cold read 1 KB', bytes: KB, each: 5 },
    { row: 'cold read 1 MB', bytes: MB, each: 4 },
    { row: 'cold read 100 MB', bytes: 100 * MB, each: 2 },
  ];
  const client = bench.client();
  for (const { row, bytes, each } of sizes) {
    const folder = bench.unique('cold');
    const names = ['sdk', ...bench.peers].flatMap((variant) =>
      // A folder each: the neighbours of a file that is read may be fetched ahead.
      Array.from({ length: each + 1 }, (_, index) => `${variant}-${index}/object`),
    );
    await bench.store.put(names.map((name) => ({ key: `${folder}/${name}`, body: content(bytes, name) })));
    await bench.mounted(bench.peers, { mode: 'read' }, async (trees) => {
      for (const tree of Object.values(trees)) await run(['ls', '-lR', join(tree, folder)], { seconds: 120 });
      // The first of each opens connections and is not counted.
      for (let index = 0; index <= each; index++) {
        for (const variant of shuffled(['sdk', ...bench.peers])) {
          const key = `${folder}/${variant}-${index}/object`;
          const value = await bench.transferred({ sent: bytes }, async () => {
            if (variant !== 'sdk') return bench.files('read', join(trees[variant] ?? '', key));
            const started = performance.now();
            await get(client, key);
            return performance.now() - started;
          });
          if (index > 0) bench.record(row, variant, value);
        }
      }
    });
  }
}

/** @param {Bench} bench */
export async function parallelReads(bench) {
  const row = '16 × 1 MB at once';
  const client = bench.client();
  // Before the mounts are: what comes into the bucket later is seen when names are looked at again.
  /** @type {{ index: number, variant: string, folder: string, keys: string[] }[]} */
  const reads = [];
  for (let index = 0; index < 3; index++) {
    for (const variant of shuffled(['sdk', ...bench.peers])) {
      const folder = bench.unique('parallel');
      const keys = Array.from({ length: 16 }, (_, number) => `${folder}/${number}`);
      await bench.store.put(keys.map((key) => ({ key, body: content(MB, key) })));
      reads.push({ index, variant, folder, keys });
    }
  }
  await bench.mounted(bench.peers, { mode: 'read' }, async (trees) => {
    for (const { index, variant, folder, keys } of reads) {
      const tree = trees[variant] ?? '';
      if (variant !== 'sdk') await run(['ls', '-l', join(tree, folder)], { seconds: 60 });
      const value = await bench.transferred({ sent: 16 * MB }, async () => {
        if (variant !== 'sdk') return bench.files('read', ...keys.map((key) => join(tree, key)));
        const started = performance.now();
        await Promise.all(keys.map((key) => get(client, key)));
        return performance.now() - started;
      });
      if (index > 0) bench.record(row, variant, value);
    }
  });
}

/**
 * What was read once is read again: from the cache, beside the same file on the disk below the cache. Where nothing can write (`read`, as a mount is
 * unless it says otherwise) the kernel reads the cache file itself; what that saves shows beside a mount in `exec`, which is not judged.
 * @param {Bench} bench
 */
export async function warmReads(bench) {
  const row = 'warm re-read of 100 MB';
  const folder = bench.unique('warm');
  await bench.store.put([{ key: `${folder}/large`, body: content(100 * MB, 'warm') }]);
  const native = join(bench.folder, 'native');
  for (const mode of /** @type {const} */ (['read', 'exec'])) {
    const variant = mode === 'read' ? 'mirage' : 'mirage, exec';
    await bench.mounted(['mirage'], { mode }, async ({ mirage = '' }) => {
      const path = join(mirage, folder, 'large');
      await bench.files('read', path);
      copyFileSync(path, native);
      await bench.files('read', native);
      for (let index = 0; index < 5; index++) {
        for (const name of shuffled([variant, 'ext4'])) {
          bench.record(row, name, await bench.files('read', name === 'ext4' ? native : path));
        }
      }
    });
  }
}

/** @param {Bench} bench */
export async function randomReads(bench) {
  const row = 'random 4 KiB reads, mean';
  const folder = bench.unique('random');
  const peers = bench.peers;
  // Large enough that fetching all of it is not the answer.
  await bench.putLarge(`${folder}/large`, 1000 * MB);
  await bench.mounted(peers, { mode: 'read' }, async (trees) => {
    for (const variant of shuffled(peers)) {
      const tree = trees[variant] ?? '';
      await run(['ls', '-l', join(tree, folder)], { seconds: 60 });
      const before = await bench.store.served();
      const value = await bench.files('random', String(RANDOM_READS), '7', join(tree, folder, 'large'));
      const { sent } = await bench.store.served();
      bench.record(row, variant, value / RANDOM_READS);
      bench.record(
        `${row}: bytes fetched a byte asked`,
        variant,
        (sent - before.sent) / (RANDOM_READS * 4096),
      );
    }
  });
}

/** Many small objects, with the SDK, a grep over a disk, and a grep over the mounts. @param {Bench} bench */
export async function grep(bench) {
  const count = 10_000;
  const bytes = 4 * KB;
  const folder = bench.unique('grep');
  const keys = Array.from({ length: count }, (_, index) => `${folder}/${String(index).padStart(5, '0')}.txt`);
  await bench.store.put(keys.map((key) => ({ key, body: content(bytes, key) })));
  const cold = 'grep -r over 10,000 × 4 KB, cold';
  const again = 'grep -r over 10,000 × 4 KB, again';
  const client = bench.client();
  const started = performance.now();
  const left = [...keys];
  const worker = async () => {
    for (let key = left.pop(); key; key = left.pop()) await get(client, key);
  };
  await Promise.all(Array.from({ length: 64 }, worker));
  bench.record(cold, 'sdk, 64 at once', performance.now() - started);

  const search = async (/** @type {string} */ tree) => {
    const begun = performance.now();
    await run(['sh', '-c', 'grep -r "no such words" "$1" > /dev/null; test $? = 1', 'sh', tree], {
      seconds: 600,
    });
    return performance.now() - begun;
  };
  await bench.mounted(['mirage'], { mode: 'read' }, async ({ mirage = '' }) => {
    const tree = join(mirage, folder);
    bench.record(cold, 'mirage', await bench.transferred({ sent: count * bytes }, () => search(tree)));
    const native = join(bench.folder, folder);
    await run(['cp', '-r', tree, native], { seconds: 120 });
    await search(native);
    for (let index = 0; index < 3; index++) {
      bench.record(again, 'mirage', await search(tree));
      bench.record(again, 'ext4', await search(native));
    }
  });
  if (bench.trip > 0) return;
  // The peers fetch one after the other: a tenth says enough.
  const some = join(folder, 'some');
  await bench.store.put(
    keys.slice(0, count / 10).map((key) => ({ key: key.replace(folder, some), body: content(bytes, key) })),
  );
  await bench.mounted(
    bench.peers.filter((name) => name !== 'mirage'),
    { mode: 'read' },
    async (trees) => {
      for (const [name, tree] of Object.entries(trees)) {
        const value = await bench.transferred({ sent: (count / 10) * bytes }, () => search(join(tree, some)));
        bench.record(cold, name, value * 10);
      }
    },
  );
}

/** Peak resident set while 4 GB are read five times, the cache dropped between. @param {Bench} bench */
export async function memory(bench) {
  const row = 'peak resident set, 4 GB read five times, MB';
  const folder = bench.unique('memory');
  await bench.putLarge(`${folder}/large`, 4000 * MB);
  await bench.mounted(['mirage'], { mode: 'read' }, async ({ mirage = '' }, pids) => {
    const path = join(mirage, folder, 'large');
    writeFileSync(`/proc/${pids.mirage}/clear_refs`, '5');
    for (let index = 0; index < 5; index++) {
      await bench.transferred({ sent: 4000 * MB * 0.99 }, () => bench.files('read', path));
      await bench.mirage('cache', 'drop', path);
    }
    bench.record(row, 'mirage', bench.peakResident(pids.mirage ?? 0));
  });
}
