import type { FuseChannel } from '../native/fuse-transport.js';
import type { ByteString, KernelNotifier, NodeId } from '../vfs/operations.js';
import { EXPIRE_ONLY, Notification, OUT_HEADER_SIZE, OUT_HEADER_WORDS } from './protocol.js';
import { put64 } from './records.js';

const HIGH = 0x1_0000_0000;

/** Composes notification records; the channel's own thread sends them. */
export class ChannelNotifier implements KernelNotifier {
  readonly #channel: Pick<FuseChannel, 'notify' | 'dropAttributes'>;
  #closed = false;
  /**
   * With it a changed name is looked up again when it is next used, and only then forgotten if it means another node. Without, the
   * kernel forgets it at once, together with what is mounted below it.
   */
  expireOnly = false;

  constructor(channel: Pick<FuseChannel, 'notify' | 'dropAttributes'>) {
    this.#channel = channel;
  }

  /** fuse_notify_inval_entry_out: parent, namelen, flags; the name with a NUL follows. */
  invalidateEntry(parent: NodeId, name: ByteString): void {
    this.#drop(0);
    const { bytes, words } = this.#record(Notification.INVAL_ENTRY, 16 + name.length + 1);
    put64(words, OUT_HEADER_WORDS, parent);
    words[OUT_HEADER_WORDS + 2] = name.length;
    words[OUT_HEADER_WORDS + 3] = this.expireOnly ? EXPIRE_ONLY : 0;
    bytes.write(name, OUT_HEADER_SIZE + 16, 'latin1');
    this.#send(bytes);
  }

  /** fuse_notify_inval_inode_out: ino, off, len */
  invalidateNode(node: NodeId, offset: number, length: number): void {
    this.#drop(node);
    const { bytes, words } = this.#record(Notification.INVAL_INODE, 24);
    put64(words, OUT_HEADER_WORDS, node);
    put64(words, OUT_HEADER_WORDS + 2, offset);
    put64(words, OUT_HEADER_WORDS + 4, length);
    this.#send(bytes);
  }

  unsettle(node: NodeId): void {
    this.#drop(node);
  }

  /** The channel is about to close. */
  close(): void {
    this.#closed = true;
  }

  /** What the channel answers with by itself. */
  #drop(node: NodeId): void {
    if (!this.#closed) this.#channel.dropAttributes(node % HIGH, Math.floor(node / HIGH));
  }

  #record(code: number, size: number): { bytes: Buffer; words: Uint32Array } {
    const length = OUT_HEADER_SIZE + size;
    const memory = new ArrayBuffer((length + 7) & ~7);
    const words = new Uint32Array(memory);
    words[0] = length;
    words[1] = code;
    return { bytes: Buffer.from(memory, 0, length), words };
  }

  #send(record: Uint8Array): void {
    if (!this.#closed) this.#channel.notify(record);
  }
}
