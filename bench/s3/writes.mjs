// @ts-check
/** Writing: one file durable, thousands of small ones, a folder renamed, and two programs. */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { CopyObjectCommand, DeleteObjectCommand, PutObjectCommand } from '@aws-sdk/client-s3';
import { timed } from '../shared/measure.mjs';
import { run } from '../shared/processes.mjs';
import { shuffled } from '../shared/statistics.mjs';
import { BUCKET } from './store.mjs';

/** @typedef {import('./bench.mjs').Bench} Bench */

const MB = 1_000_000;
const FOLDERS = 20;
const FILES = 320;
const FILE_BYTES = 4000;
const RENAMED = 1000;

/** 1 MB from create to the end of close: it is on the server then. @param {Bench} bench */
export async function durableWrites(bench) {
  const row = 'write 1 MB and close';
  const folder = bench.unique('write');
  await bench.store.put([{ key: `${folder}/first`, body: Buffer.from('x') }]);
  const client = bench.client();
  await bench.mounted(bench.peers, { durable: true }, async (trees) => {
    for (const tree of Object.values(trees)) await run(['ls', '-l', join(tree, folder)], { seconds: 60 });
    for (let index = 0; index <= 5; index++) {
      for (const variant of shuffled(['sdk', ...bench.peers])) {
        const key = `${folder}/${variant}-${index}`;
        const value = await bench.transferred({ received: MB }, async () => {
          if (variant !== 'sdk') return bench.files('write', String(MB), join(trees[variant] ?? '', key));
          return timed(() =>
            client.send(new PutObjectCommand({ Bucket: BUCKET, Key: key, Body: Buffer.alloc(MB, key) })),
          );
        });
        if (index > 0) bench.record(row, variant, value);
      }
    }
  });
}

/** @param {Bench} bench */
export async function smallFiles(bench) {
  const source = await bench.once('small files', async () => {
    const tree = join(bench.folder, 'small');
    for (let folder = 0; folder < FOLDERS; folder++) {
      mkdirSync(join(tree, `folder-${folder}`), { recursive: true });
      for (let file = 0; file < FILES; file++) {
        writeFileSync(
          join(tree, `folder-${folder}`, `file-${file}`),
          Buffer.alloc(FILE_BYTES, `${folder} ${file} `),
        );
      }
    }
    return tree;
  });
  const [copy, remove] = ['cp -r of 6,400 small files', 'rm -r of 6,400 small files'];
  const bytes = FOLDERS * FILES * FILE_BYTES;
  for (const peer of bench.peers) {
    // s3fs writes one file after the other: a twentieth says enough. rclone removes like that.
    const [copied, removed] = peer === 'mirage' ? [FOLDERS, FOLDERS] : [peer === 's3fs' ? 1 : FOLDERS, 1];
    const name = bench.unique(`copied-${peer}`);
    await bench.mounted([peer], { writeBack: 'async' }, async ({ [peer]: tree = '' }, _pids, drain) => {
      const target = join(tree, name);
      const before = await bench.store.served();
      const value = await timed(async () => {
        mkdirSync(target);
        for (let folder = 0; folder < copied; folder++) {
          await run(['cp', '-r', join(source, `folder-${folder}`), target], { seconds: 900 });
        }
        await drain(peer);
        await bench.received(before, (bytes * copied) / FOLDERS, 300);
      });
      bench.record(copy, peer, (value * FOLDERS) / copied);
      const removal = await timed(async () => {
        for (let folder = 0; folder < removed; folder++) {
          await run(['rm', '-r', join(target, `folder-${folder}`)], { seconds: 900 });
        }
        await drain(peer);
      });
      bench.record(remove, peer, (removal * FOLDERS) / removed);
      if (peer === 'mirage') await bench.empty(`${name}/folder-`);
    });
  }
}

/** @param {Bench} bench */
export async function renames(bench) {
  const row = 'rename a folder of 1,000 objects';
  const client = bench.client();
  for (const variant of ['sdk', ...bench.peers]) {
    const folder = bench.unique(`rename-${variant}`);
    const keys = Array.from({ length: RENAMED }, (_, index) => `${folder}/from/${index}`);
    await bench.store.put(keys.map((key) => ({ key, body: Buffer.from(key) })));
    if (variant === 'sdk') {
      bench.record(row, variant, await timed(() => move(client, keys)));
    } else {
      const peer = /** @type {import('./mounts.mjs').Name} */ (variant);
      await bench.mounted([peer], {}, async ({ [peer]: tree = '' }) => {
        const from = join(tree, folder, 'from');
        await run(['ls', '-l', from], { seconds: 120 });
        bench.record(
          row,
          peer,
          await timed(() => run(['mv', from, join(tree, folder, 'to')], { seconds: 600 })),
        );
      });
    }
    await bench.empty(`${folder}/from/`);
  }
}

