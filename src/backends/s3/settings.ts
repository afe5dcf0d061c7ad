import type { S3Client } from '@aws-sdk/client-s3';
import type { S3Options } from './options.js';

type Input = Record<string, unknown>;

const MAKING = ['PutObjectCommand', 'CopyObjectCommand', 'CreateMultipartUploadCommand'];
const WITH_KEY = [
  ...MAKING,
  'GetObjectCommand',
  'HeadObjectCommand',
  'UploadPartCommand',
  'UploadPartCopyCommand',
];
const COPYING = ['CopyObjectCommand', 'UploadPartCopyCommand'];

/**
 * What the mount's options add to every request of a kind: who pays, how objects are encrypted and stored.
 * A request that says so itself (a copy that keeps the class of its source) is left alone.
 * https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html
 */
export function settingsOf(options: S3Options): (command: string) => Input {
  const { requesterPays, storageClass, encryption } = options;
  const customer =
    encryption?.type === 'customer'
      ? { SSECustomerAlgorithm: 'AES256', SSECustomerKey: encryption.secretKey }
      : undefined;
  const server =
    encryption === undefined || encryption.type === 'customer'
      ? undefined
      : {
          ServerSideEncryption: encryption.type,
          ...(encryption.type === 'aws:kms' &&
            encryption.keyId !== undefined && { SSEKMSKeyId: encryption.keyId }),
        };
  return (command) => ({
    ...(requesterPays && { RequestPayer: 'requester' }),
    ...(MAKING.includes(command) && { ...(storageClass && { StorageClass: storageClass }), ...server }),
    ...(customer !== undefined && WITH_KEY.includes(command) && customer),
    ...(customer !== undefined &&
      COPYING.includes(command) && {
        CopySourceSSECustomerAlgorithm: customer.SSECustomerAlgorithm,
        CopySourceSSECustomerKey: customer.SSECustomerKey,
      }),
  });
}

/** Adds the settings to the requests of a client, before anything else looks at them. */
export function applySettings(client: S3Client, options: S3Options): void {
  const settings = settingsOf(options);
  client.middlewareStack.add(
    (next, context) => (request) => {
      const input: Input = { ...settings(context.commandName ?? '') };
      for (const [name, value] of Object.entries(request.input)) if (value !== undefined) input[name] = value;
      return next({ ...request, input: input as unknown as typeof request.input });
    },
    { step: 'initialize', name: 'mountSettings', priority: 'high' },
  );
}
