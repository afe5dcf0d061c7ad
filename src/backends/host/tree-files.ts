import { constants } from 'node:fs';
import { MirageError } from '../../errors/mirage-error.js';
import { type LocalFiles, localFiles, Stat } from '../../native/local-files.js';
import type { ObjectInfo, Validator } from '../contract.js';

const S_IFMT = 0o170000;
const S_IFDIR = 0o040000;

/** Throws what a native call answered with a negated error number. */
export function check(call: string, key: string, result: number): number {
  if (result < 0) throw MirageError.system(`${call} ${JSON.stringify(key)}`, -result);
  return result;
}

/** A name of the tree as the native calls take it, one UTF-16 unit per byte. */
export const toBytes = (name: string): string => Buffer.from(name, 'utf8').toString('latin1');

const decoder = new TextDecoder('utf-8', { fatal: true });

/** The key form of a name, or undefined where its bytes are no UTF-8: such a file has no key. */
export function fromBytes(name: Uint8Array): string | undefined {
  try {
    return decoder.decode(name);
  } catch {
    return undefined;
  }
}

/** Where a key is: the descriptor of its directory, and its own name. Valid until `close`. */
export interface Place {
  readonly directory: number;
  /** '' for the root, which `directory` is then itself. */
  readonly name: string;
}

/** Finds keys below a root descriptor, one component at a time, through no symlink. */
export class TreeFiles {
  readonly native: LocalFiles = localFiles();
  readonly stat = this.native.stat;

  constructor(readonly root: number) {}

  /** Runs `use` with the place of a key. Throws ENOENT, ENOTDIR, and EINVAL for a key that no file can have. */
  at<T>(key: string, use: (place: Place) => T): T {
    const names = key === '' ? [''] : key.split('/').map(toBytes);
    const name = names.pop()!;
    if (key !== '' && (name === '' || names.includes(''))) throw noFileName(key);
    let directory = this.root;
    try {
      for (const step of names) {
        const next = check('open', key, this.native.lookupAt(directory, step));
        if (directory !== this.root) this.native.close(directory);
        directory = next;
      }
      return use({ directory, name });
    } finally {
      if (directory !== this.root) this.native.close(directory);
    }
  }

  /** Fills the stat record; a negated error number. */
  look({ directory, name }: Place): number {
    return name === '' ? this.native.statFd(directory) : this.native.statAt(directory, name);
  }

  /** Opens without waiting for anybody (a fifo), following nothing. */
  open({ directory, name }: Place, flags: number): number {
    return this.native.openAt(directory, name, flags | constants.O_NONBLOCK, 0);
  }

  /** What the stat record says of a key. */
  info(key: string): ObjectInfo {
    const { stat } = this;
    const at = (field: Stat) => stat[field]!;
    const modified = {
      seconds: at(Stat.modifiedSeconds),
      nanoseconds: at(Stat.modifiedNanoseconds),
    };
    const isDirectory = (at(Stat.mode) & S_IFMT) === S_IFDIR;
    return {
      key,
      kind: isDirectory ? 'directory' : 'file',
      size: isDirectory ? 0 : at(Stat.size),
      modified,
      validator: this.validator(),
      attributes: {
        mode: at(Stat.mode),
        uid: at(Stat.uid),
        gid: at(Stat.gid),
        modified,
        changed: { seconds: at(Stat.changedSeconds), nanoseconds: at(Stat.changedNanoseconds) },
        accessed: { seconds: at(Stat.accessedSeconds), nanoseconds: at(Stat.accessedNanoseconds) },
      },
    };
  }

  /**
   * The version in the stat record: which file, how long, written when. Not ctime: a rename and a new mode change it, the content stays.
   */
  validator(): Validator {
    const { stat } = this;
    const fields = [Stat.ino, Stat.birth, Stat.size, Stat.modifiedSeconds, Stat.modifiedNanoseconds];
    return fields.map((field) => stat[field]!.toString(36)).join('-');
  }
}

const noFileName = (key: string): MirageError =>
  new MirageError(`${JSON.stringify(key)} is no path of a file system`, {
    errno: 'EINVAL',
    hint: 'a path has no empty names, no "." and no ".."',
  });

/** A key that leads nowhere, whatever stands in the way. */
export const isMissing = (error: unknown): boolean =>
  MirageError.is(error, 'ENOENT') || MirageError.is(error, 'ENOTDIR') || MirageError.is(error, 'EINVAL');
