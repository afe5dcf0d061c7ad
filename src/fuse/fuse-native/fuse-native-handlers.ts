/** The handlers of fuse-native in terms of the file-system operations: paths become nodes, callbacks become promises. */
import { errno } from '../../errors/errno.js';
import { errnoOf, MirageError } from '../../errors/mirage-error.js';
import type { Log } from '../../log/log.js';
import {
  type Answer,
  type AttributeChange,
  AttributesReply,
  type ByteString,
  type Call,
  type EntryAnswer,
  ExtendedAttributeReply,
  type FileSystem,
  type NodeId,
  OpenReply,
  ReadReply,
  Reply,
} from '../../vfs/operations.js';
import { bufferSource, copyFromFile } from './buffers.js';
import type { DentryCache, HeldNode } from './dentry-cache.js';
import { DirectoryCollector } from './directory-collector.js';
import type { FuseNativeHandlers } from './fuse-native-module.js';
import type { HandleTable } from './handle-table.js';
import type { HiddenFiles } from './hidden-files.js';
import { components, isMangled, splitPath, toBytes, toText } from './names.js';
import { fromMilliseconds, toStat, toStatfs } from './records.js';

export interface HandlerContext {
  readonly fileSystem: FileSystem;
  readonly call: Call;
  readonly dentries: DentryCache;
  readonly handles: HandleTable;
  readonly hidden: HiddenFiles;
  readonly log: Log;
  /** Called once for every request. */
  readonly count: () => void;
}

/** create(2) tells us no flags: everything a later read or write may need. */
const CREATE_FLAGS = 2; // O_RDWR
const UNCHANGED_ID = 0xffff_ffff;

