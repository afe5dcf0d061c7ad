/** The volumes over object stores, and what they share: rows, cached bytes, the journal. */
import { join } from 'node:path';
import { systemClock } from '../clock/clock.js';
import { systemTimers } from '../clock/timers.js';
import type { MountConfiguration } from '../config/configuration.js';
import type { ContentStore } from '../content/contract.js';
import { openContent } from '../content/open-content.js';
import type { Log } from '../log/log.js';
import type { MetadataStore } from '../metadata/contract.js';
import { Journal, readJournal } from '../metadata/journal.js';
import { openMetadata } from '../metadata/open-metadata.js';
import type { LeasePort } from '../ports/lease-port.js';
import { RoutedStores } from '../ports/routed-stores.js';
import type { StorePort } from '../ports/store-port.js';
import { stagedFileOf } from '../vfs/object/journal/intent.js';
import { clearUnnamed, restoreStaged } from '../vfs/object/journal/staged-bytes.js';
import { WriteBehind } from '../vfs/object/journal/write-behind.js';
import { ObjectVolume } from '../vfs/object/object-volume.js';
import type { VolumeContext } from '../vfs/volume.js';

export interface ObjectVolumesOptions {
  readonly metadataFile: string;
  readonly journal: string;
  readonly cache: { readonly directory: string; readonly size: number };
  readonly conflicts: string;
  /** Entries of a listing that become nodes. */
  readonly listedNodes: number;
  readonly port: StorePort;
  readonly leases: LeasePort;
  readonly log: Log;
}

export type ObjectMount = Pick<
  MountConfiguration,
  'path' | 'mode' | 'ttl' | 'ttls' | 'freshness' | 'writeBack' | 'conflicts' | 'lease'
> & { readonly index: number };

interface Shared {
  readonly metadata: MetadataStore;
  readonly content: ContentStore;
  readonly journal: Journal;
}

export class ObjectVolumes {
  readonly #options: ObjectVolumesOptions;
  /** Where the content store finds the bytes of each mount: some are on their way to their store. */
  readonly #stores: RoutedStores;
  #shared: Shared | undefined;
  /** What is mounted so that its changes can be carried out. */
  readonly #carriedOut = new Set<string>();

  constructor(options: ObjectVolumesOptions) {
    this.#options = options;
    this.#stores = new RoutedStores(options.port);
  }

  open(mount: ObjectMount, identity: string, context: VolumeContext): ObjectVolume {
    this.#shared ??= this.#openShared();
    const { metadata, content, journal } = this.#shared;
    const writeBehind = mount.mode === 'read' ? undefined : this.#writeBehind(mount, identity, journal);
    if (writeBehind !== undefined) {
      this.#stores.route(mount.index, writeBehind);
      this.#carriedOut.add(identity);
    }
    return new ObjectVolume({
      port: writeBehind ?? this.#options.port,
      ...(writeBehind !== undefined && { writeBehind }),
      ...(writeBehind !== undefined && mount.lease && { leases: this.#options.leases }),
      mount: mount.index,
      identity,
      metadata,
      content,
      context,
      options: {
        ttl: mount.ttl,
        ttls: mount.ttls,
        freshness: mount.freshness as 'ttl' | 'open' | 'offline',
        listedNodes: this.#options.listedNodes,
        conflicts: mount.conflicts,
        conflictDirectory: this.#options.conflicts,
      },
    });
  }

  /** The rows of all mounts. */
  get metadata(): MetadataStore {
    this.#shared ??= this.#openShared();
    return this.#shared.metadata;
  }

  /** Changes that the journal holds for what is not mounted for writing (any more), or not reached yet, in words. */
  waiting(): readonly string[] {
    const records = this.#shared?.journal.records ?? [...readJournal(this.#options.journal).live.values()];
    const counts = new Map<string, number>();
    for (const { identity } of records) {
      if (!this.#carriedOut.has(identity)) counts.set(identity, (counts.get(identity) ?? 0) + 1);
    }
    return [...counts].map(
      ([identity, count]) => `${identity}: ${count} ${count === 1 ? 'change' : 'changes'}`,
    );
  }

  /** After the volumes. */
  async close(): Promise<void> {
    await this.#shared?.content.close();
    await this.#shared?.metadata.close();
    await this.#shared?.journal.close();
  }

  #openShared(): Shared {
    const { log, cache, metadataFile } = this.#options;
    // First of all: a journal that cannot be understood must find everything as it was left.
    const journal = Journal.open(this.#options.journal, log, ({ intent }, bytes, sure) =>
      restoreStaged(this.#stagedDirectory, intent, bytes, sure),
    );
    const staged = journal.records.flatMap(({ intent }) => stagedFileOf(intent) ?? []);
    const recovered = join(cache.directory, 'content', 'recovered');
    clearUnnamed(this.#stagedDirectory, new Set(staged), journal.damaged ? recovered : undefined);
    return {
      journal,
      metadata: openMetadata({ file: metadataFile, log }),
      content: openContent({
        directory: join(cache.directory, 'content'),
        limit: cache.size,
        port: this.#stores.port,
        log,
        clock: systemClock,
      }),
    };
  }

  #writeBehind(mount: ObjectMount, identity: string, journal: Journal): WriteBehind {
    const { port, cache, log } = this.#options;
    return new WriteBehind({
      port,
      mount: mount.index,
      identity,
      journal,
      directory: this.#stagedDirectory,
      answers: mount.writeBack,
      limit: cache.size,
      conditional: mount.conflicts !== 'lastWriterWins',
      clock: systemClock,
      timers: systemTimers,
      log: log.with({ mount: mount.path }),
    });
  }

  /** On the disk of the cache, so that a staged file gets there by a link. */
  get #stagedDirectory(): string {
    return join(this.#options.cache.directory, 'journal');
  }
}
