import type { MessagePort } from 'node:worker_threads';
import type { Capabilities, ObjectInfo } from '../backends/contract.js';
import { fromPlainError, MirageError, type PlainError, toPlainError } from '../errors/mirage-error.js';
import { Outbox } from './outbox.js';
import type { FetchRequest, MountIndex, StoreFeatures, StorePort } from './store-port.js';

/** The store port between two threads. Bytes never cross; a descriptor number does. */

/** The operations that cross, all with a mount as their first argument. */
type Operation = Exclude<keyof StorePort, 'capabilities' | 'features'>;

/** [operation, id, arguments after which a signal may stand]. The callbacks of a fetch do not cross: reports carry the id. */
type Call = readonly ['call', id: number, operation: Operation, parameters: readonly unknown[]];
type ToStore = Call | readonly ['abort', id: number];
type FromStore =
  | readonly ['result', id: number, value: unknown]
  | readonly ['error', id: number, error: PlainError]
  | readonly ['begin', id: number, info: ObjectInfo]
  | readonly ['progress', id: number, arrivedTo: number];

/** Answers the calls that arrive over `channel` with `store`. `close` aborts what is under way and answers no more. */
export function serveStorePort(channel: MessagePort, store: StorePort): { close(): void } {
  const outbox = new Outbox<FromStore>(channel);
  const running = new Map<number, AbortController>();

  async function answer([, id, operation, parameters]: Call): Promise<void> {
    const controller = new AbortController();
    running.set(id, controller);
    try {
      const value = await perform(store, operation, parameters, controller.signal, {
        onBegin: (info) => outbox.push(['begin', id, info]),
        onProgress: (arrivedTo) => outbox.push(['progress', id, arrivedTo]),
      });
      outbox.push(['result', id, value]);
    } catch (error) {
      outbox.push(['error', id, toPlainError(error)]);
    } finally {
      running.delete(id);
    }
  }

  const abortAll = () => {
    for (const controller of running.values()) controller.abort();
  };
  channel.on('message', (messages: readonly ToStore[]) => {
    for (const message of messages) {
      if (message[0] === 'call') void answer(message);
      else running.get(message[1])?.abort();
    }
  });
  channel.on('close', abortAll);
  return {
    close() {
      abortAll();
      channel.close();
    },
  };
}

async function perform(
  store: StorePort,
  operation: Operation,
  parameters: readonly unknown[],
  signal: AbortSignal,
  reports: Reports,
): Promise<unknown> {
  if (operation === 'fetch') {
    const [mount, request, wantsBegin] = parameters as [MountIndex, FetchRequest, boolean];
    const { onBegin, onProgress } = reports;
    return store.fetch(
      mount,
      {
        ...request,
        ...(onProgress !== undefined && { onProgress }),
        // A report that nobody reads would wake the other thread for nothing.
        ...(wantsBegin && onBegin !== undefined && { onBegin }),
      },
      signal,
    );
  }
  if (operation === 'removeMany') {
    const outcomes = await store.removeMany(...(parameters as Parameters<StorePort['removeMany']>));
    return outcomes.map((error) => (error === undefined ? undefined : toPlainError(error)));
  }
  const method = store[operation] as (...parameters: unknown[]) => Promise<unknown>;
  return method.call(store, ...parameters, signal);
}

type Reports = Pick<FetchRequest, 'onBegin' | 'onProgress'>;

interface Pending {
  resolve(value: unknown): void;
  reject(error: MirageError): void;
  readonly reports: Reports | undefined;
  readonly signal: AbortSignal | undefined;
  readonly abort: () => void;
}

/**
 * The store port of the thread at the other end. `mounts`, by index, is what the store side said of its backends. An aborted call rejects when the
 * other side has stopped, so its descriptor is free from then on. `close` rejects what is pending with ECANCELED; a channel that the
 * other side closed does so with EIO.
 */
export function connectStorePort(
  channel: MessagePort,
  mounts: readonly { readonly capabilities: Capabilities; readonly features: StoreFeatures }[],
): StorePort & { close(): void } {
  const outbox = new Outbox<ToStore>(channel);
  const pending = new Map<number, Pending>();
  let nextId = 1;
  let closed: MirageError | undefined;

  function call<T>(
    operation: Operation,
    parameters: readonly unknown[],
    signal?: AbortSignal,
    reports?: Reports,
  ): Promise<T> {
    return new Promise((resolve, reject) => {
      if (closed !== undefined) return reject(closed);
      if (signal?.aborted) return reject(new MirageError(`${operation}: aborted`, { errno: 'EINTR' }));
      const id = nextId++;
      const abort = () => outbox.push(['abort', id]);
      signal?.addEventListener('abort', abort, { once: true });
      pending.set(id, { resolve: resolve as (value: unknown) => void, reject, reports, signal, abort });
      outbox.push(['call', id, operation, parameters]);
    });
  }

  function settle(id: number): Pending | undefined {
    const call = pending.get(id);
    pending.delete(id);
    call?.signal?.removeEventListener('abort', call.abort);
    return call;
  }

  function end(error: MirageError): void {
    if (closed !== undefined) return;
    closed = error;
    for (const id of [...pending.keys()]) settle(id)?.reject(error);
  }

  channel.on('message', (messages: readonly FromStore[]) => {
    for (const message of messages) {
      const [kind, id] = message;
      if (kind === 'result') settle(id)?.resolve(message[2]);
      else if (kind === 'error') settle(id)?.reject(fromPlainError(message[2]));
      else if (kind === 'begin') pending.get(id)?.reports?.onBegin?.(message[2]);
      else pending.get(id)?.reports?.onProgress?.(message[2]);
    }
  });
  channel.on('close', () => end(new MirageError('the I/O side has ended', { errno: 'EIO' })));

  const mountAt = (mount: MountIndex) => {
    const entry = mounts[mount];
    if (entry === undefined) throw new MirageError(`there is no mount ${mount}`, { errno: 'EIO' });
    return entry;
  };
  return {
    capabilities: (mount) => mountAt(mount).capabilities,
    features: (mount) => mountAt(mount).features,
    stat: (mount, key, signal) => call('stat', [mount, key], signal),
    list: (mount, prefix, cursor, signal) => call('list', [mount, prefix, cursor], signal),
    fetch: (mount, { onBegin, onProgress, ...request }, signal) =>
      call('fetch', [mount, request, onBegin !== undefined], signal, {
        ...(onBegin !== undefined && { onBegin }),
        ...(onProgress !== undefined && { onProgress }),
      }),
    commit: (mount, request, signal) => call('commit', [mount, request], signal),
    remove: (mount, key, precondition) => call('remove', [mount, key, precondition]),
    abandonUploads: (mount, needed) => call('abandonUploads', [mount, needed]),
    removeMany: async (mount, removals) => {
      const outcomes = await call<readonly (PlainError | undefined)[]>('removeMany', [mount, removals]);
      return outcomes.map((error) => (error === undefined ? undefined : fromPlainError(error)));
    },
    createDirectory: (mount, key, attributes) => call('createDirectory', [mount, key, attributes]),
    removeDirectory: (mount, key) => call('removeDirectory', [mount, key]),
    copy: (mount, request) => call('copy', [mount, request]),
    setAttributes: (mount, key, kind, attributes, precondition) =>
      call('setAttributes', [mount, key, kind, attributes, precondition]),
    rename: (mount, from, to) => call('rename', [mount, from, to]),
    usage: (mount) => call('usage', [mount]),
    close() {
      end(new MirageError('the store port was closed', { errno: 'ECANCELED' }));
      channel.close();
    },
  };
}
