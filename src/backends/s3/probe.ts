import { randomUUID } from 'node:crypto';
import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CopyObjectCommand,
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  PutObjectCommand,
  UploadPartCommand,
} from '@aws-sdk/client-s3';
import { z } from 'zod';
import type { Log } from '../../log/log.js';
import type { KeySpace } from '../object-store/keys.js';
import { toMirageError } from './errors.js';
import { copySource } from './keys.js';
import { sendBatch } from './removals.js';
import { type Bucket, cleanUpOptions, etagOf, statusOf, type Traits, validatorOf } from './requests.js';

/** What is assumed of a store that may not be written to, and so cannot be asked. */
export const unprobedTraits: Traits = {
  quotedETags: true,
  writeAbsent: false,
  writeMatch: false,
  multipartAbsent: false,
  multipartMatch: false,
  copyAbsent: false,
  copyMatch: false,
  copySourceMatch: false,
  removeMatch: false,
  removeMany: false,
  removeManyMatch: false,
};

/** What a probe found, as it is remembered. */
export const certificate = z.object({
  quotedETags: z.boolean(),
  writeAbsent: z.boolean(),
  writeMatch: z.boolean(),
  multipartAbsent: z.boolean(),
  multipartMatch: z.boolean(),
  copyAbsent: z.boolean(),
  copyMatch: z.boolean(),
  copySourceMatch: z.boolean(),
  removeMatch: z.boolean(),
  removeMany: z.boolean(),
  removeManyMatch: z.boolean(),
  checksums: z.enum(['auto', 'always']),
});

/** Looks like an ETag, and is none of ours. */
const NOBODY = '0'.repeat(32);
const BODY = Buffer.from('probe');

/**
 * Finds out which preconditions the store honours, by asking for what it must refuse: an answer of 412 is the only proof. Works in
 * a few keys of its own and removes them. Throws when the credentials may not write.
 */
export async function probe(bucket: Bucket, keys: KeySpace, log: Log, signal: AbortSignal): Promise<Traits> {
  const prober = new Prober(bucket, keys.object(`.mirage/probe-${randomUUID()}`), signal);
  try {
    const write = await prober.writes();
    const [remove, removeMany, copy, multipartAbsent, multipartMatch] = await Promise.all([
      prober.removes(write.quotedETags),
      prober.removesMany(write.quotedETags),
      prober.copies(write.quotedETags),
      prober.multipart({ IfNoneMatch: '*' }),
      prober.multipart({ IfMatch: etagOf(NOBODY, write) }),
    ]);
    return { ...write, ...remove, ...removeMany, ...copy, multipartAbsent, multipartMatch };
  } finally {
    await prober.cleanUp(log);
  }
}

class Prober {
  readonly #used = new Set<string>();

  constructor(
    private readonly bucket: Bucket,
    private readonly stem: string,
    private readonly signal: AbortSignal,
  ) {}

