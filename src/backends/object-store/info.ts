import { MirageError } from '../../errors/mirage-error.js';
import type { ObjectInfo } from '../contract.js';

/** A directory that is there only because something lies below it. */
export function implicitDirectory(key: string): ObjectInfo {
  return {
    key,
    kind: 'directory',
    size: undefined,
    modified: { seconds: 0, nanoseconds: 0 },
    validator: undefined,
    attributes: undefined,
  };
}

/** Bytes of the whole object, of which an answer may carry a part; undefined where no range is told. */
export function sizeOfRange(contentRange: string | undefined): number | undefined {
  const ranged = /^bytes \d+-\d+\/(\d+)$/.exec(contentRange ?? '');
  return ranged === null ? undefined : Number(ranged[1]);
}

export function anotherVersion(key: string): MirageError {
  return new MirageError(`${key}: the object is another version by now`, { errno: 'ESTALE' });
}
