import { join } from 'node:path';
import { nearModules } from '../backends/registry.js';
import { systemClock } from '../clock/clock.js';
import type { MountConfiguration } from '../config/configuration.js';
import { MirageError } from '../errors/mirage-error.js';
import type { Binding } from '../fuse/binding.js';
import type { Log } from '../log/log.js';
import type { FileServerPort } from '../ports/file-server-port.js';
import type { LeasePort } from '../ports/lease-port.js';
import type { StorePort } from '../ports/store-port.js';
import { ControlVolume } from '../vfs/control/control-volume.js';
import { HostVolume } from '../vfs/host/host-volume.js';
import { MountTree } from '../vfs/mount-tree.js';
import type { KernelNotifier } from '../vfs/operations.js';
import { BlockCache } from '../vfs/remote/block-cache.js';
import { RemoteVolume } from '../vfs/remote/remote-volume.js';
import type { Volume, VolumeContext } from '../vfs/volume.js';
import { ObjectVolumes } from './object-volumes.js';
import type { StoreAccess } from './stores.js';
import { unreachableVolume } from './unreachable-volume.js';

/** What to mount and where: plain data, as the file-system thread gets it. */
export interface FileSystemPlan {
  readonly mountpoint: string;
  readonly binding: 'raw' | 'fuse-native';
  readonly allowOther: boolean;
  readonly passthrough: boolean;
  readonly listedNodes: number;
  readonly metadataFile: string;
  readonly cache: { readonly directory: string; readonly size: number };
  readonly conflicts: string;
  /** The file of the journal. */
  readonly journal: string;
  readonly mounts: readonly PlannedMount[];
}

export type PlannedMount = Pick<
  MountConfiguration,
  'path' | 'mode' | 'ttl' | 'ttls' | 'freshness' | 'acl' | 'writeBack' | 'conflicts' | 'lease'
> & {
  readonly index: number;
  /** undefined: not reachable yet. */
  readonly store: StoreAccess | undefined;
};

/** What the daemon asks of a mounted file system. */
export interface MountedFileSystem {
  /** What is not on its store yet, in words. */
  pending(): Promise<readonly string[]>;
  /** What the journal holds for stores that are not mounted for writing (any more), in words. */
  waiting(): Promise<readonly string[]>;
  /** Commits what can be, and returns what is left. */
  drain(): Promise<readonly string[]>;
  /** EBUSY: programs use it. */
  unmount(): Promise<void>;
  counters(): Promise<Record<string, number>>;
  /** After the mount has ended: closes volumes and caches. */
  close(): Promise<void>;
}

/** What a mounted file system asks of the daemon. */
export interface FileSystemHost extends LeasePort {
  /** Tries an unreachable store again. */
  open(index: number): Promise<StoreAccess>;
  /** The text of `.mirage/status`. */
  statusText(): Promise<string>;
  /** The text of `.mirage/last-error`. */
  lastError(): Promise<string>;
}

export interface FileSystemEnvironment {
  readonly host: FileSystemHost;
  readonly port: StorePort;
  readonly servers: FileServerPort;
  /** Tells the port about a store that could be reached at last. */
  readonly learn: (index: number, store: Exclude<StoreAccess, { kind: 'tree' }>) => void;
  readonly log: Log;
}

/** The highest index: its node ids are those of `.mirage`. */
const CONTROL_INDEX = 4095;

/** Mounts the planned tree and serves it on this thread. `ended` of the binding resolves when it is unmounted. */
export async function mountFileSystem(
  plan: FileSystemPlan,
  environment: FileSystemEnvironment,
): Promise<{ binding: Binding; fileSystem: MountedFileSystem }> {
  if (plan.binding === 'raw') {
    const { mountRaw } = await import('../fuse/raw-binding.js');
    const raw = mountRaw({
      mountpoint: plan.mountpoint,
      source: 'mirage',
      allowOther: plan.allowOther,
      passthrough: plan.passthrough,
      acl: plan.mounts.some(({ acl }) => acl),
      spinMicroseconds: SPIN_MICROSECONDS,
      log: environment.log,
    });
    try {
      const volumes = new Volumes(plan, environment, raw.notifier);
      return volumes.serve(raw.serve(volumes.tree));
    } catch (error) {
      await raw.abandon();
      throw error;
    }
  }
  const { mountFuseNative } = await import('../fuse/fuse-native/fuse-native-binding.js');
  const { mountpoint, allowOther } = plan;
  // libfuse 2 has no way to tell the kernel anything: its caches expire by themselves.
  const silent: KernelNotifier = { invalidateEntry() {}, invalidateNode() {}, unsettle() {} };
  const volumes = new Volumes(plan, environment, silent);
  return volumes.serve(await mountFuseNative(volumes.tree, { mountpoint, allowOther, log: environment.log }));
}

