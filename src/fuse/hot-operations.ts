/**
 * The operations that programs wait for most: LOOKUP, GETATTR, OPEN, READ, WRITE, FLUSH, RELEASE, directories, GETXATTR. Each has one
 * reply object, used again for every request that is answered at once; a request that has to wait keeps it, and the next one gets a new one.
 */
import { constants } from 'node:fs';
import { errno } from '../errors/errno.js';
import {
  type Answer,
  AttributesReply,
  EntryReply,
  ExtendedAttributeReply,
  type Handle,
  OpenReply,
  ReadReply,
  Reply,
} from '../vfs/operations.js';
import { DirectoryWriter } from './directory-writer.js';
import { MAX_TRANSFER } from './negotiation.js';
import { isPosixAcl, openFlags, putOpenOut } from './open-replies.js';
import {
  ATTR_OUT_SIZE,
  ENTRY_OUT_SIZE,
  GETATTR_FH,
  IN_HEADER_SIZE,
  OPEN_KILL_SUIDGID,
  OPEN_OUT_SIZE,
  Opcode,
  STATX_OUT_SIZE,
  WRITE_KILL_SUIDGID,
} from './protocol.js';
import { putAttributesOut, putEntry, putStatxOut } from './records.js';
import type { Request } from './request.js';
import type { Operation, Session } from './session.js';
import { SlotSource } from './write-sources.js';

const WRITE_IN_SIZE = 40;

export function hotOperations(session: Session): Readonly<Record<number, Operation>> {
  const { arena, channel, fileSystem, writer } = session;

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
    session.later(
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
    reply.attributes = undefined;
    request.interruptible = true;
    const given = flags & GETATTR_FH ? handle : undefined;
    const answer = fileSystem.getattr(request, request.node, given, reply);
    if (answer === undefined) {
      answerAttributes(request, reply, extended);
      return;
    }
    attributes = new AttributesReply();
    session.later(request, answer, () => answerAttributes(request, reply, extended));
  }

  function answerAttributes(request: Request, reply: AttributesReply, extended: boolean): void {
    if (reply.errno !== 0 || reply.attributes === undefined) {
      writer.error(request, reply.errno || errno.EIO);
      return;
    }
    const at = writer.begin(request, extended ? STATX_OUT_SIZE : ATTR_OUT_SIZE);
    if (extended) putStatxOut(writer.words, at, reply.attributesValid, reply.attributes);
    else putAttributesOut(writer.words, at, reply.attributesValid, reply.attributes);
    writer.send();
  }

  // OPEN, OPENDIR, RELEASE, RELEASEDIR

  let opened = new OpenReply();
  let mode = { flags: 0, killPrivileges: false };

  function freshOpen(): OpenReply {
    const reply = opened;
    reply.errno = 0;
    reply.handle = 0;
    reply.keepCache = false;
    reply.directIo = false;
    reply.noFlush = false;
    reply.cacheDirectory = false;
    reply.passthroughFd = -1;
    return reply;
  }

  function open(request: Request): void {
    const reply = freshOpen();
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
    session.later(
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
    const backing = session.backing.acquire(request.node, reply.handle, reply.passthroughFd);
    const at = writer.begin(request, OPEN_OUT_SIZE);
    putOpenOut(writer.words, at, reply.handle, openFlags(reply, backing), backing);
    writer.send();
  }

  function opendir(request: Request): void {
    const reply = freshOpen();
    const { node } = request;
    request.interruptible = true;
    const answer = fileSystem.opendir(request, node, reply);
    if (answer === undefined) {
      answerOpendir(request, reply);
      return;
    }
    opened = new OpenReply();
    session.later(
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

  function release(request: Request): void {
    const handle = arena.argument64(0);
    session.backing.release(request.node, handle);
    const answer = fileSystem.release(request, request.node, handle);
    if (answer === undefined) writer.empty(request);
    else session.later(request, answer, () => writer.empty(request));
  }

  function releasedir(request: Request): void {
    const answer = fileSystem.releasedir(request, request.node, arena.argument64(0));
    if (answer === undefined) writer.empty(request);
    else session.later(request, answer, () => writer.empty(request));
  }

  // READ

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
    session.later(request, answer, () => answerRead(request, reply, size));
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

  // WRITE, FLUSH

  const newSource = (): SlotSource => new SlotSource(channel, arena.bytes, session.slotBytes);
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
    if (typeof answer === 'number') {
      answerWrite(request, answer);
      return;
    }
    source = newSource();
    session.later(request, answer, (written) => answerWrite(request, written));
  }

  /** fuse_write_out */
  function answerWrite(request: Request, written: number): void {
    const at = writer.begin(request, 8);
    writer.words[at] = written;
    writer.words[at + 1] = 0;
    writer.send();
  }

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
    session.later(request, answer, () => answerPlain(request, reply));
  }

  function answerPlain(request: Request, reply: Reply): void {
    if (reply.errno !== 0) writer.error(request, reply.errno);
    else writer.empty(request);
  }

  // READDIR, READDIRPLUS

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
    session.later(
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

  // GETXATTR

  let attribute = new ExtendedAttributeReply();

  function getxattr(request: Request): void {
    const reply = attribute;
    const size = arena.argument32(0);
    const name = arena.name(8);
    reply.errno = 0;
    reply.value = undefined;
    request.interruptible = true;
    const answer = fileSystem.getxattr(request, request.node, name, reply);
    if (answer === undefined) {
      answerAttribute(request, reply, name, size);
      return;
    }
    attribute = new ExtendedAttributeReply();
    session.later(request, answer, () => answerAttribute(request, reply, name, size));
  }

  function answerAttribute(
    request: Request,
    reply: ExtendedAttributeReply,
    name: string,
    size: number,
  ): void {
    const { value } = reply;
    if (reply.errno !== 0 || value === undefined) {
      // The kernel asks for ACLs to decide who may pass; a volume without them has none on any file.
      const none = reply.errno === errno.EOPNOTSUPP && isPosixAcl(name);
      writer.error(request, none ? errno.ENODATA : reply.errno || errno.ENODATA);
    } else answerSized(request, value, size);
  }

  /** fuse_getxattr_out for `size` 0, else the value. */
  function answerSized(request: Request, value: Uint8Array, size: number): void {
    if (size === 0) {
      const at = writer.begin(request, 8);
      writer.words[at] = value.length;
      writer.words[at + 1] = 0;
      writer.send();
    } else if (value.length > size) writer.error(request, errno.ERANGE);
    else writer.data(request, value);
  }

  return {
    [Opcode.LOOKUP]: lookup,
    [Opcode.GETATTR]: getattr,
    [Opcode.STATX]: statx,
    [Opcode.OPEN]: open,
    [Opcode.OPENDIR]: opendir,
    [Opcode.RELEASE]: release,
    [Opcode.RELEASEDIR]: releasedir,
    [Opcode.READ]: read,
    [Opcode.WRITE]: write,
    [Opcode.FLUSH]: flush,
    [Opcode.READDIR]: readdir,
    [Opcode.READDIRPLUS]: readdir,
    [Opcode.GETXATTR]: getxattr,
  };
}
