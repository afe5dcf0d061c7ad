import { errno, errnoName } from '../../errors/errno.js';
import type { Log } from '../../log/log.js';
import type { Readable } from '../../native/local-files.js';
import type { KernelNotifier } from '../operations.js';
import type { HostFiles } from './host-files.js';
import { check, type HostNodes } from './host-nodes.js';
import { isNetworked } from './network-file-systems.js';

const IN_MODIFY = 0x2;
const IN_ATTRIB = 0x4;
const IN_MOVED_FROM = 0x40;
const IN_MOVED_TO = 0x80;
const IN_CREATE = 0x100;
const IN_DELETE = 0x200;
const IN_IGNORED = 0x8000;
const IN_Q_OVERFLOW = 0x4000;
const IN_ONLYDIR = 0x1000000;
const IN_EXCL_UNLINK = 0x4000000;

const CONTENT = IN_MODIFY | IN_ATTRIB;
const NAMES = IN_MOVED_FROM | IN_MOVED_TO | IN_CREATE | IN_DELETE;
const DIRECTORY_KIND = 0o4;

/**
 * Between two looks at the events while programs on the mount write, milliseconds: every write of theirs is reported, too, and equal events become
 * one meanwhile.
 */
const REST = 20;

const BUFFER_BYTES = 64 * 1024;
/** `struct inotify_event` without its name. */
const EVENT_BYTES = 16;

/**
 * inotify(7) watches on the directories of which the kernel remembers names or attributes: what is changed outside of the mount is told to it at
 * once. A directory that cannot be watched (the limit of watches) is not remembered.
 */
export class DirectoryWatch {
  private readonly slots = new Map<number, number>();
  private readonly watches = new Map<number, number>();
  /** By device: `isTold`. */
  private readonly devices = new Map<number, boolean>();
  private readonly figures = new Float64Array(8);
  private readonly buffer = Buffer.allocUnsafe(BUFFER_BYTES);
  private readonly fd: number;
  private readonly reader: Readable;
  private resting: NodeJS.Timeout | undefined;
  /** Changes of content and attributes in this look at the events that the kernel was told of. */
  private readonly told = new Set<string>();
  private limited = false;

  constructor(
    private readonly nodes: HostNodes,
    private readonly files: HostFiles,
    private readonly notifier: KernelNotifier,
    private readonly log: Log,
  ) {
    this.fd = check('inotify_init', nodes.native.watchCreate());
    this.reader = nodes.native.onReadable(this.fd, () => this.readEvents());
  }

  /** Watches a directory from now on. To be called before its entries are looked at. */
  observe(slot: number): void {
    if (this.watches.has(slot) || this.nodes.table.kinds[slot] !== DIRECTORY_KIND) return;
    const { native, descriptors } = this.nodes;
    const directory = descriptors.of(slot);
    if (directory < 0 || !this.isTold(slot, directory)) return;
    const watch = native.watchAdd(this.fd, directory, CONTENT | NAMES | IN_ONLYDIR | IN_EXCL_UNLINK);
    if (watch < 0) {
      if (!this.limited && watch !== -errno.ENOENT) this.warn(-watch);
      return;
    }
    this.watches.set(slot, watch);
    this.slots.set(watch, slot);
  }

  isWatched(slot: number): boolean {
    return this.watches.has(slot);
  }

  /** The node has gone. */
  forget(slot: number): void {
    const watch = this.watches.get(slot);
    if (watch === undefined) return;
    this.watches.delete(slot);
    this.slots.delete(watch);
    this.nodes.native.watchRemove(this.fd, watch);
  }

  close(): void {
    clearTimeout(this.resting);
    this.reader.stop();
    this.nodes.native.close(this.fd);
  }

