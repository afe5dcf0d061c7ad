import { z } from 'zod';
import { byteSize } from '../../src/config/quantities.js';
import type { MountTypes } from '../../src/config/schema.js';

/** Kinds of mounts as the configuration sees them: it knows no backend, only their options. */
export const types: MountTypes = {
  ram: {
    options: z.strictObject({ size: byteSize().optional() }),
    placement: 'inline',
    writesThrough: true,
  },
  local: { options: z.strictObject({ path: z.string().min(1) }), placement: 'inline' },
  s3: {
    options: z.strictObject({
      bucket: z.string().min(1),
      prefix: z.string().optional(),
      region: z.string().optional(),
      endpoint: z.url().optional(),
      pathStyle: z.boolean().optional(),
      accessKeyId: z.string().optional(),
      secretAccessKey: z.string().optional(),
    }),
    placement: 'remote',
  },
};
