import { readFileSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { MirageError } from '../errors/mirage-error.js';
import { isSecretName, Redaction } from '../log/redaction.js';
import type { Configuration } from './configuration.js';
import { configurationFiles, type Environment, expandHome, findConfiguration } from './directories.js';
import { isPlain, type Path, type Plain, readDocument } from './document.js';
import { interpolate, isInterpolated } from './interpolate.js';
import { ConfigurationError } from './problem.js';
import { globalSchema, isModulePath, type MountTypes } from './schema.js';
import { validate } from './validate.js';

/** Options of the command line, as `-o key=value` gave them. */
export type CommandOptions = Readonly<Record<string, string>>;

export interface LoadOptions {
  readonly types: MountTypes;
  readonly environment: Environment;
  /** From the command line: wins over the file. */
  readonly mountpoint?: string | undefined;
  readonly options?: CommandOptions;
}

/** Reads the configuration file (`chosen`, else the search). ENOENT: there is none. ConfigurationError: what is wrong with it. */
export function loadConfiguration(chosen: string | undefined, load: LoadOptions): Configuration {
  const file = findConfiguration(chosen, load.environment);
  if (file === undefined) {
    throw new MirageError('no configuration found', {
      errno: 'ENOENT',
      cause: new Error(`looked at ${configurationFiles(load.environment).join(', ')}`),
      hint: 'write one with `mirage config init`, name one with --config, or name a source: mirage mount ram: /mnt',
    });
  }
  const { text, mode } = readText(file);
  const redaction = new Redaction();
  const document = readDocument(text, file, load.environment, redaction);
  const [inline] = document.inlineSecrets;
  if (inline !== undefined && (mode & 0o044) !== 0) {
    throw new ConfigurationError([
      {
        place: document.place(inline),
        what: `${inline.join('.')} is a secret in a file that others can read`,
        why: `the mode of the file is ${(mode & 0o777).toString(8)}`,
        remedy: `chmod 600 ${file}, or take it from a variable or file: \${NAME}, \${file:/path}`,
      },
    ]);
  }
  const value = isPlain(document.value) ? withGlobals(document.value, load) : document.value;
  const absolute = (path: string): string =>
    path === load.mountpoint ? resolve(path) : resolve(dirname(file), expandHome(path, load.environment));
  const checked = validate({ ...document, value }, { ...load, absolute });
  return { ...checked, file, secrets: redaction.values };
}

/** One source as the whole tree: `s3://bucket/prefix`, `file:///dir`, `ram:` with the keys of `-o`. */
export function configurationOfSource(source: string, load: LoadOptions): Configuration {
  const redaction = new Redaction();
  const mount: Record<string, unknown> = sourceOptions(source);
  const top: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(load.options ?? {})) {
    const filled = commandValue(key, value, load.environment, redaction);
    if (isGlobalKey(key)) set(top, key, filled);
    else mount[key] = filled;
  }
  const isOption = (path: Path): boolean => path.length > (path[0] === 'mounts' ? 2 : 0);
  const document = {
    value: { ...top, mounts: { '/': mount } },
    place: (path: Path): string => (isOption(path) ? '-o' : source),
    name: (path: Path): string => (path[0] === 'mounts' ? path.slice(2) : path).join('.'),
    inlineSecrets: [],
  };
  const checked = validate(document, {
    ...load,
    absolute: (path) => resolve(expandHome(path, load.environment)),
  });
  return { ...checked, file: undefined, secrets: redaction.values };
}

/** With a file, `-o` says keys of the whole file: `-o binding=raw,cache.size=20g`. */
function withGlobals(value: Plain, load: LoadOptions): Plain {
  const merged: Record<string, unknown> = { ...value };
  if (isPlain(merged.cache)) merged.cache = { ...merged.cache };
  for (const [key, text] of Object.entries(load.options ?? {})) {
    if (!isGlobalKey(key)) {
      throw new ConfigurationError([
        {
          place: `-o ${key}`,
          what: `${key} belongs to one mount`,
          why: 'with a configuration file, -o takes keys of the whole file',
          remedy: 'write it in the file, below the mount',
        },
      ]);
    }
    set(merged, key, commandValue(key, text, load.environment, new Redaction()));
  }
  return merged;
}

const isGlobalKey = (key: string): boolean =>
  key in globalSchema.shape || key === 'cache.directory' || key === 'cache.size';

function set(target: Record<string, unknown>, key: string, value: string): void {
  const [outer, inner] = key.split('.') as [string, string | undefined];
  if (inner === undefined) target[outer] = value;
  else target[outer] = { ...(target[outer] as Plain | undefined), [inner]: value };
}

