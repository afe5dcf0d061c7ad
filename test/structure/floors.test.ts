/** The floors of the house: who may import whom (docs/architecture.md). */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from '@jest/globals';

const src = fileURLToPath(new URL('../../src', import.meta.url));
const ground = ['errors', 'clock', 'log', 'native'];

/** Room → rooms it may import; its own is always allowed, and so are types of the backend contracts. */
const below: Record<string, readonly string[]> = {
  cli: [
    'daemon',
    'fuse',
    'vfs',
    'content',
    'metadata',
    'ports',
    'transfer',
    'leases',
    'backends',
    'config',
    ...ground,
  ],
  daemon: [
    'fuse',
    'vfs',
    'content',
    'metadata',
    'ports',
    'transfer',
    'leases',
    'backends',
    'config',
    ...ground,
  ],
  fuse: ['vfs', ...ground],
  vfs: ['content', 'metadata', 'ports', ...ground],
  content: ['ports', ...ground],
  metadata: ['ports', ...ground],
  transfer: ['ports', 'backends', ...ground],
  leases: ['ports', 'backends', ...ground],
  ports: ground,
  backends: ['config', ...ground],
  config: ground,
  errors: [],
  clock: [],
  log: ['errors', 'clock'],
  native: ['errors', 'log'],
};
const contracts = ['backends/contract.ts', 'backends/file-server.ts'];

interface Import {
  readonly from: string;
  readonly to: string;
  readonly typeOnly: boolean;
}

const imports: readonly Import[] = readdirSync(src, { recursive: true, encoding: 'utf8' })
  .filter((path) => path.endsWith('.ts'))
  .flatMap((from) => {
    const text = readFileSync(join(src, from), 'utf8');
    const statements = [...text.matchAll(/^(?:import|export)\s+(type\s)?[^;]*?from\s+'([^']+)'/gm)];
    const calls = [...text.matchAll(/\b(?:import|new URL)\(\s*'([^']+\.js)'/g)];
    return [
      ...statements.map(([, type, to]) => ({ from, to: to!, typeOnly: type !== undefined })),
      ...calls.map(([, to]) => ({ from, to: to!, typeOnly: false })),
    ];
  })
  .filter(({ to }) => to.startsWith('.'))
  .map(({ from, to, typeOnly }) => ({
    from,
    to: relative(src, resolve(src, dirname(from), to)).replace(/\.js$/, '.ts'),
    typeOnly,
  }));

const room = (path: string): string => path.split('/')[0]!;
const show = ({ from, to }: Import): string => `${from} → ${to}`;

test('every room has its floor', () => {
  const rooms = readdirSync(src).filter((name) => !name.endsWith('.ts'));
  expect(Object.keys(below)).toEqual(expect.arrayContaining(rooms));
  expect(imports.length).toBeGreaterThan(100);
});

test('each floor imports only what is below', () => {
  const wrong = imports.filter(
    ({ from, to, typeOnly }) =>
      room(from) !== room(to) &&
      !below[room(from)]!.includes(room(to)) &&
      !(contracts.includes(to) && (typeOnly || room(from) === 'vfs')),
  );
  expect(wrong.map(show)).toEqual([]);
});

test('only the registry names concrete backends', () => {
  const folder = (path: string): string => /^backends\/([^/]+)\//.exec(path)?.[1] ?? '';
  const named = imports.filter(
    ({ from, to }) => from === 'backends/registry.ts' && to.endsWith('/options.ts'),
  );
  const backends = named.map(({ to }) => folder(to));
  expect(backends).toEqual(expect.arrayContaining(['local', 'ram', 's3']));
  const concrete = (path: string): string | undefined => backends.find((name) => name === folder(path));
  const wrong = imports.filter(
    ({ from, to }) =>
      concrete(to) !== undefined && concrete(from) !== concrete(to) && from !== 'backends/registry.ts',
  );
  expect(wrong.map(show)).toEqual([]);
});

test('no circle of files that must be evaluated in turn', () => {
  const graph = new Map<string, string[]>();
  for (const { from, to, typeOnly } of imports)
    if (!typeOnly) graph.set(from, [...(graph.get(from) ?? []), to]);
  const state = new Map<string, 'open' | 'done'>();
  const circles: string[] = [];
  const visit = (file: string, trail: readonly string[]): void => {
    if (state.get(file) === 'open') circles.push([...trail.slice(trail.indexOf(file)), file].join(' → '));
    if (state.has(file)) return;
    state.set(file, 'open');
    for (const to of graph.get(file) ?? []) visit(to, [...trail, file]);
    state.set(file, 'done');
  };
  for (const file of graph.keys()) visit(file, []);
  expect(circles).toEqual([]);
});
