import { read, readSync } from 'node:fs';
import { promisify } from 'node:util';
import type { ByteRange, ByteSource } from '../backends/contract.js';
import { MirageError } from '../errors/mirage-error.js';

/** Bytes of one read from the file: each is a trip to another thread and back. */
const CHUNK = 2 ** 20;
/** Bytes handed on at a time: whoever sends them counts them as progress. */
const PIECE = 2 ** 18;

const readLater = promisify(read);

/** The first `size` bytes of a file as the content of a write. Every read starts where it is asked to, so a part can be sent again. */
export function fileSource(fd: number, size: number): ByteSource {
  return {
    size,
    async *read(range: ByteRange) {
      const end = Math.min(size, range.offset + range.length);
      for (let offset = range.offset; offset < end; ) {
        const buffer = Buffer.allocUnsafeSlow(Math.min(CHUNK, end - offset));
        let count: number;
        try {
          // A small file was written a moment ago and is in memory: the trip would take longer than the read.
          if (size <= CHUNK) count = readSync(fd, buffer, 0, buffer.length, offset);
          else count = (await readLater(fd, buffer, 0, buffer.length, offset)).bytesRead;
        } catch (cause) {
          throw new MirageError('the staged file could not be read', { errno: 'EIO', cause });
        }
        if (count === 0) throw new MirageError('the staged file is shorter than it was', { errno: 'EIO' });
        offset += count;
        if (size <= CHUNK) yield buffer.subarray(0, count);
        else for (let at = 0; at < count; at += PIECE) yield buffer.subarray(at, Math.min(count, at + PIECE));
      }
    },
  };
}
