/**
 * The second binding: the same operations through the npm package fuse-native (libfuse 2.9), for macOS and for hosts where
 * our own transport cannot be built. What it cannot do is listed in docs/semantics.md.
 */
import { realpath } from 'node:fs/promises';
import { isMainThread } from 'node:worker_threads';
import type { ErrnoName } from '../../errors/errno.js';
import { MirageError } from '../../errors/mirage-error.js';
import type { Log } from '../../log/log.js';
import type { Call, FileSystem } from '../../vfs/operations.js';
import type { Binding } from '../binding.js';
import { DentryCache } from './dentry-cache.js';
import { createHandlers } from './fuse-native-handlers.js';
import { createFuse, loadFuseNative, type MendedFuse } from './fuse-native-module.js';
import { HandleTable } from './handle-table.js';
import { HiddenFiles } from './hidden-files.js';
import { watchUnmount } from './unmount-watch.js';

export interface FuseNativeOptions {
  /** An existing directory. */
  mountpoint: string;
  allowOther: boolean;
  log: Log;
}

const DENTRIES = 16_384;

/**
 * fuse-native joins its options with commas, unescaped, so that options it does not know can ride on the name: writes of
 * 128 KiB instead of 4 KiB, and our own inode numbers. (Not `hard_remove`: libfuse then forgets the path of an open file.)
 */
const SOURCE = 'mirage,big_writes,max_write=131072,use_ino';

/** Mounts; resolves when the kernel's INIT was answered. Main thread only: fuse-native uses the default event loop. */
export async function mountFuseNative(fileSystem: FileSystem, options: FuseNativeOptions): Promise<Binding> {
  if (!isMainThread) {
    throw new MirageError('fuse-native works on the main thread only', { errno: 'EINVAL' });
  }
  const Fuse = loadFuseNative();
  const mountpoint = await realpath(options.mountpoint).catch((cause: unknown) => {
    throw mountError(options.mountpoint, cause);
  });

  const interrupt = new AbortController();
  // libfuse knows who asks, but fuse-native does not pass it on.
  const call: Call = {
    uid: process.getuid?.() ?? 0,
    gid: process.getgid?.() ?? 0,
    pid: 0,
    signal: interrupt.signal,
  };
  const dentries = new DentryCache(fileSystem, DENTRIES, () => performance.now());
  const handles = new HandleTable();
  const hidden = new HiddenFiles(dentries);
  let requests = 0;
  const handlers = createHandlers({
    fileSystem,
    call,
    dentries,
    handles,
    hidden,
    log: options.log,
    count: () => {
      requests++;
    },
  });
  const fuse = createFuse(Fuse, mountpoint, handlers, {
    timeout: false,
    allowOther: options.allowOther,
    defaultPermissions: true,
    fsname: SOURCE,
    // A number 0 would be dropped, and libfuse would then keep names and attributes for a second.
    entryTimeout: '0',
    attrTimeout: '0',
  });
  await mount(fuse, options.mountpoint);

  const watch = watchUnmount(mountpoint);
  let finish: () => void = () => undefined;
  const finished = new Promise<void>((resolve) => {
    finish = resolve;
  });
  const ended = Promise.race([watch.ended, finished]).then(async () => {
    interrupt.abort();
    await watch.close();
    for (const { held, handle } of handles.takeAll()) {
      await Promise.resolve(fileSystem.release(call, held.node, handle)).catch((cause: unknown) =>
        options.log.warn('an open file could not be released', { cause: String(cause) }),
      );
      dentries.release(held);
    }
    hidden.clear();
    dentries.clear();
    fuse.gone = true;
    await unmount(fuse);
  });

  return {
    name: 'fuse-native',
    ended,
    async unmount() {
      await unmount(fuse);
      finish();
      await ended;
    },
    counters: () => ({ requests, dentries: dentries.size, handles: handles.size }),
  };
}

const mount = (fuse: MendedFuse, mountpoint: string): Promise<void> =>
  new Promise((resolve, reject) => {
    fuse.mount((error) => (error === null ? resolve() : reject(mountError(mountpoint, error))));
  });

const unmount = (fuse: MendedFuse): Promise<void> =>
  new Promise((resolve, reject) => {
    fuse.unmount((error) => (error ? reject(unmountError(fuse.mnt, error)) : resolve()));
  });

function mountError(mountpoint: string, cause: unknown): MirageError {
  const said = cause instanceof Error ? cause.message : String(cause);
  const known: [RegExp, ErrnoName, string][] = [
    [/ENOENT|does not exist/, 'ENOENT', 'make the directory first'],
    [/ENOTCONN/, 'ENOTCONN', `a dead mount is in the way: umount -f ${mountpoint}`],
    [/not a directory/, 'ENOTDIR', 'choose a directory'],
    [/in use/, 'EBUSY', 'something is mounted there already'],
  ];
  const [, errno, hint] = known.find(([pattern]) => pattern.test(said)) ?? [
    undefined,
    'EIO' as const,
    'libfuse said why above; it needs /dev/fuse, a fusermount, and `user_allow_other` in /etc/fuse.conf for allowOther',
  ];
  return new MirageError(`fuse-native cannot mount ${mountpoint}`, { errno, hint, cause });
}

const unmountError = (mountpoint: string, cause: Error): MirageError =>
  new MirageError(`fuse-native cannot unmount ${mountpoint}`, {
    errno: 'EBUSY',
    cause,
    hint: 'a program still has a file open there',
  });
