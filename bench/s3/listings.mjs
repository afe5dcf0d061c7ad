// @ts-check
/** `ls -l` of a folder of 10,000 objects: the first time, again, and after a restart of the daemon. */
import { join } from 'node:path';
import { ListObjectsV2Command } from '@aws-sdk/client-s3';
import { timed } from '../shared/measure.mjs';
import { run } from '../shared/processes.mjs';
import { BUCKET } from './store.mjs';

/** @typedef {import('./bench.mjs').Bench} Bench */

const COUNT = 10_000;

/** Milliseconds of a command that prints to nowhere. @param {readonly string[]} command */
const timedRun = (...command) =>
  timed(() => run(['sh', '-c', '"$@" > /dev/null', 'sh', ...command], { seconds: 600 }));

/** @param {Bench} bench */
export async function listings(bench) {
  const folder = await bench.once('listing', async () => {
    const name = bench.unique('listing');
    const keys = Array.from(
      { length: COUNT },
      (_, index) => `${name}/object-${String(index).padStart(5, '0')}`,
    );
    await bench.store.put(keys.map((key) => ({ key, body: Buffer.from('x') })));
    return name;
  });
  const [cold, warm, find, restarted, foundAgain] = [
    'ls -l of 10,000, cold',
    'ls -l of 10,000, warm',
    'find -printf of 10,000, warm',
    'ls -l of 10,000, after a restart',
    'find -printf of 10,000, after a restart',
  ];
  const client = bench.client();
  await list(client, folder);
  for (let index = 0; index < 3; index++) bench.record(cold, 'sdk', await list(client, folder));

  for (const peer of bench.peers) {
    for (let round = 0; round < (peer === 'mirage' ? 3 : 1); round++) {
      const place = await bench.mounted([peer], {}, async ({ [peer]: tree = '' }) => {
        const path = join(tree, folder);
        bench.record(cold, peer, await timedRun('ls', '-l', path));
        // It asks for every entry each time: minutes at a distance.
        if (peer === 'rclone') return;
        const quiet = peer === 'mirage' ? { requests: 0 } : {};
        bench.record(warm, peer, await bench.transferred(quiet, () => timedRun('ls', '-l', path)));
        bench.record(
          find,
          peer,
          await bench.transferred(quiet, () => timedRun('find', path, '-printf', '%s %p\\n')),
        );
      });
      if (peer !== 'mirage') continue;
      await bench.mounted(['mirage'], { state: place.mirage ?? '' }, async ({ mirage = '' }) => {
        const path = join(mirage, folder);
        bench.record(
          restarted,
          peer,
          await bench.transferred({ requests: 0 }, () => timedRun('ls', '-l', path)),
        );
        bench.record(
          foundAgain,
          peer,
          await bench.transferred({ requests: 0 }, () => timedRun('find', path, '-printf', '%s %p\\n')),
        );
      });
    }
  }
}

/** Milliseconds of all pages. @param {import('@aws-sdk/client-s3').S3Client} client @param {string} folder */
async function list(client, folder) {
  const started = performance.now();
  let count = 0;
  /** @type {string | undefined} */
  let token;
  do {
    const page = await client.send(
      new ListObjectsV2Command({
        Bucket: BUCKET,
        Prefix: `${folder}/`,
        Delimiter: '/',
        ...(token !== undefined && { ContinuationToken: token }),
      }),
    );
    count += page.Contents?.length ?? 0;
    token = page.NextContinuationToken;
  } while (token !== undefined);
  if (count !== COUNT) throw new Error(`the store lists ${count} objects`);
  return performance.now() - started;
}
