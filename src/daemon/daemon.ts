import { setTimeout as delay } from 'node:timers/promises';
import type { BackendType } from '../backends/backend-type.js';
import { systemClock } from '../clock/clock.js';
import { systemTimers } from '../clock/timers.js';
import type { Configuration, MountConfiguration } from '../config/configuration.js';
import { errno } from '../errors/errno.js';
import { MirageError, toPlainError } from '../errors/mirage-error.js';
import { unmountKernel } from '../fuse/kernel-mount.js';
import { Leases } from '../leases/leases.js';
import type { Log } from '../log/log.js';
import type { Redaction } from '../log/redaction.js';
import { type LogRecord, logTo } from '../log/text-log.js';
import { fuseTransport } from '../native/fuse-transport.js';
import { FileServers } from '../transfer/file-servers.js';
import { Transfer } from '../transfer/transfer.js';
import { UploadRecords } from '../transfer/upload-records.js';
import { CertificateFile } from './certificates.js';
import { socketPath } from './control-protocol.js';
import { type Controlled, type ControlServer, serveControl } from './control-server.js';
import { isDeadMount, removeDeadMount } from './dead-mount.js';
import type { FileSystemHost } from './file-system.js';
import { checkKernelAccess, checkMountPoint, helperPath, refuseInside } from './mount-point.js';
import { mountUsers } from './mount-users.js';
import { observedServers, observedStores } from './observed-stores.js';
import { type ServedFileSystem, serveFileSystem } from './serve.js';
import { notifyService } from './service.js';
import { type StateDirectory, takeCacheDirectory, takeStateDirectory } from './state-directory.js';
import type { DaemonStatus, MountStatus } from './status.js';
import { type StoreAccess, Stores } from './stores.js';

export interface DaemonOptions {
  readonly configuration: Configuration;
  readonly types: Readonly<Record<string, BackendType>>;
  readonly runtimeDirectory: string;
  readonly version: string;
  readonly redaction: Redaction;
  readonly log: (record: LogRecord) => void;
}

/** How often a waiting `unmount` hears what is left, milliseconds. */
const PROGRESS_INTERVAL = 1000;
/** How long stores get when what is left may be lost, milliseconds. */
const FORCED_DRAIN = 10_000;
/** The same after SIGTERM: less than a service manager waits before it kills (90 s), milliseconds. */
const TERMINATION_DRAIN = 60_000;

/** One mounted tree from mount to unmount: stores, file-system side, control socket, and the order in which they go. */
export class Daemon implements Controlled {
  /** Resolves, with what was not stored, when nothing is mounted any more and everything is closed. */
  readonly ended: Promise<readonly string[]>;
  /** Resolves when who asked for the end has been told, too: the process may exit. */
  readonly closed: Promise<void>;
  readonly #options: DaemonOptions;
  readonly #parts: Parts;
  readonly #since = Date.now();
  #forced = false;
  #hurried = false;
  #phase: DaemonStatus['phase'] = 'mounted';
  #unmounting: Promise<readonly string[]> | undefined;

  /** Mounts. MirageError says what is wrong; nothing is left behind then. */
  static async start(options: DaemonOptions): Promise<Daemon> {
    const recent: { error?: LogRecord & { at: Date } } = {};
    const record = (entry: LogRecord): void => {
      if (entry.level === 'error' || entry.level === 'warn') recent.error = { ...entry, at: new Date() };
      options.log(entry);
    };
    const lastError = (): string =>
      recent.error ? options.redaction.apply(describe(recent.error)) : 'no error so far\n';
    const parts = await openParts(options, logTo(record), record, lastError, () => daemon.statusText());
    const daemon: Daemon = new Daemon(options, parts);
    parts.control = await serveControl(socketPath(options.runtimeDirectory, parts.state.path), daemon);
    return daemon;
  }

  private constructor(options: DaemonOptions, parts: Parts) {
    this.#options = options;
    this.#parts = parts;
    this.ended = this.#run();
    this.closed = this.#afterwards();
  }