function commandValue(key: string, value: string, environment: Environment, redaction: Redaction): string {
  if (isSecretName(key)) {
    if (!isInterpolated(value)) {
      throw new ConfigurationError([
        {
          place: `-o ${key}`,
          what: `${key} must not stand on the command line`,
          why: 'every user of this machine can read it there (ps)',
          remedy: `set it in the environment, or write -o '${key}=\${file:/path}'`,
        },
      ]);
    }
  }
  const filled = interpolate(value, { environment, redaction });
  if (isSecretName(key)) redaction.add(filled);
  return filled;
}

function sourceOptions(source: string): Record<string, string> {
  if (isModulePath(source) && /\.[cm]?js$/.test(source)) return { type: source };
  const [, scheme, rest] = /^([a-z0-9+.-]+):(.*)$/is.exec(source) ?? [];
  switch (scheme?.toLowerCase()) {
    case 'ram':
      // An empty tree that nobody may fill is of no use to anybody.
      if (rest === '' || rest === '//') return { type: 'ram', mode: 'write' };
      break;
    case 'file':
      // file://host/folder would be a folder of another machine.
      if (/^(\/\/)?\/(?!\/)/.test(rest ?? ''))
        return { type: 'local', path: decodeURIComponent(new URL(source).pathname) };
      break;
    case 's3': {
      const [, bucket, prefix] = /^\/\/([^/]+)(?:\/(.*))?$/s.exec(rest ?? '') ?? [];
      if (bucket) return { type: 's3', bucket, ...(prefix && { prefix }) };
      break;
    }
    case 'azure': {
      const [, account, container, prefix] = /^\/\/([^/]+)\/([^/]+)(?:\/(.*))?$/s.exec(rest ?? '') ?? [];
      if (account && container) return { type: 'azure', account, container, ...(prefix && { prefix }) };
      break;
    }
    case 'gs': {
      const [, bucket, prefix] = /^\/\/([^/]+)(?:\/(.*))?$/s.exec(rest ?? '') ?? [];
      if (bucket) return { type: 'gcs', bucket, ...(prefix && { prefix }) };
      break;
    }
    case 'sftp': {
      // A path begins at the root of the server, or after /~/ at the home of the user.
      const [, user, host, port, path] =
        /^\/\/(?:([^@/]+)@)?(\[[^\]]+\]|[^:/]+)(?::(\d+))?(\/.*)?$/s.exec(rest ?? '') ?? [];
      if (!host || user?.includes(':') || /%(?![0-9a-f]{2})/i.test(rest ?? '')) break;
      const decoded = path === undefined ? undefined : decodeURIComponent(path).replace(/^\/~(?=\/|$)/, '~');
      return {
        type: 'sftp',
        host,
        ...(user && { user: decodeURIComponent(user) }),
        ...(port && { port }),
        ...(decoded && { path: decoded }),
      };
    }
    case 'webdav':
    case 'webdavs': {
      const [, user, address] = /^\/\/(?:([^@/:]+)@)?([^@/]+(?:\/.*)?)$/s.exec(rest ?? '') ?? [];
      if (address === undefined || !URL.canParse(`http://${address}`)) break;
      return {
        type: 'webdav',
        url: `${scheme?.toLowerCase()}://${address}`,
        ...(user && { username: decodeURIComponent(user) }),
      };
    }
    case 'http':
    case 'https':
      if (URL.canParse(source)) return { type: 'http', url: source };
      break;
  }
  throw new ConfigurationError([
    {
      place: source,
      what: 'this is no source',
      why: 'a source is s3://bucket/prefix, azure://account/container/prefix, gs://bucket/prefix, sftp://user@host/folder, https://host/folder/, webdavs://host/folder, file:///folder or ram:',
      remedy: remedyOf(source),
    },
  ]);
}

function remedyOf(source: string): string {
  if (source.startsWith('/')) return `write file://${source}`;
  const [, folder] = /^file:\/\/([^/].*)$/.exec(source) ?? [];
  return folder === undefined
    ? 'see: mirage mount --help'
    : `a folder begins with a slash: file:///${folder}`;
}

function readText(file: string): { text: string; mode: number } {
  try {
    return { text: readFileSync(file, 'utf8'), mode: statSync(file).mode };
  } catch (cause) {
    const missing = (cause as NodeJS.ErrnoException).code === 'ENOENT';
    throw new MirageError(`cannot read the configuration ${file}`, {
      errno: missing ? 'ENOENT' : 'EACCES',
      cause,
      hint: missing
        ? 'check the path, or write a new one with `mirage config init`'
        : 'make it readable for this user',
    });
  }
}