  /** Whether the kernel sees every change of the file system that holds the directory: not where other hosts change it. */
  private isTold(slot: number, directory: number): boolean {
    const device = this.nodes.table.devices[slot]!;
    let told = this.devices.get(device);
    if (told === undefined) {
      told = this.nodes.native.statfs(directory, this.figures) === 0 && !isNetworked(this.figures[7]!);
      this.devices.set(device, told);
      if (!told)
        this.log.info('changes by other hosts are not reported: this file system is asked each time');
    }
    return told;
  }

  private warn(error: number): void {
    this.limited = true;
    this.log.warn('not every directory can be watched: the others are asked for each time', {
      why: errnoName(error),
      do: 'raise fs.inotify.max_user_watches (sysctl)',
    });
  }

  private readEvents(): void {
    const { buffer, told } = this;
    if (this.files.anyWriter) {
      this.reader.pause();
      this.resting = setTimeout(() => this.reader.resume(), REST);
    }
    told.clear();
    let length: number;
    do {
      length = this.nodes.native.read(this.fd, buffer);
      for (let at = 0; at < length; ) {
        const nameLength = buffer.readUInt32LE(at + 12);
        const start = at + EVENT_BYTES;
        const end = nameLength === 0 ? start : buffer.indexOf(0, start);
        this.event(
          buffer.readInt32LE(at),
          buffer.readUInt32LE(at + 4),
          buffer.toString('latin1', start, end),
        );
        at = start + nameLength;
      }
    } while (length > BUFFER_BYTES / 2);
  }

  private event(watch: number, mask: number, name: string): void {
    if ((mask & IN_Q_OVERFLOW) !== 0) {
      this.forgetEverything();
      return;
    }
    const slot = this.slots.get(watch);
    if (slot === undefined) return;
    if ((mask & IN_IGNORED) !== 0) {
      this.slots.delete(watch);
      this.watches.delete(slot);
    } else if (name === '') {
      this.notifier.invalidateNode(this.nodes.nodeOf(slot), -1, 0);
    } else if ((mask & NAMES) !== 0) {
      this.told.clear();
      this.nameChanged(slot, name);
    } else {
      // The kernel merges equal events only when nothing came between them.
      const event = `${watch} ${mask} ${name}`;
      if (this.told.has(event)) return;
      this.told.add(event);
      this.contentChanged(slot, name, mask);
    }
  }

  /** A name that still means what the kernel was told is left alone, since a program may stand in that directory. */
  private nameChanged(parent: number, name: string): void {
    const { nodes, notifier } = this;
    const child = this.child(parent, name);
    if (child >= 0 && nodes.table.isNamed(child, parent, name)) {
      notifier.invalidateNode(nodes.nodeOf(child), -1, 0);
    } else {
      notifier.invalidateEntry(nodes.nodeOf(parent), name);
    }
    // Its times, and its listing.
    notifier.invalidateNode(nodes.nodeOf(parent), 0, 0);
  }

  private contentChanged(parent: number, name: string, mask: number): void {
    const child = this.child(parent, name);
    if (child < 0) return;
    // Our own writers keep their pages right.
    const pages = (mask & IN_MODIFY) !== 0 && !this.files.hasWriter(child);
    this.notifier.invalidateNode(this.nodes.nodeOf(child), pages ? 0 : -1, 0);
  }

  private child(parent: number, name: string): number {
    const directory = this.nodes.descriptors.of(parent);
    return directory < 0 ? -1 : this.nodes.known(directory, name);
  }

  /** Events were lost. */
  private forgetEverything(): void {
    const { nodes, notifier } = this;
    const { table } = nodes;
    this.log.warn('more changes than the kernel could report: everything is looked at again');
    for (let slot = 0; slot < table.length; slot++) {
      if (table.numbers[slot] === 0) continue;
      notifier.invalidateNode(nodes.nodeOf(slot), 0, 0);
      const parent = table.parents[slot]!;
      if (parent >= 0) notifier.invalidateEntry(nodes.nodeOf(parent), table.names[slot]!);
    }
  }
}
