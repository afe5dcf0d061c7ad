/** An S3 mount of a test server, and the bucket behind its back. */
import {
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
} from '@aws-sdk/client-s3';
import type { Radosgw } from '../servers/radosgw.js';

/** The mount's part of the configuration. */
export const s3Mount = (
  server: Radosgw,
  bucket: string,
  keys: Record<string, unknown> = {},
): Record<string, unknown> => ({
  type: 's3',
  mode: 'write',
  bucket,
  endpoint: server.endpoint,
  region: 'us-east-1',
  // One by one: the SDK adds keys of its own to the object.
  accessKeyId: server.credentials.accessKeyId,
  secretAccessKey: server.credentials.secretAccessKey,
  ...keys,
});

/** What another host would see and do. */
export class Bucket {
  readonly #server: Radosgw;
  readonly name: string;

  constructor(server: Radosgw, name: string) {
    this.#server = server;
    this.name = name;
  }

  async put(key: string, body: string | Buffer): Promise<void> {
    await this.#server.client.send(
      new PutObjectCommand({ Bucket: this.name, Key: key, Body: Buffer.from(body) }),
    );
  }

  async get(key: string): Promise<Buffer> {
    const { Body } = await this.#server.client.send(new GetObjectCommand({ Bucket: this.name, Key: key }));
    return Buffer.from((await Body?.transformToByteArray()) ?? []);
  }

  async text(key: string): Promise<string> {
    return (await this.get(key)).toString();
  }

  async etag(key: string): Promise<string | undefined> {
    const { ETag } = await this.#server.client.send(new HeadObjectCommand({ Bucket: this.name, Key: key }));
    return ETag;
  }

  async remove(key: string): Promise<void> {
    await this.#server.client.send(new DeleteObjectCommand({ Bucket: this.name, Key: key }));
  }

  /** Every key, in byte order. */
  async keys(): Promise<string[]> {
    const found: string[] = [];
    let token: string | undefined;
    do {
      const page = await this.#server.client.send(
        new ListObjectsV2Command({ Bucket: this.name, ContinuationToken: token }),
      );
      for (const { Key } of page.Contents ?? []) if (Key !== undefined) found.push(Key);
      token = page.NextContinuationToken;
    } while (token !== undefined);
    return found;
  }
}
