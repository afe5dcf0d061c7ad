import { execFile, execFileSync } from 'node:child_process';
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { until } from '../mounted/process.js';

const run = promisify(execFile);

/** A WebDAV server of a test's own; what it serves is a folder of this machine. */
export interface DavServer {
  readonly port: number;
  readonly url: string;
  /** What a program on the server sees. */
  readonly folder: string;
  stop(): Promise<void>;
}

export interface DavServerOptions {
  /** Gives the served folder a disk of its own, so large (as tmpfs says it); needs root. */
  readonly disk?: string;
}

/** How one kind of server is set up. */
export interface Recipe {
  readonly command: string;
  /** Debian packages, named when the server is not there. */
  readonly packages: string;
  configuration(directory: string, port: number): string;
  /** Arguments that start it as a daemon. */
  start(configurationFile: string): readonly string[];
}

/** Starts a server on a free port; resolves when it answers. It writes its process id into `pid` of its directory. */
export async function startDavServer(recipe: Recipe, options: DavServerOptions = {}): Promise<DavServer> {
  const directory = await mkdtemp(join(tmpdir(), 'mirage-webdav-'));
  const folder = join(directory, 'data');
  await mkdir(folder);
  await mkdir(join(directory, 'tmp'));
  const disk = options.disk;
  if (disk !== undefined) await run('mount', ['-t', 'tmpfs', '-o', `size=${disk}`, 'mirage-test', folder]);
  // Servers give up root; whatever they run as must reach all of it.
  for (const path of [directory, folder, join(directory, 'tmp')]) await chmod(path, 0o777);
  const pidFile = join(directory, 'pid');
  const clean = async () => {
    if (disk !== undefined) await run('umount', ['-l', folder]);
    await rm(directory, { recursive: true, force: true });
  };
  try {
    const port = await freePort();
    const file = join(directory, 'configuration');
    await writeFile(file, recipe.configuration(directory, port));
    await run(recipe.command, recipe.start(file)).catch(async (cause: NodeJS.ErrnoException) => {
      const log = await readFile(join(directory, 'log'), 'utf8').catch(() => '');
      const why = cause.code === 'ENOENT' ? `install ${recipe.packages}` : log;
      throw new Error(`${recipe.command} does not start: ${why}`, { cause });
    });
    const url = `http://127.0.0.1:${port}`;
    await until(() => answers(url), `${recipe.command} answers`);
    const pid = Number(await readFile(pidFile, 'utf8'));
    const end = () => process.kill(pid, 'SIGTERM');
    // Also when the run is broken off.
    process.once('exit', end);
    return {
      port,
      url,
      folder,
      async stop() {
        process.off('exit', end);
        end();
        await until(() => !isRunning(pid), `${recipe.command} ends`);
        await clean();
      },
    };
  } catch (error) {
    await clean();
    throw error;
  }
}

const answers = (url: string): Promise<boolean> =>
  fetch(url, { method: 'OPTIONS' }).then(
    () => true,
    () => false,
  );

/** A zombie that its parent has not looked at yet has ended, too. */
function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return !/^State:\s+Z/m.test(execFileSync('cat', [`/proc/${pid}/status`], { encoding: 'utf8' }));
  } catch {
    return false;
  }
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once('error', reject);
    probe.listen(0, '127.0.0.1', () => {
      const { port } = probe.address() as AddressInfo;
      probe.close(() => resolve(port));
    });
  });
}
