/** Files whose size or version only their bytes tell (a page made on demand, an encoded answer): they are fetched before anybody hears of them. */
import type { ObjectInfo } from '../../backends/contract.js';
import { MirageError } from '../../errors/mirage-error.js';
import type { EntryRecord } from '../../metadata/contract.js';
import type { Rows } from './rows.js';

/** A source without an end must not fill the disk: bytes. */
const LIMIT = 4 * 2 ** 30;
const EVERYTHING = { offset: 0, length: 2 ** 40 };
const NEVER = new AbortController().signal;

/** The store could not say all that `stat` shows. */
export const needsHydration = (info: ObjectInfo | undefined): info is ObjectInfo =>
  info?.kind === 'file' && (info.size === undefined || info.validator === undefined);

/**
 * What is true of the object, size and version included. Its content is in the cache then, and the next reader has it from there. A version that was
 * seen before is not fetched again for its size.
 */
export async function hydrated(
  { port, mount, content }: Rows,
  info: ObjectInfo,
  previous: EntryRecord | undefined,
): Promise<ObjectInfo> {
  if (info.validator !== undefined && previous?.kind === 'file' && previous.validator === info.validator) {
    return { ...info, size: previous.size };
  }
  const staged = content.stage();
  const abort = new AbortController();
  let failure: unknown;
  let charged = 0;
  const charge = (to: number): void => {
    try {
      if (to > LIMIT) throw tooLarge(info.key);
      // Nothing else writes to the file, so that there is nothing to wait for.
      void staged.prepareWrite(charged, to - charged, NEVER);
      charged = to;
    } catch (error) {
      failure ??= error;
      abort.abort();
    }
  };
  try {
    const request = { key: info.key, range: EVERYTHING, fd: staged.fd, onProgress: charge };
    const read = await port.fetch(mount, request, abort.signal);
    const { size, validator = info.validator } = read;
    if (size === undefined || validator === undefined) {
      throw new MirageError(`${info.key}: the store does not tell its size`, { errno: 'EIO' });
    }
    charge(size);
    if (failure !== undefined) throw failure;
    staged.wrote(0, size);
    await staged.commit(async () => read);
    staged.settle({ mount, key: info.key, validator, size }).release();
    return { ...info, size, validator };
  } catch (error) {
    staged.discard();
    throw failure ?? error;
  }
}

const tooLarge = (key: string): MirageError =>
  new MirageError(`${key}: it does not end`, {
    errno: 'EFBIG',
    hint: 'the store tells no size, and so much came that it may be a stream without an end',
  });
