import { closeSync, constants, ftruncateSync, openSync, renameSync } from 'node:fs';
import type { Validator } from '../backends/contract.js';
import { MirageError } from '../errors/mirage-error.js';
import type { Log } from '../log/log.js';
import { localFiles } from '../native/local-files.js';
import type { MountIndex, StorePort } from '../ports/store-port.js';
import { CacheFolder, type CacheFolders } from './cache-folder.js';
import { CachedFile, type CleanFileOwner } from './clean-file.js';
import type { ContentIndex, SavedFile } from './content-index.js';
import type { CleanFile, ContentStore, ReadCursor, StagedFile, Version } from './contract.js';
import { DiskSpace } from './disk-space.js';
import type { PackedObject } from './packed-object.js';
import { PACKED, Packs } from './packs.js';
import { RangeSet } from './range-set.js';
import { newCursor, ReadAheadBudget } from './read-ahead.js';
import { SpareFiles } from './spare-files.js';
import { type SharedFile, type StagedFileOwner, WorkingFile } from './staged-file.js';

/** Milliseconds until the index hears of what has come: not while its readers wait. What came since is fetched again after a crash. */
const SAVED_AFTER = 250;
/** Cache files that stay open after their last user, for the next one. */
const KEPT_OPEN = 256;

/** The content store on a directory of a disk. */
export class DiskContent implements ContentStore, CleanFileOwner, StagedFileOwner {
  readonly port: StorePort;
  readonly log: Log;
  readonly space: DiskSpace;
  readonly readAhead = new ReadAheadBudget();
  readonly #packs: Packs;
  readonly #spares: SpareFiles;
  readonly #folder: CacheFolder;
  readonly #index: ContentIndex;
  /** Descriptor whose lock keeps others out of the directory. */
  readonly #lock: number;
  /** By mount index: the number of what is mounted there. */
  readonly #locations: number[] = [];
  /** Open files by location and key: the versions of that object. */
  readonly #open = new Map<number, Map<string, CachedFile[]>>();
  readonly #byId = new Map<number, CachedFile>();
  /** Open files that nobody uses, the longest unused first. */
  readonly #resting = new Set<CachedFile>();
  readonly #unsaved = new Set<CachedFile>();
  readonly #working = new Set<WorkingFile>();
  #saving: NodeJS.Timeout | undefined;
  #nextWorking = 1;
  #written = false;

