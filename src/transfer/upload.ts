/**
 * Brings a large object to its store in parts. A record of the upload outlives this process: whoever sends the same bytes again sends only
 * the parts that the store does not have.
 */
import { createHash } from 'node:crypto';
import type { ByteSource, Context, ObjectInfo, WriteOptions } from '../backends/contract.js';
import { type Multipart, type Part, partsOf, type SentPart, type Upload } from '../backends/multipart.js';
import { MirageError } from '../errors/mirage-error.js';
import type { UploadRecord, UploadRecords } from './upload-records.js';

/** How long an upload is given to be forgotten by its store, milliseconds. */
const ABORT = 10_000;
/** An upload of a key that nobody here began may be another host's; after so long, milliseconds, it is nobody's. */
const ABANDONED = 24 * 60 * 60 * 1000;

export interface UploadJob {
  readonly multipart: Multipart;
  readonly identity: string;
  readonly key: string;
  readonly source: ByteSource;
  readonly options: WriteOptions;
  readonly records: UploadRecords;
  /** The same will be asked for again where it fails for a reason that passes: what was sent stays. */
  readonly again: boolean;
}

export async function uploadInParts(job: UploadJob, context: Context): Promise<ObjectInfo> {
  const { multipart, identity, key, source, options, records, again } = job;
  const attributes = JSON.stringify(options.attributes ?? {});
  const writer = options.attributes?.writer ?? '';
  let record = records.find(identity, key, writer);
  let sent: readonly SentPart[] | undefined;
  if (record !== undefined) {
    const same = record.size === source.size && record.attributes === attributes;
    if (same) sent = await sentBefore(multipart, record, context);
    if (sent === undefined) await forget(multipart, records, record);
  }
  if (record?.id === undefined || sent === undefined) {
    record = { identity, key, writer, size: source.size, attributes, begun: Date.now() };
    records.keep(record);
    record = { ...record, id: await multipart.begin(key, options, context) };
    records.keep(record);
    sent = [];
  }
  const upload: Upload = { key, id: record.id as string };
  try {
    const parts = await sendMissing(multipart, upload, source, sent, context);
    const info = await multipart.complete(upload, parts, options, context);
    records.drop(record);
    return info;
  } catch (error) {
    const known = MirageError.is(error) && !error.outcomeUnknown;
    const passing = MirageError.is(error) && (error.retryable || error.errno === 'ECANCELED');
    if (known && !(again && passing)) await forget(multipart, records, record);
    throw error;
  }
}

/** What the store has of an upload that an earlier attempt began; undefined: it knows none. */
async function sentBefore(
  multipart: Multipart,
  { key, id }: UploadRecord,
  context: Context,
): Promise<readonly SentPart[] | undefined> {
  if (id === undefined) return undefined;
  try {
    return await multipart.sent({ key, id }, context);
  } catch (error) {
    if (MirageError.is(error, 'ENOENT')) return undefined;
    throw error;
  }
}

/** Sends what the store does not have, several parts at a time; all parts in order, as the store calls them. */
async function sendMissing(
  multipart: Multipart,
  upload: Upload,
  source: ByteSource,
  sent: readonly SentPart[],
  context: Context,
): Promise<SentPart[]> {
  const plan = partsOf(source.size, multipart);
  // A part that was sent again may be there twice.
  const known = new Map<number, SentPart[]>();
  for (const part of sent) known.set(part.number, [...(known.get(part.number) ?? []), part]);
  const parts: SentPart[] = [];
  const failed = new AbortController();
  const signal = AbortSignal.any([context.signal, failed.signal]);
  let next = 0;
  const worker = async (): Promise<void> => {
    try {
      for (let part = plan[next++]; part !== undefined; part = plan[next++]) {
        signal.throwIfAborted();
        parts[part.number - 1] =
          (await sameOf(known.get(part.number) ?? [], part, source)) ??
          (await multipart.send(upload, part, source, { ...context, signal }));
      }
    } catch (error) {
      failed.abort(error);
    }
  };
  // All have to end before anything is thrown away; the first failure is the one that counts.
  await Promise.all(Array.from({ length: Math.min(multipart.parallel, plan.length) }, worker));
  context.signal.throwIfAborted();
  if (failed.signal.aborted) throw failed.signal.reason;
  return parts;
}

/** The part that the store has of these very bytes: only a digest tells. */
async function sameOf(
  there: readonly SentPart[],
  part: Part,
  source: ByteSource,
): Promise<SentPart | undefined> {
  const candidates = there.filter(({ length, md5 }) => md5 !== undefined && length === part.length);
  if (candidates.length === 0) return undefined;
  const hash = createHash('md5');
  for await (const chunk of source.read(part)) hash.update(chunk);
  const digest = hash.digest('hex');
  return candidates.find(({ md5 }) => md5 === digest);
}

/** Has the store throw away the parts of an upload. Where that fails the record stays, and the next mount tries again. */
export async function forget(
  multipart: Multipart,
  records: UploadRecords,
  record: UploadRecord,
): Promise<void> {
  const context = { signal: AbortSignal.timeout(ABORT) };
  const { key, id, begun } = record;
  try {
    if (id !== undefined) await multipart.abort({ key, id }, context);
    else if (!(await abortNameless(multipart, key, begun, context))) return;
  } catch (error) {
    if (!MirageError.is(error, 'ENOENT')) return;
  }
  records.drop(record);
}

/**
 * The answer that would have named the upload never came. What the store shows for the key may as well be another host's, so it is given a day.
 * False: it is too soon.
 */
async function abortNameless(
  multipart: Multipart,
  key: string,
  begun: number,
  context: Context,
): Promise<boolean> {
  if (multipart.underWay === undefined) return true;
  const now = Date.now();
  const uploads = (await multipart.underWay(key, context)).filter((upload) => upload.begun >= begun - 60_000);
  if (uploads.length === 0) return true;
  if (now - begun < ABANDONED) return false;
  for (const { id, begun: since } of uploads) {
    if (now - since >= ABANDONED) await multipart.abort({ key, id }, context);
  }
  return true;
}
