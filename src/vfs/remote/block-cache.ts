/** Where the bytes of remote files are while they are used, and for a while after: one nameless file each, bounded together. */
import { constants, mkdirSync } from 'node:fs';
import { DiskSpace } from '../../content/disk-space.js';
import { MirageError } from '../../errors/mirage-error.js';
import type { Log } from '../../log/log.js';
import { localFiles } from '../../native/local-files.js';
import type { RemoteContent } from './remote-content.js';

const { O_CREAT, O_DIRECTORY, O_EXCL, O_RDONLY, O_RDWR } = constants;
/** Files that nobody has open whose content is kept. */
const KEPT = 512;

export class BlockCache {
  /** A descriptor of it. */
  readonly #directory: number;
  readonly #log: Log;
  readonly #space: DiskSpace;
  /** In use, least recently used first. */
  readonly #used = new Set<RemoteContent>();
  /** Not in use, by inode number, oldest first. */
  readonly #resting = new Map<number, RemoteContent>();
  #next = 1;
  #punching: NodeJS.Immediate | undefined;

  /** `directory` is made; `limit` is the bytes that all files may take. */
  constructor(options: { directory: string; limit: number; log: Log }) {
    const { directory, limit, log } = options;
    this.#log = log;
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    this.#directory = localFiles().openPath(directory, O_RDONLY | O_DIRECTORY);
    if (this.#directory < 0) throw MirageError.system('open', -this.#directory);
    this.#space = new DiskSpace(directory, limit, (bytes) => this.#evict(bytes));
  }

  /** A descriptor of a new file without a name: it goes with the descriptor, also when the daemon is killed. */
  create(): number {
    const name = `${process.pid}-${this.#next++}`;
    const files = localFiles();
    // Not by way of Node, which would close it when this thread ends, whatever the number stands for by then.
    const fd = files.openAt(this.#directory, name, O_RDWR | O_CREAT | O_EXCL, 0o600);
    if (fd < 0) throw MirageError.system('open', -fd);
    files.unlinkAt(this.#directory, name, 0);
    return fd;
  }

  /** Bytes that all files take. */
  get used(): number {
    return this.#space.used;
  }

  /** Counts bytes that a file is about to take. Throws ENOSPC. */
  take(bytes: number): void {
    this.#space.take(bytes, false);
  }
  give(bytes: number): void {
    this.#space.give(bytes);
  }

  use(content: RemoteContent): void {
    this.#used.add(content);
  }

  /** Nobody has the file open: its bytes are kept for the next who opens this version. */
  rest(key: number, content: RemoteContent): void {
    this.#used.delete(content);
    if (content.present.bytes === 0) {
      content.dispose();
      return;
    }
    this.#resting.get(key)?.dispose();
    this.#resting.delete(key);
    this.#resting.set(key, content);
    if (this.#resting.size > KEPT) this.#dropOldest();
  }

  /** The content kept for an inode, if it is of this version; another version goes. */
  resume(key: number, version: string): RemoteContent | undefined {
    const content = this.#resting.get(key);
    if (content === undefined) return undefined;
    this.#resting.delete(key);
    if (content.version === version && content.trusted) return content;
    content.dispose();
    return undefined;
  }

  drop(content: RemoteContent): void {
    this.#used.delete(content);
    content.dispose();
  }

  forget(key: number): void {
    this.#resting.get(key)?.dispose();
    this.#resting.delete(key);
  }

  close(): void {
    if (this.#punching) clearImmediate(this.#punching);
    for (const content of this.#used) content.dispose();
    for (const content of this.#resting.values()) content.dispose();
    this.#used.clear();
    this.#resting.clear();
    localFiles().close(this.#directory);
  }

  #dropOldest(): number {
    for (const [key, content] of this.#resting) {
      const { bytes } = content.present;
      this.#resting.delete(key);
      content.dispose();
      return bytes;
    }
    return 0;
  }

  #evict(bytes: number): void {
    let freed = 0;
    while (freed < bytes && this.#resting.size > 0) freed += this.#dropOldest();
    if (freed >= bytes || this.#used.size === 0) return;
    // A reply of this turn may still read from a file that is open: holes are made after it.
    this.#punching ??= setImmediate(() => {
      this.#punching = undefined;
      this.#punch();
    });
  }

  /** Files that are open give back what the server has, the one that was opened first first. */
  #punch(): void {
    let over = this.#space.used - this.#space.limit * 0.9;
    for (const content of this.#used) {
      if (over <= 0) return;
      over -= content.shrink(over);
    }
    if (over > 0) this.#log.debug('open files hold more than the cache may take', { bytes: over });
  }
}
