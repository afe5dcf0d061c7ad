import { existsSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { loadConfiguration } from '../config/load.js';
import { jsonSchema, type MountTypes } from '../config/schema.js';
import { MirageError } from '../errors/mirage-error.js';
import { exitCodes } from './exit-codes.js';
import type { Output } from './output.js';

export function checkConfig(file: string | undefined, types: MountTypes, output: Output): number {
  // A file may leave its mount point to the command line.
  const configuration = loadConfiguration(file, { types, environment: process.env });
  output.line(
    `${configuration.file} is right: ${configuration.mounts.length} mounts at ${configuration.mountpoint}`,
  );
  output.table(
    ['PATH', 'TYPE', 'MODE', 'FRESHNESS', 'TTL'],
    configuration.mounts.map(({ path, type, mode, freshness, ttl }) => [
      path,
      type,
      mode,
      freshness,
      `${ttl / 1000}s`,
    ]),
  );
  return exitCodes.ok;
}

export function printSchema(types: MountTypes, output: Output): number {
  output.json(jsonSchema(types));
  return exitCodes.ok;
}

const SCHEMA_FILE = 'mirage.schema.json';

/** Writes a commented configuration and, beside it, the schema that editors read. */
export function initConfig(file: string, types: MountTypes, output: Output): number {
  const path = resolve(file);
  if (existsSync(path)) {
    throw new MirageError(`${path} exists`, {
      errno: 'EEXIST',
      cause: new Error('nothing is overwritten'),
      hint: 'name another file: mirage config init other.yaml',
    });
  }
  if (!existsSync(dirname(path))) {
    throw new MirageError(`the folder of ${path} does not exist`, {
      errno: 'ENOENT',
      cause: new Error('a configuration is written into a folder that is there'),
      hint: `mkdir -p ${dirname(path)}`,
    });
  }
  writeFileSync(path, template, { mode: 0o600, flag: 'wx' });
  writeFileSync(join(dirname(path), SCHEMA_FILE), `${JSON.stringify(jsonSchema(types), undefined, 2)}\n`);
  output.line(`Wrote ${path}. Next: change it, then: mirage mount --config ${file}`);
  return exitCodes.ok;
}

const template = `# yaml-language-server: $schema=./${SCHEMA_FILE}
# A Mirage configuration. Variables: \${NAME}, \${NAME:-default}, \${NAME:?message}, \${file:/path}; $$ is a dollar sign.

mountpoint: \${HOME}/mirage

# state: \${HOME}/.local/state/mirage/my-mount   # database, conflicts and log of this mount
# cache: { directory: \${HOME}/.cache/mirage/my-mount, size: 10g }
# ttl: 60s            # how long names of remote stores count as known
# allowOther: false   # let other users in
# binding: auto       # raw or fuse-native
# passthrough: true   # the kernel reads and writes host files by itself where it can

mounts:
  # Memory: gone after unmount. Modes: read (the default), write, exec.
  tmp:
    type: ram
    mode: exec

  # A folder of this machine.
  # home:
  #   type: local
  #   mode: write
  #   path: \${HOME}/documents

  # A bucket. Without keys, the usual places are searched: environment, ~/.aws, the machine's role.
  # data:
  #   type: s3
  #   mode: write
  #   bucket: my-bucket
  #   prefix: some/folder
  #   region: eu-central-1
  #   endpoint: http://127.0.0.1:9000            # a store that is not AWS
  #   accessKeyId: \${MY_KEY}
  #   secretAccessKey: \${file:/run/secrets/my-secret}
`;
