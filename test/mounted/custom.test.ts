/** docs/write-a-backend.md: the backend in it is taken out, judged by the kit as the page says, and mounted. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { Mirage, mirageCommand, projectRoot } from './mount.js';
import { run, shell } from './process.js';

const DEADLINE = 120_000;
const folder = mkdtempSync(join(tmpdir(), 'mirage-custom-'));
const file = join(folder, 'notes.json');
const page = readFileSync(join(projectRoot, 'docs', 'write-a-backend.md'), 'utf8');
const code = /```js file=my-backend\.mjs\n(.*?)```/s.exec(page)?.[1] ?? '';

beforeAll(() => {
  writeFileSync(join(folder, 'my-backend.mjs'), code);
  writeFileSync(join(folder, 'options.yaml'), `file: ${file}\n`);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const mirage = (...args: string[]) =>
  run(process.execPath, [...mirageCommand, ...args], { cwd: folder, deadline: DEADLINE });

describe('the backend of the documentation', () => {
  test('has less than 100 lines', () => {
    expect(code.trim().split('\n').length).toBeLessThan(100);
    expect(code).toContain('export async function open');
  });

  test(
    'keeps the contract',
    async () => {
      const ended = await mirage('backend', 'test', './my-backend.mjs', '--json');
      const results = JSON.parse(ended.stdout) as { name: string; outcome: string; error?: string }[];
      expect(results.filter(({ outcome }) => outcome === 'failed')).toEqual([]);
      expect(results.filter(({ outcome }) => outcome === 'passed').length).toBeGreaterThan(25);
      expect(ended.code).toBe(0);
    },
    DEADLINE,
  );

  test(
    'is mounted, and keeps what programs write',
    async () => {
      const mounts = { '/notes': { type: join(folder, 'my-backend.mjs'), mode: 'write', file } };
      const mounted = await Mirage.start({ mounts });
      try {
        await shell(
          'mkdir -p a/b; echo one > a/b/f; echo two >> a/b/f; mv a/b/f a/g; rmdir a/b; chmod 600 a/g; ln -s g a/l',
          mounted.path('notes'),
        );
        expect(await shell('cat a/l; stat -c %a a/g; ls a', mounted.path('notes'))).toBe(
          'one\ntwo\n600\ng\nl\n',
        );
        expect(await mounted.stop()).toBe(0);
        const kept = JSON.parse(readFileSync(file, 'utf8')) as Record<string, { content: string }>;
        expect(Buffer.from(kept['a/g']?.content ?? '', 'base64').toString()).toBe('one\ntwo\n');
      } finally {
        await mounted.dispose();
      }
    },
    DEADLINE,
  );
});

describe('mirage backend test', () => {
  test(
    'says which promise is broken, and ends with 1',
    async () => {
      writeFileSync(
        join(folder, 'forgetful.mjs'),
        code.replace("if (match !== undefined) check(key, { kind: 'match', validator: match });", ''),
      );
      const ended = await mirage('backend', 'test', './forgetful.mjs', '--options', 'options.yaml');
      expect(ended.stdout).toContain('failed   a read of a named version fails once there is another');
      expect(ended.stdout).toMatch(/\d+ passed, 1 failed, \d+ skipped/);
      expect(ended.code).toBe(1);
    },
    DEADLINE,
  );

  test('ends with 3 where there is no module, with 2 where the options are none', async () => {
    expect((await mirage('backend', 'test', './missing.mjs')).code).toBe(3);
    writeFileSync(join(folder, 'wrong.yaml'), 'file: notes.json\n');
    const ended = await mirage('backend', 'test', './my-backend.mjs', '--options', 'wrong.yaml');
    expect(ended.code).toBe(2);
  });

  test('judges a store that can only be read by what it holds', async () => {
    writeFileSync(
      join(folder, 'constant.mjs'),
      `const info = { key: 'file', size: 5, validator: '1' };
       export const open = () => ({
         stat: (key) => (key === 'file' ? info : undefined),
         list: () => [info],
         async read(key, { offset, length }, sink, context, match) {
           if (key !== 'file') throw Object.assign(new Error('?'), { code: 'ENOENT' });
           if (match !== undefined && match !== '1') throw Object.assign(new Error('?'), { code: 'ESTALE' });
           const bytes = Buffer.from('hello').subarray(offset, offset + length);
           if (bytes.length > 0) await sink.write(bytes);
           return info;
         },
       });`,
    );
    const ended = await mirage('backend', 'test', './constant.mjs');
    expect(ended.stdout).toContain('passed   read-only: ranges are exact and cut short at the end');
    expect(ended.stdout).toMatch(/0 failed/);
    expect(ended.code).toBe(0);
  });
});
