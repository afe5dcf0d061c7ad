/** What an object volume is made of. */
import type { ContentStore } from '../../content/contract.js';
import type { MetadataStore } from '../../metadata/contract.js';
import type { LeasePort } from '../../ports/lease-port.js';
import type { MountIndex, StorePort } from '../../ports/store-port.js';
import type { VolumeContext } from '../volume.js';
import type { WriteBehind } from './journal/write-behind.js';

export interface ObjectVolumeOptions {
  /** How long what the store said is believed, milliseconds. */
  readonly ttl: number;
  /** The same for folders and all below them, by key; the nearest one counts. */
  readonly ttls: Readonly<Record<string, number>>;
  readonly freshness: 'ttl' | 'open' | 'offline';
  /** Nodes beyond which listings add no more: the kernel looks up the names that it needs. */
  readonly listedNodes: number;
  readonly conflicts: 'sidecar' | 'reject' | 'lastWriterWins';
  /** Where the bytes of a lost race are kept. */
  readonly conflictDirectory: string;
}

export interface ObjectVolumeParts {
  /** The store; `writeBehind` itself where there is one. */
  readonly port: StorePort;
  readonly writeBehind?: WriteBehind;
  /** Where writers are to be kept from each other's files: `locking: lease`. */
  readonly leases?: LeasePort;
  readonly mount: MountIndex;
  /** What is mounted (endpoint, bucket, prefix): its inode numbers and cached rows belong to it. */
  readonly identity: string;
  readonly metadata: MetadataStore;
  readonly content: ContentStore;
  readonly context: VolumeContext;
  readonly options: ObjectVolumeOptions;
}
