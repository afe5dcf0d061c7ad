import { randomUUID } from 'node:crypto';
import { z } from 'zod';
import { MirageError } from '../../errors/mirage-error.js';
import type { Log } from '../../log/log.js';
import type { Capabilities, Precondition } from '../contract.js';
import { copyObject } from './copies.js';
import { Objects } from './objects.js';

export type Preconditions = Capabilities['preconditions'];

/** What a probe found, as it is remembered. */
export const certificate = z.object({
  writeAbsent: z.boolean(),
  writeMatch: z.boolean(),
  multipartAbsent: z.boolean(),
  multipartMatch: z.boolean(),
  copyAbsent: z.boolean(),
  removeMatch: z.boolean(),
});

/** What is assumed of a store that may not be written to, and so cannot be asked. */
export const unprobed: Preconditions = {
  writeAbsent: false,
  writeMatch: false,
  multipartAbsent: false,
  multipartMatch: false,
  copyAbsent: false,
  removeMatch: false,
};

const ABSENT: Precondition = { kind: 'absent' };
/** No object is of this version: generations are microseconds since 1970. */
const NOBODY: Precondition = { kind: 'match', validator: '1/1' };
const ANY: Precondition = { kind: 'any' };
const BODY = {
  size: 5,
  read: async function* () {
    yield Buffer.from('probe');
  },
};

/**
 * Finds out whether the store honours generations, by asking for what it must refuse: only an answer of 412 is a proof. Google does; something that
 * stands in for it may not. Works on one object of its own. Throws when the credentials may not write.
 */
export async function probe(objects: Objects, log: Log, signal: AbortSignal): Promise<Preconditions> {
  const key = `.mirage/probe-${randomUUID()}`;
  const context = { signal };
  const inSessions = new Objects(objects.client, objects.keys, objects.made, 0);
  const put = (precondition: Precondition, way = objects) =>
    way.put(key, 'file', BODY, {}, precondition, context);
  const copy = (precondition: Precondition) => copyObject(objects, key, key, { precondition }, context);
  await put(ANY);
  try {
    const [writeAbsent, writeMatch, multipartAbsent, multipartMatch, copyAbsent] = await Promise.all([
      refuses(put(ABSENT)),
      refuses(put(NOBODY)),
      refuses(put(ABSENT, inSessions)),
      refuses(put(NOBODY, inSessions)),
      refuses(copy(ABSENT)),
    ]);
    const removeMatch = await refuses(objects.remove(key, objects.keys.object(key), NOBODY, context));
    return { writeAbsent, writeMatch, multipartAbsent, multipartMatch, copyAbsent, removeMatch };
  } finally {
    await objects
      .remove(key, objects.keys.object(key), ANY, { signal: AbortSignal.timeout(10_000) })
      .catch(() => log.warn('the probe object could not be removed', { key }));
  }
}

async function refuses(call: Promise<unknown>): Promise<boolean> {
  try {
    await call;
    return false;
  } catch (error) {
    if (MirageError.is(error, 'ESTALE')) return true;
    if (MirageError.is(error, 'ENOTSUP')) return false;
    throw error;
  }
}