  async #run(): Promise<readonly string[]> {
    const { served, log } = this.#parts;
    try {
      await served.ended;
    } catch (error) {
      const { message } = toPlainError(error);
      log.error('the file system has died', { why: message, do: 'mount it again; please report daemon.log' });
      await unmountKernel(fuseTransport(), this.#parts.mountpoint).catch(() => undefined);
      await closeParts(this.#parts, false);
      throw error;
    }
    this.#phase = 'draining';
    notifyService('STOPPING=1');
    // Pages that programs had mapped arrive until the very end.
    const left = await this.#drain();
    await closeParts(this.#parts, true);
    return left;
  }

  async #afterwards(): Promise<void> {
    await this.ended.catch(() => undefined);
    // Those who wait for the unmount write their answers first: the kernel may tell us of the end before it answers the call.
    await this.#unmounting?.catch(() => undefined);
    await new Promise((resolve) => setImmediate(resolve));
    await this.#parts.control?.close();
  }

  async status(): Promise<DaemonStatus> {
    const { configuration, version } = this.#options;
    const { served, stores, state, mountpoint, binding } = this.#parts;
    const [pending, waiting, counters] = await Promise.all([
      served.pending(),
      served.waiting(),
      served.counters(),
    ]);
    return {
      pid: process.pid,
      version,
      mountpoint,
      state: state.path,
      phase: this.#phase,
      binding,
      since: this.#since,
      configuration: configuration.file,
      mounts: stores.status(),
      pending,
      waiting,
      counters,
      memory: process.memoryUsage.rss(),
    };
  }

  async statusText(): Promise<string> {
    return this.#options.redaction.apply(`${JSON.stringify(await this.status(), undefined, 2)}\n`);
  }

  unreachable(): readonly MountStatus[] {
    return this.#parts.stores.unreachable();
  }

  get mountpoint(): string {
    return this.#parts.mountpoint;
  }

  /** EBUSY: programs use the mount. EIO: something could not be stored. Both stay mounted; `force` gives up what is left. */
  unmount(force: boolean, onPending: (pending: readonly string[]) => void): Promise<readonly string[]> {
    if (force && this.#unmounting !== undefined) return this.#force();
    this.#unmounting ??= this.#unmount(force, onPending).finally(() => {
      this.#unmounting = undefined;
    });
    return this.#unmounting;
  }

  async drain(onPending: (pending: readonly string[]) => void): Promise<readonly string[]> {
    const { served } = this.#parts;
    const tell = (): void => void served.pending().then(onPending, () => undefined);
    const progress = setInterval(tell, PROGRESS_INTERVAL);
    try {
      const left = await served.drain();
      return [...left, ...(await served.waiting())];
    } finally {
      clearInterval(progress);
    }
  }

  /** For SIGTERM: ends whatever happens, and loses nothing that can be stored in time. */
  async terminate(): Promise<readonly string[]> {
    this.#hurried = true;
    try {
      return await this.unmount(false, () => undefined);
    } catch (error) {
      this.#parts.log.warn('ending although not everything is done', { why: toPlainError(error).message });
      return this.#force();
    }
  }

  async #unmount(
    force: boolean,
    onPending: (pending: readonly string[]) => void,
  ): Promise<readonly string[]> {
    const { served } = this.#parts;
    this.#phase = 'draining';
    this.#forced ||= force;
    const progress = setInterval(
      () => void served.pending().then(onPending, () => undefined),
      PROGRESS_INTERVAL,
    );
    try {
      const left = await this.#drain();
      if (force) return await this.#force();
      if (left.length > 0) {
        throw new MirageError(`not stored yet: ${left.join(', ')}`, {
          errno: 'EIO',
          cause: new Error('the store refused or did not answer; .mirage/last-error and daemon.log say why'),
          hint: 'mend the cause and try again, or give it up: mirage unmount --force',
        });
      }
      await this.#leave();
      return await this.ended;
    } catch (error) {
      this.#phase = 'mounted';
      throw error;
    } finally {
      clearInterval(progress);
    }
  }

  /** For whoever cannot wait: the mount goes, and nothing more is stored. What the journal has the next mount carries out. */
  async abandon(): Promise<void> {
    await unmountKernel(fuseTransport(), this.#parts.mountpoint).catch(() => undefined);
  }

  /** What is left. Waits as long as the stores take, unless the end is near. */
  #drain(): Promise<readonly string[]> {
    const { served } = this.#parts;
    if (!this.#forced && !this.#hurried) return served.drain();
    const limit = this.#forced ? FORCED_DRAIN : TERMINATION_DRAIN;
    const late = delay(limit, undefined, { ref: false }).then(() => served.pending());
    return Promise.race([served.drain(), late]);
  }

  /** The tree goes from sight at once; programs that still have files open lose them after a moment. */
  async #force(): Promise<readonly string[]> {
    this.#forced = true;
    await this.#parts.served.unmount();
    return this.ended;
  }

  /** Unmounts only if nobody uses the mount. */
  async #leave(): Promise<void> {
    const { mountpoint, served } = this.#parts;
    if (process.platform !== 'linux') return served.unmount();
    const transport = fuseTransport();
    const { result, message } =
      process.geteuid?.() === 0
        ? await transport.unmount(mountpoint, 0)
        : await transport.unmountByHelper(helperPath() ?? 'fusermount3', mountpoint, false);
    if (result === 0) return;
    if (-result === errno.EBUSY || /busy/i.test(message)) throw this.#busy();
    throw MirageError.system(`unmount ${mountpoint}`, -result, new Error(message));
  }

  #busy(): MirageError {
    const users = mountUsers(this.#parts.mountpoint).map(
      ({ pid, name, path }) => `${name} (${pid}) at ${path}`,
    );
    return new MirageError(`${this.#parts.mountpoint} is busy`, {
      errno: 'EBUSY',
      cause: new Error(`in use by ${users.slice(0, 3).join(', ') || 'a program of another user'}`),
      hint: 'leave the folder and end these programs, or force it: mirage unmount --force',
    });
  }
}

/** What a daemon holds, in the order it is taken. */
interface Parts {
  readonly mountpoint: string;
  readonly binding: DaemonStatus['binding'];
  readonly log: Log;
  readonly state: StateDirectory;
  readonly releaseCache: (() => void) | undefined;
  readonly stores: Stores;
  readonly leases: Leases;
  readonly served: ServedFileSystem;
  control?: ControlServer;
}

