import { errno } from '../../errors/errno.js';
import { MirageError } from '../../errors/mirage-error.js';
import { localFiles } from '../../native/local-files.js';
import type { OpenContext, OpenedBackend } from '../backend-type.js';
import { TreeBackend } from '../host/tree-backend.js';
import type { RamOptions } from './options.js';
import { createPrivateDirectory } from './private-directory.js';

/**
 * Memory as a tree: a tmpfs that is attached nowhere, so that it is reached through its descriptor alone and vanishes with the process. Where the
 * kernel does not let us make one, a private directory in /dev/shm; `size` cannot be held there.
 */
export async function open(options: unknown, context: OpenContext): Promise<OpenedBackend> {
  context.signal.throwIfAborted();
  const { size = 0 } = options as RamOptions;
  const root = localFiles().createMemoryTree(size);
  if (root >= 0) {
    const backend = new TreeBackend({ root, exclusive: true });
    return { backend, identity: 'ram:', probed: { memory: 'private tmpfs', size } };
  }
  if (root !== -errno.EPERM && root !== -errno.ENOSYS) throw MirageError.system('fsmount', -root);
  const directory = createPrivateDirectory();
  context.log.info('memory lies in a private directory: the kernel lets us make no tmpfs', {
    directory: directory.path,
  });
  const backend = new TreeBackend({
    root: directory.root,
    exclusive: true,
    dispose: () => directory.remove(),
  });
  return { backend, identity: 'ram:', probed: { memory: directory.path } };
}
