/** Makes a fresh clone on a bare machine ready: Debian packages, npm packages, native parts, `dist/`. Does only what is missing. */
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ensureDebianPackages, stop, toBuild } from './debian.mjs';

export const root = dirname(dirname(fileURLToPath(import.meta.url)));
export const mirage = join(root, 'dist', 'cli', 'main.js');
const nativeParts = ['fuse-transport', 'local-files'];

/** Where the headers lie that came with the running Node; node-gyp downloads them otherwise. */
const prefix = dirname(dirname(process.execPath));
export const headers = existsSync(join(prefix, 'include', 'node', 'node_api.h')) ? prefix : undefined;

export function prepare(needs = []) {
  requireNode();
  ensureDebianPackages([...toBuild, ...needs]);
  ensureNodePackages();
  ensureSqlite();
  for (const part of nativeParts) buildNative(part);
  buildSources();
}

function requireNode() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major > 20 || (major === 20 && minor >= 19)) return;
  stop(
    `Node ${process.versions.node} is too old`,
    'Mirage needs Node 20.19 or newer',
    'see https://nodejs.org/en/download',
  );
}

/** The installed packages are those of the lock file (optional ones may be missing). */
function ensureNodePackages() {
  const wanted = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')).packages;
  const record = join(root, 'node_modules', '.package-lock.json');
  const installed = existsSync(record) ? JSON.parse(readFileSync(record, 'utf8')).packages : {};
  const stale = Object.entries(wanted).some(
    ([path, { version, optional }]) => path !== '' && !optional && installed[path]?.version !== version,
  );
  if (!stale) return;
  console.log('Installing npm packages (this compiles SQLite: a few minutes on a small machine)');
  const quiet = ['--no-audit', '--no-fund'];
  const env = headers === undefined ? {} : { npm_config_nodedir: headers };
  // An install script that fails (a download out of reach) is no reason to stop: what matters is compiled below.
  if (!attempt('npm', ['ci', ...quiet], root, env))
    run('npm', ['install', '--no-save', '--ignore-scripts', ...quiet], root);
}

/** npm may have been told not to run install scripts: then SQLite is compiled here. */
function ensureSqlite() {
  const folder = join(root, 'node_modules', 'better-sqlite3');
  const probe = `new (require(${JSON.stringify(folder)}))(':memory:').close()`;
  if (spawnSync(process.execPath, ['-e', probe], { stdio: 'ignore' }).status === 0) return;
  console.log('Compiling SQLite (a few minutes on a small machine)');
  nodeGyp(folder);
}

function buildNative(part) {
  const folder = join(root, 'native-helpers', part);
  const built = join(folder, 'build', 'Release');
  const sources = filesBelow(join('native-helpers', part), ['build', 'prebuilds']);
  const newest = Math.max(...sources.map((path) => statSync(join(root, path)).mtimeMs));
  const binaries = existsSync(built) ? readdirSync(built).filter((name) => name.endsWith('.node')) : [];
  if (binaries.some((name) => statSync(join(built, name)).mtimeMs > newest)) return;
  // Not `rebuild`, which would take the old binary away from daemons that start meanwhile.
  nodeGyp(folder, ['configure', 'build']);
  for (const name of readdirSync(built).filter((file) => file.endsWith('.node'))) {
    utimesSync(join(built, name), new Date(), new Date());
  }
}

function nodeGyp(folder, commands = ['rebuild']) {
  const tool = join(root, 'node_modules', 'node-gyp', 'bin', 'node-gyp.js');
  const from = headers === undefined ? [] : [`--nodedir=${headers}`];
  for (const command of commands) {
    run(process.execPath, [tool, command, '--release', '--loglevel=error', ...from], folder);
  }
}

/** Compiles beside `dist/` and puts the result in its place, so that a daemon that starts meanwhile finds all of it. */
function buildSources() {
  const output = join(root, 'dist');
  const stamp = join(output, '.built');
  const sources = ['package-lock.json', 'tsconfig.json', ...filesBelow('src')];
  const newest = Math.max(...sources.map((path) => statSync(join(root, path)).mtimeMs));
  // The list of sources is part of the stamp, so that a deleted source does not live on in dist/.
  const inventory = sources.join('\n');
  if (existsSync(stamp) && statSync(stamp).mtimeMs > newest && readFileSync(stamp, 'utf8') === inventory)
    return;
  const started = new Date();
  const fresh = mkdtempSync(join(root, 'dist.'));
  const compiler = join(root, 'node_modules', 'typescript', 'bin', 'tsc');
  run(process.execPath, [compiler, '-p', root, '--outDir', fresh], root, () =>
    rmSync(fresh, { recursive: true }),
  );
  chmodSync(join(fresh, 'cli', 'main.js'), 0o755);
  writeFileSync(join(fresh, '.built'), inventory);
  // A source that changed while it was compiled is newer than this.
  utimesSync(join(fresh, '.built'), started, started);
  chmodSync(fresh, 0o755);
  const old = `${fresh}.old`;
  if (existsSync(output)) renameSync(output, old);
  renameSync(fresh, output);
  rmSync(old, { recursive: true, force: true });
}

function filesBelow(folder, except = []) {
  return readdirSync(join(root, folder), { withFileTypes: true })
    .filter((entry) => !except.includes(entry.name))
    .flatMap((entry) => {
      const path = join(folder, entry.name);
      return entry.isDirectory() ? filesBelow(path) : [path];
    });
}

/** Quiet unless it fails, which ends everything. */
function run(program, options, cwd, cleanUp = () => {}) {
  if (attempt(program, options, cwd)) return;
  cleanUp();
  stop(`failed: ${[program, ...options].join(' ')}`, 'see its output above', `run it again in ${cwd}`);
}

function attempt(program, options, cwd, env = {}) {
  const { status, stdout, stderr } = spawnSync(program, options, {
    cwd,
    encoding: 'utf8',
    maxBuffer: 2 ** 28,
    env: { ...process.env, ...env },
  });
  if (status !== 0) process.stderr.write(`${stdout ?? ''}${stderr ?? ''}`);
  return status === 0;
}
