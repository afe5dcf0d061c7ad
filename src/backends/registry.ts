import type { BackendType } from './backend-type.js';
import { layered } from './layers/stack.js';
import { s3Options } from './s3/options.js';

/** The only place that names concrete backends: type of a mount → what its options are and where its code is. */
export const backendTypes: Readonly<Record<string, BackendType>> = {
  s3: {
    options: s3Options,
    placement: 'remote',
    load: async () => layered(await import('./s3/open.js')),
  },
};
