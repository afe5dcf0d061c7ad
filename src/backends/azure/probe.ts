import { randomUUID } from 'node:crypto';
import type { BlobRequestConditions, ContainerClient } from '@azure/storage-blob';
import { z } from 'zod';
import type { Log } from '../../log/log.js';
import type { KeySpace } from '../object-store/keys.js';
import { codeOf, statusOf, toMirageError } from './errors.js';
import type { Traits } from './requests.js';

/** What is assumed of a store that may not be written to, and so cannot be asked. */
export const unprobedTraits: Traits = {
  writeAbsent: false,
  writeMatch: false,
  multipartAbsent: false,
  multipartMatch: false,
  copyAbsent: false,
  removeMatch: false,
};

/** What a probe found, as it is remembered. */
export const certificate = z.object({
  writeAbsent: z.boolean(),
  writeMatch: z.boolean(),
  multipartAbsent: z.boolean(),
  multipartMatch: z.boolean(),
  copyAbsent: z.boolean(),
  removeMatch: z.boolean(),
});

const BODY = Buffer.from('probe');
const BLOCK = Buffer.from('000000').toString('base64');
const ABSENT: BlobRequestConditions = { ifNoneMatch: '*' };
/** Looks like an ETag, and is none of theirs. */
const NOBODY: BlobRequestConditions = { ifMatch: '"0x8D0000000000000"' };
/** For what is tidied up when nobody waits and the caller's signal may be spent. Milliseconds. */
const TIDY = 10_000;

/**
 * Finds out which preconditions the store honours, by asking for what it must refuse: being refused is the only proof. Azure itself honours them
 * all; what speaks its language may not. Works in blobs of its own and removes them. Throws when the credentials may not write.
 */
export async function probe(
  client: ContainerClient,
  keys: KeySpace,
  log: Log,
  signal: AbortSignal,
): Promise<Traits> {
  const stem = keys.object(`.mirage/probe-${randomUUID()}`);
  const written = client.getBlockBlobClient(`${stem}-write`);
  const blocks = client.getBlockBlobClient(`${stem}-blocks`);
  const options = { abortSignal: signal };
  const mapped = (error: unknown) =>
    toMirageError(error, { operation: 'probe', subject: client.containerName, signal });
  const refused = async (call: Promise<unknown>): Promise<boolean> => {
    try {
      await call;
      return false;
    } catch (error) {
      const status = statusOf(error);
      if (status === 412 || (status === 409 && codeOf(error) === 'BlobAlreadyExists')) return true;
      if (status === 400 || status === 501) return false;
      throw mapped(error);
    }
  };
  const put = (conditions: BlobRequestConditions) =>
    written.upload(BODY, BODY.length, { ...options, conditions });
  const commit = async (conditions: BlobRequestConditions): Promise<boolean> => {
    await blocks.stageBlock(BLOCK, BODY, BODY.length, options);
    return refused(blocks.commitBlockList([BLOCK], { ...options, conditions }));
  };
  try {
    await Promise.all([
      written.upload(BODY, BODY.length, options),
      blocks.upload(BODY, BODY.length, options),
    ]);
    const writes = async () => ({
      writeAbsent: await refused(put(ABSENT)),
      writeMatch: await refused(put(NOBODY)),
    });
    const multiparts = async () => ({
      multipartAbsent: await commit(ABSENT),
      multipartMatch: await commit(NOBODY),
    });
    const found = { ...(await writes()), ...(await multiparts()) };
    const copyAbsent = await refused(
      blocks.beginCopyFromURL(written.url, { ...options, conditions: ABSENT }),
    );
    const removeMatch = await refused(written.delete({ ...options, conditions: NOBODY }));
    return { ...found, copyAbsent, removeMatch };
  } catch (error) {
    throw mapped(error);
  } finally {
    const tidy = { abortSignal: AbortSignal.timeout(TIDY) };
    const results = await Promise.allSettled([written.deleteIfExists(tidy), blocks.deleteIfExists(tidy)]);
    const left = results.filter((result) => result.status === 'rejected').length;
    if (left > 0) log.warn('probe blobs could not be removed', { prefix: stem, left });
  }
}
