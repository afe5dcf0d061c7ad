import { read, readSync, write, writeSync } from 'node:fs';
import { promisify } from 'node:util';
import type { ByteRange, ByteSink, ByteSource } from '../contract.js';
import type { HandleRange } from '../file-server.js';
import { type Blocks, forEachBlock, localFailure } from './blocks.js';
import type { Requests } from './requests.js';

/** So many bytes go to and from the file on this thread: the trip to another and back would take longer. */
const AT_ONCE = 128 * 1024;

const readLater = promisify(read);
const writeLater = promisify(write);

/** Bytes of a file of the server into a descriptor; resolves with their number, fewer at the end of the file. */
export async function readIntoFile(
  ask: Requests,
  handle: string,
  range: HandleRange,
  blocks: Blocks,
): Promise<number> {
  const { readBytes } = ask.session.traits;
  const { signal } = ask.call;
  const shift = range.position - range.offset;
  if (range.length <= readBytes) {
    const room = blocks.acquire(range.length, signal);
    if (room !== undefined) await room;
    try {
      return await readBlock(ask, handle, range.offset, range.length, range.fd, shift, blocks);
    } finally {
      blocks.release(range.length);
    }
  }
  let end = range.offset + range.length;
  await forEachBlock(
    range,
    readBytes,
    blocks,
    signal,
    async (offset, length) => {
      const got = await readBlock(ask, handle, offset, length, range.fd, shift, blocks);
      if (got < length) end = Math.min(end, offset + got);
    },
    () => end < range.offset + range.length,
  );
  return end - range.offset;
}

/** One request's bytes, unless the server gives them in parts; resolves with their number. `shift`: from places in the file to those in `fd`. */
async function readBlock(
  ask: Requests,
  handle: string,
  offset: number,
  length: number,
  fd: number,
  shift: number,
  blocks: Blocks,
): Promise<number> {
  const buffer = blocks.borrow(length);
  let done = 0;
  while (done < length) {
    const got = await ask.read(
      handle,
      offset + done,
      done === 0 ? buffer : buffer.subarray(0, length - done),
    );
    if (got === 0) break;
    ask.call.throwIfAborted();
    const spilling = spill(
      fd,
      got === buffer.length ? buffer : buffer.subarray(0, got),
      offset + done + shift,
    );
    if (spilling !== undefined) await spilling;
    done += got;
  }
  // Not after a failure: more bytes may arrive.
  blocks.giveBack(buffer);
  return done;
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
    const bytes = blocks.borrow(length);
    await fill(range.fd, bytes, offset + shift);
    ask.call.throwIfAborted();
    const written = ask.write(handle, offset, bytes);
    left -= length;
    if (left === 0) onAsked();
    await written;
    // After a failure the bytes may still be on their way.
    blocks.giveBack(bytes);
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
      // The sink keeps what it is given.
      let bytes = Buffer.allocUnsafeSlow(wanted);
      const first = ask.read(handle, from, bytes);
      first.catch(() => undefined);
      const previous = before;
      const block = (async () => {
        await previous;
        let got = await first;
        for (let at = from; !isOver; ) {
          if (got === 0) {
            isOver = true;
            return;
          }
          ask.call.throwIfAborted();
          await sink.write(bytes.subarray(0, got));
          at += got;
          if (at >= from + wanted) return;
          bytes = Buffer.allocUnsafeSlow(from + wanted - at);
          got = await ask.read(handle, at, bytes);
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

function spill(fd: number, bytes: Buffer, position: number): Promise<void> | undefined {
  if (bytes.length > AT_ONCE) return spillLater(fd, bytes, position);
  try {
    for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at, bytes.length - at, position + at);
  } catch (cause) {
    throw localFailure(cause);
  }
  return undefined;
}

async function spillLater(fd: number, bytes: Buffer, position: number): Promise<void> {
  try {
    for (let at = 0; at < bytes.length; ) {
      at += (await writeLater(fd, bytes, at, bytes.length - at, position + at)).bytesWritten;
    }
  } catch (cause) {
    throw localFailure(cause);
  }
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
