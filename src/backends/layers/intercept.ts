import {
  type AttributeBackend,
  type Backend,
  type BatchRemovalBackend,
  type Context,
  type CopyBackend,
  type DirectoryBackend,
  type HostTreeBackend,
  hasCopy,
  hasDirectories,
  hasHostTree,
  hasLocks,
  hasRemoveMany,
  hasRename,
  hasSetAttributes,
  hasUsage,
  type LockBackend,
  type RenameBackend,
  type UsageBackend,
} from '../contract.js';
import { type FileServerBackend, hasFileServer } from '../file-server.js';
import { hasMultipart, type MultipartBackend } from '../multipart.js';
import { interceptMultipart } from './multipart.js';

export type OperationName =
  | 'stat'
  | 'list'
  | 'read'
  | 'write'
  | 'remove'
  | 'removeMany'
  | 'beginUpload'
  | 'sendPart'
  | 'completeUpload'
  | 'abortUpload'
  | 'sentParts'
  | 'uploads'
  | 'createDirectory'
  | 'removeDirectory'
  | 'copy'
  | 'setAttributes'
  | 'rename'
  | 'usage';

/** Operations that change the store. */
export const CHANGES: ReadonlySet<OperationName> = new Set([
  'write',
  'remove',
  'removeMany',
  'completeUpload',
  'createDirectory',
  'removeDirectory',
  'copy',
  'setAttributes',
  'rename',
]);

type Optional = DirectoryBackend &
  BatchRemovalBackend &
  MultipartBackend &
  CopyBackend &
  AttributeBackend &
  RenameBackend &
  UsageBackend &
  LockBackend &
  HostTreeBackend &
  FileServerBackend;

/** Runs around a call; `proceed` makes it, as often as the interceptor likes. `key` is what it is about: the target of a copy. */
export type Interceptor = <T>(
  operation: OperationName,
  key: string,
  context: Context,
  proceed: (context: Context) => Promise<T>,
) => Promise<T>;

/**
 * A backend whose every call goes through `around`. Optional operations are there only where `inner` has them,
 * so the type guards of the contract tell the truth of the wrapped one.
 */
export function intercept(inner: Backend, around: Interceptor): Backend {
  const wrapped: Backend & Partial<Optional> = {
    capabilities: inner.capabilities,
    stat: (key, context) => around('stat', key, context, (c) => inner.stat(key, c)),
    list: (prefix, cursor, context) => around('list', prefix, context, (c) => inner.list(prefix, cursor, c)),
    read: (key, range, sink, context, match) =>
      around('read', key, context, (c) => inner.read(key, range, sink, c, match)),
    write: (key, source, options, context) =>
      around('write', key, context, (c) => inner.write(key, source, options, c)),
    remove: (key, precondition, context) =>
      around('remove', key, context, (c) => inner.remove(key, precondition, c)),
    ...(hasRemoveMany(inner) && {
      removeMany: (removals, context) =>
        around('removeMany', removals[0]?.key ?? '', context, (c) => inner.removeMany(removals, c)),
    }),
    ...(hasMultipart(inner) && { multipart: interceptMultipart(inner.multipart, around) }),
    ...(hasDirectories(inner) && {
      createDirectory: (key, attributes, context) =>
        around('createDirectory', key, context, (c) => inner.createDirectory(key, attributes, c)),
      removeDirectory: (key, context) =>
        around('removeDirectory', key, context, (c) => inner.removeDirectory(key, c)),
    }),
    ...(hasCopy(inner) && {
      copy: (from, to, options, context) =>
        around('copy', to, context, (c) => inner.copy(from, to, options, c)),
    }),
    ...(hasSetAttributes(inner) && {
      setAttributes: (key, kind, attributes, precondition, context) =>
        around('setAttributes', key, context, (c) =>
          inner.setAttributes(key, kind, attributes, precondition, c),
        ),
    }),
    ...(hasRename(inner) && {
      rename: (from, to, context) => around('rename', to, context, (c) => inner.rename(from, to, c)),
    }),
    ...(hasUsage(inner) && {
      usage: (context) => around('usage', '', context, (c) => inner.usage(c)),
    }),
    ...(hasHostTree(inner) && { openTree: () => inner.openTree() }),
    // A lease that comes late is none: whoever takes it has deadlines of its own.
    ...(hasLocks(inner) && { locks: inner.locks }),
    // Its driver has its own deadlines and bounds: a file server is more than a store of objects.
    ...(hasFileServer(inner) && { fileServer: inner.fileServer }),
    ...(inner.close && { close: inner.close.bind(inner) }),
  };
  return wrapped;
}

/** A copy of `inner` as a plain object, to replace single operations of: those of a class would be lost in a spread. */
export const plain = (inner: Backend): Backend =>
  intercept(inner, (_operation, _key, context, proceed) => proceed(context));
