import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { errno } from '../../errors/errno.js';
import { MirageError } from '../../errors/mirage-error.js';
import type {
  ByteRange,
  ByteSink,
  ByteSource,
  Capabilities,
  Context,
  DirectoryBackend,
  HostTree,
  HostTreeBackend,
  ListPage,
  ObjectInfo,
  Precondition,
  RenameBackend,
  StoredAttributes,
  UsageBackend,
  Validator,
  WriteOptions,
} from '../contract.js';
import { check, fromBytes, isMissing, type Place, TreeFiles } from './tree-files.js';

const { O_CREAT, O_DIRECTORY, O_EXCL, O_RDONLY, O_WRONLY } = constants;
const O_PATH = 0o10000000;
const AT_REMOVEDIR = 0x200;
const RENAME_NOREPLACE = 1;
const RENAME_EXCHANGE = 2;
const UTIME_OMIT = 1073741822;

const CHUNK_BYTES = 256 * 1024;
/** Entries of a listing page come from so many bytes of directory records. */
const LISTING_BYTES = 32 * 1024;
/** Files that are being written, or that a crash left behind; no listing shows them. */
const TEMPORARY = /^\.mirage-[0-9a-f]{16}\.tmp$/;

export interface TreeBackendOptions {
  /** An O_PATH descriptor of the root directory, which the backend closes. */
  readonly root: number;
  readonly exclusive: boolean;
  /** Runs when the backend is closed. */
  readonly dispose?: () => void;
}

/**
 * A directory tree of this host as a backend. A write is made under a temporary name and takes its place at once, so nobody sees half of it. Keys
 * are the UTF-8 names of the tree; a file whose name is no UTF-8 has no key (a mounted tree shows it all the same: it works on bytes).
 */
export class TreeBackend implements DirectoryBackend, RenameBackend, UsageBackend, HostTreeBackend {
  readonly capabilities: Capabilities = {
    preconditions: {
      writeAbsent: true,
      writeMatch: true,
      multipartAbsent: true,
      multipartMatch: true,
      copyAbsent: false,
      removeMatch: true,
    },
    // Mode, owner and times are the tree's own; it keeps no nonces and link groups.
    attributes: false,
    directories: 'real',
    maximumSize: Number.POSITIVE_INFINITY,
    maximumKeyBytes: Number.POSITIVE_INFINITY,
  };
  private readonly files: TreeFiles;

  constructor(private readonly options: TreeBackendOptions) {
    this.files = new TreeFiles(options.root);
  }

  async stat(key: string, context: Context): Promise<ObjectInfo | undefined> {
    proceed(context);
    const { files } = this;
    try {
      return files.at(key, (place) => {
        check('stat', key, files.look(place));
        return files.info(key);
      });
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw error;
    }
  }

  /** `cursor` is the directory position that the kernel gave, valid also after entries were removed. */
  async list(prefix: string, cursor: string | undefined, context: Context): Promise<ListPage> {
    proceed(context);
    const { files } = this;
    const { native } = files;
    const fd = files.at(prefix, (place) => check('list', prefix, files.open(place, O_RDONLY | O_DIRECTORY)));
    try {
      if (cursor !== undefined) check('list', prefix, native.seekDirectory(fd, Number(cursor)));
      const records = Buffer.allocUnsafe(LISTING_BYTES);
      const used = check('list', prefix, native.readDirectory(fd, records));
      const entries: ObjectInfo[] = [];
      let position = 0;
      for (let at = 0; at < used; at += records.readUInt16LE(at + 16)) {
        position = records.readUInt32LE(at + 8) + records.readUInt32LE(at + 12) * 2 ** 32;
        const bytes = records.subarray(at + 19, records.indexOf(0, at + 19));
        const name = fromBytes(bytes);
        if (name === undefined || name === '.' || name === '..' || TEMPORARY.test(name)) continue;
        if (native.statAt(fd, bytes.toString('latin1')) < 0) continue;
        entries.push(files.info(prefix === '' ? name : `${prefix}/${name}`));
      }
      return { entries, cursor: used === 0 ? undefined : String(position) };
    } finally {
      native.close(fd);
    }
  }

