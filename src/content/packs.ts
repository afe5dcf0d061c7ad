import { closeSync, constants, openSync } from 'node:fs';
import { crc32 } from 'node:zlib';
import type { Validator } from '../backends/contract.js';
import type { Log } from '../log/log.js';
import { localFiles } from '../native/local-files.js';
import type { StorePort } from '../ports/store-port.js';
import type { ContentIndex } from './content-index.js';
import type { Version } from './contract.js';
import type { DiskSpace } from './disk-space.js';
import type { SavedObject } from './object-rows.js';
import { PackedObject, type PackedObjectOwner, type Place } from './packed-object.js';

/** Objects up to this size, bytes, share files: making a file of its own costs more than fetching one of them. */
export const PACKED = 64 * 1024;
/** Bytes of a shared file; it is evicted as a whole. */
const PACK = 16 * 1024 * 1024;
/** A small cache is made of this many packs at least. */
const PACKS_AT_LEAST = 16;
/** Milliseconds until the index hears of objects that have come: not while their readers wait. What came since is fetched again after a crash. */
const SAVED_AFTER = 250;
/** Objects that the index has not heard of, at most. */
const UNSAVED = 512;
/** Packs that stay open without users. */
const KEPT_OPEN = 64;
const FALLOC_FL_KEEP_SIZE = 0x01;
const FALLOC_FL_PUNCH_HOLE = 0x02;
const DISK_BLOCK = 4096;

interface Pack {
  readonly id: number;
  readonly fd: number;
  /** Where the next object goes. */
  end: number;
  /** Bytes of objects that can still be found. */
  bytes: number;
  /** Objects in memory that lie in it, or are on their way. */
  objects: number;
}

export interface PacksOptions {
  readonly port: StorePort;
  readonly space: DiskSpace;
  readonly index: ContentIndex;
  readonly log: Log;
  /** Path of the file with this number. */
  readonly path: (id: number) => string;
  /** Ends a file without users. */
  readonly unlink: (id: number) => void;
}

/** Small objects, many to a file. To the index a pack is a file like any other, so that it is evicted in its turn. */
export class Packs implements PackedObjectOwner {
  readonly port: StorePort;
  readonly #options: PacksOptions;
  readonly #packSize: number;
  readonly #packs = new Map<number, Pack>();
  /** Objects in use or not in the index yet, by what makes them one. */
  readonly #objects = new Map<string, PackedObject>();
  /** Rows to be written: an object and its checksum. */
  #unsaved: { readonly object: PackedObject; readonly checksum: number }[] = [];
  #filling: Pack | undefined;
  #saving: NodeJS.Timeout | undefined;
  readonly #scratch = Buffer.allocUnsafeSlow(PACKED);

  constructor(options: PacksOptions) {
    this.#options = options;
    this.port = options.port;
    this.#packSize = Math.max(PACKED, Math.min(PACK, Math.floor(options.space.limit / PACKS_AT_LEAST)));
  }

