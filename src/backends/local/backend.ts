import { constants } from 'node:fs';
import { resolve } from 'node:path';
import { type ErrnoName, errnoName } from '../../errors/errno.js';
import { MirageError } from '../../errors/mirage-error.js';
import { localFiles } from '../../native/local-files.js';
import type { OpenContext, OpenedBackend } from '../backend-type.js';
import { TreeBackend } from '../host/tree-backend.js';
import type { LocalOptions } from './options.js';

const O_PATH = 0o10000000;

/** Opens a folder of this host. ENOENT, ENOTDIR, EACCES. */
export async function open(options: unknown, context: OpenContext): Promise<OpenedBackend> {
  context.signal.throwIfAborted();
  const path = resolve((options as LocalOptions).path);
  const native = localFiles();
  const bytes = Buffer.from(path, 'utf8').toString('latin1');
  const root = native.openPath(bytes, O_PATH | constants.O_DIRECTORY);
  if (root < 0) throw cannotOpen(path, -root);
  const listing = native.openAt(root, '', constants.O_RDONLY | constants.O_DIRECTORY, 0);
  if (listing < 0) {
    native.close(root);
    throw cannotOpen(path, -listing);
  }
  native.close(listing);
  return {
    backend: new TreeBackend({ root, exclusive: false }),
    identity: `local:${path}`,
    probed: { path },
  };
}

const HINTS: Readonly<Record<string, string>> = {
  ENOENT: 'create the folder, or correct `path`',
  ENOTDIR: '`path` must be a folder',
  EACCES: 'the user of the daemon needs read and search permission on the folder',
};

function cannotOpen(path: string, error: number): MirageError {
  const name = errnoName(error);
  const hint = HINTS[name];
  return new MirageError(`the folder ${path} cannot be opened: ${name}`, {
    errno: name as ErrnoName,
    ...(hint !== undefined && { hint }),
  });
}
