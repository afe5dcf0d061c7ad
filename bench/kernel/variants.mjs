// @ts-check
import { chmodSync, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { run } from '../shared/processes.mjs';

/**
 * @typedef {object} Places
 * @property {string} source the tree that is mounted
 * @property {string} mountpoint
 * @property {string} scratch an empty directory of this variant and round
 * @property {string} build where programs are compiled
 *
 * @typedef {object} Variant
 * @property {string} name
 * @property {string} options what it is run with, in words for the table
 * @property {() => Promise<string>} version
 * @property {(places: Places) => Promise<string[]>} command the server, in the foreground
 */

const EXAMPLE = '/usr/share/doc/libfuse3-dev/examples/passthrough_ll.c';
const SFTP_SERVER = '/usr/lib/openssh/sftp-server';
const MIRAGE = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));

/** @param {readonly string[]} command */
const firstLine = async (command) => (await run(command)).split('\n')[0]?.trim() ?? '';

/**
 * @param {string} name
 * @param {string} options
 * @param {Record<string, string>} keys
 * @returns {Variant}
 */
const mirage = (name, options, keys) => ({
  name,
  options,
  version: async () => `mirage ${await firstLine([process.execPath, MIRAGE, '--version'])}`,
  async command({ source, mountpoint, scratch }) {
    const settings = Object.entries({ mode: 'exec', state: join(scratch, 'state'), ...keys });
    return [
      process.execPath,
      MIRAGE,
      'mount',
      '--foreground',
      `file://${source}`,
      mountpoint,
      '-o',
      settings.map(([key, value]) => `${key}=${value}`).join(','),
    ];
  },
});

/** The ones to beat, and ours. None is given an option that slows it down. @type {readonly Variant[]} */
export const variants = [
  mirage(
    'mirage',
    'freshness=inotify: the kernel keeps names and attributes and is told of changes; passthrough',
    {
      freshness: 'inotify',
    },
  ),
  mirage('mirage-no-passthrough', 'freshness=inotify, passthrough=false', {
    freshness: 'inotify',
    passthrough: 'false',
  }),
  {
    name: 'passthrough_ll',
    options: 'libfuse example, -O2, multi-threaded; its defaults: cache=auto,timeout=1.0',
    version: async () => `libfuse ${await firstLine(['pkg-config', '--modversion', 'fuse3'])}`,
    async command({ source, mountpoint, build }) {
      const program = join(build, 'passthrough_ll');
      if (!existsSync(program)) {
        const flags = (await run(['pkg-config', '--cflags', '--libs', 'fuse3'])).trim().split(/\s+/);
        await run(['cc', '-O2', '-pthread', EXAMPLE, '-o', program, ...flags]);
      }
      return [program, '-f', '-o', `source=${source}`, mountpoint];
    },
  },
  {
    name: 'bindfs',
    options: '--multithreaded; kernel caches names and attributes 1 s (libfuse default)',
    version: () => firstLine(['bindfs', '--version']),
    command: async ({ source, mountpoint }) => ['bindfs', '-f', '--multithreaded', source, mountpoint],
  },
  {
    name: 'sshfs',
    options: 'sftp-server on a local pipe, no encryption; its caches on (20 s), asynchronous writes',
    version: async () => /SSHFS.*/.exec(await run(['sshfs', '--version']))?.[0] ?? 'sshfs',
    async command({ source, mountpoint, scratch }) {
      const connect = join(scratch, 'connect');
      writeFileSync(connect, `#!/bin/sh\nexec ${SFTP_SERVER}\n`);
      chmodSync(connect, 0o755);
      return ['sshfs', '-f', '-o', `ssh_command=${connect}`, `localhost:${source}`, mountpoint];
    },
  },
  {
    name: 'rclone',
    options: '--vfs-cache-mode off, --dir-cache-time 1h; kernel caches attributes 1 s (default)',
    version: () => firstLine(['rclone', 'version']),
    async command({ source, mountpoint, scratch }) {
      const config = join(scratch, 'rclone.conf');
      mkdirSync(join(scratch, 'cache'));
      writeFileSync(config, '');
      return [
        'rclone',
        'mount',
        `--config=${config}`,
        `--cache-dir=${join(scratch, 'cache')}`,
        '--dir-cache-time=1h',
        '--vfs-cache-mode=off',
        source,
        mountpoint,
      ];
    },
  },
];

/** Programs and files that the peers need, and the Debian packages that have them. */
const NEEDED = [
  ['/usr/bin/cc', 'build-essential'],
  ['/usr/bin/pkg-config', 'pkg-config'],
  [EXAMPLE, 'libfuse3-dev'],
  ['/usr/bin/fusermount3', 'fuse3'],
  ['/usr/bin/bindfs', 'bindfs'],
  ['/usr/bin/sshfs', 'sshfs'],
  [SFTP_SERVER, 'openssh-sftp-server'],
  ['/usr/bin/rclone', 'rclone'],
];

/** Debian packages that are missing here. */
export const missingPackages = () =>
  NEEDED.filter(([path]) => !existsSync(path ?? '')).map(([, debian]) => debian ?? '');
