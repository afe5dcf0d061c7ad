import {
  type Backend,
  type ByteSource,
  type Context,
  hasDirectories,
  type ObjectInfo,
  type Precondition,
  type Validator,
} from '../backends/contract.js';
import { MirageError } from '../errors/mirage-error.js';
import { decodeRecord, encodeRecord, type LockRecord, lockKey } from './lock-record.js';

export interface FoundLock {
  readonly record: LockRecord;
  readonly validator: Validator;
}

/** Lock objects of one store. */
export interface LockObjects {
  read(name: string, signal: AbortSignal): Promise<FoundLock | undefined>;
  /** ESTALE: the object is in another state than `precondition` says. */
  write(
    name: string,
    record: LockRecord,
    precondition: Precondition,
    signal: AbortSignal,
  ): Promise<FoundLock>;
}

/** Bytes; a record has some hundred and the name it is of. */
const LARGEST = 16_384;

/** Lock objects in a store that honours both preconditions of a plain write. */
export function lockObjects(backend: Backend): LockObjects {
  return {
    async read(name, signal) {
      const key = lockKey(name);
      const chunks: Uint8Array[] = [];
      try {
        const { validator } = await backend.read(
          key,
          { offset: 0, length: LARGEST },
          { write: (chunk) => void chunks.push(chunk) },
          { signal },
        );
        return { record: decodeRecord(Buffer.concat(chunks), key), validator: known(validator, key) };
      } catch (error) {
        if (MirageError.is(error, 'ENOENT')) return undefined;
        throw error;
      }
    },
    async write(name, record, precondition, signal) {
      const key = lockKey(name);
      const context: Context = { signal };
      const writer = `${record.nonce}-${record.renewals}${record.released ? '-released' : ''}`;
      const options = { precondition, attributes: { writer } };
      const put = (): Promise<ObjectInfo> =>
        backend.write(key, source(encodeRecord(record)), options, context);
      const { validator } = await put().catch(async (error: unknown) => {
        if (!MirageError.is(error, 'ENOENT') || precondition.kind !== 'absent') throw error;
        await makeFolders(backend, key, context);
        return put();
      });
      return { record, validator: known(validator, key) };
    },
  };
}

/** Where directories are real, the first lock object finds none to be in; another host may make them just now. */
async function makeFolders(backend: Backend, key: string, context: Context): Promise<void> {
  if (!hasDirectories(backend)) return;
  for (let slash = key.indexOf('/'); slash >= 0; slash = key.indexOf('/', slash + 1)) {
    try {
      await backend.createDirectory(key.slice(0, slash), {}, context);
    } catch (error) {
      if (!MirageError.is(error, 'EEXIST')) throw error;
    }
  }
}

const source = (bytes: Buffer): ByteSource => ({
  size: bytes.length,
  async *read({ offset, length }) {
    // A chunk is the reader's.
    yield Uint8Array.from(bytes.subarray(offset, offset + length));
  },
});

function known(validator: Validator | undefined, key: string): Validator {
  if (validator !== undefined) return validator;
  throw new MirageError(`${key}: the store does not tell one version from another`, { errno: 'ENOTSUP' });
}