  acquire(location: number, version: Version): PackedObject {
    const name = nameOf(location, version);
    let object = this.#objects.get(name);
    if (object === undefined) {
      object = new PackedObject(this, location, version, this.#find(location, version));
      this.#objects.set(name, object);
    }
    object.references++;
    if (object.place !== undefined) this.#options.index.touch(object.place.pack);
    return object;
  }

  /** What is cached of an object is not to be found any more. */
  drop(location: number, key: string): void {
    for (const object of [...this.#objects.values()]) {
      if (object.location === location && object.version.key === key) this.doom(object);
    }
    const { objects } = this.#options.index;
    for (const row of objects.ofKey(location, key)) {
      objects.remove(location, row);
      const pack = this.#open(row.pack);
      if (pack !== undefined) this.#free(pack, row.offset, row.size);
    }
  }

  /** The same bytes are called otherwise by the store. */
  relabel(location: number, version: Version, validator: Validator): void {
    const { index } = this.#options;
    const object = this.#objects.get(nameOf(location, version));
    if (object !== undefined) {
      this.#objects.delete(nameOf(location, version));
      Object.assign(object.version, { validator });
      this.#objects.set(nameOf(location, object.version), object);
      if (!object.saved) return;
    }
    index.objects.relabel(location, version, validator);
  }

  /** Not in use, so that it may be evicted; its descriptor is closed then. */
  close(id: number): boolean {
    const pack = this.#packs.get(id);
    if (pack === undefined) return true;
    if (pack.objects > 0) return false;
    if (this.#filling === pack) this.#filling = undefined;
    this.#shut(pack);
    return true;
  }

  /** The bytes of a version are here. */
  has(location: number, version: Version): boolean {
    const known = this.#objects.get(nameOf(location, version));
    return known?.complete ?? this.#options.index.objects.find(location, version) !== undefined;
  }

  async stop(): Promise<void> {
    for (const object of [...this.#objects.values()]) await object.stop();
    this.save();
    for (const pack of this.#packs.values()) closeSync(pack.fd);
    this.#packs.clear();
    this.#objects.clear();
  }

  /** Writes the rows that are due. */
  save(): void {
    clearTimeout(this.#saving);
    this.#saving = undefined;
    if (this.#unsaved.length === 0) return;
    const { index } = this.#options;
    const rows: SavedObject[] = [];
    const touched = new Set<Pack>();
    for (const { object, checksum } of this.#unsaved) {
      const { location, version, place, doomed } = object;
      const pack = place && this.#packs.get(place.pack);
      if (place === undefined || pack === undefined || doomed) continue;
      const { key, validator, size } = version;
      rows.push({ location, key, validator, size, pack: place.pack, offset: place.offset, checksum });
      touched.add(pack);
    }
    const saved = this.#unsaved;
    this.#unsaved = [];
    index.saveObjects(rows, [...touched]);
    for (const { object } of saved) {
      object.saved = true;
      if (object.references === 0) this.rest(object);
    }
  }

  allocate(bytes: number): Place {
    const { space } = this.#options;
    space.take(bytes, false);
    let pack = this.#filling;
    if (pack === undefined || pack.end + bytes > this.#packSize) {
      this.#filling = undefined;
      if (pack?.objects === 0) this.#closeSome();
      pack = this.#create(bytes);
      this.#filling = pack;
    }
    const offset = pack.end;
    pack.end += bytes;
    pack.bytes += bytes;
    pack.objects++;
    return { pack: pack.id, fd: pack.fd, offset };
  }

  abandon(place: Place, bytes: number): void {
    const pack = this.#packs.get(place.pack);
    if (pack === undefined) return;
    pack.objects--;
    if (pack.end === place.offset + bytes) pack.end = place.offset;
    this.#free(pack, place.offset, bytes);
  }

  filled(object: PackedObject, checksum: number): void {
    this.#unsaved.push({ object, checksum });
    if (this.#unsaved.length >= UNSAVED) this.save();
    else this.#saving ??= setTimeout(() => this.save(), SAVED_AFTER);
  }

  doom(object: PackedObject): void {
    if (object.doomed) return;
    object.doomed = true;
    const { location, version } = object;
    const name = nameOf(location, version);
    if (this.#objects.get(name) === object) this.#objects.delete(name);
    if (object.saved) this.#options.index.objects.remove(location, version);
    if (object.references === 0 && !object.busy) this.rest(object);
  }

  rest(object: PackedObject): void {
    const { place, version } = object;
    const name = nameOf(object.location, version);
    const held = this.#objects.get(name) === object;
    if (!held && !object.doomed) return;
    // Until its row is there, memory alone knows where it is.
    if (!object.doomed && object.complete && !object.saved) return;
    if (held) this.#objects.delete(name);
    object.place = undefined;
    const pack = place && this.#packs.get(place.pack);
    if (place === undefined || pack === undefined) return;
    pack.objects--;
    if (object.doomed) this.#free(pack, place.offset, version.size);
    this.#closeSome();
  }

  /** Where the bytes of a version are, if they still are what was fetched. */
  #find(location: number, version: Version): Place | undefined {
    const { index, log } = this.#options;
    const row = index.objects.find(location, version);
    if (row === undefined) return undefined;
    const pack = this.#open(row.pack);
    if (pack !== undefined) {
      const bytes = this.#scratch.subarray(0, version.size);
      const right = localFiles().pread(pack.fd, bytes, row.offset) === bytes.length;
      if (right && (row.checksum === 0 || crc32(bytes) === row.checksum)) {
        pack.objects++;
        return { pack: pack.id, fd: pack.fd, offset: row.offset };
      }
      this.#free(pack, row.offset, version.size);
    }
    log.warn('cached content was damaged; it is fetched again', { key: version.key });
    index.objects.remove(location, version);
    return undefined;
  }

  #open(id: number): Pack | undefined {
    const known = this.#packs.get(id);
    if (known !== undefined) return known;
    const { index, path } = this.#options;
    const bytes = index.packBytes(id);
    if (bytes === undefined) return undefined;
    try {
      const fd = openSync(path(id), constants.O_RDWR | constants.O_NOFOLLOW);
      const pack = { id, fd, end: Number.POSITIVE_INFINITY, bytes, objects: 0 };
      this.#packs.set(id, pack);
      return pack;
    } catch {
      return undefined;
    }
  }

  #create(bytes: number): Pack {
    const { index, path, space } = this.#options;
    const id = index.newId();
    try {
      const flags = constants.O_RDWR | constants.O_CREAT | constants.O_TRUNC;
      const pack = { id, fd: openSync(path(id), flags, 0o600), end: 0, bytes: 0, objects: 0 };
      this.#packs.set(id, pack);
      index.saveObjects([], [pack]);
      return pack;
    } catch (error) {
      space.give(bytes);
      throw error;
    }
  }

  /** The bytes of an object that cannot be found any more count no longer; whole blocks of the disk among them go back to it. */
  #free(pack: Pack, offset: number, bytes: number): void {
    const { index, space, unlink } = this.#options;
    pack.bytes -= bytes;
    space.give(bytes);
    const from = Math.ceil(offset / DISK_BLOCK) * DISK_BLOCK;
    const to = Math.floor((offset + bytes) / DISK_BLOCK) * DISK_BLOCK;
    if (to > from) {
      localFiles().fallocate(pack.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, from, to - from);
    }
    if (pack.bytes > 0 || pack.objects > 0 || this.#filling === pack) {
      index.saveObjects([], [pack]);
      return;
    }
    this.#shut(pack);
    index.remove(pack.id);
    unlink(pack.id);
  }

  #closeSome(): void {
    if (this.#packs.size <= KEPT_OPEN) return;
    for (const pack of this.#packs.values()) {
      if (pack.objects > 0 || pack === this.#filling) continue;
      this.#shut(pack);
      return;
    }
  }

  #shut(pack: Pack): void {
    this.#packs.delete(pack.id);
    closeSync(pack.fd);
  }
}

const nameOf = (location: number, { key, validator, size }: Version): string =>
  `${location}\0${key}\0${validator}\0${size}`;
