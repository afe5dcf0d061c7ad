/** What the journal of one mount is made of. */
import type { Clock } from '../../../clock/clock.js';
import type { Timers } from '../../../clock/timers.js';
import type { Log } from '../../../log/log.js';
import type { Journal } from '../../../metadata/journal.js';
import type { MountIndex, StorePort } from '../../../ports/store-port.js';

export interface WriteBehindParts {
  readonly port: StorePort;
  readonly mount: MountIndex;
  /** What is mounted: its records are told from those of other mounts by it. */
  readonly identity: string;
  readonly journal: Journal;
  /** Folder of the staged bytes, on the disk of the cache. */
  readonly directory: string;
  /** When a change is answered: by the store, or when the journal has it. */
  readonly answers: 'close' | 'async';
  /** Bytes that may wait, beyond which writers do. */
  readonly limit: number;
  /** False: the last writer wins, whatever is there. */
  readonly conditional: boolean;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: Log;
}
