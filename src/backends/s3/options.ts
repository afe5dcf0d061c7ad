import { z } from 'zod';

const text = z.string().min(1);

/** Configuration keys of an S3 mount. Without keys the SDK's default chain looks for credentials. */
export const s3Options = z
  .strictObject({
    bucket: text.describe('Name of the bucket'),
    prefix: z.string().optional().describe('Only what lies below this prefix is mounted'),
    endpoint: z
      .url({ protocol: /^https?$/, error: 'must be a URL that begins with http:// or https://' })
      .optional()
      .describe('URL of a store that is not AWS, such as http://127.0.0.1:9000'),
    region: text.optional().describe('Region; from the environment or the profile when left out'),
    pathStyle: z
      .boolean()
      .optional()
      .describe('Put the bucket into the path instead of the host name; the default with an endpoint'),
    accessKeyId: text.optional(),
    secretAccessKey: text.optional(),
    sessionToken: text.optional(),
    profile: text.optional().describe('Profile in ~/.aws/config and ~/.aws/credentials'),
    anonymous: z.boolean().optional().describe('Do not sign requests: for public buckets'),
  })
  .refine((o) => (o.accessKeyId === undefined) === (o.secretAccessKey === undefined), {
    message: 'accessKeyId and secretAccessKey belong together',
    path: ['secretAccessKey'],
  })
  .refine((o) => !(o.anonymous && (o.accessKeyId !== undefined || o.profile !== undefined)), {
    message: 'anonymous access takes no credentials',
    path: ['anonymous'],
  });

export type S3Options = z.output<typeof s3Options>;
