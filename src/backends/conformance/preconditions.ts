import assert from 'node:assert/strict';
import { MirageError } from '../../errors/mirage-error.js';
import type { Backend } from '../contract.js';
import { type Check, refuses, type Tools } from './check.js';

const honours =
  (name: keyof Backend['capabilities']['preconditions']) =>
  (backend: Backend): boolean =>
    backend.capabilities.preconditions[name];

const RACERS = 8;

/** Preconditions: nothing is overwritten that the writer has not seen. */
export const preconditionChecks: readonly Check[] = [
  {
    name: 'create-if-absent creates once',
    requires: honours('writeAbsent'),
    async run(_backend, tools) {
      const key = tools.key('file');
      const created = await tools.write(key, 'first', { precondition: { kind: 'absent' } });
      await refuses(tools.write(key, 'second', { precondition: { kind: 'absent' } }), 'ESTALE');
      assert.equal(await tools.read(key), 'first');
      assert.equal((await tools.stat(key)).validator, created.validator);
    },
  },
  {
    name: 'of many that create one object at once, one succeeds',
    requires: honours('writeAbsent'),
    async run(_backend, tools) {
      for (let round = 0; round < 5; round++) {
        const key = tools.key(`race${round}`);
        await race(tools, key, { kind: 'absent' });
      }
    },
  },
  {
    name: 'a write over a named version happens to that version only',
    requires: honours('writeMatch'),
    async run(_backend, tools) {
      const key = tools.key('file');
      const first = await tools.write(key, 'first');
      const second = await tools.write(key, 'second', { precondition: match(first.validator) });
      await refuses(tools.write(key, 'third', { precondition: match(first.validator) }), 'ESTALE');
      assert.equal(await tools.read(key), 'second');
      await tools.write(key, 'fourth', { precondition: match(second.validator) });
      assert.equal(await tools.read(key), 'fourth');
    },
  },
  {
    name: 'a write over a version of what is gone fails',
    requires: honours('writeMatch'),
    async run(backend, tools) {
      const key = tools.key('file');
      const written = await tools.write(key, 'x');
      await backend.remove(key, { kind: 'any' }, tools.context);
      await refuses(tools.write(key, 'y', { precondition: match(written.validator) }), 'ESTALE');
      assert.equal(await backend.stat(key, tools.context), undefined);
    },
  },
  {
    name: 'of many that replace one version at once, one succeeds',
    requires: honours('writeMatch'),
    async run(_backend, tools) {
      const key = tools.key('file');
      for (let round = 0; round < 5; round++) {
        const base = await tools.write(key, `base ${round}`);
        await race(tools, key, match(base.validator));
      }
    },
  },
  {
    name: 'a remove of a named version leaves another one alone',
    requires: honours('removeMatch'),
    async run(backend, tools) {
      const key = tools.key('file');
      const first = await tools.write(key, 'first');
      const second = await tools.write(key, 'second');
      await refuses(backend.remove(key, match(first.validator), tools.context), 'ESTALE');
      assert.equal(await tools.read(key), 'second');
      await backend.remove(key, match(second.validator), tools.context);
      assert.equal(await backend.stat(key, tools.context), undefined);
    },
  },
];

const match = (validator: string | undefined) => ({ kind: 'match', validator: validator ?? '' }) as const;

/** Many write at once. One is told that it succeeded and its content is there; the others were refused, or could not be told. */
async function race(
  tools: Tools,
  key: string,
  precondition: { kind: 'absent' } | ReturnType<typeof match>,
): Promise<void> {
  const winners: string[] = [];
  const undecided: string[] = [];
  await Promise.all(
    Array.from({ length: RACERS }, async (_, i) => {
      const content = `racer ${i} of ${key}`;
      try {
        await tools.write(key, content, { precondition, attributes: { writer: `${key} ${i}` } });
        winners.push(content);
      } catch (error) {
        if (!MirageError.is(error) || (error.errno !== 'ESTALE' && !error.outcomeUnknown)) throw error;
        if (error.outcomeUnknown) undecided.push(content);
      }
    }),
  );
  const content = await tools.read(key);
  if (winners.length === 0) assert.ok(undecided.includes(content), 'somebody has won');
  else assert.deepEqual(winners, [content]);
}
