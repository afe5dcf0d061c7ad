import {
  type Backend,
  type Capabilities,
  type Context,
  hasCopy,
  hasDirectories,
  hasRemoveMany,
  hasRename,
  hasSetAttributes,
  hasUsage,
  type ListPage,
  type ObjectInfo,
  type Precondition,
  type Removal,
  type StoredAttributes,
} from '../backends/contract.js';
import { hasMultipart } from '../backends/multipart.js';
import { removeEach } from '../backends/object-store/removals.js';
import { MirageError } from '../errors/mirage-error.js';
import type { Log } from '../log/log.js';
import type {
  CommitRequest,
  CopyRequest,
  Fetched,
  FetchRequest,
  MountIndex,
  StoreFeatures,
  StorePort,
} from '../ports/store-port.js';
import { FileSink } from './file-sink.js';
import { fileSource } from './file-source.js';
import { forget, uploadInParts } from './upload.js';
import type { UploadRecords } from './upload-records.js';

/** Bytes between two reports of progress. The first one comes sooner: it is what a reader waits for. */
const PROGRESS = 256 * 1024;
const FIRST_PROGRESS = 64 * 1024;

/** Where large uploads are remembered, and what the store of a mount is called there. */
export interface Uploads {
  readonly records: UploadRecords;
  readonly identityOf: (mount: MountIndex) => string;
}

/**
 * The store port over backends: what the file-system side asks, carried out on the I/O side. Content moves between backend and descriptor,
 * streamed; a call settles only after it has stopped touching its descriptor.
 */
export class Transfer implements StorePort {
  readonly #backends: readonly (Backend | undefined)[];
  readonly #uploads: Uploads | undefined;
  readonly #log: Log;

  /** `backends` by mount index; a hole is a mount whose store could not be opened. */
  constructor(backends: readonly (Backend | undefined)[], options: { log: Log; uploads?: Uploads }) {
    this.#backends = backends;
    this.#uploads = options.uploads;
    this.#log = options.log;
  }

  capabilities(mount: MountIndex): Capabilities {
    return this.#backend(mount).capabilities;
  }

  features(mount: MountIndex): StoreFeatures {
    return featuresOf(this.#backend(mount));
  }

  stat(mount: MountIndex, key: string, signal?: AbortSignal): Promise<ObjectInfo | undefined> {
    return this.#run('stat', mount, key, signal, (backend, context) => backend.stat(key, context));
  }

  list(
    mount: MountIndex,
    prefix: string,
    cursor: string | undefined,
    signal?: AbortSignal,
  ): Promise<ListPage> {
    return this.#run('list', mount, prefix, signal, (backend, context) =>
      backend.list(prefix, cursor, context),
    );
  }