  async writes(): Promise<Pick<Traits, 'quotedETags' | 'writeAbsent' | 'writeMatch'>> {
    const key = this.#key('write');
    // Accepted or not understood: either way the object has to be there for what follows.
    await this.#refuses(this.#put(key, { IfNoneMatch: '*' }));
    const writeAbsent = await this.#refuses(this.#put(key, { IfNoneMatch: '*' }));
    const written = await this.#must(this.#put(key, {}));
    const validator = validatorOf(written.ETag) ?? NOBODY;
    const quotedETags = !(await this.#refuses(this.#put(key, { IfMatch: `"${validator}"` })));
    const accepts = quotedETags || !(await this.#refuses(this.#put(key, { IfMatch: validator })));
    const writeMatch =
      accepts && (await this.#refuses(this.#put(key, { IfMatch: etagOf(NOBODY, { quotedETags }) })));
    return { quotedETags: quotedETags || !accepts, writeAbsent, writeMatch };
  }

  async removes(quotedETags: boolean): Promise<Pick<Traits, 'removeMatch'>> {
    const key = this.#key('remove');
    await this.#must(this.#put(key, {}));
    return {
      removeMatch: await this.#refuses(
        this.bucket.client.send(
          new DeleteObjectCommand({
            Bucket: this.bucket.name,
            Key: key,
            IfMatch: etagOf(NOBODY, { quotedETags }),
          }),
          { abortSignal: this.signal },
        ),
      ),
    };
  }

  async removesMany(quotedETags: boolean): Promise<Pick<Traits, 'removeMany' | 'removeManyMatch'>> {
    const [gone, other] = [this.#key('batch-1'), this.#key('batch-2')];
    await Promise.all([this.#must(this.#put(gone, {})), this.#must(this.#put(other, {}))]);
    const objects = [{ Key: gone }, { Key: other, ETag: etagOf(NOBODY, { quotedETags }) }];
    try {
      const answer = await sendBatch(this.bucket, objects, this.signal);
      const refused = (answer.Errors ?? []).filter(({ Key }) => Key === other);
      return { removeMany: true, removeManyMatch: refused.some(({ Code }) => Code === 'PreconditionFailed') };
    } catch (error) {
      const status = statusOf(error);
      // What a store does not know it refuses in many ways; one request per object is always there.
      if (status === undefined || status < 400 || status >= 500) {
        if (status !== 501) throw this.#mapped(error);
      }
      return { removeMany: false, removeManyMatch: false };
    }
  }

  async copies(quotedETags: boolean): Promise<Pick<Traits, 'copyAbsent' | 'copyMatch' | 'copySourceMatch'>> {
    const from = this.#key('source');
    const to = this.#key('target');
    await Promise.all([this.#must(this.#put(from, {})), this.#must(this.#put(to, {}))]);
    const nobody = etagOf(NOBODY, { quotedETags });
    const copy = (conditions: { IfMatch?: string; IfNoneMatch?: string; CopySourceIfMatch?: string }) =>
      this.#refuses(
        this.bucket.client.send(
          new CopyObjectCommand({
            Bucket: this.bucket.name,
            Key: to,
            CopySource: copySource(this.bucket.name, from),
            ...conditions,
          }),
          { abortSignal: this.signal },
        ),
      );
    return {
      copyAbsent: await copy({ IfNoneMatch: '*' }),
      copyMatch: await copy({ IfMatch: nobody }),
      copySourceMatch: await copy({ CopySourceIfMatch: `"${NOBODY}"` }),
    };
  }

  async multipart(conditions: { IfMatch?: string; IfNoneMatch?: string }): Promise<boolean> {
    const key = this.#key(`multipart-${Object.keys(conditions).join()}`);
    const target = { Bucket: this.bucket.name, Key: key };
    const { client } = this.bucket;
    const options = { abortSignal: this.signal };
    const [created] = await Promise.all([
      this.#must(client.send(new CreateMultipartUploadCommand(target), options)),
      this.#must(this.#put(key, {})),
    ]);
    const upload = { ...target, UploadId: created.UploadId };
    try {
      const part = await this.#must(
        client.send(new UploadPartCommand({ ...upload, PartNumber: 1, Body: BODY }), options),
      );
      const MultipartUpload = { Parts: [{ PartNumber: 1, ETag: part.ETag }] };
      return await this.#refuses(
        client.send(
          new CompleteMultipartUploadCommand({ ...upload, MultipartUpload, ...conditions }),
          options,
        ),
      );
    } finally {
      // Fails where the store has completed it after all.
      await client.send(new AbortMultipartUploadCommand(upload), cleanUpOptions()).catch(() => undefined);
    }
  }

  async cleanUp(log: Log): Promise<void> {
    const removals = [...this.#used].map((key) =>
      this.bucket.client.send(
        new DeleteObjectCommand({ Bucket: this.bucket.name, Key: key }),
        cleanUpOptions(),
      ),
    );
    const results = await Promise.allSettled(removals);
    const left = results.filter((result) => result.status === 'rejected').length;
    if (left > 0) log.warn('probe objects could not be removed', { prefix: this.stem, left });
  }

  #key(name: string): string {
    const key = `${this.stem}-${name}`;
    this.#used.add(key);
    return key;
  }

  #put(key: string, conditions: { IfMatch?: string; IfNoneMatch?: string }) {
    return this.bucket.client.send(
      new PutObjectCommand({ Bucket: this.bucket.name, Key: key, Body: BODY, ...conditions }),
      { abortSignal: this.signal },
    );
  }

  /** Whether the store refused because of the precondition. Accepting it, or not knowing the header, is a no. */
  async #refuses(call: Promise<unknown>): Promise<boolean> {
    try {
      await call;
      return false;
    } catch (error) {
      const status = statusOf(error);
      if (status === 412) return true;
      if (status === 400 || status === 501) return false;
      throw this.#mapped(error);
    }
  }

  async #must<T>(call: Promise<T>): Promise<T> {
    try {
      return await call;
    } catch (error) {
      throw this.#mapped(error);
    }
  }

  #mapped(error: unknown) {
    return toMirageError(error, { operation: 'probe', subject: this.bucket.name, signal: this.signal });
  }
}
