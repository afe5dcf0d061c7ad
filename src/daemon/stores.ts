import { fstatSync } from 'node:fs';
import type { BackendType, Certificates, OpenedBackend } from '../backends/backend-type.js';
import { type Backend, type Capabilities, type HostTree, hasHostTree } from '../backends/contract.js';
import { backendType } from '../backends/custom/type.js';
import { type FileServerFeatures, hasFileServer } from '../backends/file-server.js';
import { hideOwnFolder } from '../backends/layers/own-folder.js';
import type { Clock } from '../clock/clock.js';
import type { MountConfiguration } from '../config/configuration.js';
import { MirageError } from '../errors/mirage-error.js';
import { locksOf } from '../leases/choose.js';
import type { Leases } from '../leases/leases.js';
import type { Log } from '../log/log.js';
import type { StoreFeatures } from '../ports/store-port.js';
import { featuresOf } from '../transfer/transfer.js';
import { isWithin } from './mount-point.js';
import type { MountStatus } from './status.js';

/** How the file-system side reaches a store: plain data. */
export type StoreAccess =
  /** A tree of this host's kernel, by a descriptor of its root; both sides share the descriptors of the process. */
  | { readonly kind: 'tree'; readonly root: number; readonly exclusive: boolean }
  | {
      readonly kind: 'objects';
      readonly identity: string;
      readonly capabilities: Capabilities;
      readonly features: StoreFeatures;
    }
  | { readonly kind: 'server'; readonly identity: string; readonly features: FileServerFeatures };

/** How long the first answer of a store may take, milliseconds. */
const OPEN_DEADLINE = 20_000;
/** A store that was found unreachable is not tried again sooner than this, milliseconds. */
const RETRY_INTERVAL = 3_000;

interface Store {
  readonly configuration: MountConfiguration;
  opened: OpenedBackend | undefined;
  tree: HostTree | undefined;
  error: MirageError | undefined;
  triedAt: number;
  attempt: Promise<StoreAccess> | undefined;
}

export interface StoresOptions {
  readonly types: Readonly<Record<string, BackendType>>;
  /** Absolute path of the mount point: no folder that holds it is mounted. */
  readonly mountpoint: string;
  readonly log: Log;
  readonly clock: Clock;
  readonly certificates: Certificates;
  readonly leases: Leases;
  /** Folder of what is known of our own leases. */
  readonly leaseDirectory: string;
}

/**
 * The backends of all mounts, by mount index. Wrong credentials or names fail the whole; an unreachable store is left closed and
 * tried again when a program asks for it.
 */
export class Stores {
  /** Index = mount index; undefined while unreachable (and where no mount has the index). */
  readonly backends: (Backend | undefined)[] = [];
  readonly #stores = new Map<number, Store>();
  readonly #options: StoresOptions;
  readonly #closing = new AbortController();

