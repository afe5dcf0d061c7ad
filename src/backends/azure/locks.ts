import type { ContainerClient } from '@azure/storage-blob';
import type { Context, StoreLocks } from '../contract.js';
import type { KeySpace } from '../object-store/keys.js';
import { codeOf, statusOf } from './errors.js';
import { request } from './requests.js';

/**
 * The leases of blobs, which the service ends by its own clock: 15 to 60 s.
 * https://learn.microsoft.com/rest/api/storageservices/lease-blob
 */
export class AzureLocks implements StoreLocks {
  readonly shortestTerm = 15_000;
  readonly longestTerm = 60_000;
  readonly #client: ContainerClient;
  readonly #keys: KeySpace;

  constructor(client: ContainerClient, keys: KeySpace) {
    this.#client = client;
    this.#keys = keys;
  }

  async acquire(key: string, id: string, term: number, context: Context): Promise<boolean> {
    const acquire = () => this.#lease(key, id).acquireLease(Math.floor(term / 1000), options(context));
    return this.#unlessHeld('acquire', key, context, async () => {
      try {
        await acquire();
      } catch (error) {
        if (statusOf(error) !== 404) throw error;
        await this.#make(key, context);
        await acquire();
      }
    });
  }

  renew(key: string, id: string, context: Context): Promise<boolean> {
    return this.#unlessHeld('renew', key, context, async () => {
      await this.#lease(key, id).renewLease(options(context));
    });
  }

  async release(key: string, id: string, context: Context): Promise<void> {
    await this.#unlessHeld('release', key, context, async () => {
      await this.#lease(key, id).releaseLease(options(context));
    });
  }

  /** An empty blob; one that another host has made meanwhile, and may have leased, is as good. */
  async #make(key: string, context: Context): Promise<void> {
    const blob = this.#client.getBlockBlobClient(this.#keys.object(key));
    try {
      await blob.upload('', 0, { conditions: { ifNoneMatch: '*' }, ...options(context) });
    } catch (error) {
      if (statusOf(error) !== 409 && statusOf(error) !== 412) throw error;
    }
  }

  #lease(key: string, id: string) {
    return this.#client.getBlobClient(this.#keys.object(key)).getBlobLeaseClient(id);
  }

  async #unlessHeld(
    operation: string,
    key: string,
    { signal }: Context,
    call: () => Promise<void>,
  ): Promise<boolean> {
    return request({ operation, subject: key, conditional: true, signal }, async () => {
      try {
        await call();
        return true;
      } catch (error) {
        if (isAnothers(error)) return false;
        throw error;
      }
    });
  }
}

/** The lease is held under another id, or was ended or taken since. */
const isAnothers = (error: unknown): boolean =>
  (statusOf(error) === 409 || statusOf(error) === 412 || statusOf(error) === 404) &&
  /^(Lease|BlobNotFound)/.test(codeOf(error) ?? '');

const options = ({ signal }: Context) => ({ abortSignal: signal });