export function createHandlers(context: HandlerContext): FuseNativeHandlers {
  const { fileSystem, call, dentries, handles, hidden, log } = context;
  const warned = new Set<string>();

  /** Answers a request exactly once, whatever happens. */
  function answer<T>(done: (error: number, value?: T) => void, operation: () => Promise<T>): void {
    context.count();
    operation().then(
      (value) => done(0, value),
      (error: unknown) => done(-errnoOf(error)),
    );
  }

  /** READ and WRITE answer with their count. */
  function answerCount(done: (result: number) => void, operation: () => Promise<number>): void {
    context.count();
    operation().then(done, (error: unknown) => done(-errnoOf(error)));
  }

  const resolve = (path: string, fresh: boolean): Promise<HeldNode> => {
    const alias = hidden.get(path);
    return alias === undefined
      ? dentries.resolve(call, components(path), fresh)
      : Promise.resolve(dentries.hold(alias));
  };

  /** Runs an operation on the node of a path; ESTALE means that the name leads to another node by now, as for the kernel. */
  async function onNode<T>(path: string, operation: (node: NodeId, held: HeldNode) => Answer<T>): Promise<T> {
    for (let fresh = false; ; fresh = true) {
      const held = await resolve(path, fresh);
      try {
        return await operation(held.node, held);
      } catch (error) {
        if (fresh || !MirageError.is(error, 'ESTALE')) throw error;
      } finally {
        dentries.release(held);
      }
    }
  }

  const inFolder = <T>(
    path: string,
    operation: (parent: NodeId, name: ByteString) => Answer<T>,
  ): Promise<T> => {
    const { folder, name } = splitPath(path);
    return onNode(folder, (parent) => operation(parent, toBytes(name)));
  };

  /** Makes a name: one whose bytes were lost on the way must not come into being as another. */
  const makeEntry = (
    path: string,
    operation: (parent: NodeId, name: ByteString) => Answer<EntryAnswer>,
  ): Promise<void> =>
    inFolder(path, async (parent, name) => {
      refuseMangled(path);
      const made = operation(parent, name);
      dentries.add(parent, name, made instanceof Promise ? await made : made);
    });

  function refuseMangled(path: string): void {
    if (isMangled(splitPath(path).name)) {
      throw new MirageError('a name that is not UTF-8 cannot pass fuse-native', {
        errno: 'EILSEQ',
        hint: 'use `binding: raw`',
      });
    }
  }

  /** The attributes record belongs to the file system: it is read before anything else runs. */
  const getattr: FuseNativeHandlers['getattr'] = (path, done) =>
    answer(done, () =>
      onNode(path, async (node) => {
        const reply = new AttributesReply();
        const pending = fileSystem.getattr(call, node, undefined, reply);
        if (pending instanceof Promise) await pending;
        check('getattr', reply);
        if (reply.attributes === undefined) throw MirageError.system('getattr', errno.EIO);
        return toStat(reply.attributes);
      }),
    );

  const setattr = (path: string, change: AttributeChange): Promise<void> =>
    onNode(path, async (node) => {
      await fileSystem.setattr(call, node, change);
    });

  async function withDirectory<T>(path: string, operation: (node: NodeId, handle: number) => Answer<T>) {
    return onNode(path, async (node) => {
      const reply = new OpenReply();
      await fileSystem.opendir(call, node, reply);
      check('opendir', reply);
      try {
        return await operation(node, reply.handle);
      } finally {
        await fileSystem.releasedir(call, node, reply.handle);
      }
    });
  }

  return {
    getattr,
    // fuse-native asks its getattr handler for open files too, by path.
    fgetattr: (path, _file, done) => getattr(path, done),

    statfs: (path, done) =>
      answer(done, () => onNode(path, async (node) => toStatfs(await fileSystem.statfs(call, node)))),

    readdir(path, done) {
      context.count();
      withDirectory(path, async (node, handle) => {
        const entries = new DirectoryCollector();
        do {
          await fileSystem.readdir(call, node, handle, entries.cookie, entries);
        } while (entries.startNext());
        if (entries.unreadable > 0)
          warnOnce('names', 'names that are not UTF-8 are not shown by fuse-native');
        return entries;
      }).then(
        ({ names, stats }) => done(0, names, stats),
        (error: unknown) => done(-errnoOf(error)),
      );
    },

    readlink: (path, done) =>
      answer(done, () =>
        onNode(path, async (node) => {
          const target = toText(await fileSystem.readlink(call, node));
          if (target === undefined) throw MirageError.system('readlink', errno.EILSEQ);
          return target;
        }),
      ),

    open: (path, flags, done) =>
      answer(done, () =>
        onNode(path, async (node, held) => {
          const reply = new OpenReply();
          await fileSystem.open(call, node, { flags }, reply);
          check('open', reply);
          return handles.add({ held: dentries.hold(held), handle: reply.handle });
        }),
      ),

    create: (path, mode, done) =>
      answer(done, () =>
        inFolder(path, async (parent, name) => {
          refuseMangled(path);
          const made = fileSystem.create(call, parent, name, mode, { flags: CREATE_FLAGS });
          const { entry, open } = made instanceof Promise ? await made : made;
          const held = dentries.add(parent, name, entry);
          return handles.add({ held: dentries.hold(held), handle: open.handle });
        }),
      ),

    read: (_path, file, buffer, length, position, done) =>
      answerCount(done, async () => {
        const { held, handle } = handles.get(file);
        const reply = new ReadReply();
        await fileSystem.read(call, held.node, handle, position, length, reply);
        check('read', reply);
        if (reply.fd >= 0) return copyFromFile(reply.fd, reply.position, reply.length, buffer);
        if (reply.bytes === undefined) return 0;
        buffer.set(reply.bytes.subarray(0, reply.length));
        return reply.length;
      }),

    write: (_path, file, buffer, length, position, done) =>
      answerCount(done, async () => {
        const { held, handle } = handles.get(file);
        return fileSystem.write(call, held.node, handle, position, bufferSource(buffer.subarray(0, length)));
      }),

    flush: (_path, file, done) =>
      answer(done, async () => {
        const { held, handle } = handles.get(file);
        const reply = new Reply();
        await fileSystem.flush(call, held.node, handle, reply);
        check('flush', reply);
      }),

    fsync: (_path, dataOnly, file, done) =>
      answer(done, async () => {
        const { held, handle } = handles.get(file);
        await fileSystem.fsync(call, held.node, handle, dataOnly !== 0);
      }),

    fsyncdir: (path, dataOnly, _file, done) =>
      answer(done, () =>
        withDirectory(path, (node, handle) => fileSystem.fsyncdir(call, node, handle, dataOnly !== 0)),
      ),

    release: (_path, file, done) =>
      answer(done, async () => {
        const { held, handle } = handles.take(file);
        try {
          await fileSystem.release(call, held.node, handle);
        } finally {
          dentries.release(held);
        }
      }),

    truncate: (path, size, done) => answer(done, () => setattr(path, { size })),

    ftruncate: (_path, file, size, done) =>
      answer(done, async () => {
        const { held, handle } = handles.get(file);
        await fileSystem.setattr(call, held.node, { size, handle });
      }),

    utimens: (path, accessed, modified, done) =>
      answer(done, () => {
        if (Number.isNaN(modified)) {
          warnOnce(
            'times',
            'this build of fuse-native hides modification times: they become the time of the call',
          );
          return setattr(path, { accessed: fromMilliseconds(accessed), modified: 'now' });
        }
        return setattr(path, {
          accessed: fromMilliseconds(accessed),
          modified: fromMilliseconds(modified),
        });
      }),

    chmod: (path, mode, done) => answer(done, () => setattr(path, { mode })),

    chown: (path, uid, gid, done) =>
      answer(done, () =>
        setattr(path, {
          ...(uid === UNCHANGED_ID ? {} : { uid }),
          ...(gid === UNCHANGED_ID ? {} : { gid }),
        }),
      ),

    mknod: (path, mode, device, done) =>
      answer(done, () =>
        makeEntry(path, (parent, name) => fileSystem.mknod(call, parent, name, mode, device)),
      ),

    mkdir: (path, mode, done) =>
      answer(done, () => makeEntry(path, (parent, name) => fileSystem.mkdir(call, parent, name, mode))),

    symlink: (target, path, done) =>
      answer(done, () =>
        makeEntry(path, (parent, name) => fileSystem.symlink(call, parent, name, toBytes(target))),
      ),

    link: (existing, path, done) =>
      answer(done, () =>
        onNode(existing, (node) =>
          makeEntry(path, (parent, name) => fileSystem.link(call, node, parent, name)),
        ),
      ),

    unlink: (path, done) =>
      answer(done, async () => {
        if (hidden.remove(path)) return;
        await inFolder(path, async (parent, name) => {
          await fileSystem.unlink(call, parent, name);
          dentries.drop(parent, name);
        });
      }),

    rmdir: (path, done) =>
      answer(done, () =>
        inFolder(path, async (parent, name) => {
          await fileSystem.rmdir(call, parent, name);
          dentries.drop(parent, name);
        }),
      ),

    rename: (from, to, done) =>
      answer(done, () =>
        inFolder(from, async (parent, name) => {
          if (hidden.expects(to) && (await hide(from, to, parent, name))) return;
          refuseMangled(to);
          await inFolder(to, async (newParent, newName) => {
            await fileSystem.rename(call, parent, name, newParent, newName, 0);
            dentries.drop(parent, name);
            dentries.drop(newParent, newName);
          });
        }),
      ),

    setxattr: (path, name, value, _position, flags, done) =>
      answer(done, () =>
        onNode(path, (node) => fileSystem.setxattr(call, node, toBytes(name), Uint8Array.from(value), flags)),
      ),

    getxattr: (path, name, _position, done) =>
      answer(done, () =>
        onNode(path, async (node) => {
          const reply = new ExtendedAttributeReply();
          await fileSystem.getxattr(call, node, toBytes(name), reply);
          check('getxattr', reply);
          return Buffer.from(reply.value ?? []);
        }),
      ),

    listxattr: (path, done) =>
      answer(done, () =>
        onNode(path, async (node) => {
          const names = await fileSystem.listxattr(call, node);
          return names.map(toText).filter((name) => name !== undefined);
        }),
      ),

    removexattr: (path, name, done) =>
      answer(done, () => onNode(path, (node) => fileSystem.removexattr(call, node, toBytes(name)))),
  };

  /** libfuse hides a file that is open: the name goes, the node stays reachable. False: the file is not open. */
  async function hide(from: string, to: string, parent: NodeId, name: ByteString): Promise<boolean> {
    const held = await resolve(from, false);
    if (!handles.isOpen(held)) {
      dentries.release(held);
      return false;
    }
    try {
      await fileSystem.unlink(call, parent, name);
    } catch (error) {
      dentries.release(held);
      throw error;
    }
    dentries.drop(parent, name);
    hidden.add(to, held);
    return true;
  }

  function warnOnce(subject: 'names' | 'times', message: string): void {
    if (warned.has(subject)) return;
    warned.add(subject);
    log.warn(message, { binding: 'fuse-native' });
  }
}

function check(call: string, reply: Reply): void {
  if (reply.errno !== 0) throw MirageError.system(call, reply.errno);
}
