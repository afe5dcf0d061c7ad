import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from '@jest/globals';
import { parse } from 'yaml';
import { backendTypes } from '../../src/backends/registry.js';
import { loadConfiguration } from '../../src/config/load.js';
import { jsonSchema } from '../../src/config/schema.js';

const mounts = fileURLToPath(new URL('../../mounts', import.meta.url));
const environment = { HOME: '/home/somebody', S3_BUCKET: 'bucket' };

test.each(readdirSync(mounts))('mounts/%s is right', (name) => {
  const configuration = loadConfiguration(join(mounts, name), { types: backendTypes, environment });
  expect(configuration.mountpoint).toBe('/mirage');
});

test('there is an example of every backend', () => {
  const used = readdirSync(mounts).flatMap((name) =>
    loadConfiguration(join(mounts, name), { types: backendTypes, environment }).mounts.map(
      ({ type }) => type,
    ),
  );
  expect(new Set(used)).toEqual(new Set(Object.keys(backendTypes)));
});

test('the quickstart: memory at tmp, a folder at local, both can be written', () => {
  const { mounts: found } = loadConfiguration(join(mounts, 'quickstart.yaml'), {
    types: backendTypes,
    environment,
  });
  expect(found).toMatchObject([
    { path: '/tmp', type: 'ram', mode: 'exec' },
    { path: '/local', type: 'local', mode: 'exec', options: { path: '/home/somebody/mirage-files' } },
  ]);
});

test('the schema for editors knows every key of every backend, flat and nested', () => {
  const schema = jsonSchema(backendTypes) as unknown as {
    properties: { mounts: { additionalProperties: { oneOf: Variant[] } } };
  };
  interface Variant {
    properties: Record<string, unknown> & { type: { const: string }; config?: Variant };
    additionalProperties: boolean;
  }
  for (const [name, { options }] of Object.entries(backendTypes)) {
    const variants = schema.properties.mounts.additionalProperties.oneOf.filter(
      ({ properties }) => properties.type.const === name,
    );
    const [flat, nested] = variants;
    for (const key of Object.keys(options.shape)) {
      expect(flat!.properties).toHaveProperty(key);
      expect(nested!.properties.config!.properties).toHaveProperty(key);
    }
    expect(flat!.additionalProperties).toBe(false);
  }
  // It is plain JSON.
  expect(parse(JSON.stringify(schema))).toEqual(schema);
});