  async read(
    key: string,
    range: ByteRange,
    sink: ByteSink,
    context: Context,
    match?: Validator,
  ): Promise<ObjectInfo> {
    proceed(context);
    const { files } = this;
    const { native } = files;
    const fd = files.at(key, (place) => check('read', key, files.open(place, O_RDONLY)));
    try {
      const info = this.version(key, fd, match);
      const end = Math.min(range.offset + range.length, info.size ?? 0);
      for (let at = range.offset; at < end; ) {
        const chunk = Buffer.allocUnsafe(Math.min(CHUNK_BYTES, end - at));
        const length = check('read', key, native.pread(fd, chunk, at));
        if (length === 0) break;
        at += length;
        await sink.write(chunk.subarray(0, length));
        proceed(context);
      }
      // Somebody wrote into the file while it was read: the bytes are of two versions.
      return this.version(key, fd, info.validator);
    } finally {
      native.close(fd);
    }
  }

  async write(
    key: string,
    source: ByteSource,
    { precondition, attributes }: WriteOptions,
    context: Context,
  ): Promise<ObjectInfo> {
    proceed(context);
    const { files } = this;
    const { native } = files;
    // The directory stays open under the write, so that the temporary file and the final name are in the same one.
    const { directory, name } = files.at(key, (place) => {
      if (place.name === '') throw MirageError.system('write ""', errno.EISDIR);
      return { directory: check('open', key, native.reopen(place.directory, O_PATH)), name: place.name };
    });
    const temporary = temporaryName();
    let fd = -1;
    try {
      fd = check('write', key, native.openAt(directory, temporary, O_CREAT | O_EXCL | O_WRONLY, 0o644));
      await this.fill(key, fd, source, context);
      this.apply(key, fd, attributes);
      this.replace(key, { directory, name }, temporary, precondition);
      check('stat', key, native.statFd(fd));
      return files.info(key);
    } catch (error) {
      native.unlinkAt(directory, temporary, 0);
      throw error;
    } finally {
      if (fd >= 0) native.close(fd);
      native.close(directory);
    }
  }

  async remove(key: string, precondition: Precondition, context: Context): Promise<void> {
    proceed(context);
    const { native } = this.files;
    this.files.at(key, ({ directory, name }) => {
      if (precondition.kind === 'absent') throw staleVersion(key);
      if (precondition.kind === 'any') {
        check('remove', key, native.unlinkAt(directory, name, 0));
        return;
      }
      // Put aside first: what is removed is then surely what was looked at.
      this.expect(key, { directory, name }, precondition.validator);
      const aside = temporaryName();
      check('remove', key, native.renameAt(directory, name, directory, aside, RENAME_NOREPLACE));
      try {
        this.expect(key, { directory, name: aside }, precondition.validator);
      } catch (error) {
        native.renameAt(directory, aside, directory, name, RENAME_NOREPLACE);
        throw error;
      }
      check('remove', key, native.unlinkAt(directory, aside, 0));
    });
  }

  async createDirectory(key: string, attributes: StoredAttributes, context: Context): Promise<ObjectInfo> {
    proceed(context);
    const { files } = this;
    const { native } = files;
    return files.at(key, (place) => {
      const mode = (attributes.mode ?? 0o755) & 0o7777;
      check('mkdir', key, native.mkdirAt(place.directory, place.name, mode));
      const fd = check('open', key, native.lookupAt(place.directory, place.name));
      try {
        this.apply(key, fd, attributes);
        check('stat', key, native.statFd(fd));
        return files.info(key);
      } finally {
        native.close(fd);
      }
    });
  }

  async removeDirectory(key: string, context: Context): Promise<void> {
    proceed(context);
    const { native } = this.files;
    this.files.at(key, ({ directory, name }) =>
      check('rmdir', key, native.unlinkAt(directory, name, AT_REMOVEDIR)),
    );
  }

  async rename(from: string, to: string, context: Context): Promise<void> {
    proceed(context);
    const { files } = this;
    files.at(from, (source) =>
      files.at(to, (target) =>
        check(
          'rename',
          from,
          files.native.renameAt(source.directory, source.name, target.directory, target.name, 0),
        ),
      ),
    );
  }