  constructor(mounts: ReadonlyMap<number, MountConfiguration>, options: StoresOptions) {
    this.#options = options;
    for (const [index, configuration] of mounts) {
      this.backends[index] = undefined;
      this.#stores.set(index, {
        configuration,
        opened: undefined,
        tree: undefined,
        error: undefined,
        triedAt: Number.NEGATIVE_INFINITY,
        attempt: undefined,
      });
    }
  }

  /** What the store of a mount is called, whatever mounts it: endpoint, bucket, prefix. Empty while it is unreachable. */
  identityOf(index: number): string {
    return this.#stores.get(index)?.opened?.identity ?? '';
  }

  /** Opens all at once. Index → access; undefined for those that are unreachable. */
  async openAll(): Promise<ReadonlyMap<number, StoreAccess | undefined>> {
    const opened = new Map<number, StoreAccess | undefined>();
    const failures: unknown[] = [];
    await Promise.all(
      [...this.#stores.keys()].map(async (index) => {
        try {
          opened.set(index, await this.open(index));
        } catch (error) {
          if (isUnreachable(error)) opened.set(index, undefined);
          else failures.push(error);
        }
      }),
    );
    if (failures.length > 0) {
      await this.close();
      throw failures[0];
    }
    return opened;
  }

  /** Opens one store, or says why it cannot be; an attempt that is under way or just failed is shared. */
  open(index: number): Promise<StoreAccess> {
    const store = this.#stores.get(index);
    if (store === undefined) throw new RangeError(`no mount ${index}`);
    const now = this.#options.clock.monotonic();
    if (store.attempt === undefined && store.error && now - store.triedAt < RETRY_INTERVAL) {
      return Promise.reject(store.error);
    }
    store.attempt ??= this.#open(index, store).finally(() => {
      store.attempt = undefined;
      store.triedAt = this.#options.clock.monotonic();
    });
    return store.attempt;
  }

  async #open(index: number, store: Store): Promise<StoreAccess> {
    const { configuration } = store;
    const { types, log, clock, certificates } = this.#options;
    const deadline = AbortSignal.timeout(OPEN_DEADLINE);
    try {
      const module = await backendType(types, configuration.type).load();
      const opened = await module.open(configuration.options, {
        log: log.with({ mount: configuration.path }),
        clock,
        writable: configuration.mode !== 'read',
        signal: AbortSignal.any([deadline, this.#closing.signal]),
        certificates,
      });
      store.opened = opened;
      this.#keepLeases(index, configuration, opened.backend);
      store.error = undefined;
      const access = this.#access(store, opened);
      this.backends[index] = access.kind === 'objects' ? hideOwnFolder(opened.backend) : opened.backend;
      return access;
    } catch (cause) {
      const timedOut = deadline.aborted && !isUnreachable(cause);
      store.error = new MirageError(
        `the store of ${configuration.path} ${timedOut ? 'gave no answer' : 'cannot be opened'}`,
        {
          errno: timedOut ? 'ETIMEDOUT' : MirageError.is(cause) ? cause.errno : 'EIO',
          retryable: timedOut || isUnreachable(cause),
          cause,
          hint: (MirageError.is(cause) ? cause.hint : undefined) ?? 'check its keys in the configuration',
        },
      );
      log.error(store.error.message, {
        mount: configuration.path,
        why: messageOf(cause),
        do: store.error.hint,
      });
      throw store.error;
    }
  }

  #access(store: Store, opened: OpenedBackend): StoreAccess {
    const { backend, identity } = opened;
    if (hasHostTree(backend)) {
      store.tree = backend.openTree();
      this.#refuseRecursion(store.configuration, store.tree);
      return { kind: 'tree', root: store.tree.root, exclusive: store.tree.exclusive ?? false };
    }
    if (hasFileServer(backend)) return { kind: 'server', identity, features: backend.fileServer.features };
    return {
      kind: 'objects',
      identity,
      capabilities: backend.capabilities,
      features: featuresOf(backend),
    };
  }

  #keepLeases(index: number, { lease, mode, path }: MountConfiguration, backend: Backend): void {
    if (lease === undefined || mode === 'read') return;
    if (hasFileServer(backend)) {
      throw new MirageError('locking: lease is not for a file server', {
        errno: 'ENOTSUP',
        hint: 'leave locking out for this mount',
      });
    }
    const { leases, leaseDirectory: folder, clock } = this.#options;
    const method = locksOf(backend, { folder, mount: path, term: lease.term, clock });
    leases.add(index, { method, wait: lease.wait });
  }

  /** A mounted folder that holds the mount point would show the mount inside of itself, and the daemon would wait for itself. */
  #refuseRecursion(configuration: MountConfiguration, tree: HostTree): void {
    if (!isWithin(this.#options.mountpoint, fstatSync(tree.root))) return;
    throw new MirageError(
      `the mount point ${this.#options.mountpoint} lies inside the folder of ${configuration.path}`,
      {
        errno: 'EINVAL',
        hint: 'choose a mount point outside of the folder',
      },
    );
  }

  unreachable(): readonly MountStatus[] {
    return this.status().filter((mount) => !mount.reachable);
  }

  status(): readonly MountStatus[] {
    return [...this.#stores].map(([index, { configuration, opened, error }]) => ({
      path: configuration.path,
      type: configuration.type,
      mode: configuration.mode,
      reachable: opened !== undefined,
      ...(opened === undefined && error && { error: explain(error) }),
      probed: opened?.probed ?? {},
      ...(opened?.counters && { counters: opened.counters() }),
      ...(configuration.lease && { leases: this.#options.leases.status(index) }),
    }));
  }

  async close(): Promise<void> {
    this.#closing.abort(new MirageError('the daemon ends', { errno: 'EINTR' }));
    for (const store of this.#stores.values()) {
      await store.attempt?.catch(() => undefined);
      store.tree?.close();
      store.tree = undefined;
      await store.opened?.backend.close?.();
      store.opened = undefined;
    }
  }
}

/** Trying again later may help, and nothing is wrong with the configuration. */
export function isUnreachable(error: unknown): boolean {
  const names = ['EHOSTDOWN', 'ETIMEDOUT', 'EHOSTUNREACH', 'ENETUNREACH', 'ECONNREFUSED', 'ECONNRESET'];
  return error instanceof MirageError && (error.retryable || names.includes(error.errno));
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

const explain = (error: MirageError): string =>
  error.cause === undefined ? error.message : `${error.message}: ${messageOf(error.cause)}`;
