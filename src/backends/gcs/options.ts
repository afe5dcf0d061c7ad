import { z } from 'zod';

const text = z.string().min(1);

/** Configuration keys of a Google Cloud Storage mount. Without credentials Google's default chain looks for them. */
export const gcsOptions = z
  .strictObject({
    bucket: text.describe('Name of the bucket'),
    prefix: z.string().optional().describe('Only what lies below this prefix is mounted'),
    endpoint: z
      .url({ protocol: /^https?$/, error: 'must be a URL that begins with http:// or https://' })
      .optional()
      .describe(
        'URL of the JSON API where it is not https://storage.googleapis.com; asked without credentials unless some are given',
      ),
    projectId: text.optional().describe('Project; from the credentials when left out'),
    keyFile: text.optional().describe('JSON key file of a service account, or of a workload identity'),
    credentials: z
      .strictObject({
        clientEmail: text,
        privateKey: text.describe('PEM; \\n may stand for a line break'),
      })
      .optional()
      .describe('Key of a service account, in place of keyFile'),
    accessToken: text
      .optional()
      .describe('OAuth token, such as `gcloud auth print-access-token` prints; not renewed when it expires'),
    anonymous: z.boolean().optional().describe('Ask without credentials: for public buckets'),
    userProject: text.optional().describe('Project that pays for requests and traffic (requester pays)'),
    storageClass: text.optional().describe('Class of new objects, such as NEARLINE'),
    kmsKeyName: text.optional().describe('Cloud KMS key that encrypts new objects, projects/…/cryptoKeys/…'),
  })
  .refine(
    (o) => [o.keyFile, o.credentials, o.accessToken, o.anonymous || undefined].filter(Boolean).length <= 1,
    {
      message: 'keyFile, credentials, accessToken and anonymous take the place of each other',
      path: ['credentials'],
    },
  );

export type GcsOptions = z.output<typeof gcsOptions>;
