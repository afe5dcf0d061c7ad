import { MirageError } from '../../errors/mirage-error.js';
import { abortReason } from './call.js';

/** Bytes of all transfers of a mount that may be under way: enough for a gigabit line with 60 ms round trip. */
const IN_FLIGHT = 8 * 2 ** 20;
/** Buffers kept for the next blocks, and their size: no request carries more. */
const SPARE = 32;
const BUFFER_BYTES = 256 * 1024;
/** The same for those of random reads. */
const SMALL_BYTES = 32 * 1024;

interface Waiter {
  readonly bytes: number;
  give(): void;
}

/** Bounds what transfers hold in memory, first come first served, and lends their buffers. */
export class Blocks {
  #free = IN_FLIGHT;
  readonly #waiting: Waiter[] = [];
  readonly #spare: Buffer[] = [];
  readonly #smallSpare: Buffer[] = [];

  /** Undefined where there is room at once; else resolves when there is. Given back with `release`. */
  acquire(bytes: number, signal: AbortSignal): Promise<void> | undefined {
    if (this.#waiting.length === 0 && (this.#free >= bytes || this.#free === IN_FLIGHT)) {
      this.#free -= bytes;
      return undefined;
    }
    return new Promise((resolve, reject) => {
      const aborted = (): void => {
        this.#waiting.splice(this.#waiting.indexOf(waiter), 1);
        reject(abortReason(signal));
      };
      const waiter: Waiter = {
        bytes,
        give: () => {
          signal.removeEventListener('abort', aborted);
          resolve();
        },
      };
      signal.addEventListener('abort', aborted, { once: true });
      this.#waiting.push(waiter);
    });
  }

  release(bytes: number): void {
    this.#free += bytes;
    while (this.#waiting.length > 0) {
      const next = this.#waiting[0]!;
      if (this.#free < next.bytes && this.#free < IN_FLIGHT) return;
      this.#waiting.shift();
      this.#free -= next.bytes;
      next.give();
    }
  }

  /** `size` bytes of a buffer that may be given back, once nobody uses it. */
  borrow(size: number): Buffer {
    const small = size <= SMALL_BYTES;
    const spare = small ? this.#smallSpare.pop() : size <= BUFFER_BYTES ? this.#spare.pop() : undefined;
    const bytes = small ? SMALL_BYTES : Math.max(size, BUFFER_BYTES);
    return (spare ?? Buffer.allocUnsafeSlow(bytes)).subarray(0, size);
  }

  giveBack({ buffer }: Buffer): void {
    const { byteLength } = buffer;
    const spare =
      byteLength === SMALL_BYTES ? this.#smallSpare : byteLength === BUFFER_BYTES ? this.#spare : undefined;
    if (spare !== undefined && spare.length < SPARE) spare.push(Buffer.from(buffer));
  }
}

/** One block of a range: where it begins, and its bytes. */
export type BlockWork = (offset: number, length: number) => Promise<void>;

/**
 * Runs `work` on every block of a range, as many at a time as `blocks` lets. After a failure no further one is begun; it rejects when none is
 * running any more. `isOver`: asked before each block, ends it early.
 */
export async function forEachBlock(
  range: { readonly offset: number; readonly length: number },
  blockBytes: number,
  blocks: Blocks,
  signal: AbortSignal,
  work: BlockWork,
  isOver: () => boolean = () => false,
): Promise<void> {
  const running = new Set<Promise<void>>();
  let failure: unknown;
  const end = range.offset + range.length;
  try {
    for (let offset = range.offset; offset < end && failure === undefined && !isOver(); ) {
      const length = Math.min(blockBytes, end - offset);
      const room = blocks.acquire(length, signal);
      if (room !== undefined) await room;
      const block = work(offset, length)
        .catch((error) => {
          failure ??= error;
        })
        .finally(() => {
          blocks.release(length);
          running.delete(block);
        });
      running.add(block);
      offset += length;
    }
  } catch (error) {
    failure ??= error;
  }
  await Promise.all(running);
  if (failure !== undefined) throw failure;
}

/** The file on this side cannot be read or written. */
export function localFailure(cause: unknown): MirageError {
  if (MirageError.is(cause)) return cause;
  const { code } = cause as NodeJS.ErrnoException;
  return new MirageError('the cache file could not be used', {
    errno: code === 'ENOSPC' || code === 'EDQUOT' ? code : 'EIO',
    cause,
    ...(code === 'ENOSPC' && { hint: 'free space on the disk of the cache directory' }),
  });
}