  fetch(mount: MountIndex, request: FetchRequest, signal?: AbortSignal): Promise<Fetched> {
    const { key, range, fd, position = range.offset, match, checksumBlock, onBegin, onProgress } = request;
    return this.#run('fetch', mount, key, signal, async (backend, context) => {
      let next = Math.min(FIRST_PROGRESS, range.length);
      let arrived = 0;
      const sink = new FileSink(fd, position, range.length, {
        ...(checksumBlock !== undefined && { checksumBlock }),
        ...(onBegin !== undefined && { onBegin }),
        onWritten: (bytes) => {
          arrived = bytes;
          // The answer of the call says that all is here.
          if (bytes < next || bytes === range.length) return;
          next = bytes + PROGRESS;
          onProgress?.(range.offset + bytes);
        },
      });
      try {
        const info = await backend.read(key, range, sink, context, match);
        await sink.finish();
        return checksumBlock === undefined ? info : { ...info, checksums: sink.checksums() };
      } catch (error) {
        await sink.finish().catch(() => undefined);
        if (arrived > 0) onProgress?.(range.offset + arrived);
        throw error;
      }
    });
  }

  commit(mount: MountIndex, request: CommitRequest, signal?: AbortSignal): Promise<ObjectInfo> {
    const { key, fd, size, precondition, attributes } = request;
    return this.#run('commit', mount, key, signal, async (backend, context) => {
      const source = fileSource(fd, size);
      const options = { precondition, attributes };
      const uploads = this.#uploads;
      const inParts = hasMultipart(backend) && size > backend.multipart.above(precondition);
      if (!inParts || uploads === undefined) return backend.write(key, source, options, context);
      const { multipart } = backend;
      const { records } = uploads;
      const identity = uploads.identityOf(mount);
      const job = { multipart, identity, key, source, options, records, again: request.again ?? false };
      try {
        return await uploadInParts(job, context);
      } catch (error) {
        // What is there now cannot be replaced in parts.
        if (!MirageError.is(error, 'ENOTSUP')) throw error;
        return backend.write(key, source, options, context);
      }
    });
  }

  abandonUploads(mount: MountIndex, needed: readonly string[]): Promise<void> {
    return this.#run('abandonUploads', mount, '', undefined, async (backend) => {
      if (!hasMultipart(backend) || this.#uploads === undefined) return;
      const { records, identityOf } = this.#uploads;
      const wanted = new Set(needed);
      for (const record of records.left(identityOf(mount))) {
        if (!wanted.has(record.writer)) await forget(backend.multipart, records, record);
      }
    });
  }

  remove(mount: MountIndex, key: string, precondition: Precondition): Promise<void> {
    return this.#run('remove', mount, key, undefined, (backend, context) =>
      backend.remove(key, precondition, context),
    );
  }

  removeMany(mount: MountIndex, removals: readonly Removal[]): Promise<readonly (MirageError | undefined)[]> {
    return this.#run('removeMany', mount, `${removals.length} objects`, undefined, (backend, context) =>
      hasRemoveMany(backend)
        ? backend.removeMany(removals, context)
        : removeEach(removals, (removal) => backend.remove(removal.key, removal.precondition, context)),
    );
  }

  createDirectory(mount: MountIndex, key: string, attributes: StoredAttributes): Promise<ObjectInfo> {
    return this.#run('createDirectory', mount, key, undefined, (backend, context) => {
      if (!hasDirectories(backend)) throw unsupported('keeps no directories');
      return backend.createDirectory(key, attributes, context);
    });
  }

  removeDirectory(mount: MountIndex, key: string): Promise<void> {
    return this.#run('removeDirectory', mount, key, undefined, (backend, context) => {
      if (!hasDirectories(backend)) throw unsupported('keeps no directories');
      return backend.removeDirectory(key, context);
    });
  }

  copy(mount: MountIndex, request: CopyRequest): Promise<ObjectInfo> {
    const { from, to, match, precondition, attributes, size } = request;
    return this.#run('copy', mount, to, undefined, (backend, context) => {
      if (!hasCopy(backend)) throw unsupported('cannot copy by itself');
      const options = {
        precondition,
        ...(attributes !== undefined && { attributes }),
        ...(match !== undefined && { match }),
        ...(size !== undefined && { size }),
      };
      return backend.copy(from, to, options, context);
    });
  }

  setAttributes(
    mount: MountIndex,
    key: string,
    kind: 'file' | 'directory',
    attributes: StoredAttributes,
    precondition: Precondition,
  ): Promise<ObjectInfo> {
    return this.#run('setAttributes', mount, key, undefined, (backend, context) => {
      if (!hasSetAttributes(backend)) throw unsupported('keeps no attributes');
      return backend.setAttributes(key, kind, attributes, precondition, context);
    });
  }

  rename(mount: MountIndex, from: string, to: string): Promise<void> {
    return this.#run('rename', mount, from, undefined, (backend, context) => {
      if (!hasRename(backend)) throw unsupported('cannot rename by itself');
      return backend.rename(from, to, context);
    });
  }

  usage(
    mount: MountIndex,
  ): Promise<{ total?: number; free?: number; entries?: number; freeEntries?: number }> {
    return this.#run('usage', mount, '', undefined, (backend, context) => {
      if (!hasUsage(backend)) throw unsupported('does not tell its usage');
      return backend.usage(context);
    });
  }

  #backend(mount: MountIndex): Backend {
    const backend = this.#backends[mount];
    if (backend === undefined) {
      throw new MirageError('the store of this mount could not be reached when it was mounted', {
        errno: 'EHOSTDOWN',
        hint: 'see `mirage status`; mount again when the store answers',
      });
    }
    return backend;
  }

  async #run<T>(
    operation: string,
    mount: MountIndex,
    key: string,
    signal: AbortSignal | undefined,
    call: (backend: Backend, context: Context) => Promise<T>,
  ): Promise<T> {
    const backend = this.#backend(mount);
    try {
      signal?.throwIfAborted();
      return await call(backend, { signal: signal ?? new AbortController().signal });
    } catch (error) {
      if (signal?.aborted) {
        const outcomeUnknown = MirageError.is(error) && error.outcomeUnknown;
        throw new MirageError(`${operation} ${key}: aborted`, {
          errno: 'EINTR',
          outcomeUnknown,
          cause: error,
        });
      }
      const { message, errno, hint } = MirageError.is(error)
        ? error
        : { message: String(error), errno: 'EIO', hint: undefined };
      this.#log.debug('store operation failed', { operation, mount, key, errno, message, hint });
      throw error;
    }
  }
}

/** Which optional operations a backend has, as plain data. */
export function featuresOf(backend: Backend): StoreFeatures {
  return {
    directories: hasDirectories(backend),
    copy: hasCopy(backend),
    setAttributes: hasSetAttributes(backend),
    rename: hasRename(backend),
    usage: hasUsage(backend),
  };
}

function unsupported(reason: string): MirageError {
  return new MirageError(`the store ${reason}`, { errno: 'ENOTSUP' });
}
