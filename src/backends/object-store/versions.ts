import type { ObjectInfo, Validator } from '../contract.js';

/** Versions remembered, of all objects together. */
const REMEMBERED = 20_000;

/**
 * Version ids of a bucket that keeps old versions, by key and validator, as answers showed them. Whoever reads a version that was replaced or
 * removed meanwhile gets it by its id. https://docs.aws.amazon.com/AmazonS3/latest/userguide/versioning-workflows.html
 */
export class Versions {
  readonly #ids = new Map<string, string>();

  /** Takes note of an answer, and hands it on. */
  seen<T extends ObjectInfo | undefined>(info: T): T {
    // `null`: written while the bucket kept no versions, and not kept now.
    if (info?.validator === undefined || info.version === undefined || info.version === 'null') return info;
    const name = nameOf(info.key, info.validator);
    this.#ids.delete(name);
    this.#ids.set(name, info.version);
    if (this.#ids.size > REMEMBERED) this.#ids.delete(this.#ids.keys().next().value as string);
    return info;
  }

  find(key: string, validator: Validator): string | undefined {
    return this.#ids.get(nameOf(key, validator));
  }
}

const nameOf = (key: string, validator: Validator): string => `${validator}/${key}`;
