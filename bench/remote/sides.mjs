// @ts-check
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Mount } from '../shared/mount.mjs';
import { start, until } from '../shared/processes.mjs';

const root = fileURLToPath(new URL('../..', import.meta.url));

/**
 * One store alone, mounted by Mirage with empty caches.
 * @param {string} place folder of this mount
 * @param {Record<string, unknown>} store its configuration
 */
export async function mirageMount(place, store) {
  for (const name of ['mnt', 'cache', 'state', 'run']) mkdirSync(join(place, name), { recursive: true });
  const path = join(place, 'mnt');
  const file = join(place, 'mirage.yaml');
  const cache = { directory: join(place, 'cache'), size: '8g' };
  const configuration = { mountpoint: path, state: join(place, 'state'), cache, mounts: { '/': store } };
  writeFileSync(file, JSON.stringify(configuration), { mode: 0o600 });
  const mount = new Mount(path);
  const command = [
    process.execPath,
    join(process.env.MIRAGE_BUILD ?? join(root, 'dist'), 'cli', 'main.js'),
    'mount',
    '--foreground',
    '--config',
    file,
  ];
  await mount.open(command, { MIRAGE_RUNTIME: join(place, 'run') });
  return { path, close: () => mount.close() };
}

/** A server that is farther away. @param {number} port @param {number} milliseconds of a round trip */
export async function proxied(port, milliseconds) {
  const script = join(root, 'test', 'servers', 'delay-proxy.mjs');
  const proxy = start([process.execPath, script, '0', String(port), String(milliseconds / 2)], {
    input: true,
  });
  await until(() => proxy.output().includes('\n'), 10);
  const found = /^ready (\d+)/.exec(proxy.output())?.[1];
  if (found === undefined) throw new Error(`the proxy did not start: ${proxy.errors()}`);
  return { port: Number(found), close: () => void proxy.child.stdin?.end() };
}
