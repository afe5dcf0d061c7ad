/** The worker that mounts and serves: nothing else runs on its thread. */
import { setPriority } from 'node:os';
import { type MessagePort, parentPort, workerData } from 'node:worker_threads';
import type { Capabilities } from '../backends/contract.js';
import type { FileServerFeatures } from '../backends/file-server.js';
import { MirageError } from '../errors/mirage-error.js';
import { type LogRecord, logTo } from '../log/text-log.js';
import { localFiles } from '../native/local-files.js';
import { connectFileServerPort } from '../ports/message-file-server-port.js';
import { connectStorePort } from '../ports/message-store-port.js';
import type { StoreFeatures } from '../ports/store-port.js';
import { callsTo, serveCalls } from './calls.js';
import { type Explanation, explain } from './explanation.js';
import {
  type FileSystemHost,
  type FileSystemPlan,
  type MountedFileSystem,
  mountFileSystem,
} from './file-system.js';
import type { StoreAccess } from './stores.js';

export interface ThreadData {
  readonly plan: FileSystemPlan;
  readonly stores: MessagePort;
  readonly servers: MessagePort;
}

/** What the thread says on its own account, beside calls and answers. */
export type ThreadMessage =
  | { readonly log: LogRecord }
  | { readonly mounted: true }
  | { readonly failed: Explanation }
  | { readonly ended: true };

if (parentPort === null) throw new Error('this file is a worker');
const main = parentPort;
const say = (message: ThreadMessage): void => main.postMessage(message);
const { plan, stores, servers } = workerData as ThreadData;
const log = logTo((record) => say({ log: record }));

const known: { capabilities: Capabilities; features: StoreFeatures }[] = [];
const knownServers: FileServerFeatures[] = [];
function learn(index: number, store: StoreAccess): void {
  if (store.kind === 'objects') known[index] = store;
  else if (store.kind === 'server') knownServers[index] = store.features;
}
for (const { index, store } of plan.mounts) if (store !== undefined) learn(index, store);

function featuresOf(mount: number): FileServerFeatures {
  const features = knownServers[mount];
  if (features === undefined) throw new MirageError(`mount ${mount} is no file server`, { errno: 'EIO' });
  return features;
}

/**
 * Nice value of this thread (Linux: of the calling thread alone): every program on the mount waits for it, so it goes before
 * downloads, ours and other programs'. Only root may, and without it the mount works as well.
 */
const PRIORITY = -10;

/**
 * Without privilege: nanoseconds this thread runs before it may be put aside (Linux 6.12). With the shortest slice there is it runs as soon as a request
 * wakes it, and not when the slice of a busy program ends. Not beside the nice value: the two together leave programs that wait for answers too little of
 * a shared processor (a third to a half fewer requests of four clients).
 */
const SLICE = 100_000;

function goFirst(): void {
  try {
    setPriority(PRIORITY);
  } catch (error) {
    const slice = process.platform === 'linux' ? localFiles().threadSlice(SLICE) : undefined;
    log.debug('the file-system thread has the priority of every other', { reason: String(error), slice });
  }
}

try {
  const { binding, fileSystem } = await mountFileSystem(plan, {
    host: callsTo<FileSystemHost>(main).remote,
    port: connectStorePort(stores, known),
    servers: connectFileServerPort(servers, featuresOf),
    learn,
    log,
  });
  serveCalls<MountedFileSystem>(main, fileSystem);
  void binding.ended.then(() => say({ ended: true }));
  // After the threads below this one were started: they would inherit it.
  goFirst();
  say({ mounted: true });
} catch (error) {
  say({ failed: explain(error) });
}