/** Looking for the next request this long before sleeping makes a lone client 2-3 times faster. */
const SPIN_MICROSECONDS = 30;

/** The volumes of all mounts over shared caches. */
class Volumes {
  readonly tree: MountTree;
  readonly #volumes: Volume[];
  readonly #plan: FileSystemPlan;
  readonly #environment: FileSystemEnvironment;
  readonly #objects: ObjectVolumes;
  #blocks: BlockCache | undefined;

  constructor(plan: FileSystemPlan, environment: FileSystemEnvironment, notifier: KernelNotifier) {
    this.#plan = plan;
    this.#environment = environment;
    const { metadataFile, journal, cache, conflicts, listedNodes } = plan;
    const { port, log, host } = environment;
    this.#objects = new ObjectVolumes({
      metadataFile,
      journal,
      cache,
      conflicts,
      listedNodes,
      port,
      leases: host,
      log,
    });
    const context = (index: number, path: string, mode: VolumeContext['mode']): VolumeContext => ({
      index,
      path,
      mode,
      uid: process.getuid?.() ?? 0,
      gid: process.getgid?.() ?? 0,
      notifier,
      clock: systemClock,
      log: environment.log.with({ mount: path }),
    });
    const mounts = plan.mounts.map((mount) => {
      const own = context(mount.index, mount.path, mount.mode);
      const volume = mount.store
        ? this.#volume(mount, mount.store, own)
        : unreachableVolume(
            own,
            () => this.#reach(mount, own),
            () => this.#objects.waiting().length > 0,
          );
      return { path: mount.path, mode: mount.mode, index: mount.index, volume };
    });
    const control = new ControlVolume(context(CONTROL_INDEX, '/.mirage', 'read'), {
      status: () => environment.host.statusText(),
      lastError: () => environment.host.lastError(),
      conflicts: plan.conflicts,
    });
    this.#volumes = [...mounts.map(({ volume }) => volume), control];
    this.tree = new MountTree(mounts, control);
  }

  serve(binding: Binding): { binding: Binding; fileSystem: MountedFileSystem } {
    const pending = (): readonly string[] => this.#volumes.flatMap((volume) => volume.pending());
    for (const changes of this.#objects.waiting()) {
      this.#environment.log.warn('the journal holds changes of a store that is not mounted for writing', {
        changes,
        do: 'they are kept until it is mounted again with this state directory',
      });
    }
    return {
      binding,
      fileSystem: {
        pending: async () => pending(),
        waiting: async () => this.#objects.waiting(),
        drain: async () => {
          for (const result of await Promise.allSettled(this.#volumes.map((volume) => volume.drain()))) {
            if (result.status === 'fulfilled') continue;
            const { reason } = result as { reason: unknown };
            this.#environment.log.error('not everything could be stored', {
              why: reason instanceof Error ? reason.message : String(reason),
              do: MirageError.is(reason) ? reason.hint : undefined,
            });
          }
          return pending();
        },
        unmount: () => binding.unmount(),
        counters: async () => binding.counters(),
        close: async () => {
          for (const volume of this.#volumes) await volume.close();
          this.#blocks?.close();
          await this.#objects.close();
        },
      },
    };
  }

  /** The bytes of files on servers have as much room as those of objects. */
  #remoteBlocks(): BlockCache {
    const { directory, size } = this.#plan.cache;
    this.#blocks ??= new BlockCache({
      directory: join(directory, 'remote'),
      limit: size,
      log: this.#environment.log,
    });
    return this.#blocks;
  }

  async #reach(mount: PlannedMount, context: VolumeContext): Promise<Volume> {
    const store = await this.#environment.host.open(mount.index);
    if (store.kind !== 'tree') this.#environment.learn(mount.index, store);
    return this.#volume(mount, store, context);
  }

  #volume(mount: PlannedMount, store: StoreAccess, context: VolumeContext): Volume {
    if (store.kind === 'tree') {
      const freshness = mount.freshness as 'now' | 'inotify' | 'ttl';
      // The daemon opened the tree and closes it.
      const { acl, ttl } = mount;
      return new HostVolume({ ...store, close() {} }, context, { freshness, ttl, acl });
    }
    if (store.kind === 'server') {
      return new RemoteVolume({
        server: this.#environment.servers.fileServer(mount.index),
        connectNear: async (lent) => (await nearModules[lent.protocol]()).nearFiles(lent),
        identity: store.identity,
        metadata: this.#objects.metadata,
        blocks: this.#remoteBlocks(),
        context,
        options: { ttl: mount.ttl, freshness: mount.freshness as 'ttl' | 'open' | 'offline' },
      });
    }
    return this.#objects.open(mount, store.identity, context);
  }
}
