// @ts-check
/** The file systems that are compared, each over the same bucket, mounted afresh with empty caches unless it says otherwise. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Mount } from '../shared/mount.mjs';
import { run } from '../shared/processes.mjs';
import { BUCKET, credentials } from './store.mjs';

export const mirageCommand = [
  process.execPath,
  fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url)),
];

/** @typedef {'mirage' | 's3fs' | 'rclone'} Name */
/** @typedef {{ place: string, tree: string, pid: number, drain(): Promise<void>, close(): Promise<void> }} Mounted `tree`: where the bucket is */
/**
 * @typedef {object} Options
 * @property {string} endpoint
 * @property {'read' | 'exec'} [mode] what Mirage is mounted for; the others are read-only where it is `read`
 * @property {'close' | 'async'} [writeBack]
 * @property {boolean} [durable] what was closed must be in the store
 * @property {number} [cacheBytes]
 * @property {string} [state] a folder of an earlier mount, whose caches are used again
 */

let counter = 0;

/**
 * @param {Name} name
 * @param {string} folder scratch of the benchmark
 * @param {Options} options
 * @returns {Promise<Mounted>}
 */
export async function mountStore(name, folder, options) {
  const place = options.state ?? join(folder, `${name}-${counter++}`);
  const mountpoint = join(place, 'mnt');
  for (const part of ['mnt', 'cache', 'state']) mkdirSync(join(place, part), { recursive: true });
  const mount = new Mount(mountpoint);
  const { command, environment, tree } = commands[name](place, mountpoint, options);
  await mount.open(command, environment);
  return {
    place,
    tree,
    pid: mount.pid ?? 0,
    drain: async () => {
      if (name === 'mirage') await run([...mirageCommand, 'drain', mountpoint], { seconds: 900 });
    },
    close: () => mount.close(),
  };
}

/** @type {Record<Name, (place: string, mountpoint: string, options: Options) => { command: string[], environment: Record<string, string>, tree: string }>} */
const commands = {
  mirage(place, mountpoint, { endpoint, mode = 'exec', writeBack = 'close', cacheBytes = 8e9 }) {
    const file = join(place, 'mirage.yaml');
    const configuration = {
      mountpoint,
      state: join(place, 'state'),
      cache: { directory: join(place, 'cache'), size: cacheBytes },
      mounts: {
        s3: {
          type: 's3',
          mode,
          bucket: BUCKET,
          endpoint,
          region: 'us-east-1',
          pathStyle: true,
          writeBack,
        },
      },
    };
    writeFileSync(file, JSON.stringify(configuration), { mode: 0o600 });
    return {
      command: [...mirageCommand, 'mount', '--foreground', '--config', file],
      environment: {
        AWS_ACCESS_KEY_ID: credentials.accessKeyId,
        AWS_SECRET_ACCESS_KEY: credentials.secretAccessKey,
      },
      tree: join(mountpoint, 's3'),
    };
  },
  s3fs(place, mountpoint, { endpoint, mode }) {
    const secrets = join(place, 'passwd');
    writeFileSync(secrets, `${credentials.accessKeyId}:${credentials.secretAccessKey}`, { mode: 0o600 });
    const options = [`url=${endpoint}`, 'use_path_request_style', `passwd_file=${secrets}`];
    options.push(`use_cache=${join(place, 'cache')}`, 'max_stat_cache_size=100000');
    if (mode === 'read') options.push('ro');
    return {
      command: ['s3fs', BUCKET, mountpoint, '-f', '-o', options.join(',')],
      environment: {},
      tree: mountpoint,
    };
  },
  rclone(place, mountpoint, { endpoint, mode, durable = false }) {
    // With a cache rclone uploads after close, by default 5 s later; without one close waits for the store.
    const cache = durable ? 'off' : 'full';
    const options = [
      '--vfs-cache-mode',
      cache,
      '--cache-dir',
      join(place, 'cache'),
      '--dir-cache-time',
      '1h',
      ...(mode === 'read' ? ['--read-only'] : []),
    ];
    return {
      command: ['rclone', 'mount', `store:${BUCKET}`, mountpoint, ...options],
      environment: {
        AWS_CA_BUNDLE: '',
        RCLONE_CONFIG: join(place, 'rclone.conf'),
        RCLONE_CONFIG_STORE_TYPE: 's3',
        RCLONE_CONFIG_STORE_PROVIDER: 'Ceph',
        RCLONE_CONFIG_STORE_ENDPOINT: endpoint,
        RCLONE_CONFIG_STORE_ACCESS_KEY_ID: credentials.accessKeyId,
        RCLONE_CONFIG_STORE_SECRET_ACCESS_KEY: credentials.secretAccessKey,
      },
      tree: mountpoint,
    };
  },
};
