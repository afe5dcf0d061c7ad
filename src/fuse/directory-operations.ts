/** OPENDIR, READDIR, READDIRPLUS, RELEASEDIR */
import { type Answer, OpenReply } from '../vfs/operations.js';
import { DirectoryWriter } from './directory-writer.js';
import { MAX_TRANSFER } from './negotiation.js';
import { clearOpen, openFlags, putOpenOut } from './open-replies.js';
import type { OperationContext, Operations } from './operation.js';
import { OPEN_OUT_SIZE, Opcode } from './protocol.js';
import type { Request } from './request.js';

export function directoryOperations(context: OperationContext): Operations {
  const { arena, fileSystem, writer } = context;
  let opened = new OpenReply();

  function opendir(request: Request): void {
    const reply = clearOpen(opened);
    const { node } = request;
    request.interruptible = true;
    const answer = fileSystem.opendir(request, node, reply);
    if (answer === undefined) {
      answerOpendir(request, reply);
      return;
    }
    opened = new OpenReply();
    context.later(
      request,
      answer,
      () => answerOpendir(request, reply),
      () => (reply.errno === 0 ? fileSystem.releasedir(request, node, reply.handle) : undefined),
    );
  }

  function answerOpendir(request: Request, reply: OpenReply): void {
    if (reply.errno !== 0) {
      writer.error(request, reply.errno);
      return;
    }
    const at = writer.begin(request, OPEN_OUT_SIZE);
    putOpenOut(writer.words, at, reply.handle, openFlags(reply, 0), 0);
    writer.send();
  }

  function releasedir(request: Request): void {
    const answer = fileSystem.releasedir(request, request.node, arena.argument64(0));
    if (answer === undefined) writer.empty(request);
    else context.later(request, answer, () => writer.empty(request));
  }

  const free: DirectoryWriter[] = [];

  function readdir(request: Request): void {
    const sink = free.pop() ?? new DirectoryWriter();
    sink.reset(Math.min(arena.argument32(4), MAX_TRANSFER), request.opcode === Opcode.READDIRPLUS);
    request.interruptible = true;
    const takenBack = (error: unknown): unknown => {
      forgetEntries(sink);
      return error;
    };
    let answer: Answer<void>;
    try {
      answer = fileSystem.readdir(request, request.node, arena.argument64(0), arena.argument64(2), sink);
    } catch (error) {
      throw takenBack(error);
    }
    if (answer === undefined) {
      answerDirectory(request, sink);
      return;
    }
    context.later(
      request,
      answer.catch((error: unknown) => {
        throw takenBack(error);
      }),
      () => answerDirectory(request, sink),
      () => forgetEntries(sink),
    );
  }

  function answerDirectory(request: Request, sink: DirectoryWriter): void {
    writer.header(sink.words, sink.length, request);
    writer.sendBuffer(sink.bytes, sink.length);
    if (free.length < 4) free.push(sink);
  }

  function forgetEntries(sink: DirectoryWriter): void {
    for (const node of sink.nodes) fileSystem.forget(node, 1);
  }

  return {
    [Opcode.OPENDIR]: opendir,
    [Opcode.RELEASEDIR]: releasedir,
    [Opcode.READDIR]: readdir,
    [Opcode.READDIRPLUS]: readdir,
  };
}
