import { randomBytes } from 'node:crypto';
import { MirageError } from '../../errors/mirage-error.js';
import type {
  ByteRange,
  ByteSink,
  ByteSource,
  Capabilities,
  Context,
  DirectoryBackend,
  ListPage,
  ObjectInfo,
  Precondition,
  RenameBackend,
  StoredAttributes,
  UsageBackend,
  Validator,
  WriteOptions,
} from '../contract.js';
import type { FileServerBackend } from '../file-server.js';
import type { WireAttributes } from './attributes.js';
import type { Connections } from './connections.js';
import { explained, explainWrite, isDirectory, look } from './explain.js';
import type { SftpFileServer } from './file-server.js';
import { OpenFlag } from './packet.js';
import type { Requests } from './requests.js';
import { readIntoSink, writeFromSource } from './transfer.js';
import { WriterMemory } from './writer-memory.js';

const S_IFMT = 0o170000;
const S_IFREG = 0o100000;
const NEW_FILE_MODE = 0o644;
const NEW_DIRECTORY_MODE = 0o755;
/** Files that are being written, or that a crash left behind; no listing of objects shows them. */
const TEMPORARY = /^\.mirage-[0-9a-f]{16}\.tmp$/;

/**
 * The files of an SFTP server as objects, for tools; a mount goes by `fileServer`. A write is made under a temporary name and takes its place
 * in one step. The protocol tells versions apart by size and whole seconds only, and has no request that compares: a write over a
 * named version looks first, which another writer may slip behind, and the capabilities say so.
 */
export class SftpBackend implements FileServerBackend, DirectoryBackend, RenameBackend, UsageBackend {
  readonly capabilities: Capabilities = {
    preconditions: {
      writeAbsent: true,
      writeMatch: false,
      multipartAbsent: true,
      multipartMatch: false,
      copyAbsent: false,
      removeMatch: true,
    },
    attributes: false,
    directories: 'real',
    maximumSize: Number.POSITIVE_INFINITY,
    maximumKeyBytes: Number.POSITIVE_INFINITY,
  };
  readonly #connections: Connections;
  /** The server keeps no nonces. */
  readonly #writers = new WriterMemory();

  constructor(
    connections: Connections,
    readonly fileServer: SftpFileServer,
  ) {
    this.#connections = connections;
  }

