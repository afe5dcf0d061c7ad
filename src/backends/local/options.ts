import { z } from 'zod';

/** Configuration keys of a local mount. */
export const localOptions = z.strictObject({
  path: z.string().min(1).describe('Folder of this host; nothing outside of it is ever reached'),
});

export type LocalOptions = z.output<typeof localOptions>;
