import { MessageChannel, Worker } from 'node:worker_threads';
import { MirageError } from '../errors/mirage-error.js';
import { type LogRecord, logTo } from '../log/text-log.js';
import type { FileServerPort } from '../ports/file-server-port.js';
import { serveFileServerPort } from '../ports/message-file-server-port.js';
import { serveStorePort } from '../ports/message-store-port.js';
import type { StorePort } from '../ports/store-port.js';
import { callsTo, serveCalls } from './calls.js';
import { fromExplanation } from './explanation.js';
import {
  type FileSystemHost,
  type FileSystemPlan,
  type MountedFileSystem,
  mountFileSystem,
} from './file-system.js';
import type { ThreadData, ThreadMessage } from './file-system-thread.js';

/** A file system that is mounted, as the main thread sees it. */
export interface ServedFileSystem extends MountedFileSystem {
  /** Resolves when nothing is mounted any more; rejects when the thread died. */
  readonly ended: Promise<void>;
}

export interface ServeOptions {
  readonly plan: FileSystemPlan;
  readonly host: FileSystemHost;
  readonly stores: StorePort;
  readonly servers: FileServerPort;
  readonly log: (record: LogRecord) => void;
}

/** Mounts and serves on a thread of its own; fuse-native, which knows no threads, on this one. */
export function serveFileSystem(options: ServeOptions): Promise<ServedFileSystem> {
  return options.plan.binding === 'raw' ? serveOnThread(options) : serveHere(options);
}

async function serveHere({ plan, host, stores, servers, log }: ServeOptions): Promise<ServedFileSystem> {
  // The port asks the backends directly: it knows a late one as soon as it is open.
  const { binding, fileSystem } = await mountFileSystem(plan, {
    host,
    port: stores,
    servers,
    learn() {},
    log: logTo(log),
  });
  return { ...fileSystem, ended: binding.ended };
}

/**
 * MiB. What the thread makes lives for one request, or as long as a file is known: a larger nursery would be memory of the process and no time
 * won. The bound of the rest is far beyond what it needs; from it the collector takes how much garbage may gather (it would be four times what is
 * in use).
 */
const HEAP = { maxYoungGenerationSizeMb: 24, maxOldGenerationSizeMb: 512 };

async function serveOnThread({ plan, host, stores, servers, log }: ServeOptions): Promise<ServedFileSystem> {
  const channel = new MessageChannel();
  const port = serveStorePort(channel.port1, stores);
  const serverChannel = new MessageChannel();
  const serverPort = serveFileServerPort(serverChannel.port1, servers);
  const data: ThreadData = { plan, stores: channel.port2, servers: serverChannel.port2 };
  const worker = new Worker(new URL('./file-system-thread.js', import.meta.url), {
    workerData: data,
    transferList: [channel.port2, serverChannel.port2],
    name: 'file-system',
    resourceLimits: HEAP,
  });
  serveCalls<FileSystemHost>(worker, host);
  const { remote, end } = callsTo<MountedFileSystem>(worker);

  const mounted = promiseOf<void>();
  const ended = promiseOf<void>();
  const died = (error: Error): void => {
    end(error);
    mounted.reject(error);
    ended.reject(error);
  };
  ended.promise.catch(() => undefined); // the daemon looks at it when it is up
  worker.on('message', (message: ThreadMessage) => {
    if ('log' in message) log(message.log);
    else if ('mounted' in message) mounted.resolve();
    else if ('failed' in message) mounted.reject(fromExplanation(message.failed));
    else if ('ended' in message) ended.resolve();
  });
  worker.on('error', died);
  worker.on('exit', () => died(new MirageError('the file-system thread has ended', { errno: 'EIO' })));

  const terminate = async (): Promise<void> => {
    port.close();
    serverPort.close();
    await worker.terminate();
  };
  try {
    await mounted.promise;
  } catch (error) {
    await terminate();
    throw error;
  }
  return {
    pending: () => remote.pending(),
    waiting: () => remote.waiting(),
    drain: () => remote.drain(),
    unmount: () => remote.unmount(),
    counters: () => remote.counters(),
    close: async () => {
      await remote.close();
      await terminate();
    },
    ended: ended.promise,
  };
}

function promiseOf<T>(): { promise: Promise<T>; resolve(value: T): void; reject(error: Error): void } {
  let resolve!: (value: T) => void;
  let reject!: (error: Error) => void;
  const promise = new Promise<T>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  return { promise, resolve, reject };
}
