import type { Writable } from 'node:stream';
import type { MirageError } from '../../errors/mirage-error.js';

/** A byte stream to the SFTP subsystem of a server, authenticated and encrypted by whoever made it. */
export interface Channel {
  /** Towards the server. */
  readonly input: Writable;
  /** Called once. `onBytes` gets what the server sends; the chunk is its own during the call only. */
  listen(onBytes: (chunk: Buffer) => void): void;
  /** Resolves once, when the channel has ended for whatever reason, with what is known of it. */
  readonly ended: Promise<MirageError>;
  /** Ends it at once. */
  destroy(): void;
}
