import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { MirageError } from '../errors/mirage-error.js';

export type NativePart = 'fuse-transport' | 'local-files';

const require = createRequire(import.meta.url);

/** The package folder: the nearest one upwards that holds `native-helpers`, from `src/` and `dist/` alike. */
export function packageRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'native-helpers'))) {
    const parent = dirname(folder);
    if (parent === folder) throw new MirageError('the package folder is incomplete', { errno: 'ENOENT' });
    folder = parent;
  }
  return folder;
}

/** Loads a native part: a prebuilt binary of this platform, or the one that `npm run build` compiled. */
export function loadNative<T>(part: NativePart): T {
  const folder = join(packageRoot(), 'native-helpers', part);
  try {
    const load = require('node-gyp-build') as (folder: string) => T;
    return load(folder);
  } catch (cause) {
    throw new MirageError(`the native part ${part} is not built for ${process.platform}-${process.arch}`, {
      errno: 'ENOSYS',
      cause,
      hint: 'run `npm run build` in the package folder (needs a C compiler: apt-get install build-essential python3)',
    });
  }
}
