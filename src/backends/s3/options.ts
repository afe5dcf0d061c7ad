import { z } from 'zod';
import { type Preset, presetNames, presets } from './presets.js';

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
    preset: z.enum(presetNames).optional().describe('Settings of a store that is not AWS'),
    requesterPays: z.boolean().optional().describe('Requests and traffic are charged to these credentials'),
    storageClass: text.optional().describe('Class of new objects, such as STANDARD_IA'),
    encryption: z
      .discriminatedUnion('type', [
        z.strictObject({ type: z.literal('AES256') }),
        z.strictObject({ type: z.literal('aws:kms'), keyId: text.optional() }),
        z.strictObject({
          type: z.literal('customer'),
          secretKey: z
            .string()
            .refine((key) => Buffer.from(key, 'base64').length === 32, 'must be 32 bytes in base64')
            .describe('The key that the store uses and forgets (SSE-C)'),
        }),
      ])
      .optional()
      .describe('How the store encrypts new objects'),
    checksums: z
      .enum(['auto', 'always'])
      .optional()
      .describe('auto: only where the store insists; always: CRC32 with every upload'),
    anonymous: z.boolean().optional().describe('Do not sign requests: for public buckets'),
  })
  .refine((o) => (o.accessKeyId === undefined) === (o.secretAccessKey === undefined), {
    message: 'accessKeyId and secretAccessKey belong together',
    path: ['secretAccessKey'],
  })
  .refine((o) => o.preset === undefined || o.endpoint !== undefined, {
    error: (issue) => {
      const { preset } = issue.input as { preset: keyof typeof presets };
      return `${preset} needs its endpoint, such as ${presets[preset].endpoint}`;
    },
    path: ['endpoint'],
  })
  .refine((o) => !(o.anonymous && (o.accessKeyId !== undefined || o.profile !== undefined)), {
    message: 'anonymous access takes no credentials',
    path: ['anonymous'],
  });

/** With what the preset says where the mount says nothing. */
export function withPreset(options: S3Options): S3Options {
  if (options.preset === undefined) return options;
  const { region, pathStyle }: Preset = presets[options.preset];
  return { ...(region !== undefined && { region }), pathStyle, ...options };
}

export type S3Options = z.output<typeof s3Options>;