  constructor(
    folders: CacheFolders,
    lock: number,
    index: ContentIndex,
    limit: number,
    port: StorePort,
    log: Log,
  ) {
    this.#folder = new CacheFolder(folders, log);
    this.#lock = lock;
    this.#index = index;
    this.port = port;
    this.log = log;
    this.space = new DiskSpace(folders.root, limit, (bytes, now) => this.#evict(bytes, now));
    this.space.count(index.bytes);
    const path = (id: number) => this.#folder.path(id);
    const unlink = (id: number) => this.#folder.unlink(id, false);
    this.#packs = new Packs({ port, space: this.space, index, log, path, unlink });
    this.#spares = new SpareFiles(() => index.newId(), path, unlink);
  }

  get used(): number {
    return this.space.used;
  }

  get limit(): number {
    return this.space.limit;
  }

  identify(mount: MountIndex, identity: string): void {
    this.#locations[mount] = this.#index.location(identity);
  }

  acquire(version: Version, alone = false): CleanFile {
    const location = this.#location(version.mount);
    const known = this.#openFile(location, version) ?? this.#indexedFile(location, version);
    if (known === undefined && version.size <= PACKED) {
      const packed = this.#packs.acquire(location, version);
      const own = alone || this.#index.isPinned(location, version.key);
      return own ? this.#unpack(location, packed) : packed;
    }
    const file = known ?? this.#newFile(location, version);
    file.references++;
    return file;
  }

  stage(base?: { file: CleanFile; size: number }): StagedFile {
    const path = this.#folder.staging(this.#nextWorking++);
    const file = new WorkingFile(this, path, base?.file as SharedFile | undefined, base?.size ?? 0);
    this.#working.add(file);
    return file;
  }

  newCursor(): ReadCursor {
    return newCursor();
  }

  drop(mount: MountIndex, key: string): void {
    const location = this.#location(mount);
    for (const file of [...(this.#open.get(location)?.get(key) ?? [])]) this.doom(file);
    for (const { id, bytes } of this.#index.ofKey(location, key)) {
      this.#index.remove(id);
      this.#folder.unlink(id, false);
      this.space.give(bytes);
    }
    this.#packs.drop(location, key);
  }

  cached(version: Version): number {
    const location = this.#location(version.mount);
    const open = this.#open.get(location)?.get(version.key);
    const { key, validator, size } = version;
    const file = open?.find((each) => each.version.validator === validator && each.version.size === size);
    if (file !== undefined) return file.bytes;
    const row = this.#index.find(location, key, validator, size);
    return row?.ranges.bytes ?? (this.#packs.has(location, version) ? size : 0);
  }

  isPinned(mount: MountIndex, key: string): boolean {
    return this.#index.isPinned(this.#location(mount), key);
  }

  pin(mount: MountIndex, key: string, pinned: boolean): void {
    this.#index.pin(this.#location(mount), key, pinned);
  }

  relabel(version: Version, validator: Validator, between: () => void): void {
    const location = this.#location(version.mount);
    const file = this.#openFile(location, version) ?? this.#indexedFile(location, version);
    const intact = file?.intact === true;
    between();
    this.#packs.relabel(location, version, validator);
    if (file === undefined) return;
    // The version is one object for the file, its fetches and whoever reads it.
    Object.assign(file.version, { validator });
    if (intact) file.sign();
    this.settled(file);
    if (file.references === 0 && !file.busy) this.rest(file);
  }

  async close(): Promise<void> {
    for (const file of [...this.#working]) file.abandon();
    for (const file of [...this.#byId.values()]) await file.stop();
    await this.#packs.stop();
    await this.#spares.stop();
    this.#save();
    for (const file of [...this.#byId.values()]) {
      if (file.bytes === 0 && file.version.size > 0) this.#folder.unlink(file.id, false);
      closeSync(file.fd);
    }
    await this.#folder.unlinked();
    this.#index.close(!this.#written || (await this.#folder.sync()));
    closeSync(this.#lock);
  }

  settled(file: CachedFile): void {
    this.#written = true;
    this.#unsaved.add(file);
    this.#saving ??= setTimeout(() => this.#save(), SAVED_AFTER);
  }

  rest(file: CachedFile): void {
    if (file.doomed) {
      closeSync(file.fd);
      this.space.give(file.charged);
      return;
    }
    if (!this.#byId.has(file.id)) return;
    if (file.bytes === 0 && file.version.size > 0) {
      this.doom(file);
      return;
    }
    this.#index.touch(file.id);
    this.#resting.delete(file);
    this.#resting.add(file);
    if (this.#resting.size > KEPT_OPEN) {
      for (const oldest of this.#resting) {
        this.#shut(oldest);
        break;
      }
    }
  }

  doom(file: CachedFile): void {
    if (file.doomed) return;
    file.doomed = true;
    this.#detach(file);
    this.#index.remove(file.id);
    this.#folder.unlink(file.id, false);
    if (file.references === 0 && !file.busy) this.rest(file);
  }

  damaged(key: string): void {
    this.log.warn('cached content was damaged; it is fetched again', { key });
  }

  adopt(path: string, fd: number, version: Version, charged: number): CleanFile {
    const location = this.#location(version.mount);
    const known = this.#openFile(location, version) ?? this.#indexedFile(location, version);
    if (known) this.doom(known);
    const id = this.#index.newId();
    renameSync(path, this.#folder.path(id));
    const present = new RangeSet(version.size > 0 ? [0, version.size] : []);
    const content = { ranges: new RangeSet(), charged };
    const file = new CachedFile(this, id, location, version, fd, content, present);
    file.references = 1;
    file.sign();
    this.#attach(file);
    this.settled(file);
    return file;
  }

  ended(file: WorkingFile): void {
    this.#working.delete(file);
  }

  #location(mount: MountIndex): number {
    const location = this.#locations[mount];
    if (location === undefined) {
      throw new MirageError(`mount ${mount} has not said what it stands for`, { errno: 'EINVAL' });
    }
    return location;
  }

  #openFile(location: number, version: Version): CachedFile | undefined {
    const versions = this.#open.get(location)?.get(version.key);
    if (!versions) return undefined;
    for (const file of versions) {
      if (file.version.validator !== version.validator || file.version.size !== version.size) continue;
      if (file.references > 0 || file.busy) return file;
      if (file.intact) {
        this.#resting.delete(file);
        return file;
      }
      this.#changedOutside(version.key);
      this.doom(file);
      return undefined;
    }
    return undefined;
  }

  /** A file of the index, if it still is what the index says. */
  #indexedFile(location: number, version: Version): CachedFile | undefined {
    const row = this.#index.find(location, version.key, version.validator, version.size);
    if (!row) return undefined;
    const fd = this.#tryOpen(this.#folder.path(row.id));
    if (fd !== undefined) {
      const file = new CachedFile(this, row.id, location, version, fd, { ...row, charged: row.bytes });
      if (file.intact) {
        this.#attach(file);
        return file;
      }
      closeSync(fd);
    }
    this.#changedOutside(version.key);
    this.#index.remove(row.id);
    this.#folder.unlink(row.id, false);
    this.space.give(row.bytes);
    return undefined;
  }

  #newFile(location: number, version: Version): CachedFile {
    const { id, fd } = this.#spares.take();
    ftruncateSync(fd, version.size);
    const file = new CachedFile(this, id, location, version, fd, { ranges: new RangeSet(), charged: 0 });
    file.sign();
    this.#attach(file);
    return file;
  }

  /** A file of its own for a packed object, with its bytes where they are here. */
  #unpack(location: number, packed: PackedObject): CachedFile {
    const { version } = packed;
    const { size } = version;
    const complete = packed.complete && size > 0;
    const { id, fd } = this.#spares.take();
    try {
      if (complete) {
        const copied = localFiles().copyFileRange(packed.fd, packed.start, fd, 0, size);
        if (copied !== size) throw MirageError.system('copy_file_range', copied < 0 ? -copied : 5);
      } else ftruncateSync(fd, size);
    } catch (error) {
      closeSync(fd);
      this.#folder.unlink(id, false);
      throw error;
    } finally {
      packed.release();
    }
    const charged = complete ? size : 0;
    this.space.count(charged);
    const present = new RangeSet(complete ? [0, size] : []);
    const known = { ranges: new RangeSet(), charged };
    const file = new CachedFile(this, id, location, version, fd, known, present);
    file.references = 1;
    file.sign();
    this.#attach(file);
    if (complete) this.settled(file);
    return file;
  }

  #tryOpen(path: string): number | undefined {
    try {
      return openSync(path, constants.O_RDWR | constants.O_NOFOLLOW);
    } catch {
      return undefined;
    }
  }

  #changedOutside(key: string): void {
    this.log.warn('a cache file was changed from outside; it is fetched again', { key });
  }

  #attach(file: CachedFile): void {
    let keys = this.#open.get(file.location);
    if (!keys) {
      keys = new Map();
      this.#open.set(file.location, keys);
    }
    const versions = keys.get(file.version.key);
    if (versions) versions.push(file);
    else keys.set(file.version.key, [file]);
    this.#byId.set(file.id, file);
  }

  #detach(file: CachedFile): void {
    const keys = this.#open.get(file.location);
    const versions = keys?.get(file.version.key);
    if (versions) {
      const left = versions.filter((each) => each !== file);
      if (left.length > 0) keys?.set(file.version.key, left);
      else keys?.delete(file.version.key);
    }
    this.#byId.delete(file.id);
    this.#resting.delete(file);
    this.#unsaved.delete(file);
  }

  /** Closes a file that nobody uses; its row stays. */
  #shut(file: CachedFile): void {
    if (this.#unsaved.has(file)) this.#save();
    this.#detach(file);
    closeSync(file.fd);
  }

  #save(): void {
    clearTimeout(this.#saving);
    this.#saving = undefined;
    const rows: SavedFile[] = [];
    for (const file of this.#unsaved) {
      const { id, location, version, charged, signature } = file;
      const { key, validator, size } = version;
      if (!signature) continue;
      const content = { ranges: file.savedRanges(), checksums: file.checksums.encode() };
      rows.push({ id, location, key, validator, size, bytes: charged, signature, ...content });
    }
    this.#unsaved.clear();
    if (rows.length > 0) this.#index.save(rows);
  }

  #evict(bytes: number, now: boolean): void {
    this.#save();
    this.#packs.save();
    let freed = 0;
    this.#index.fromOldest(({ id, bytes: size }) => {
      const file = this.#byId.get(id);
      if (file && (file.references > 0 || file.busy)) return true;
      if (!this.#packs.close(id)) return true;
      if (file) this.#shut(file);
      this.#index.remove(id);
      this.#folder.unlink(id, now);
      this.space.give(size);
      freed += size;
      return freed < bytes;
    });
    for (const file of this.#byId.values()) {
      if (freed >= bytes) return;
      if (file.transient) freed += file.giveUp(bytes - freed);
    }
  }
}
