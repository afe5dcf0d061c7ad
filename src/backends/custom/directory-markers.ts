import { MirageError } from '../../errors/mirage-error.js';
import type {
  Backend,
  ByteSource,
  Context,
  DirectoryBackend,
  ObjectInfo,
  Precondition,
  StoredAttributes,
} from '../contract.js';
import { hasSetAttributes } from '../contract.js';

/** An object of this name, which no listing shows, makes an empty directory of the prefix that it is in, and keeps the attributes of it. */
const MARKER = '.mirage-directory';

const markerOf = (key: string): string => `${key}/${MARKER}`;
const ANY: Precondition = { kind: 'any' };
const EMPTY: ByteSource = { size: 0, async *read() {} };

/** Directories for a store that has only objects, in which a directory is what its objects have in common. */
export function withDirectoryMarkers(inner: Backend): DirectoryBackend {
  async function directory(key: string, context: Context): Promise<ObjectInfo | undefined> {
    if (key === '') return undefined;
    const marker = await inner.stat(markerOf(key), context);
    return marker?.kind === 'file' ? { ...marker, key, kind: 'directory', size: undefined } : undefined;
  }

  async function mark(
    key: string,
    attributes: StoredAttributes,
    precondition: Precondition,
    context: Context,
  ): Promise<ObjectInfo> {
    const marker = await inner.write(markerOf(key), EMPTY, { precondition, attributes }, context);
    return { ...marker, key, kind: 'directory', size: undefined };
  }

  return {
    ...inner,
    async stat(key, context) {
      const found = await inner.stat(key, context);
      return found?.kind === 'directory' ? ((await directory(key, context)) ?? found) : found;
    },
    async list(prefix, cursor, context) {
      const page = await inner.list(prefix, cursor, context);
      return { ...page, entries: page.entries.filter(({ key }) => !key.endsWith(`/${MARKER}`)) };
    },
    async createDirectory(key, attributes, context) {
      try {
        return await mark(key, attributes, { kind: 'absent' }, context);
      } catch (error) {
        if (!MirageError.is(error, 'ESTALE')) throw error;
        throw new MirageError(`createDirectory ${key}: it exists`, { errno: 'EEXIST', cause: error });
      }
    },
    async removeDirectory(key, context) {
      let cursor: string | undefined;
      do {
        const page = await inner.list(key, cursor, context);
        if (page.entries.some((entry) => entry.key !== markerOf(key))) {
          throw new MirageError(`removeDirectory ${key}: it is not empty`, { errno: 'ENOTEMPTY' });
        }
        cursor = page.cursor;
      } while (cursor !== undefined);
      await inner.remove(markerOf(key), ANY, context);
    },
    ...(hasSetAttributes(inner) && {
      setAttributes: (
        ...[key, kind, attributes, precondition, context]: Parameters<typeof inner.setAttributes>
      ) =>
        kind === 'directory'
          ? mark(key, attributes, precondition, context)
          : inner.setAttributes(key, kind, attributes, precondition, context),
    }),
  };
}
