/**
 * The operations that programs wait for most: LOOKUP, GETATTR, STATX, OPEN, FLUSH, RELEASE. Each has one reply object, used again for
 * every request that is answered at once; a request that has to wait keeps it, and the next one gets a new one.
 */
import { constants } from 'node:fs';
import { errno } from '../errors/errno.js';
import { AttributesReply, EntryReply, type Handle, OpenReply, Reply } from '../vfs/operations.js';
import { clearOpen, openFlags, putOpenOut } from './open-replies.js';
import type { OperationContext, Operations } from './operation.js';
import {
  ATTR_OUT_SIZE,
  ENTRY_OUT_SIZE,
  GETATTR_FH,
  OPEN_KILL_SUIDGID,
  OPEN_OUT_SIZE,
  Opcode,
  STATX_OUT_SIZE,
} from './protocol.js';
import { putAttributesOut, putEntry, putStatxOut } from './records.js';
import type { Request } from './request.js';

export function hotOperations(context: OperationContext): Operations {
  const { arena, fileSystem, writer } = context;

  // LOOKUP

  let entry = new EntryReply();

  function lookup(request: Request): void {
    const reply = entry;
    reply.errno = 0;
    reply.nodeId = 0;
    reply.entryValid = 0;
    reply.attributesValid = 0;
    reply.attributes = undefined;
    request.interruptible = true;
    const answer = fileSystem.lookup(request, request.node, arena.name(0), reply);
    if (answer === undefined) {
      answerEntry(request, reply);
      return;
    }
    entry = new EntryReply();
    context.later(
      request,
      answer,
      () => answerEntry(request, reply),
      () => {
        if (reply.errno === 0 && reply.nodeId !== 0) fileSystem.forget(reply.nodeId, 1);
      },
    );
  }

  function answerEntry(request: Request, reply: EntryReply): void {
    if (reply.errno !== 0) {
      writer.error(request, reply.errno);
      return;
    }
    const at = writer.begin(request, ENTRY_OUT_SIZE);
    putEntry(writer.words, at, reply);
    writer.send();
  }

  // GETATTR, STATX

  let attributes = new AttributesReply();

  function getattr(request: Request): void {
    getAttributes(request, arena.argument32(0), arena.argument64(2), false);
  }

  function statx(request: Request): void {
    getAttributes(request, arena.argument32(0), arena.argument64(2), true);
  }

  function getAttributes(request: Request, flags: number, handle: Handle, extended: boolean): void {
    const reply = attributes;
    reply.errno = 0;
    reply.attributesValid = 0;
    reply.settled = false;
    reply.attributes = undefined;
    request.interruptible = true;
    const given = flags & GETATTR_FH ? handle : undefined;
    const answer = fileSystem.getattr(request, request.node, given, reply);
    if (answer === undefined) {
      answerAttributes(request, reply, extended);
      return;
    }
    attributes = new AttributesReply();
    context.later(request, answer, () => answerAttributes(request, reply, extended));
  }

  function answerAttributes(request: Request, reply: AttributesReply, extended: boolean): void {
    if (reply.errno !== 0 || reply.attributes === undefined) {
      writer.error(request, reply.errno || errno.EIO);
      return;
    }
    const at = writer.begin(request, extended ? STATX_OUT_SIZE : ATTR_OUT_SIZE);
    if (extended) {
      putStatxOut(writer.words, at, reply.attributesValid, reply.attributes);
    } else {
      putAttributesOut(writer.words, at, reply.attributesValid, reply.attributes);
      if (reply.settled) context.kept.keep(request.node, at << 2, reply.attributesValid);
    }
    writer.send();
  }

  // OPEN, RELEASE

  let opened = new OpenReply();
  let mode = { flags: 0, killPrivileges: false };

  function open(request: Request): void {
    const reply = clearOpen(opened);
    const { node } = request;
    mode.flags = arena.argument32(0);
    mode.killPrivileges = (arena.argument32(1) & OPEN_KILL_SUIDGID) !== 0;
    request.interruptible = (mode.flags & constants.O_TRUNC) === 0;
    const answer = fileSystem.open(request, node, mode, reply);
    if (answer === undefined) {
      answerOpen(request, reply);
      return;
    }
    opened = new OpenReply();
    mode = { flags: 0, killPrivileges: false };
    context.later(
      request,
      answer,
      () => answerOpen(request, reply),
      () => (reply.errno === 0 ? fileSystem.release(request, node, reply.handle) : undefined),
    );
  }

  function answerOpen(request: Request, reply: OpenReply): void {
    if (reply.errno !== 0) {
      writer.error(request, reply.errno);
      return;
    }
    const backing = context.backing.acquire(request.node, reply.handle, reply.passthroughFd);
    const at = writer.begin(request, OPEN_OUT_SIZE);
    putOpenOut(writer.words, at, reply.handle, openFlags(reply, backing), backing);
    writer.send();
  }

  function release(request: Request): void {
    const handle = arena.argument64(0);
    context.backing.release(request.node, handle);
    const answer = fileSystem.release(request, request.node, handle);
    if (answer === undefined) writer.empty(request);
    else context.later(request, answer, () => writer.empty(request));
  }

  // FLUSH

  let flushed = new Reply();

  function flush(request: Request): void {
    const reply = flushed;
    reply.errno = 0;
    const answer = fileSystem.flush(request, request.node, arena.argument64(0), reply);
    if (answer === undefined) {
      answerPlain(request, reply);
      return;
    }
    flushed = new Reply();
    context.later(request, answer, () => answerPlain(request, reply));
  }

  function answerPlain(request: Request, reply: Reply): void {
    if (reply.errno !== 0) writer.error(request, reply.errno);
    else writer.empty(request);
  }

  return {
    [Opcode.LOOKUP]: lookup,
    [Opcode.GETATTR]: getattr,
    [Opcode.STATX]: statx,
    [Opcode.OPEN]: open,
    [Opcode.RELEASE]: release,
    [Opcode.FLUSH]: flush,
  };
}
