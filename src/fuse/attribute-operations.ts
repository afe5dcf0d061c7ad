/** Extended attributes: GETXATTR (asked for every entry that `ls -l` shows, so it allocates nothing), LISTXATTR, SETXATTR, REMOVEXATTR. */
import { errno } from '../errors/errno.js';
import { S_ISGID } from '../vfs/attributes.js';
import { isPosixAcl } from '../vfs/extended-attributes.js';
import { type Answer, AttributesReply, ExtendedAttributeReply } from '../vfs/operations.js';
import type { OperationContext, Operations } from './operation.js';
import { Init, Opcode, SETXATTR_ACL_KILL_SGID } from './protocol.js';
import type { Request } from './request.js';

const SETXATTR_IN_SIZE = 8;
const SETXATTR_EXT_IN_SIZE = 16;

export function attributeOperations(context: OperationContext): Operations {
  const { arena, fileSystem, writer } = context;

  /**
   * Whether the name is one of an ACL, on a mount where the kernel was not asked to enforce ACLs: there are none then, rather than some that bind
   * nobody. EOPNOTSUPP, so that `ls -l` asks for one entry only, and not for each.
   */
  const isUnsupported = (name: string): boolean =>
    isPosixAcl(name) && ((context.negotiated?.flags ?? 0) & Init.POSIX_ACL) === 0;

  let attribute = new ExtendedAttributeReply();

  function getxattr(request: Request): void {
    const reply = attribute;
    const size = arena.argument32(0);
    const name = arena.name(8);
    if (isUnsupported(name)) {
      writer.error(request, errno.EOPNOTSUPP);
      return;
    }
    reply.errno = 0;
    reply.value = undefined;
    request.interruptible = true;
    const answer = fileSystem.getxattr(request, request.node, name, reply);
    if (answer === undefined) {
      answerAttribute(request, reply, name, size);
      return;
    }
    attribute = new ExtendedAttributeReply();
    context.later(request, answer, () => answerAttribute(request, reply, name, size));
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

  /** fuse_setxattr_in: size, flags; with SETXATTR_EXT setxattr_flags, padding too. */
  function setxattr(request: Request): void {
    const extended = ((context.negotiated?.flags ?? 0) & Init.SETXATTR_EXT) !== 0;
    const name = arena.name(extended ? SETXATTR_EXT_IN_SIZE : SETXATTR_IN_SIZE);
    const at = (extended ? SETXATTR_EXT_IN_SIZE : SETXATTR_IN_SIZE) + name.length + 1;
    const value = arena.payload(at, arena.argument32(0));
    if (value === undefined) {
      writer.error(request, errno.EINVAL);
      return;
    }
    if (isUnsupported(name)) {
      writer.error(request, errno.EOPNOTSUPP);
      return;
    }
    const flags = arena.argument32(1);
    const clear = extended && (arena.argument32(2) & SETXATTR_ACL_KILL_SGID) !== 0;
    const set = fileSystem.setxattr(request, request.node, name, value, flags);
    const answer = clear && isPosixAcl(name) ? clearSetGroupId(request, set) : set;
    context.answered(request, answer, () => writer.empty(request));
  }

  /** An access ACL that is set by somebody outside of the file's group ends its setgid bit. */
  async function clearSetGroupId(request: Request, set: Answer<void>): Promise<void> {
    await set;
    const reply = new AttributesReply();
    await fileSystem.getattr(request, request.node, undefined, reply);
    const mode = reply.attributes?.mode ?? 0;
    if (mode & S_ISGID) await fileSystem.setattr(request, request.node, { mode: mode & ~S_ISGID });
  }

  /** fuse_getxattr_in: size; 0 asks for the size of the list. */
  function listxattr(request: Request): void {
    const size = arena.argument32(0);
    request.interruptible = true;
    context.answered(request, fileSystem.listxattr(request, request.node), (names) => {
      const list = names
        .filter((name) => !isUnsupported(name))
        .map((name) => `${name}\0`)
        .join('');
      if (size === 0) {
        const at = writer.begin(request, 8);
        writer.words[at] = list.length;
        writer.words[at + 1] = 0;
        writer.send();
      } else if (list.length > size) writer.error(request, errno.ERANGE);
      else writer.text(request, list);
    });
  }

  function removexattr(request: Request): void {
    const name = arena.name(0);
    if (isUnsupported(name)) writer.error(request, errno.EOPNOTSUPP);
    else {
      const answer = fileSystem.removexattr(request, request.node, name);
      context.answered(request, answer, () => writer.empty(request));
    }
  }

  return {
    [Opcode.GETXATTR]: getxattr,
    [Opcode.SETXATTR]: setxattr,
    [Opcode.LISTXATTR]: listxattr,
    [Opcode.REMOVEXATTR]: removexattr,
  };
}