  async stat(key: string, context: Context): Promise<ObjectInfo | undefined> {
    context.signal.throwIfAborted();
    const place = this.#at(key);
    if (place === undefined) return undefined;
    return this.#connections.run(context, true, async (ask) => {
      const found = await look(ask, place);
      return found && this.#info(key, found);
    });
  }

  /** All of a directory at once: the protocol has no positions to go on from. */
  async list(prefix: string, _cursor: string | undefined, context: Context): Promise<ListPage> {
    const entries: ObjectInfo[] = [];
    const add = (name: string, found: WireAttributes): void => {
      const text = fromBytes(name);
      if (text === undefined || TEMPORARY.test(text)) return;
      entries.push(this.#info(prefix === '' ? text : `${prefix}/${text}`, found));
    };
    await this.fileServer.list(
      keyPath(prefix) ?? noFile(prefix),
      (page) => {
        for (const { name, size, mode, uid, gid, modifiedSeconds, accessedSeconds } of page) {
          add(name, { size, mode, uid, gid, modified: modifiedSeconds, accessed: accessedSeconds });
        }
      },
      context,
    );
    return { entries, cursor: undefined };
  }

  async read(
    key: string,
    range: ByteRange,
    sink: ByteSink,
    context: Context,
    match?: Validator,
  ): Promise<ObjectInfo> {
    const place = this.#at(key) ?? noFile(key);
    let given = 0;
    let expected = match;
    const counting: ByteSink = {
      write(chunk) {
        given += chunk.length;
        return sink.write(chunk);
      },
    };
    return this.#connections.run(
      context,
      true,
      async (ask) => {
        // Asked first: opening a fifo would keep the server waiting for a writer.
        const found = await explained(ask, { operation: 'open', path: place }, ask.lstat(place));
        if (isDirectory(found)) throw new MirageError(`${shownKey(key)} is a directory`, { errno: 'EISDIR' });
        if (((found.mode ?? S_IFREG) & S_IFMT) !== S_IFREG) {
          throw new MirageError(`${shownKey(key)} is no regular file`, { errno: 'EINVAL' });
        }
        const handle = await explained(
          ask,
          { operation: 'open', path: place },
          ask.open(place, OpenFlag.read, {}, false),
        );
        try {
          const info = this.#version(key, await ask.fstat(handle), expected);
          expected = info.validator;
          const end = Math.min(range.offset + range.length, info.size ?? 0);
          const from = range.offset + given;
          const rest = { offset: from, length: Math.max(0, end - from) };
          await readIntoSink(ask, handle, rest, counting, this.fileServer.blocks);
          // Somebody wrote into the file while it was read: the bytes are of two versions.
          return this.#version(key, await ask.fstat(handle), info.validator);
        } finally {
          void ask.close(handle).catch(() => undefined);
        }
      },
      'content',
    );
  }

  async write(
    key: string,
    source: ByteSource,
    { precondition, attributes = {} }: WriteOptions,
    context: Context,
  ): Promise<ObjectInfo> {
    const place = this.#at(key) ?? noFile(key);
    if (key === '') throw new MirageError('the root is a directory', { errno: 'EISDIR' });
    const temporary = temporaryBeside(place);
    return this.#connections.run(
      context,
      false,
      async (ask) => {
        const flags = OpenFlag.write | OpenFlag.create | OpenFlag.exclusive;
        const handle = await explained(
          ask,
          { operation: 'open', path: temporary, write: true },
          ask.open(temporary, flags, { mode: NEW_FILE_MODE }, true),
        );
        try {
          try {
            await writeFromSource(ask, handle, source, this.fileServer.blocks);
            ask.call.throwIfAborted();
            for (const change of changesOf(attributes)) await ask.fsetstat(handle, change);
          } catch (error) {
            throw await explainWrite(ask, handle, error);
          }
          const written = this.#info(key, await ask.fstat(handle));
          await this.#put(ask, key, temporary, place, precondition);
          this.#writers.add(key, attributes.writer, written.validator);
          return { ...written, attributes: { ...written.attributes, ...writerOf(attributes.writer) } };
        } catch (error) {
          // Also when the caller has given up: the temporary file is nobody's.
          await ask
            .beyond()
            .remove(temporary)
            .catch(() => undefined);
          throw error;
        } finally {
          void ask
            .beyond()
            .close(handle)
            .catch(() => undefined);
        }
      },
      'content',
    );
  }

  async remove(key: string, precondition: Precondition, context: Context): Promise<void> {
    const place = this.#at(key) ?? noFile(key);
    if (precondition.kind === 'absent') throw staleVersion(key);
    await this.#connections.run(context, false, async (ask) => {
      const removing = async (path: string): Promise<void> =>
        explained(ask, { operation: 'unlink', path }, ask.remove(path));
      if (precondition.kind === 'any') return removing(place);
      // Put aside first: what is removed is then surely what was looked at.
      await this.#expect(ask, key, place, precondition.validator);
      const aside = temporaryBeside(place);
      await explained(ask, { operation: 'rename', path: place, to: aside }, ask.rename(place, aside));
      try {
        await this.#expect(ask, key, aside, precondition.validator);
      } catch (error) {
        await ask.beyond().rename(aside, place);
        throw error;
      }
      await removing(aside);
    });
  }

  async createDirectory(key: string, attributes: StoredAttributes, context: Context): Promise<ObjectInfo> {
    const place = this.#at(key) ?? noFile(key);
    return this.#connections.run(context, false, async (ask) => {
      const mode = (attributes.mode ?? NEW_DIRECTORY_MODE) & 0o7777;
      await explained(ask, { operation: 'mkdir', path: place }, ask.mkdir(place, mode));
      for (const change of changesOf(attributes)) await ask.setstat(place, change);
      const info = this.#info(key, await ask.lstat(place));
      this.#writers.add(key, attributes.writer, info.validator);
      return info;
    });
  }

  async removeDirectory(key: string, context: Context): Promise<void> {
    await this.fileServer.rmdir(keyPath(key) ?? noFile(key), context);
  }

  async rename(from: string, to: string, context: Context): Promise<void> {
    const target = keyPath(to) ?? noFile(to);
    await this.fileServer.rename(keyPath(from) ?? noFile(from), target, { replace: true }, context);
  }

  async usage(
    context: Context,
  ): Promise<{ total?: number; free?: number; entries?: number; freeEntries?: number }> {
    if (!this.fileServer.features.statfs) return {};
    const { blockSize, blocks, blocksAvailable, files, filesFree } = await this.fileServer.statfs(
      '',
      context,
    );
    return {
      total: blocks * blockSize,
      free: blocksAvailable * blockSize,
      entries: files,
      freeEntries: filesFree,
    };
  }

  close(): Promise<void> {
    return this.#connections.close();
  }

  /** Moves what was written to its name, if what is there is what was expected. */
  async #put(
    ask: Requests,
    key: string,
    temporary: string,
    place: string,
    precondition: Precondition,
  ): Promise<void> {
    if (precondition.kind === 'match') await this.#expect(ask, key, place, precondition.validator);
    const exclusive = precondition.kind === 'absent';
    try {
      await explained(
        ask,
        { operation: 'rename', path: temporary, to: place, exclusive },
        exclusive || !this.fileServer.features.renameReplace
          ? ask.rename(temporary, place)
          : ask.posixRename(temporary, place),
      );
    } catch (error) {
      if (exclusive && MirageError.is(error, 'EEXIST')) throw staleVersion(key);
      throw error;
    }
  }

  async #expect(ask: Requests, key: string, place: string, validator: Validator): Promise<void> {
    const found = await look(ask, place);
    if (found === undefined || validatorOf(found) !== validator) throw staleVersion(key);
  }

  #version(key: string, found: WireAttributes, match: Validator | undefined): ObjectInfo {
    const info = this.#info(key, found);
    if (match !== undefined && match !== info.validator) throw staleVersion(key);
    return info;
  }

  #info(key: string, found: WireAttributes): ObjectInfo {
    const { mode, uid, gid, size, modified, accessed } = found;
    const validator = validatorOf(found);
    const at = (seconds: number) => ({ seconds, nanoseconds: 0 });
    return {
      key,
      kind: isDirectory(found) ? 'directory' : 'file',
      size: isDirectory(found) ? 0 : size,
      modified: at(modified ?? 0),
      validator,
      attributes: {
        ...(mode !== undefined && { mode }),
        ...(uid !== undefined && { uid }),
        ...(gid !== undefined && { gid }),
        ...(modified !== undefined && { modified: at(modified) }),
        ...(accessed !== undefined && { accessed: at(accessed) }),
        ...writerOf(this.#writers.of(key, isDirectory(found) ? undefined : validator)),
      },
    };
  }

  /** undefined: no file can have this key. */
  #at(key: string): string | undefined {
    const path = keyPath(key);
    return path === undefined ? undefined : this.fileServer.at(path);
  }
}

