import { createHash, randomBytes } from 'node:crypto';
import { MirageError } from '../../errors/mirage-error.js';
import type { ByteSource, Context, ObjectInfo, Precondition, WriteOptions } from '../contract.js';
import type { Multipart, Part, SentPart, Upload } from '../multipart.js';
import { sendBody } from '../object-store/body.js';
import type { KeySpace } from '../object-store/keys.js';
import type { Versions } from '../object-store/versions.js';
import { encodeAttributes } from './attributes.js';
import { codeOf, statusOf, toMirageError } from './errors.js';
import { type Container, conditionsOf, infoOf, type Limits, request } from './requests.js';

/**
 * Uploads as blocks, which lie beside the blob until one request makes it of them. The service knows no upload, only blocks by their names: an id
 * stands at the beginning of those that belong together, and the digest of its bytes at the end of each.
 * https://learn.microsoft.com/rest/api/storageservices/put-block
 */
export class AzureUploads implements Multipart {
  readonly part: number;
  readonly maximumParts: number;
  readonly parallel: number;
  readonly #container: Container;
  readonly #keys: KeySpace;
  readonly #versions: Versions;
  readonly #limits: Limits;

  constructor(container: Container, keys: KeySpace, versions: Versions, limits: Limits) {
    this.#container = container;
    this.#keys = keys;
    this.#versions = versions;
    this.#limits = limits;
    this.part = limits.block;
    this.maximumParts = limits.maximumBlocks;
    this.parallel = limits.parallelBlocks;
  }

  above(_precondition: Precondition): number {
    return this.#limits.preferredPut;
  }

  async begin(): Promise<string> {
    return randomBytes(6).toString('hex');
  }

  async send({ key, id }: Upload, part: Part, source: ByteSource, { signal }: Context): Promise<SentPart> {
    const hash = createHash('md5');
    for await (const chunk of source.read(part)) hash.update(chunk);
    const digest = hash.digest();
    const tag = nameOf(id, part.number, digest);
    const { number, length } = part;
    try {
      await sendBody(source, part, signal, (body, abortSignal) =>
        this.#blob(key).stageBlock(tag, () => body, length, {
          abortSignal,
          transactionalContentMD5: digest,
        }),
      );
    } catch (error) {
      if (codeOf(error) === 'InvalidBlobType' || codeOf(error) === 'InvalidBlobOrBlock') {
        throw new MirageError(`write ${key}: this blob cannot be replaced in blocks`, {
          errno: 'ENOTSUP',
          cause: error,
        });
      }
      throw toMirageError(error, { operation: 'sendPart', subject: key, signal });
    }
    return { number, length, tag, md5: digest.toString('hex') };
  }

  async complete(
    { key }: Upload,
    parts: readonly SentPart[],
    { precondition, attributes = {} }: WriteOptions,
    { signal }: Context,
  ): Promise<ObjectInfo> {
    const conditional = precondition.kind !== 'any';
    const tags = parts.map(({ tag }) => tag);
    try {
      const written = await this.#blob(key).commitBlockList(tags, {
        metadata: encodeAttributes(attributes),
        conditions: conditionsOf(precondition),
        abortSignal: signal,
      });
      const contentLength = parts.reduce((sum, { length }) => sum + length, 0);
      return this.#versions.seen({ ...infoOf(key, 'file', { ...written, contentLength }), attributes });
    } catch (error) {
      if (codeOf(error) === 'InvalidBlockList') {
        // Somebody has written the blob meanwhile, which throws staged blocks away.
        throw new MirageError(`write ${key}: another writer was first`, {
          errno: conditional ? 'ESTALE' : 'EBUSY',
          retryable: !conditional,
          cause: error,
        });
      }
      throw toMirageError(error, { operation: 'completeUpload', subject: key, conditional, signal });
    }
  }

  /** There is no such request: blocks that nobody commits go by themselves, with the next write of the blob or after a week. */
  async abort(): Promise<void> {}

  async sent({ key, id }: Upload, { signal }: Context): Promise<readonly SentPart[]> {
    const attempt = { operation: 'sentParts', subject: key, signal };
    const list = await request(attempt, async () => {
      try {
        return await this.#blob(key).getBlockList('uncommitted', { abortSignal: signal });
      } catch (error) {
        if (statusOf(error) === 404) return { uncommittedBlocks: [] };
        throw error;
      }
    });
    return (list.uncommittedBlocks ?? []).flatMap(({ name, size }) => {
      const found = partOf(name, id);
      return found === undefined ? [] : { ...found, length: size, tag: name };
    });
  }

  #blob(key: string) {
    return this.#container.client.getBlockBlobClient(this.#keys.object(key));
  }
}

/** All names of a blob's blocks are of one length: the same as those of a write in one go. */
const nameOf = (id: string, number: number, digest: Buffer): string =>
  Buffer.from(`${id}-${String(number).padStart(5, '0')}-${digest.toString('base64url')}-`).toString('base64');

/** What the name of a block says, where it is one of the upload `id`. */
export function partOf(name: string, id: string): { number: number; md5: string } | undefined {
  const found = /^([0-9a-f]{12})-(\d{5})-([\w-]{22})-$/.exec(Buffer.from(name, 'base64').toString());
  if (found === null || found[1] !== id) return undefined;
  return { number: Number(found[2]), md5: Buffer.from(found[3] as string, 'base64url').toString('hex') };
}
