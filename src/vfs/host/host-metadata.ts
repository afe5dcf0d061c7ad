import { errno } from '../../errors/errno.js';
import { MirageError } from '../../errors/mirage-error.js';
import { Stat } from '../../native/local-files.js';
import { Attributes, isRegular } from '../attributes.js';
import { isPosixAcl } from '../extended-attributes.js';
import type {
  AttributeChange,
  AttributesReply,
  ByteString,
  ExtendedAttributeReply,
  FileSystemUsage,
  Handle,
  NodeId,
} from '../operations.js';
import type { HostFiles } from './host-files.js';
import { check, type HostNodes } from './host-nodes.js';

const UTIME_NOW = 1073741823;
const UTIME_OMIT = 1073741822;
/** XATTR_SIZE_MAX and XATTR_LIST_MAX of Linux. */
const XATTR_BYTES = 65536;

type Time = AttributeChange['accessed'];

const secondsOf = (time: Time): number => (typeof time === 'object' ? time.seconds : 0);
const nanosecondsOf = (time: Time): number =>
  typeof time === 'object' ? time.nanoseconds : time === 'now' ? UTIME_NOW : UTIME_OMIT;

/** Attributes, extended attributes and figures of the file system. */
export class HostMetadata {
  private readonly value = new Uint8Array(XATTR_BYTES);
  private readonly figures = new Float64Array(8);

  constructor(
    private readonly nodes: HostNodes,
    private readonly files: HostFiles,
    private readonly acl: boolean,
  ) {}

  getattr(node: NodeId, reply: AttributesReply): void {
    const { nodes } = this;
    const slot = nodes.slotOf(node);
    let error = slot < 0 ? -errno.ESTALE : nodes.refresh(slot);
    if (error === -errno.ESTALE && slot >= 0) {
      // Its name is gone or another's, but it is open.
      const fd = this.files.contentDescriptor(slot);
      if (fd >= 0) error = nodes.native.statFd(fd);
    }
    if (error < 0) {
      reply.fail(-error);
      return;
    }
    nodes.fillAttributes(reply, slot, this.files.isOpen(slot));
  }

  setattr(node: NodeId, change: AttributeChange): { attributes: Attributes; attributesValid: number } {
    const { nodes, files } = this;
    const { native, stat, view } = nodes;
    const slot = nodes.slot(node);
    const fd = this.descriptor(slot, change.handle);
    if (change.size !== undefined) {
      check('truncate', files.resize(slot, change.size, change.killPrivileges === true));
    } else if (change.killPrivileges === true && change.mode === undefined) {
      check('chmod', this.clearPrivileges(fd));
    }
    if (change.uid !== undefined || change.gid !== undefined) {
      check('chown', native.chownFd(fd, change.uid ?? -1, change.gid ?? -1));
      files.dropWaitingMode(slot);
    }
    if (change.mode !== undefined) {
      const kind = nodes.table.kinds[slot]! << 12;
      const mode = view.mode(change.mode | kind) & 0o7777;
      check('chmod', native.chmodFd(fd, files.modeForNow(slot, mode)));
    }
    if (change.accessed !== undefined || change.modified !== undefined) {
      const { accessed, modified } = change;
      check(
        'utimes',
        native.utimesFd(
          fd,
          secondsOf(accessed),
          nanosecondsOf(accessed),
          secondsOf(modified),
          nanosecondsOf(modified),
        ),
      );
    }
    check('statx', native.statFd(fd));
    return {
      attributes: view.fill(new Attributes(), stat),
      attributesValid: nodes.freshness.attributes(slot),
    };
  }

  readlink(node: NodeId): ByteString {
    const { nodes } = this;
    const target = nodes.native.readlink(nodes.descriptor(nodes.slot(node)));
    if (typeof target === 'number') throw MirageError.system('readlink', -target);
    return target;
  }

  /**
   * Asked of the node itself, never by its name: an ACL decides access, and the name may lead to another file by now. A missing SELinux label is
   * "not supported", as on file systems that know none: `ls -l` then asks for the first entry only, and not for each.
   */
  getxattr(node: NodeId, name: ByteString, reply: ExtendedAttributeReply): void {
    const { nodes, value } = this;
    if (this.isHidden(name)) {
      reply.fail(errno.EOPNOTSUPP);
      return;
    }
    const slot = nodes.slotOf(node);
    const fd = slot < 0 ? -errno.ESTALE : nodes.descriptors.of(slot);
    const length = fd < 0 ? fd : nodes.native.getxattr(fd, name, value);
    if (length >= 0) reply.value = value.subarray(0, length);
    else if (length === -errno.ENODATA && name === 'security.selinux') reply.fail(errno.EOPNOTSUPP);
    else reply.fail(-length);
  }

  setxattr(node: NodeId, name: ByteString, value: Uint8Array, flags: number): void {
    const { nodes } = this;
    if (this.isHidden(name)) throw MirageError.system('setxattr', errno.EOPNOTSUPP);
    check('setxattr', nodes.native.setxattr(nodes.descriptor(nodes.slot(node)), name, value, flags));
  }

  listxattr(node: NodeId): ByteString[] {
    const { nodes, value } = this;
    const length = check('listxattr', nodes.native.listxattr(nodes.descriptor(nodes.slot(node)), value));
    const names = Buffer.from(value.buffer, 0, length).toString('latin1').split('\0');
    names.pop();
    return this.acl ? names : names.filter((name) => !isPosixAcl(name));
  }

  removexattr(node: NodeId, name: ByteString): void {
    const { nodes } = this;
    if (this.isHidden(name)) throw MirageError.system('removexattr', errno.EOPNOTSUPP);
    check('removexattr', nodes.native.removexattr(nodes.descriptor(nodes.slot(node)), name));
  }

  statfs(node: NodeId): FileSystemUsage {
    const { nodes, figures } = this;
    check('statfs', nodes.native.statfs(nodes.descriptor(nodes.slot(node)), figures));
    const [blockSize, blocks, blocksFree, blocksAvailable, files, filesFree, nameLength] =
      figures as unknown as [number, number, number, number, number, number, number];
    return { blockSize, blocks, blocksFree, blocksAvailable, files, filesFree, nameLength };
  }

  /** An ACL that nobody enforces is none. */
  private isHidden(name: ByteString): boolean {
    return !this.acl && isPosixAcl(name);
  }

  private clearPrivileges(fd: number): number {
    const { native, stat } = this.nodes;
    const error = native.statFd(fd);
    if (error < 0 || !isRegular(stat[Stat.mode]!)) return error;
    return this.files.clearPrivileges(fd);
  }

  /** The node's own, or that of an open handle when its name leads elsewhere. */
  private descriptor(slot: number, handle: Handle | undefined): number {
    const fd = this.nodes.descriptors.of(slot);
    if (fd !== -errno.ESTALE || handle === undefined) return check('open', fd);
    return this.files.anyDescriptor(handle);
  }
}
