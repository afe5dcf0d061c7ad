/** What the volume hears of changes that were answered before the store had them. */
import type { ObjectInfo, Validator } from '../../../backends/contract.js';
import type { MirageError } from '../../../errors/mirage-error.js';
import type { Intent } from './intent.js';

export interface Settled {
  readonly key: string;
  /** What the version was called until now. */
  readonly before: Validator | undefined;
  /** What is at the store; undefined: nothing. */
  readonly info: ObjectInfo | undefined;
  /** Nothing is still to be done at the key. */
  readonly latest: boolean;
  /** Gives up the second name of the bytes: to be called once, when nothing depends on how the cache file looks. */
  readonly release: () => void;
}

export interface Refused {
  readonly intent: Intent;
  readonly key: string;
  readonly error: MirageError;
  readonly found: ObjectInfo | undefined;
  readonly latest: boolean;
  /** Moves the bytes of a put. */
  readonly keep: (path: string) => Promise<void>;
}

export interface Outcomes {
  /** A key is at the store as it was promised. */
  settled(outcome: Settled): void;
  /** Another host, or the store itself, stood in the way: what was promised will not come. */
  refused(outcome: Refused): Promise<void>;
}