  async usage(
    context: Context,
  ): Promise<{ total: number; free: number; entries: number; freeEntries: number }> {
    proceed(context);
    const figures = new Float64Array(8);
    check('statfs', '', this.files.native.statfs(this.options.root, figures));
    const [blockSize = 0, blocks = 0, , available = 0, entries = 0, freeEntries = 0] = figures;
    return { total: blocks * blockSize, free: available * blockSize, entries, freeEntries };
  }

  openTree(): HostTree {
    const { native } = this.files;
    const { exclusive } = this.options;
    const root = check('open', '', native.reopen(this.options.root, O_PATH | O_DIRECTORY));
    return { root, exclusive, close: () => void native.close(root) };
  }

  async close(): Promise<void> {
    this.files.native.close(this.options.root);
    this.options.dispose?.();
  }

  private async fill(key: string, fd: number, source: ByteSource, context: Context): Promise<void> {
    let at = 0;
    for await (const chunk of source.read({ offset: 0, length: source.size })) {
      proceed(context);
      for (let done = 0; done < chunk.length; ) {
        const rest = done === 0 ? chunk : chunk.subarray(done);
        done += check('write', key, this.files.native.pwrite(fd, rest, at + done));
      }
      at += chunk.length;
    }
    proceed(context);
  }

  private apply(key: string, fd: number, attributes: StoredAttributes | undefined): void {
    if (attributes === undefined) return;
    const { native } = this.files;
    const { uid, gid, mode, modified, accessed } = attributes;
    if (uid !== undefined || gid !== undefined) check('chown', key, native.chownFd(fd, uid ?? -1, gid ?? -1));
    if (mode !== undefined) check('chmod', key, native.chmodFd(fd, mode & 0o7777));
    const omitted = { seconds: 0, nanoseconds: UTIME_OMIT };
    const a = accessed ?? omitted;
    const m = modified ?? omitted;
    if (accessed !== undefined || modified !== undefined) {
      check('utimes', key, native.utimesFd(fd, a.seconds, a.nanoseconds, m.seconds, m.nanoseconds));
    }
  }

  /** Moves a temporary file to its name, in one step, if what is there is what was expected. */
  private replace(key: string, place: Place, temporary: string, precondition: Precondition): void {
    const { native } = this.files;
    const { directory, name } = place;
    const move = (flags: number): number => native.renameAt(directory, temporary, directory, name, flags);
    if (precondition.kind === 'any') {
      check('rename', key, move(0));
      return;
    }
    if (precondition.kind === 'absent') {
      const result = move(RENAME_NOREPLACE);
      if (result === -errno.EEXIST) throw staleVersion(key);
      check('rename', key, result);
      return;
    }
    this.expect(key, place, precondition.validator);
    const exchanged = move(RENAME_EXCHANGE);
    if (exchanged === -errno.ENOENT) throw staleVersion(key);
    check('rename', key, exchanged);
    try {
      // A program beside us may have replaced the file since it was looked at: it gets it back.
      this.expect(key, { directory, name: temporary }, precondition.validator);
    } catch (error) {
      move(RENAME_EXCHANGE);
      throw error;
    }
    check('remove', key, native.unlinkAt(directory, temporary, 0));
  }

  private expect(key: string, place: Place, validator: Validator): void {
    if (this.files.look(place) < 0 || this.files.validator() !== validator) throw staleVersion(key);
  }

  private version(key: string, fd: number, match: Validator | undefined): ObjectInfo {
    check('stat', key, this.files.native.statFd(fd));
    const info = this.files.info(key);
    if (info.kind === 'directory') throw MirageError.system(`read ${JSON.stringify(key)}`, errno.EISDIR);
    if (match !== undefined && match !== info.validator) throw staleVersion(key);
    return info;
  }
}

const temporaryName = (): string => `.mirage-${randomBytes(8).toString('hex')}.tmp`;

const staleVersion = (key: string): MirageError =>
  new MirageError(`${JSON.stringify(key)} is another version`, { errno: 'ESTALE' });

function proceed({ signal }: Context): void {
  if (signal.aborted) throw new MirageError('aborted', { errno: 'EINTR', cause: signal.reason });
}
