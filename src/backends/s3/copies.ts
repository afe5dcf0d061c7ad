import { CopyObjectCommand, DeleteObjectCommand, type HeadObjectCommandOutput } from '@aws-sdk/client-s3';
import { MirageError } from '../../errors/mirage-error.js';
import type {
  Context,
  CopyOptions,
  ObjectInfo,
  Precondition,
  StoredAttributes,
  Validator,
} from '../contract.js';
import { decodeAttributes, encodeAttributes, foreignMetadata } from '../object-store/attributes.js';
import { anotherVersion } from '../object-store/info.js';
import { copySource } from './keys.js';
import { copyInParts } from './multipart.js';
import type { Objects } from './objects.js';
import { conditionsOf, headersToKeep, type Limits, request, timestampOf, validatorOf } from './requests.js';

/** Copies on the server: of one object to another key, and of one onto itself, which is how S3 changes attributes. */
export class Copies {
  readonly #objects: Objects;
  readonly #limits: Limits;

  constructor(objects: Objects, limits: Limits) {
    this.#objects = objects;
    this.#limits = limits;
  }

  async copy(
    from: string,
    to: string,
    { precondition, attributes, match, size }: CopyOptions,
    context: Context,
  ): Promise<ObjectInfo> {
    const source = this.#objects.keys.object(from);
    if (
      match !== undefined &&
      size !== undefined &&
      size <= this.#limits.maximumCopy &&
      attributes === undefined
    ) {
      return this.#copyKnown(from, { match, size }, to, precondition, context);
    }
    const head = await this.#objects.head(source, context);
    if (head === undefined) throw new MirageError(`copy ${from}: no such object`, { errno: 'ENOENT' });
    if (match !== undefined && validatorOf(head.ETag) !== match) throw anotherVersion(from);
    return this.#copyFrom(source, head, to, attributes, precondition, context);
  }

  /** Of a version whose size is known, with its metadata: there is nothing to ask before. */
  async #copyKnown(
    from: string,
    { match, size }: { readonly match: Validator; readonly size: number },
    to: string,
    precondition: Precondition,
    context: Context,
  ): Promise<ObjectInfo> {
    const source = this.#objects.keys.object(from);
    const head = { ETag: `"${match}"`, ContentLength: size };
    const made = await this.#copyFrom(source, head, to, undefined, precondition, context);
    if (!this.#objects.traits.copySourceMatch && made.validator !== match) {
      // The store does not hold to a version. Where the copy is called otherwise, the source tells whether it was the one.
      const now = await this.#objects.head(source, context);
      if (now === undefined || validatorOf(now.ETag) !== match) {
        await this.#undo(to, made.validator, context).catch(() => undefined);
        throw anotherVersion(from);
      }
    }
    return { ...made, attributes: undefined };
  }

  /** Removes a copy that nobody asked for. */
  async #undo(key: string, validator: Validator | undefined, context: Context): Promise<void> {
    if (validator === undefined) return;
    const { bucket, keys } = this.#objects;
    const object = keys.object(key);
    await this.#objects.guard(key, object, { kind: 'match', validator }, context);
    await bucket.client.send(new DeleteObjectCommand({ Bucket: bucket.name, Key: object }), {
      abortSignal: context.signal,
    });
  }

  async setAttributes(
    key: string,
    attributes: StoredAttributes,
    precondition: Precondition,
    context: Context,
  ): Promise<ObjectInfo> {
    const object = this.#objects.keys.object(key);
    const head = await this.#objects.head(object, context);
    if (head === undefined) {
      const errno = precondition.kind === 'match' ? 'ESTALE' : 'ENOENT';
      throw new MirageError(`setAttributes ${key}: no such object`, { errno });
    }
    const validator = validatorOf(head.ETag);
    if (precondition.kind === 'match' && validator !== precondition.validator) throw anotherVersion(key);
    // The copy replaces what it reads, so it always names the version it has seen.
    return this.#copyFrom(
      object,
      head,
      key,
      attributes,
      { kind: 'match', validator: validator ?? '' },
      context,
    );
  }

  /** Copies the version that `head` describes. Without `attributes` the copy has those of the source. */
  async #copyFrom(
    source: string,
    head: Omit<HeadObjectCommandOutput, '$metadata'>,
    to: string,
    attributes: StoredAttributes | undefined,
    precondition: Precondition,
    context: Context,
  ): Promise<ObjectInfo> {
    const target = this.#objects.keys.object(to);
    const metadata =
      attributes === undefined ? undefined : encodeAttributes(attributes, foreignMetadata(head.Metadata));
    const honoured =
      // A copy onto itself is held together by the condition on its source.
      (source === target && this.#objects.traits.copySourceMatch) ||
      this.#objects.honours(precondition, this.#objects.traits.copyAbsent, this.#objects.traits.copyMatch);
    const guard = () => this.#objects.guard(to, target, precondition, context);
    const conditions =
      source !== target || this.#objects.traits.copyMatch ? this.#copyConditions(precondition) : {};
    const size = head.ContentLength ?? 0;
    const ifMatch = this.#objects.traits.copySourceMatch ? head.ETag : undefined;
    const from = copySource(this.#objects.bucket.name, source);
    const attempt = {
      operation: 'copy',
      subject: to,
      conditional: precondition.kind !== 'any',
      signal: context.signal,
    };
    const info = {
      key: to,
      kind: 'file',
      size,
      attributes: attributes ?? decodeAttributes(head.Metadata),
    } as const;

    if (size > this.#limits.maximumCopy) {
      const completed = await copyInParts(
        {
          bucket: this.#objects.bucket,
          object: target,
          create: { ...headersToKeep(head), Metadata: metadata ?? head.Metadata },
          conditions: this.#objects.honours(
            precondition,
            this.#objects.traits.multipartAbsent,
            this.#objects.traits.multipartMatch,
          )
            ? conditionsOf(precondition, this.#objects.traits)
            : {},
          limits: this.#limits,
          beforeCompletion: guard,
        },
        { copySource: from, size, ifMatch },
        context,
      );
      return this.#objects.completed(to, target, size, info.attributes, completed, context);
    }
    if (!honoured) await guard();
    const copied = await request(attempt, () =>
      this.#objects.bucket.client.send(
        new CopyObjectCommand({
          Bucket: this.#objects.bucket.name,
          Key: target,
          CopySource: from,
          CopySourceIfMatch: ifMatch,
          ...(metadata !== undefined && {
            ...headersToKeep(head),
            MetadataDirective: 'REPLACE',
            Metadata: metadata,
          }),
          ...conditions,
        }),
        { abortSignal: context.signal },
      ),
    );
    return {
      ...info,
      modified: timestampOf(copied.CopyObjectResult?.LastModified),
      validator: validatorOf(copied.CopyObjectResult?.ETag),
      ...(copied.VersionId !== undefined && { version: copied.VersionId }),
    };
  }

  #copyConditions(precondition: Precondition): { IfMatch?: string; IfNoneMatch?: string } {
    return this.#objects.honours(
      precondition,
      this.#objects.traits.copyAbsent,
      this.#objects.traits.copyMatch,
    )
      ? conditionsOf(precondition, this.#objects.traits)
      : {};
  }
}
