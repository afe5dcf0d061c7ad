import { read, readSync, writev, writevSync } from 'node:fs';
import { promisify } from 'node:util';
import type { ByteRange, ByteSink, ByteSource } from '../contract.js';
import type { HandleRange } from '../file-server.js';
import { type Blocks, forEachBlock, localFailure } from './blocks.js';
import type { Requests } from './requests.js';

/** So many bytes go to and from the file on this thread: the trip to another and back would take longer. */
const AT_ONCE = 128 * 1024;

const readLater = promisify(read);

/** Bytes of a file of the server into a descriptor; resolves with their number, fewer at the end of the file. */
export async function readIntoFile(
  ask: Requests,
  handle: string,
  range: HandleRange,
  blocks: Blocks,
): Promise<number> {
  let end = range.offset + range.length;
  const shift = range.position - range.offset;
  await forEachBlock(
    range,
    ask.session.traits.readBytes,
    blocks,
    ask.call.signal,
    async (offset, length) => {
      for (let at = offset; at < offset + length; ) {
        const pieces = await ask.read(handle, at, offset + length - at);
        const got = sizeOf(pieces);
        if (got === 0) {
          end = Math.min(end, at);
          return;
        }
        ask.call.throwIfAborted();
        await writePieces(range.fd, pieces, at + shift, got);
        at += got;
      }
    },
    () => end < range.offset + range.length,
  );
  return end - range.offset;
}

/** Bytes of a descriptor into a file of the server. `onAsked` is called when all requests were made, or none will be any more. */
export async function writeFromFile(
  ask: Requests,
  handle: string,
  range: HandleRange,
  blocks: Blocks,
  onAsked: () => void,
): Promise<void> {
  const { writeBytes } = ask.session.traits;
  const shift = range.position - range.offset;
  let left = range.length;
  const writing = forEachBlock(range, writeBytes, blocks, ask.call.signal, async (offset, length) => {
    const buffer = blocks.borrow(Math.min(writeBytes, Math.max(length, AT_ONCE)));
    const bytes = buffer.subarray(0, length);
    await fill(range.fd, bytes, offset + shift);
    ask.call.throwIfAborted();
    const written = ask.write(handle, offset, bytes);
    left -= length;
    if (left === 0) onAsked();
    await written;
    // After a failure the bytes may still be on their way.
    blocks.giveBack(buffer);
  });
  try {
    await writing;
  } finally {
    onAsked();
  }
}

/** Bytes of a file of the server, in order. */
export async function readIntoSink(
  ask: Requests,
  handle: string,
  { offset, length }: ByteRange,
  sink: ByteSink,
  blocks: Blocks,
): Promise<void> {
  // The blocks arrive in order as a rule, and are given on in order always: each waits for the one before.
  let before: Promise<unknown> = Promise.resolve();
  let isOver = false;
  await forEachBlock(
    { offset, length },
    ask.session.traits.readBytes,
    blocks,
    ask.call.signal,
    (from, wanted) => {
      const first = ask.read(handle, from, wanted);
      first.catch(() => undefined);
      const previous = before;
      const block = (async () => {
        await previous;
        let pieces = await first;
        for (let at = from; !isOver; ) {
          const got = sizeOf(pieces);
          if (got === 0) {
            isOver = true;
            return;
          }
          for (const piece of pieces) {
            ask.call.throwIfAborted();
            await sink.write(piece);
          }
          at += got;
          if (at >= from + wanted) return;
          pieces = await ask.read(handle, at, from + wanted - at);
        }
      })();
      before = block;
      block.catch(() => undefined);
      return block;
    },
    () => isOver,
  );
}

/** The content of a source into a file of the server. */
export async function writeFromSource(
  ask: Requests,
  handle: string,
  source: ByteSource,
  blocks: Blocks,
): Promise<void> {
  const { writeBytes } = ask.session.traits;
  const { signal } = ask.call;
  const running = new Set<Promise<void>>();
  let failure: unknown;
  let offset = 0;
  try {
    for await (const chunk of source.read({ offset: 0, length: source.size })) {
      for (let at = 0; at < chunk.length; at += writeBytes) {
        if (failure !== undefined) throw failure;
        const bytes = Buffer.from(
          chunk.buffer,
          chunk.byteOffset + at,
          Math.min(writeBytes, chunk.length - at),
        );
        const room = blocks.acquire(bytes.length, signal);
        if (room !== undefined) await room;
        const block = ask
          .write(handle, offset, bytes)
          .catch((error) => {
            failure ??= error;
          })
          .finally(() => {
            blocks.release(bytes.length);
            running.delete(block);
          });
        running.add(block);
        offset += bytes.length;
      }
    }
  } finally {
    await Promise.all(running);
  }
  if (failure !== undefined) throw failure;
}

const sizeOf = (pieces: readonly Buffer[]): number => {
  let bytes = 0;
  for (const piece of pieces) bytes += piece.length;
  return bytes;
};

async function writePieces(fd: number, pieces: Buffer[], position: number, total: number): Promise<void> {
  try {
    let rest = pieces;
    for (let written = 0; written < total; ) {
      const count =
        total <= AT_ONCE
          ? writevSync(fd, rest, position + written)
          : await writevLater(fd, rest, position + written);
      written += count;
      if (written < total) rest = without(rest, count);
    }
  } catch (cause) {
    throw localFailure(cause);
  }
}

function without(pieces: readonly Buffer[], bytes: number): Buffer[] {
  let gone = bytes;
  const rest: Buffer[] = [];
  for (const piece of pieces) {
    if (gone >= piece.length) gone -= piece.length;
    else {
      rest.push(piece.subarray(gone));
      gone = 0;
    }
  }
  return rest;
}

async function fill(fd: number, bytes: Buffer, position: number): Promise<void> {
  try {
    for (let at = 0; at < bytes.length; ) {
      const count =
        bytes.length <= AT_ONCE
          ? readSync(fd, bytes, at, bytes.length - at, position + at)
          : (await readLater(fd, bytes, at, bytes.length - at, position + at)).bytesRead;
      if (count === 0) throw new Error('the file is shorter than it was');
      at += count;
    }
  } catch (cause) {
    throw localFailure(cause);
  }
}

function writevLater(fd: number, pieces: Buffer[], position: number): Promise<number> {
  return new Promise((resolve, reject) => {
    writev(fd, pieces, position, (error, written) => (error === null ? resolve(written) : reject(error)));
  });
}
