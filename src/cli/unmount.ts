import { execFile } from 'node:child_process';
import { realpathSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { runtimeDirectory } from '../config/directories.js';
import { askUnmount, type RunningDaemon, runningDaemons } from '../daemon/control-client.js';
import { helperPath } from '../daemon/mount-point.js';
import { mountedAt } from '../daemon/mount-table.js';
import { MirageError } from '../errors/mirage-error.js';
import { exitCodes } from './exit-codes.js';
import type { Output } from './output.js';

export async function unmount(folder: string, force: boolean, output: Output): Promise<number> {
  const daemon = await daemonAt(folder);
  if (daemon === undefined) return removeDead(folder, output);
  const { mountpoint } = daemon.status;
  let announced = '';
  const lost = await askUnmount(daemon.socket, force, (pending) => {
    const text = pending.length > 0 ? `waiting for ${pending.length}: ${shorten(pending)}` : '';
    if (text !== '' && text !== announced) output.note(text);
    announced = text;
  });
  output.line(`Unmounted ${mountpoint}`);
  if (lost.length === 0) return exitCodes.ok;
  output.problem({
    what: `${lost.length} changes are not on their store`,
    why: `given up: ${shorten(lost)}`,
    remedy: `what was kept lies in ${join(daemon.status.state, 'conflicts')}`,
  });
  return exitCodes.partial;
}

/** The daemon with this mount point. Never looks at the folder itself, whose mount may be dead. */
export async function daemonAt(folder: string): Promise<RunningDaemon | undefined> {
  const path = withoutLinks(folder);
  const daemons = await runningDaemons(runtimeDirectory(process.env));
  return daemons.find(({ status }) => status.mountpoint === path || status.mountpoint === resolve(folder));
}

/** A mount whose daemon was killed answers nobody and holds nothing: it can only go. */
async function removeDead(folder: string, output: Output): Promise<number> {
  const path = withoutLinks(folder);
  const dead = mountedAt(path);
  if (dead === undefined || dead.source !== 'mirage' || !dead.type.startsWith('fuse')) {
    throw new MirageError(`nothing of Mirage is mounted at ${path}`, {
      errno: 'ENOENT',
      cause: new Error('no daemon of this user serves it'),
      hint: 'see what is mounted: mirage status',
    });
  }
  const [program, option] =
    process.getuid?.() === 0 ? ['umount', '-l'] : [helperPath() ?? 'fusermount3', '-uz'];
  await new Promise<void>((done, failed) => {
    execFile(program!, [option!, path], (error, _, said) => {
      if (error === null) done();
      else {
        const cause = new Error(said.trim() || error.message);
        failed(
          new MirageError(`cannot unmount ${path}`, {
            errno: 'EPERM',
            cause,
            hint: `sudo umount -l ${path}`,
          }),
        );
      }
    });
  });
  output.line(`Unmounted ${path} (its daemon was gone)`);
  return exitCodes.ok;
}

function withoutLinks(folder: string): string {
  const path = resolve(folder);
  try {
    return join(realpathSync(dirname(path)), basename(path));
  } catch {
    return path;
  }
}

const shorten = (names: readonly string[]): string =>
  names.slice(0, 5).join(', ') + (names.length > 5 ? `, and ${names.length - 5} more` : '');
