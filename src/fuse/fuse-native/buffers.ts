/** Bytes between fuse-native's buffers and files, at once on this thread: they are in the page cache as a rule. */
import { readSync, writeSync } from 'node:fs';
import { errnoOf } from '../../errors/mirage-error.js';
import type { WriteSource } from '../../vfs/operations.js';

/** Reads up to `length` bytes from `position`; returns how many there were. */
export function copyFromFile(fd: number, position: number, length: number, buffer: Buffer): number {
  let done = 0;
  while (done < length) {
    const count = readSync(fd, buffer, done, length - done, position + done);
    if (count === 0) break;
    done += count;
  }
  return done;
}

/** The payload of a write. libfuse's thread waits for the answer, so the bytes stay where they are until then. */
export function bufferSource(bytes: Buffer): WriteSource {
  const write = (fd: number, position: number | null): number => {
    try {
      return writeSync(fd, bytes, 0, bytes.length, position);
    } catch (error) {
      return -errnoOf(error);
    }
  };
  const source: WriteSource = {
    length: bytes.length,
    writeTo: write,
    appendTo: (fd) => write(fd, null),
    retain: () => source,
  };
  return source;
}
