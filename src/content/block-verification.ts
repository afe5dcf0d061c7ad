import { read } from 'node:fs';
import { promisify } from 'node:util';
import { BLOCK, type BlockChecksums } from './block-checksums.js';

/** Bytes read at a time: what is summed up between two requests of others. */
const AT_ONCE = 16 * BLOCK;

const readLater = promisify(read);

/** Holds [start, end) of a file against its checksums, and says of each stretch whether it is right. `start` is that of a block. */
export async function verifyBlocks(
  fd: number,
  start: number,
  end: number,
  checksums: BlockChecksums,
  found: (offset: number, length: number, right: boolean) => void,
): Promise<void> {
  const buffer = Buffer.allocUnsafeSlow(Math.min(AT_ONCE, end - start));
  for (let offset = start; offset < end; offset += AT_ONCE) {
    const wanted = Math.min(AT_ONCE, end - offset);
    // A file that cannot be read is a damaged one.
    const got = await readLater(fd, buffer, 0, wanted, offset).then(
      ({ bytesRead }) => bytesRead,
      () => 0,
    );
    for (let at = 0; at < wanted; at += BLOCK) {
      const length = Math.min(BLOCK, wanted - at);
      const right = at + length <= got && checksums.matches(offset + at, buffer.subarray(at, at + length));
      found(offset + at, length, right);
    }
  }
}
