import type { MessagePort } from 'node:worker_threads';
import type { Context } from '../backends/contract.js';
import type { FileServer, FileServerFeatures, ServerEntry } from '../backends/file-server.js';
import { UNINTERRUPTED } from '../clock/uninterrupted.js';
import { fromPlainError, MirageError, type PlainError, toPlainError } from '../errors/mirage-error.js';
import type { FileServerPort } from './file-server-port.js';
import { Outbox } from './outbox.js';
import type { MountIndex } from './store-port.js';

/** The file-server port between two threads; see the store port's. A listing sends its pages as they come, a few ahead of who takes them. */

type Operation = Exclude<keyof FileServer, 'features'>;
/** What travels in place of the function that takes the pages of a listing. */
const PAGES = null;

type Call = readonly [
  'call',
  id: number,
  mount: MountIndex,
  operation: Operation,
  parameters: readonly unknown[],
  /** Nobody will abort it, and it has no pages. */
  uninterrupted: boolean,
];
type ToServer = Call | readonly ['abort', id: number] | readonly ['taken', id: number];
type FromServer =
  | readonly ['result', id: number, value: unknown]
  | readonly ['error', id: number, error: PlainError]
  | readonly ['page', id: number, entries: readonly ServerEntry[]];

/** Pages of a listing that may be on their way. */
const PAGES_AHEAD = 8;

/** A listing whose pages go to the other thread, paused while too many are under way. */
class PageSender {
  #underWay = 0;
  #resume: (() => void) | undefined;

  constructor(private readonly post: (entries: readonly ServerEntry[]) => void) {}

