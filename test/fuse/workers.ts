/** Two mounts in one process, each served by a thread of its own: `MOUNTPOINT`/a and /b are made below it. */
import { mkdirSync, rmdirSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { Worker } from 'node:worker_threads';

const [mountpoint, json] = process.argv.slice(2) as [string, string];
const say = (message: object): void => {
  process.stdout.write(`${JSON.stringify(message)}\n`);
};
const folders = ['a', 'b'].map((name) => `${mountpoint}/${name}`);
const workers = await Promise.all(
  folders.map(async (folder) => {
    mkdirSync(folder);
    const worker = new Worker(new URL('./server.ts', import.meta.url), {
      argv: [folder, json],
      stdout: true,
    });
    await new Promise((resolve) => worker.stdout.once('data', resolve));
    return worker;
  }),
);
const ended = Promise.all(workers.map((worker) => new Promise((resolve) => worker.once('exit', resolve))));

const input = createInterface({ input: process.stdin });
input.on('line', async (line) => {
  const [, index] = JSON.parse(line) as ['terminate', string];
  await workers[Number(index)]?.terminate();
  say({ answer: null });
});
say({ ready: true });
await ended;
for (const folder of folders) rmdirSync(folder);
say({ ended: true });
input.close();
process.stdin.destroy();
