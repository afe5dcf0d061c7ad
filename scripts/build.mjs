/** `npm run build`: the native parts and `dist/`, each only when a source is newer; `--prebuilt` adds binaries for `npm pack`. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { headers, prepare, root } from './prepare.mjs';

prepare();

if (process.argv.includes('--prebuilt')) {
  const tool = join(root, 'node_modules', 'prebuildify', 'bin.js');
  for (const part of ['fuse-transport', 'local-files']) {
    const options = ['--napi', '--strip', '--name', part, '--cwd', join(root, 'native-helpers', part)];
    const env = { ...process.env, ...(headers && { npm_config_nodedir: headers }) };
    const { status } = spawnSync(process.execPath, [tool, ...options], { stdio: 'inherit', env });
    if (status !== 0) process.exit(1);
  }
}