  send(entries: readonly ServerEntry[]): undefined | Promise<void> {
    this.post(entries);
    if (++this.#underWay < PAGES_AHEAD) return undefined;
    return new Promise((resolve) => {
      this.#resume = resolve;
    });
  }

  taken(): void {
    this.#underWay--;
    this.#resume?.();
    this.#resume = undefined;
  }
}

interface Running {
  readonly controller: AbortController;
  readonly pages: PageSender;
}

/** Answers the calls that arrive over `channel`. `close` aborts what is under way and answers no more. */
export function serveFileServerPort(channel: MessagePort, port: FileServerPort): { close(): void } {
  const outbox = new Outbox<FromServer>(channel, { prompt: true });
  const running = new Map<number, Running>();

  /** For the calls that nobody aborts while the channel stands. */
  const ended = new AbortController();
  const untilTheEnd: Context = { signal: ended.signal };

  async function answer(call: Call): Promise<void> {
    const id = call[1];
    try {
      const result = call[5] ? perform(call, untilTheEnd) : performInterruptibly(call);
      outbox.push(['result', id, await result]);
    } catch (error) {
      outbox.push(['error', id, toPlainError(error)]);
    }
  }

  function perform([, , mount, operation, parameters]: Call, context: Context): Promise<unknown> {
    const server = port.fileServer(mount);
    const method = server[operation] as (...parameters: unknown[]) => Promise<unknown>;
    return method.call(server, ...parameters, context);
  }

  async function performInterruptibly([kind, id, mount, operation, parameters, _]: Call): Promise<unknown> {
    const controller = new AbortController();
    const pages = new PageSender((entries) => outbox.push(['page', id, entries]));
    running.set(id, { controller, pages });
    const values = parameters.map((value) =>
      value === PAGES ? (entries: readonly ServerEntry[]) => pages.send(entries) : value,
    );
    try {
      const { signal } = controller;
      return await perform([kind, id, mount, operation, values, false], { signal });
    } finally {
      running.delete(id);
    }
  }

  const abort = (call: Running | undefined): void => {
    call?.controller.abort();
    call?.pages.taken();
  };
  const abortAll = (): void => {
    ended.abort();
    for (const call of running.values()) abort(call);
  };
  channel.on('message', (messages: readonly ToServer[]) => {
    for (const message of messages) {
      if (message[0] === 'call') void answer(message);
      else if (message[0] === 'taken') running.get(message[1])?.pages.taken();
      else abort(running.get(message[1]));
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

interface Pending {
  resolve(value: unknown): void;
  reject(error: MirageError): void;
  readonly onPage: ((entries: readonly ServerEntry[]) => void | Promise<void>) | undefined;
  /** Stops listening for the caller's giving up. */
  readonly forget: (() => void) | undefined;
}

/**
 * The file servers of the thread at the other end; `featuresOf` says what was found of each. An aborted call rejects when the other side has stopped, so its
 * descriptor is free from then on. `close` rejects what is pending with ECANCELED; a channel that the other side closed does so with EIO.
 */
export function connectFileServerPort(
  channel: MessagePort,
  featuresOf: (mount: MountIndex) => FileServerFeatures,
): FileServerPort & { close(): void } {
  const outbox = new Outbox<ToServer>(channel, { prompt: true });
  const pending = new Map<number, Pending>();
  const servers = new Map<MountIndex, FileServer>();
  let nextId = 1;
  let closed: MirageError | undefined;

  function call<T>(
    mount: MountIndex,
    operation: Operation,
    parameters: readonly unknown[],
    { signal }: Context,
    onPage?: Pending['onPage'],
  ): Promise<T> {
    return new Promise((resolve, reject) => {
      if (closed !== undefined) return reject(closed);
      if (signal.aborted) return reject(new MirageError(`${operation}: aborted`, { errno: 'EINTR' }));
      const id = nextId++;
      const uninterrupted = signal === UNINTERRUPTED.signal && onPage === undefined;
      outbox.push(['call', id, mount, operation, parameters, uninterrupted]);
      const forget = uninterrupted ? undefined : onAbort(signal, () => outbox.push(['abort', id]));
      pending.set(id, { resolve: resolve as (value: unknown) => void, reject, onPage, forget });
    });
  }

  function settle(id: number): Pending | undefined {
    const settled = pending.get(id);
    pending.delete(id);
    settled?.forget?.();
    return settled;
  }

  async function take(id: number, entries: readonly ServerEntry[]): Promise<void> {
    try {
      await pending.get(id)?.onPage?.(entries);
      outbox.push(['taken', id]);
    } catch (error) {
      outbox.push(['abort', id]);
      settle(id)?.reject(fromPlainError(toPlainError(error)));
    }
  }

  function end(error: MirageError): void {
    if (closed !== undefined) return;
    closed = error;
    for (const id of [...pending.keys()]) settle(id)?.reject(error);
  }

  channel.on('message', (messages: readonly FromServer[]) => {
    for (const message of messages) {
      const [kind, id] = message;
      if (kind === 'page') void take(id, message[2]);
      else if (kind === 'result') settle(id)?.resolve(message[2]);
      else settle(id)?.reject(fromPlainError(message[2]));
    }
  });
  channel.on('close', () => end(new MirageError('the I/O side has ended', { errno: 'EIO' })));

  const connect = (mount: MountIndex): FileServer => ({
    get features() {
      return featuresOf(mount);
    },
    lstat: (path, context) => call(mount, 'lstat', [path], context),
    list: (path, onPage, context) => call(mount, 'list', [path, PAGES], context, onPage),
    readlink: (path, context) => call(mount, 'readlink', [path], context),
    statfs: (path, context) => call(mount, 'statfs', [path], context),
    open: (path, how, context) => call(mount, 'open', [path, how], context),
    read: (handle, range, context) => call(mount, 'read', [handle, range], context),
    write: (handle, range, context) => call(mount, 'write', [handle, range], context),
    fstat: (handle, context) => call(mount, 'fstat', [handle], context),
    fsync: (handle, context) => call(mount, 'fsync', [handle], context),
    close: (handle, context) => call(mount, 'close', [handle], context),
    copyRange: (from, fromOffset, to, toOffset, length, context) =>
      call(mount, 'copyRange', [from, fromOffset, to, toOffset, length], context),
    setAttributes: (target, change, context) => call(mount, 'setAttributes', [target, change], context),
    mkdir: (path, mode, context) => call(mount, 'mkdir', [path, mode], context),
    rmdir: (path, context) => call(mount, 'rmdir', [path], context),
    unlink: (path, context) => call(mount, 'unlink', [path], context),
    rename: (from, to, options, context) => call(mount, 'rename', [from, to, options], context),
    symlink: (target, path, context) => call(mount, 'symlink', [target, path], context),
    link: (existing, path, context) => call(mount, 'link', [existing, path], context),
    lend: (context) => call(mount, 'lend', [], context),
  });

  return {
    fileServer(mount) {
      let server = servers.get(mount);
      if (server === undefined) {
        server = connect(mount);
        servers.set(mount, server);
      }
      return server;
    },
    close() {
      end(new MirageError('the file-server port was closed', { errno: 'ECANCELED' }));
      channel.close();
    },
  };
}

/** Returns what ends the listening. */
function onAbort(signal: AbortSignal, listener: () => void): () => void {
  signal.addEventListener('abort', listener, { once: true });
  return () => signal.removeEventListener('abort', listener);
}
