/** Where configuration, state, cache and sockets live (XDG base directories). */
import { existsSync } from 'node:fs';
import { homedir, tmpdir, userInfo } from 'node:os';
import { join, resolve } from 'node:path';

export type Environment = Readonly<Record<string, string | undefined>>;

/** In the order of the search; the first that exists is used. */
export function configurationFiles(environment: Environment): readonly string[] {
  return [
    resolve('mirage.yaml'),
    join(environment.XDG_CONFIG_HOME || join(home(environment), '.config'), 'mirage', 'config.yaml'),
    join(home(environment), '.mirage', 'config.yaml'),
    '/etc/mirage/config.yaml',
  ];
}

/** `chosen` (from `--config`) → `$MIRAGE_CONFIG` → the search; undefined when there is none. */
export function findConfiguration(chosen: string | undefined, environment: Environment): string | undefined {
  const named = chosen ?? environment.MIRAGE_CONFIG;
  return named ? resolve(named) : configurationFiles(environment).find((file) => existsSync(file));
}

/** Each mount point has its own state and cache, so that several daemons of one user do not meet. */
export function stateDirectory(mountpoint: string, environment: Environment): string {
  const base = environment.XDG_STATE_HOME || join(home(environment), '.local', 'state');
  return join(base, 'mirage', nameOf(mountpoint));
}

export function cacheDirectory(mountpoint: string, environment: Environment): string {
  return join(environment.XDG_CACHE_HOME || join(home(environment), '.cache'), 'mirage', nameOf(mountpoint));
}

/**
 * The control sockets of all daemons of this user. The same for root whatever the session, so that a service's daemon is found
 * from a terminal.
 */
export function runtimeDirectory(environment: Environment): string {
  if (environment.MIRAGE_RUNTIME) return resolve(environment.MIRAGE_RUNTIME);
  const { uid } = userInfo();
  if (uid === 0 && existsSync('/run')) return '/run/mirage';
  if (environment.XDG_RUNTIME_DIR) return join(environment.XDG_RUNTIME_DIR, 'mirage');
  return existsSync(`/run/user/${uid}`) ? `/run/user/${uid}/mirage` : join(tmpdir(), `mirage-${uid}`);
}

/** `~/x` as the shell reads it. */
export const expandHome = (path: string, environment: Environment): string =>
  path === '~' || path.startsWith('~/') ? join(home(environment), path.slice(1)) : path;

const home = (environment: Environment): string => environment.HOME || homedir();

/** A path as one file name, as systemd escapes it: `/mnt/my data` → `mnt-my\x20data`. */
function nameOf(path: string): string {
  const bare = resolve(path).replace(/^\/+/, '');
  if (bare === '') return '-';
  return bare
    .replace(/[^A-Za-z0-9_./:]/g, (c) =>
      [...Buffer.from(c)].map((byte) => `\\x${byte.toString(16).padStart(2, '0')}`).join(''),
    )
    .replaceAll('/', '-');
}
