/** Registers the POSIX cases of the folder `posix` for one mounted folder. */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from '@jest/globals';
import type { Limits } from './expectations.js';
import { isRoot } from './mount.js';
import { python, run } from './process.js';

const script = fileURLToPath(new URL('posix', import.meta.url));
const cases = JSON.parse(execFileSync(python, ['-B', script, '--list'], { encoding: 'utf8' })) as readonly {
  readonly name: string;
  readonly root: boolean;
}[];
export const caseNames = cases.map(({ name }) => name);

export interface PosixOptions {
  readonly limits?: Limits;
  /** Entries of the large directory. */
  readonly entries?: number;
}

/** `folder` is asked for when a test runs. */
export function describePosix(folder: () => string, options: PosixOptions = {}): void {
  const { limits = {}, entries = 5000 } = options;
  describe('POSIX', () => {
    for (const [index, { name, root }] of cases.entries()) {
      const limit = limits[name];
      const title = limit === undefined ? name : `cannot (${limit}): ${name}`;
      (root && !isRoot ? test.skip : test)(
        title,
        async () => {
          const directory = join(folder(), `case-${index}`);
          const ended = await run(python, ['-B', script, name, directory], {
            deadline: 45_000,
            env: { ENTRIES: `${entries}` },
          });
          expect(ended.hung).toBe(false);
          if (limit === undefined) expect(ended).toMatchObject({ stderr: '', code: 0 });
          else expect(ended.code).not.toBe(0);
        },
        60_000,
      );
    }
  });
}
