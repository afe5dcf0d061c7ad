import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { projectRoot } from './mount.js';
import { caseNames } from './posix.js';

/** Names of tests in the sources of this suite, as they are written: `test('…'`, `asRoot('…'` and `program('…'`. */
function testNames(): Set<string> {
  const folder = join(projectRoot, 'test', 'mounted');
  const names = new Set(caseNames);
  for (const file of readdirSync(folder).filter((name) => name.endsWith('.ts'))) {
    const source = readFileSync(join(folder, file), 'utf8');
    for (const [, name] of source.matchAll(/(?:\btest|\basRoot|\bprogram|\btest\.skip\))\(\s*'([^']+)'/g))
      names.add(name as string);
  }
  return names;
}

test('every promise of the semantics page is the name of a test', () => {
  const page = readFileSync(join(projectRoot, 'docs', 'semantics.md'), 'utf8');
  const promises = [...page.matchAll(/^### (.+)$/gm)].map(([, promise]) => promise as string);
  expect(promises.length).toBeGreaterThan(40);
  expect(new Set(promises).size).toBe(promises.length);
  const tested = testNames();
  expect(promises.filter((promise) => !tested.has(promise))).toEqual([]);
});