async function openParts(
  options: DaemonOptions,
  log: Log,
  record: (entry: LogRecord) => void,
  lastError: () => string,
  statusText: () => Promise<string>,
): Promise<Parts> {
  const { configuration, types } = options;
  checkKernelAccess();
  if (await isDeadMount(configuration.mountpoint)) {
    log.warn('a daemon that was killed had left its mount: removed', {
      mountpoint: configuration.mountpoint,
    });
    await removeDeadMount(configuration.mountpoint);
  }
  const mountpoint = checkMountPoint(configuration.mountpoint);
  refuseInside(mountpoint, { state: configuration.state, 'cache.directory': configuration.cache.directory });
  const binding = chooseBinding(configuration.binding);
  const undo: (() => unknown)[] = [];
  try {
    const state = takeStateDirectory(configuration.state);
    undo.push(() => state.release());
    const remote = configuration.mounts.some((mount) => mount.placement === 'remote');
    const releaseCache = remote ? takeCacheDirectory(configuration.cache.directory) : undefined;
    if (releaseCache) undo.push(releaseCache);
    const mounts = indexed(configuration.mounts);
    const certificates = new CertificateFile(state.certificates, systemClock);
    const leases = new Leases({ timers: systemTimers, log, random: Math.random });
    const stores = new Stores(mounts, {
      types,
      mountpoint,
      log,
      clock: systemClock,
      certificates,
      leases,
      leaseDirectory: state.leases,
    });
    undo.push(() => stores.close());
    const access = await stores.openAll();
    refuseNothingReachable(stores, access);
    const host: FileSystemHost = {
      open: (index) => stores.open(index),
      statusText,
      lastError: async () => lastError(),
      acquireLease: (mount, name, ticket, wait) => leases.acquireLease(mount, name, ticket, wait),
      releaseLease: (ticket) => leases.releaseLease(ticket),
    };
    const uploads = {
      records: new UploadRecords(state.uploads),
      identityOf: (index: number) => stores.identityOf(index),
    };
    const pathOf = (index: number): string => mounts.get(index)?.path ?? '';
    const served = await serveFileSystem({
      plan: {
        mountpoint,
        binding,
        allowOther: configuration.allowOther,
        passthrough: configuration.passthrough,
        listedNodes: configuration.listedNodes,
        metadataFile: state.metadataFile,
        cache: configuration.cache,
        conflicts: state.conflicts,
        journal: state.journal,
        mounts: [...mounts].map(([index, mount]) => {
          const { path, mode, ttl, ttls, freshness, acl, writeBack, conflicts, lease } = mount;
          const store = access.get(index);
          const rest = { freshness, acl, writeBack, conflicts, ...(lease && { lease }) };
          return { index, path, mode, ttl, ttls, ...rest, store };
        }),
      },
      host,
      stores: observedStores(new Transfer(stores.backends, { log, uploads }), pathOf, log),
      servers: observedServers(new FileServers(stores.backends), pathOf, log),
      log: record,
    });
    return { mountpoint, binding, log, state, releaseCache, stores, leases, served };
  } catch (error) {
    for (const step of undo.reverse()) await step();
    throw error;
  }
}

async function closeParts(parts: Parts, alive: boolean): Promise<void> {
  if (alive) await parts.served.close();
  await parts.leases.close();
  await parts.stores.close();
  parts.releaseCache?.();
  parts.state.release();
}

/** Raw is the kernel's own protocol, which only Linux lends us. */
const chooseBinding = (wanted: Configuration['binding']): DaemonStatus['binding'] =>
  wanted === 'auto' ? (process.platform === 'linux' ? 'raw' : 'fuse-native') : wanted;

/** A mount at `/` is the root volume, 0; otherwise the virtual folders above the mounts are. */
function indexed(mounts: readonly MountConfiguration[]): ReadonlyMap<number, MountConfiguration> {
  const first = mounts[0]?.path === '/' ? 0 : 1;
  return new Map(mounts.map((mount, position) => [first + position, mount]));
}

function refuseNothingReachable(stores: Stores, access: ReadonlyMap<number, StoreAccess | undefined>): void {
  if ([...access.values()].some((store) => store !== undefined)) return;
  throw new MirageError('nothing to mount: no store can be reached', {
    errno: 'EHOSTDOWN',
    retryable: true,
    cause: new Error(
      stores
        .unreachable()
        .map((mount) => mount.error ?? mount.path)
        .join('; '),
    ),
    hint: 'check the network and the endpoint, then try again',
  });
}

function describe({ at, level, message, fields }: LogRecord & { at: Date }): string {
  const { why, do: remedy, ...others } = fields;
  const details = Object.entries(others).map(([key, value]) => `${key}: ${value}`);
  const lines = [`${at.toISOString()} ${level}: ${message}`, ...details];
  if (why !== undefined) lines.push(`why: ${why}`);
  if (remedy !== undefined) lines.push(`do: ${remedy}`);
  return `${lines.join('\n')}\n`;
}
