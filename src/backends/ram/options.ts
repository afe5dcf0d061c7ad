import { z } from 'zod';
import { byteSize } from '../../config/quantities.js';

/** Configuration keys of a memory mount. */
export const ramOptions = z.strictObject({
  size: byteSize()
    .optional()
    .describe('Bytes that files may take together; half of the memory when left out'),
});

export type RamOptions = z.output<typeof ramOptions>;
