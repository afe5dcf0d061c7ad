/** What a remote volume is made of. */
import type { FileServer } from '../../backends/file-server.js';
import type { MetadataStore } from '../../metadata/contract.js';
import type { VolumeContext } from '../volume.js';
import type { BlockCache } from './block-cache.js';
import type { ConnectNear } from './near-connection.js';

export interface RemoteVolumeOptions {
  /** How long what the server said is believed, milliseconds. */
  readonly ttl: number;
  /** `ttl`: opening looks whether the file has changed; `open`: so does everything else that opens; `offline`: what is known is believed. */
  readonly freshness: 'ttl' | 'open' | 'offline';
}

export interface RemoteVolumeParts {
  readonly server: FileServer;
  /** Speaks on connections that the server lends. */
  readonly connectNear?: ConnectNear;
  /** What is mounted (host, user, path): inode numbers and cached rows belong to it. */
  readonly identity: string;
  readonly metadata: MetadataStore;
  readonly blocks: BlockCache;
  readonly context: VolumeContext;
  readonly options: RemoteVolumeOptions;
}
