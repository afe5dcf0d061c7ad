import { constants } from 'node:fs';
import { errno } from '../../errors/errno.js';
import { MirageError } from '../../errors/mirage-error.js';
import { ENTRY_FIELDS, Entry } from '../../native/local-files.js';
import { type DirectorySink, EntryReply, type Handle, type NodeId, type OpenReply } from '../operations.js';
import { HandleTable } from './handle-table.js';
import { contentVersion, isSettled } from './host-attributes.js';
import { check, type HostNodes } from './host-nodes.js';

const BUFFER_BYTES = 32 * 1024;
/** Entries go out as names only from here on, so that a walk does not make the kernel hold a node of everything it saw. */
const LISTED_NODES = 500_000;

class Listing {
  readonly buffer = Buffer.allocUnsafe(BUFFER_BYTES);
  used = 0;
  at = 0;
  /** The cookie of the entry before `at`. */
  position = 0;

  constructor(
    readonly slot: number,
    readonly fd: number,
  ) {}
}

/** Directory handles: the kernel's own cookies, so that a position stays valid whatever is removed meanwhile. */
export class HostDirectories {
  private readonly handles = new HandleTable<Listing>();
  private readonly entry = new EntryReply();
  private readonly fields = new Float64Array(ENTRY_FIELDS);

  /** `exclusive`: nobody else changes the tree. */
  constructor(
    private readonly nodes: HostNodes,
    private readonly exclusive: boolean,
    private readonly wallClock: () => number,
  ) {}

  open(node: NodeId, reply: OpenReply): void {
    const { nodes } = this;
    const slot = nodes.slotOf(node);
    const directory = slot < 0 ? -errno.ESTALE : nodes.descriptors.of(slot);
    if (directory >= 0) nodes.freshness.observe(slot);
    const fd =
      directory < 0
        ? directory
        : nodes.native.openAt(directory, '', constants.O_RDONLY | constants.O_DIRECTORY, 0);
    if (fd < 0) {
      reply.fail(-fd);
      return;
    }
    // Where the kernel may remember the entries, it may remember the listing. It compares the directory's time with the listing's, too.
    if (nodes.freshness.entry(slot) > 0 && nodes.native.statFd(fd) === 0) {
      const version = contentVersion(nodes.stat);
      reply.keepCache = nodes.table.versions[slot] === version;
      reply.cacheDirectory = true;
      const settled = this.exclusive || isSettled(nodes.stat, this.wallClock());
      nodes.table.versions[slot] = settled ? version : 0;
    } else {
      reply.keepCache = false;
      reply.cacheDirectory = false;
    }
    nodes.table.hold(slot);
    reply.handle = this.handles.add(new Listing(slot, fd));
  }

  read(handle: Handle, cookie: number, sink: DirectorySink): void {
    const listing = this.listing(handle);
    if (cookie !== listing.position) this.seek(listing, cookie);
    do {
      while (listing.at < listing.used) if (!this.emit(listing, sink)) return;
    } while (this.fill(listing));
  }

  sync(handle: Handle, dataOnly: boolean): number {
    return this.nodes.native.fsync(this.listing(handle).fd, dataOnly);
  }

  descriptor(handle: Handle): number {
    return this.listing(handle).fd;
  }

  release(handle: Handle): void {
    const listing = this.handles.remove(handle);
    if (listing === undefined) return;
    this.nodes.native.close(listing.fd);
    this.nodes.table.unhold(listing.slot);
  }

  closeAll(): void {
    for (const listing of this.handles.values()) this.nodes.native.close(listing.fd);
  }

  private listing(handle: Handle): Listing {
    const listing = this.handles.get(handle);
    if (listing === undefined) throw MirageError.system('handle', errno.EBADF);
    return listing;
  }

  private seek(listing: Listing, cookie: number): void {
    check('seek', this.nodes.native.seekDirectory(listing.fd, cookie));
    listing.used = listing.at = 0;
    listing.position = cookie;
  }

  /** False at the end. */
  private fill(listing: Listing): boolean {
    listing.at = 0;
    listing.used = 0;
    listing.used = check('getdents', this.nodes.native.readDirectory(listing.fd, listing.buffer));
    return listing.used > 0;
  }

  /** Hands out the entry at `at`, unless the reply is full. */
  private emit(listing: Listing, sink: DirectorySink): boolean {
    const { nodes, fields } = this;
    const whole = sink.wantsAttributes && this.listsNodes(listing.slot);
    const name = nodes.native.readEntry(listing.fd, listing.buffer, listing.at, whole, fields);
    if (typeof name === 'number') throw MirageError.system('getdents', -name);
    if (!sink.fits(name.length)) return false;
    const cookie = fields[Entry.cookie]!;
    const status = fields[Entry.status]!;
    listing.at += fields[Entry.length]!;
    listing.position = cookie;
    // A negative status: removed since it was read, so not listed.
    if (status === 0) {
      nodes.fillEntry(this.entry, listing.slot, name);
      sink.add(name, cookie, this.entry);
    } else if (status > 0) {
      sink.addName(name, cookie, nodes.view.entryIno(fields[Entry.ino]!), fields[Entry.type]!);
    }
    return true;
  }

  /** Attributes with the names pay only where the kernel may keep them. */
  private listsNodes(slot: number): boolean {
    return this.nodes.freshness.entry(slot) > 0 && this.nodes.table.size < LISTED_NODES;
  }
}
