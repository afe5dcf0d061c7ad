/** READ and WRITE: bytes go from and to files by the channel, and pass through here only where a volume has them in memory. */
import { errno } from '../errors/errno.js';
import { ReadReply } from '../vfs/operations.js';
import { MAX_TRANSFER } from './negotiation.js';
import type { OperationContext, Operations } from './operation.js';
import { IN_HEADER_SIZE, Opcode, WRITE_KILL_SUIDGID } from './protocol.js';
import type { Request } from './request.js';
import { SlotSource } from './write-sources.js';

const WRITE_IN_SIZE = 40;

export function contentOperations(context: OperationContext): Operations {
  const { arena, channel, fileSystem, writer } = context;

  let readReply = new ReadReply();

  function read(request: Request): void {
    const reply = readReply;
    const size = Math.min(arena.argument32(4), MAX_TRANSFER);
    reply.errno = 0;
    reply.fd = -1;
    reply.position = 0;
    reply.length = 0;
    reply.bytes = undefined;
    request.interruptible = true;
    const answer = fileSystem.read(
      request,
      request.node,
      arena.argument64(0),
      arena.argument64(2),
      size,
      reply,
    );
    if (answer === undefined) {
      answerRead(request, reply, size);
      return;
    }
    readReply = new ReadReply();
    context.later(request, answer, () => answerRead(request, reply, size));
  }

  function answerRead(request: Request, reply: ReadReply, size: number): void {
    if (reply.errno !== 0) {
      writer.error(request, reply.errno);
      return;
    }
    const length = Math.min(reply.length, size);
    if (length <= 0) writer.empty(request);
    else if (reply.fd >= 0) {
      channel.replyFromFile(request.uniqueLow, request.uniqueHigh, reply.fd, reply.position, length);
    } else if (reply.bytes !== undefined) writer.data(request, reply.bytes.subarray(0, length));
    else writer.error(request, errno.EIO);
  }

  const newSource = (): SlotSource => new SlotSource(channel, arena.bytes, context.slotBytes);
  let source = newSource();

  function write(request: Request): void {
    const length = arena.argument32(4);
    if (length > arena.argumentBytes - WRITE_IN_SIZE) {
      writer.error(request, errno.EINVAL);
      return;
    }
    const payload = source;
    payload.set(
      arena.slot,
      IN_HEADER_SIZE + WRITE_IN_SIZE,
      length,
      (arena.argument32(5) & WRITE_KILL_SUIDGID) !== 0,
    );
    const answer = fileSystem.write(request, request.node, arena.argument64(0), arena.argument64(2), payload);
    payload.expire();
    if (payload.handedOver) return;
    if (typeof answer === 'number') {
      answerWrite(request, answer);
      return;
    }
    source = newSource();
    context.later(request, answer, (written) => answerWrite(request, written));
  }

  /** fuse_write_out */
  function answerWrite(request: Request, written: number): void {
    const at = writer.begin(request, 8);
    writer.words[at] = written;
    writer.words[at + 1] = 0;
    writer.send();
  }

  return { [Opcode.READ]: read, [Opcode.WRITE]: write };
}
