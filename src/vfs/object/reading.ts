/** Reading open files: from what is staged, else from the clean cache file of the version that was opened. */
import { errno } from '../../errors/errno.js';
import { MirageError } from '../../errors/mirage-error.js';
import { localFiles } from '../../native/local-files.js';
import type { Answer, Call, Handle, ReadReply } from '../operations.js';
import { type Copies, otherVersion } from './copies.js';
import type { Inode } from './inode.js';
import type { OpenHandles } from './open-handles.js';
import type { SiblingReadAhead } from './sibling-read-ahead.js';

const SEEK_DATA = 3;
/** An unlinked file of up to so many bytes is fetched wholly for the handles that still read it. */
const HYDRATE_LIMIT = 1024 * 1024 * 1024;
const NO_BYTES = new Uint8Array(0);

export class Reading {
  readonly #copies: Copies;
  readonly #handles: OpenHandles;
  readonly #siblings: SiblingReadAhead;

  constructor(copies: Copies, handles: OpenHandles, siblings: SiblingReadAhead) {
    this.#copies = copies;
    this.#handles = handles;
    this.#siblings = siblings;
  }

  read(call: Call, handle: Handle, offset: number, size: number, reply: ReadReply): Answer<void> {
    const { inode, cursor } = this.#handles.get(handle);
    if (inode.lost) throw otherVersion();
    const file = inode.staged ?? this.#copies.clean(inode);
    const length = Math.min(size, sizeOf(inode) - offset);
    if (length <= 0) {
      reply.length = 0;
      reply.bytes = NO_BYTES;
      return undefined;
    }
    const complete = 'complete' in file && file.complete;
    const waiting = complete ? undefined : file.ensure(offset, length, cursor, call.signal);
    if (waiting !== undefined) {
      if (inode.staged === undefined) this.#siblings.missed(inode);
      // What was there may have been truncated or committed meanwhile: look again.
      const again = () => this.read(call, handle, offset, size, reply);
      return waiting.then(again, async (error: unknown) => {
        // Or have moved, and is to be had under its new name.
        if (inode.turn.busy) await inode.turn.run(async () => undefined);
        if ((inode.staged ?? inode.clean) !== file) return again();
        if (MirageError.is(error, 'ESTALE')) this.#copies.outdated(inode);
        throw error;
      });
    }
    reply.length = length;
    if (file.transient) {
      const bytes = Buffer.allocUnsafe(length);
      const got = localFiles().pread(file.fd, bytes, offset);
      if (got !== length) throw MirageError.system('read', got < 0 ? -got : errno.EIO);
      reply.bytes = bytes;
    } else {
      reply.fd = file.fd;
      reply.position = file.start + offset;
    }
    return undefined;
  }

  lseek(handle: Handle, offset: number, whence: number): number {
    const { inode } = this.#handles.get(handle);
    const size = sizeOf(inode);
    if (offset >= size || offset < 0) throw MirageError.system('lseek', errno.ENXIO);
    if (inode.staged !== undefined) return inode.staged.seek(offset, whence);
    return whence === SEEK_DATA ? offset : size;
  }

  /** Handles that are open read on, whatever becomes of the object. */
  async hydrate(inode: Inode): Promise<void> {
    if (inode.kind !== 'file' || inode.handles === 0 || inode.attributes.size > HYDRATE_LIMIT) return;
    const file = inode.staged ?? this.#copies.clean(inode);
    // One that the cache cannot hold is as one above the limit: its readers hear ESTALE.
    if (!file.transient) await file.ensureAll(NEVER);
  }
}

/** The bytes that a file has here now. */
export const sizeOf = (inode: Inode): number =>
  inode.staged?.size ?? inode.clean?.version.size ?? inode.attributes.size;

/** For waits that other programs depend on as well. */
const NEVER = new AbortController().signal;
