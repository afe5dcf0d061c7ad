import type { FuseChannel } from '../native/fuse-transport.js';
import type { NodeId } from '../vfs/operations.js';
import { Opcode } from './protocol.js';

const HIGH = 0x1_0000_0000;
const MILLISECOND = 1e6;

/** Whoever asks past the cache of the kernel is answered from what was asked so long ago at most, milliseconds. */
const LONGEST = 1000;

/** After these the attributes of any node may be others: of the file itself, of its folder, of what had the name before. */
const CHANGES: ReadonlySet<number> = new Set([
  Opcode.SETATTR,
  Opcode.SYMLINK,
  Opcode.MKNOD,
  Opcode.MKDIR,
  Opcode.UNLINK,
  Opcode.RMDIR,
  Opcode.RENAME,
  Opcode.RENAME2,
  Opcode.LINK,
  Opcode.WRITE,
  Opcode.SETXATTR,
  Opcode.REMOVEXATTR,
  Opcode.CREATE,
  Opcode.TMPFILE,
  Opcode.FALLOCATE,
  Opcode.COPY_FILE_RANGE,
  Opcode.COPY_FILE_RANGE_64,
]);

/** After these those of the node itself. */
const TOUCHES: ReadonlySet<number> = new Set([
  Opcode.OPEN,
  Opcode.RELEASE,
  Opcode.READLINK,
  Opcode.READDIR,
  Opcode.READDIRPLUS,
]);

/**
 * Attributes that the channel answers by itself, as nothing can have changed them since they were answered here: the volume says so (`AttributesReply.settled`), and
 * every request that changes something passes through here.
 */
export class KeptAttributes {
  readonly #channel: Pick<FuseChannel, 'keepAttributes' | 'dropAttributes'>;
  #any = false;
  #changing = 0;

  constructor(channel: Pick<FuseChannel, 'keepAttributes' | 'dropAttributes'>) {
    this.#channel = channel;
  }

  /** `offset`: of the fuse_attr_out in the reply arena; `valid`: nanoseconds. */
  keep(node: NodeId, offset: number, valid: number): void {
    const milliseconds = Math.min(Math.floor(valid / MILLISECOND), LONGEST);
    if (milliseconds === 0 || this.#changing > 0) return;
    this.#any = true;
    this.#channel.keepAttributes(node % HIGH, Math.floor(node / HIGH), offset, milliseconds);
  }

  /** A request is about to be carried out. */
  before(opcode: number, node: NodeId): void {
    if (!this.#any) return;
    if (CHANGES.has(opcode)) this.dropAll();
    else if (TOUCHES.has(opcode)) this.#channel.dropAttributes(node % HIGH, Math.floor(node / HIGH));
  }

  /** A request goes on; returns what is to be called when it has ended, if it changes something. */
  during(opcode: number): (() => void) | undefined {
    if (!CHANGES.has(opcode)) return undefined;
    this.#changing++;
    return () => {
      this.#changing--;
      this.dropAll();
    };
  }

  dropAll(): void {
    this.#any = false;
    this.#channel.dropAttributes(0, 0);
  }
}
