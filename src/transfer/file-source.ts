import { read } from 'node:fs';
import type { ByteRange, ByteSource } from '../backends/contract.js';
import { MirageError } from '../errors/mirage-error.js';

/** Bytes of one read from the file. */
const CHUNK = 256 * 1024;

/** The first `size` bytes of a file as the content of a write. Every read starts where it is asked to, so a part can be sent again. */
export function fileSource(fd: number, size: number): ByteSource {
  return {
    size,
    async *read(range: ByteRange) {
      const end = Math.min(size, range.offset + range.length);
      for (let offset = range.offset; offset < end; ) {
        const chunk = await readAt(fd, Math.min(CHUNK, end - offset), offset);
        if (chunk.length === 0)
          throw new MirageError('the staged file is shorter than it was', { errno: 'EIO' });
        offset += chunk.length;
        yield chunk;
      }
    },
  };
}

function readAt(fd: number, length: number, position: number): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const buffer = Buffer.allocUnsafeSlow(length);
    read(fd, buffer, 0, length, position, (error, count) => {
      if (error === null) resolve(buffer.subarray(0, count));
      else reject(new MirageError('the staged file could not be read', { errno: 'EIO', cause: error }));
    });
  });
}