/** The yardstick: 32 copies at once, then 32 removals at once. @param {import('@aws-sdk/client-s3').S3Client} client @param {string[]} keys */
async function move(client, keys) {
  const each = async (/** @type {(key: string) => Promise<unknown>} */ work) => {
    const left = [...keys];
    const worker = async () => {
      for (let key = left.pop(); key; key = left.pop()) await work(key);
    };
    await Promise.all(Array.from({ length: 32 }, worker));
  };
  await each((key) =>
    client.send(
      new CopyObjectCommand({
        Bucket: BUCKET,
        CopySource: `${BUCKET}/${key}`,
        Key: key.replace('/from/', '/to/'),
      }),
    ),
  );
  await each((key) => client.send(new DeleteObjectCommand({ Bucket: BUCKET, Key: key })));
}

/** git and SQLite, on Mirage with `writeBack: async` and on rclone with its full cache. @param {Bench} bench */
export async function programs(bench) {
  const repository = await bench.once('repository', async () => {
    const work = join(bench.folder, 'work');
    mkdirSync(work);
    for (let index = 0; index < 200; index++)
      writeFileSync(join(work, `file-${index}`), `${index}\n`.repeat(500));
    const git = (/** @type {string[]} */ ...command) =>
      run(['git', '-C', work, '-c', 'user.name=a', '-c', 'user.email=a@b', ...command]);
    await git('init', '-q');
    await git('add', '.');
    await git('commit', '-q', '-m', 'first');
    return work;
  });
  for (const peer of /** @type {const} */ (['mirage', 'rclone'])) {
    if (!bench.peers.includes(peer)) continue;
    const folder = bench.unique(`programs-${peer}`);
    await bench.mounted([peer], { writeBack: 'async' }, async ({ [peer]: tree = '' }, _pids, drain) => {
      const place = join(tree, folder);
      mkdirSync(place);
      const clone = join(place, 'clone');
      bench.record(
        'git clone of 200 files',
        peer,
        await timed(() => run(['git', 'clone', '-q', '--no-hardlinks', repository, clone], { seconds: 300 })),
      );
      const changed = await run(['git', '-C', clone, 'status', '--porcelain'], { seconds: 300 });
      if (changed !== '') throw new Error(`${peer}: git status after the clone says ${changed}`);
      await run(['git', '-C', clone, 'fsck', '--strict'], { seconds: 300 });
      const database = join(place, 'rows.db');
      const script = [
        'create table t (id integer primary key, text);',
        ...Array.from({ length: 10 }, (_, batch) =>
          [
            'begin;',
            ...Array.from(
              { length: 100 },
              (_, row) => `insert into t values (${batch * 100 + row}, 'row ${row}');`,
            ),
            'commit;',
          ].join('\n'),
        ),
      ].join('\n');
      writeFileSync(join(bench.folder, 'rows.sql'), script);
      bench.record(
        'sqlite3, 1,000 rows in 10 transactions',
        peer,
        await timed(() =>
          run(['sh', '-c', 'sqlite3 "$1" < "$2"', 'sh', database, join(bench.folder, 'rows.sql')]),
        ),
      );
      const rows = await run(['sqlite3', database, 'pragma integrity_check; select count(*) from t']);
      if (rows !== 'ok\n1000\n') throw new Error(`${peer}: the database says ${rows}`);
      await drain(peer);
      if (peer !== 'mirage') return;
      // Through an empty cache: what was promised is in the store.
      await bench.mounted(['mirage'], {}, async ({ mirage = '' }) => {
        const copy = join(mirage, folder, 'clone');
        for (const name of readdirSync(repository).filter((each) => each !== '.git')) {
          if (!readFileSync(join(copy, name)).equals(readFileSync(join(repository, name)))) {
            throw new Error(`${name} is another one in the store`);
          }
        }
        const there = await run(['sqlite3', join(mirage, folder, 'rows.db'), 'select count(*) from t']);
        if (there !== '1000\n') throw new Error(`the database in the store has ${there} rows`);
      });
    });
  }
}
