import type { ServerAttributes } from '../../backends/file-server.js';
import type { MirageError } from '../../errors/mirage-error.js';
import { Attributes } from '../attributes.js';
import type { Slot } from '../inodes/inode-table.js';
import { Turn } from '../inodes/turn.js';
import type { NodeHandles } from './node-handles.js';
import type { RemoteContent } from './remote-content.js';

/** What a server last told of content: whole seconds where it keeps no more. */
export type Said = Pick<ServerAttributes, 'size' | 'modifiedSeconds' | 'modifiedNanoseconds'>;

/** A file in use: open, or with bytes or times that the server does not have. While it holds those, it says what programs see, and not the row. */
export class RemoteNode {
  readonly attributes = new Attributes();
  xattrs: Readonly<Record<string, string>> = {};
  linkGroup: string | undefined;
  said: Said = { size: 0, modifiedSeconds: 0, modifiedNanoseconds: 0 };
  /** Wall time, milliseconds, when the server last said so. */
  seenAt = 0;
  content: RemoteContent | undefined;
  handles = 0;
  writers = 0;
  /** The times that programs see are not on the server. */
  timesPending = false;
  /** Permission bits that a write cleared are not on the server. */
  modePending = false;
  /** What went wrong behind programs' backs, for the next close or fsync. */
  failure: MirageError | undefined;
  /** Another file has the name now: it may not be written through this node's path any more. */
  superseded = false;
  /** Path of a file without a name that must not go while it is open. */
  hidden: string | undefined;
  readonly turn = new Turn();

  constructor(
    readonly slot: Slot,
    readonly onServer: NodeHandles,
  ) {}

  get unsent(): number {
    return this.content?.unsent ?? 0;
  }
  get holdsTruth(): boolean {
    return this.timesPending || this.unsent > 0;
  }
  get idle(): boolean {
    return this.handles === 0 && !this.holdsTruth && !this.turn.busy;
  }
}
