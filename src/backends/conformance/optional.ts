import assert from 'node:assert/strict';
import {
  hasCopy,
  hasDirectories,
  hasRename,
  hasSetAttributes,
  hasUsage,
  type StoredAttributes,
} from '../contract.js';
import { type Check, refuses } from './check.js';

const ATTRIBUTES: StoredAttributes = {
  mode: 0o100640,
  uid: 1234,
  gid: 5678,
  modified: { seconds: 1_700_000_000, nanoseconds: 123_456_789 },
  changed: { seconds: 1_700_000_001, nanoseconds: 0 },
  accessed: { seconds: 1_600_000_000, nanoseconds: 1 },
  xattrs: { 'user.name': Buffer.from('value').toString('base64'), 'user.ünïcode "x"': '' },
  linkGroup: 'group/1 ü',
  writer: 'nonce-1',
};

/** Operations that a backend may have. */
export const optionalChecks: readonly Check[] = [
  {
    name: 'attributes are kept with the content',
    requires: (backend) => backend.capabilities.attributes,
    async run(_backend, tools) {
      const key = tools.key('file');
      await tools.write(key, 'content', { attributes: ATTRIBUTES });
      assert.deepEqual((await tools.stat(key)).attributes, ATTRIBUTES);
      const past = { modified: { seconds: -86_400, nanoseconds: 5 } };
      await tools.write(key, 'content', { attributes: past });
      assert.deepEqual((await tools.stat(key)).attributes, past);
      await tools.write(key, 'bare');
      assert.deepEqual((await tools.stat(key)).attributes, {});
    },
  },
  {
    name: 'attributes change without the content',
    requires: (backend) => hasSetAttributes(backend) && backend.capabilities.attributes,
    async run(backend, tools) {
      if (!hasSetAttributes(backend)) return;
      const key = tools.key('file');
      const written = await tools.write(key, 'content', { attributes: { mode: 0o100644, writer: 'a' } });
      const base = { kind: 'match', validator: written.validator ?? '' } as const;
      const changed = await backend.setAttributes(key, 'file', ATTRIBUTES, base, tools.context);
      const info = await tools.stat(key);
      assert.deepEqual(info.attributes, ATTRIBUTES);
      assert.equal(info.validator, changed.validator);
      assert.equal(await tools.read(key), 'content');
      await tools.write(key, 'another');
      await refuses(backend.setAttributes(key, 'file', { writer: 'nonce-2' }, base, tools.context), 'ESTALE');
      await refuses(
        backend.setAttributes(tools.key('missing'), 'file', {}, { kind: 'any' }, tools.context),
        'ENOENT',
      );
    },
  },
  {
    name: 'directories keep attributes',
    requires: (backend) =>
      hasSetAttributes(backend) && hasDirectories(backend) && backend.capabilities.attributes,
    async run(backend, tools) {
      if (!hasSetAttributes(backend) || !hasDirectories(backend)) return;
      const key = tools.key('directory');
      const attributes = { mode: 0o40750, uid: 5, writer: 'nonce-1' };
      await backend.createDirectory(key, attributes, tools.context);
      assert.deepEqual((await tools.stat(key)).attributes, attributes);
      await tools.write(`${key}/child`, 'x');
      await backend.setAttributes(key, 'directory', { mode: 0o40700 }, { kind: 'any' }, tools.context);
      const info = await tools.stat(key);
      assert.equal(info.kind, 'directory');
      assert.deepEqual(info.attributes, { mode: 0o40700 });
      assert.equal(await tools.read(`${key}/child`), 'x');
    },
  },
  {
    name: 'a copy has the content, and the attributes of its source or those it was given',
    requires: hasCopy,
    async run(backend, tools) {
      if (!hasCopy(backend)) return;
      const from = tools.key('from & <odd> +%41 é');
      const any = { precondition: { kind: 'any' } } as const;
      const written = await tools.write(from, 'content', { attributes: ATTRIBUTES });
      const plain = await backend.copy(from, tools.key('plain'), any, tools.context);
      const info = await tools.stat(tools.key('plain'));
      assert.equal(await tools.read(tools.key('plain')), 'content');
      assert.equal(info.validator, plain.validator);
      if (backend.capabilities.attributes) {
        assert.deepEqual(info.attributes, ATTRIBUTES);
        const given = { ...any, attributes: { uid: 7 } };
        await backend.copy(from, tools.key('given'), given, tools.context);
        assert.deepEqual((await tools.stat(tools.key('given'))).attributes, { uid: 7 });
      }
      await refuses(backend.copy(tools.key('missing'), tools.key('x'), any, tools.context), 'ENOENT');
      await tools.write(from, 'changed');
      const stale = { ...any, match: written.validator ?? '' };
      await refuses(backend.copy(from, tools.key('x'), stale, tools.context), 'ESTALE');
    },
  },
  {
    name: 'a copy does not overwrite what it must not',
    requires: (backend) => hasCopy(backend) && backend.capabilities.preconditions.copyAbsent,
    async run(backend, tools) {
      if (!hasCopy(backend)) return;
      await tools.write(tools.key('from'), 'from');
      await tools.write(tools.key('to'), 'to');
      await refuses(
        backend.copy(
          tools.key('from'),
          tools.key('to'),
          { precondition: { kind: 'absent' }, attributes: { writer: 'copier' } },
          tools.context,
        ),
        'ESTALE',
      );
      assert.equal(await tools.read(tools.key('to')), 'to');
    },
  },
  {
    name: 'a rename moves, and replaces',
    requires: hasRename,
    async run(backend, tools) {
      if (!hasRename(backend)) return;
      await tools.write(tools.key('from'), 'from');
      await tools.write(tools.key('to'), 'to');
      await backend.rename(tools.key('from'), tools.key('to'), tools.context);
      assert.equal(await tools.read(tools.key('to')), 'from');
      assert.equal(await backend.stat(tools.key('from'), tools.context), undefined);
      await refuses(backend.rename(tools.key('from'), tools.key('x'), tools.context), 'ENOENT');
    },
  },
  {
    name: 'usage makes sense',
    requires: hasUsage,
    async run(backend, tools) {
      if (!hasUsage(backend)) return;
      const { total, free } = await backend.usage(tools.context);
      if (total !== undefined && free !== undefined) assert.ok(free >= 0 && free <= total);
    },
  },
];
