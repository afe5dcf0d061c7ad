import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { Bucket } from './bucket.js';
import { Model, operation, show } from './model.js';
import { Tree } from './tree.js';

/** In all. */
const OPERATIONS = process.env.MIRAGE_TEST_LONG === undefined ? 1000 : 20_000;
const AT_ONCE = 50;

for (const honours of [{}, { copyAbsent: false, removeMatch: false }]) {
  test(`a tree over a bucket ${honours.copyAbsent === false ? 'without' : 'with'} conditional copies is a POSIX tree, other hosts included`, async () => {
    const runs = fc.array(operation, { minLength: AT_ONCE / 2, maxLength: AT_ONCE * 1.5 });
    await fc.assert(
      fc.asyncProperty(runs, async (operations) => {
        const bucket = new Bucket(honours);
        const tree = new Tree(bucket);
        const model = new Model();
        const done: string[] = [];
        try {
          for (const { text: line, run } of operations) {
            done.push(line);
            const [got, wanted] = await run(tree, model, bucket);
            expect({ done, result: got }).toEqual({ done, result: wanted });
          }
          expect({ done, tree: await show(tree) }).toEqual({ done, tree: model.show() });
          await tree.volume.drain();
          for (const [at, line] of Object.entries(model.show())) {
            if (line === 'directory') continue;
            expect(`${at}: ${bucket.text(at)}`).toBe(`${at}: ${line.split(' ').slice(2).join(' ')}`);
          }
        } finally {
          await tree.close();
        }
      }),
      {
        numRuns: Math.ceil(OPERATIONS / AT_ONCE / 2),
        endOnFailure: process.env.MIRAGE_MODEL_SHRINK === undefined,
      },
    );
  }, 600_000);
}