const decoder = new TextDecoder('utf-8', { fatal: true });

/** The key form of a name, or undefined where its bytes are no UTF-8: such a file has no key. */
function fromBytes(name: string): string | undefined {
  try {
    return decoder.decode(Buffer.from(name, 'latin1'));
  } catch {
    return undefined;
  }
}

/** A key as a path of the file server; undefined where it is none. */
function keyPath(key: string): string | undefined {
  if (key === '') return '';
  if (key.includes('\0') || key.split('/').some((name) => name === '' || name === '.' || name === '..')) {
    return undefined;
  }
  return Buffer.from(key, 'utf8').toString('latin1');
}

const temporaryBeside = (place: string): string =>
  `${place.slice(0, place.lastIndexOf('/') + 1)}.mirage-${randomBytes(8).toString('hex')}.tmp`;

/** Size and time, which is all that there is. */
const validatorOf = ({ size = 0, modified = 0 }: WireAttributes): Validator =>
  `${size.toString(36)}-${modified.toString(36)}`;

/** The owner first: changing it takes the set-user-id bits away that the mode may name. */
function changesOf({ uid, gid, mode, modified, accessed }: StoredAttributes): WireAttributes[] {
  const changes: WireAttributes[] = [];
  if (uid !== undefined && gid !== undefined) changes.push({ uid, gid });
  if (mode !== undefined) changes.push({ mode: mode & 0o7777 });
  if (modified !== undefined) {
    changes.push({ modified: modified.seconds, accessed: (accessed ?? modified).seconds });
  }
  return changes;
}

const writerOf = (writer: string | undefined): StoredAttributes => (writer === undefined ? {} : { writer });

const shownKey = (key: string): string => JSON.stringify(key);

const staleVersion = (key: string): MirageError =>
  new MirageError(`${shownKey(key)} is another version`, { errno: 'ESTALE' });

function noFile(key: string): never {
  throw new MirageError(`${shownKey(key)} is no path of a file system`, {
    errno: 'EINVAL',
    hint: 'a path has no empty names, no "." and no ".."',
  });
}
