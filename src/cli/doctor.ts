import { existsSync, readFileSync, statfsSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import type { BackendType } from '../backends/backend-type.js';
import { backendType } from '../backends/custom/type.js';
import { systemClock } from '../clock/clock.js';
import type { Configuration } from '../config/configuration.js';
import { findConfiguration, runtimeDirectory } from '../config/directories.js';
import { loadConfiguration } from '../config/load.js';
import { runningDaemons } from '../daemon/control-client.js';
import { explain } from '../daemon/explanation.js';
import { answersThroughKernel, isDisconnected } from '../daemon/kernel-answer.js';
import { checkKernelAccess } from '../daemon/mount-point.js';
import { isOurs, mountTable } from '../daemon/mount-table.js';
import { redactionOf } from '../daemon/process.js';
import type { Redaction } from '../log/redaction.js';
import { logTo } from '../log/text-log.js';
import { loadNative } from '../native/load.js';
import { exitCodes } from './exit-codes.js';
import type { Output } from './output.js';

type Verdict = 'ok' | 'warn' | 'fail';
interface Finding {
  readonly check: string;
  readonly verdict: Verdict;
  readonly said: string;
  readonly remedy?: string;
}

export interface DoctorContext {
  readonly output: Output;
  readonly types: Readonly<Record<string, BackendType>>;
  readonly conceal: (redaction: Redaction) => void;
}

/** How long one store may take to answer, milliseconds. */
const STORE_DEADLINE = 10_000;
/** Less free room than this for the cache is worth a word, bytes. */
const LITTLE_ROOM = 2 ** 30;

/** Looks at everything a mount needs, and says for each thing that is missing what to do. 1 when something fails. */
export async function doctor(config: string | undefined, context: DoctorContext): Promise<number> {
  const { output } = context;
  const findings: Finding[] = [node(), ...nativeParts(), kernel(), otherUsers(), ...(await mounts())];
  const file = findConfiguration(config, process.env);
  if (file !== undefined) findings.push(...(await configured(file, context)));

  const colours = { ok: 'green', warn: 'yellow', fail: 'red' } as const;
  for (const { check, verdict, said, remedy } of findings) {
    output.line(`${output.style(colours[verdict], verdict.padEnd(4))}  ${check}: ${said}`);
    if (remedy !== undefined) output.line(`      do: ${remedy}`);
  }
  return findings.some(({ verdict }) => verdict === 'fail') ? exitCodes.failure : exitCodes.ok;
}

function node(): Finding {
  const [major, minor] = process.versions.node.split('.').map(Number) as [number, number];
  const fits = major > 20 || (major === 20 && minor >= 19);
  const said = `${process.version} on ${process.platform}-${process.arch}`;
  return fits
    ? { check: 'Node', verdict: 'ok', said }
    : { check: 'Node', verdict: 'fail', said, remedy: 'install Node 20.19 or newer' };
}

const nativeParts = (): Finding[] =>
  (['fuse-transport', 'local-files'] as const).map((part) =>
    attempt(`native part ${part}`, () => {
      loadNative(part);
      return 'loads';
    }),
  );

const kernel = (): Finding =>
  attempt('kernel', () => {
    checkKernelAccess();
    return '/dev/fuse can be used';
  });

function otherUsers(): Finding {
  const check = 'other users';
  if (process.getuid?.() === 0) return { check, verdict: 'ok', said: 'root may let them in (allowOther)' };
  const allowed =
    existsSync('/etc/fuse.conf') && /^\s*user_allow_other/m.test(readFileSync('/etc/fuse.conf', 'utf8'));
  return allowed
    ? { check, verdict: 'ok', said: 'user_allow_other is set: allowOther works' }
    : {
        check,
        verdict: 'warn',
        said: 'allowOther is refused here',
        remedy: 'only if you want it: add user_allow_other to /etc/fuse.conf',
      };
}

/** Every Mirage mount that the kernel knows has a daemon, and answers. */
async function mounts(): Promise<Finding[]> {
  const daemons = await runningDaemons(runtimeDirectory(process.env));
  const ours = mountTable().filter(isOurs);
  return Promise.all(
    ours.map(async ({ path }): Promise<Finding> => {
      const check = `mount ${path}`;
      const known = daemons.some(({ status }) => status.mountpoint === path);
      if (await answersThroughKernel(path, STORE_DEADLINE)) {
        return {
          check,
          verdict: 'ok',
          said: known ? 'answers' : 'answers; its daemon belongs to somebody else',
        };
      }
      if (!known && !(await isDisconnected(path, STORE_DEADLINE))) {
        const said = 'gives this user no answer; its daemon belongs to somebody else';
        return { check, verdict: 'warn', said };
      }
      return {
        check,
        verdict: 'fail',
        said: known ? 'does not answer' : 'its daemon is gone ("Transport endpoint is not connected")',
        remedy: `mirage unmount ${known ? '--force ' : ''}${path}`,
      };
    }),
  );
}

async function configured(file: string, context: DoctorContext): Promise<Finding[]> {
  let configuration: Configuration;
  try {
    configuration = loadConfiguration(file, {
      types: context.types,
      environment: process.env,
      mountpoint: '/',
    });
  } catch (error) {
    const { what, why, remedy } = explain(error);
    return [{ check: 'configuration', verdict: 'fail', said: `${what} (${why})`, remedy }];
  }
  context.conceal(redactionOf(configuration));
  const stores = await Promise.all(configuration.mounts.map((mount) => store(mount, context)));
  return [{ check: 'configuration', verdict: 'ok', said: file }, ...stores, room(configuration)];
}

async function store(mount: Configuration['mounts'][number], { types }: DoctorContext): Promise<Finding> {
  const check = `store of ${mount.path}`;
  const started = systemClock.monotonic();
  try {
    const module = await backendType(types, mount.type).load();
    const { backend, probed } = await module.open(mount.options, {
      log: logTo(() => undefined),
      clock: systemClock,
      writable: false,
      signal: AbortSignal.timeout(STORE_DEADLINE),
    });
    const listing = await backend.list('', undefined, { signal: AbortSignal.timeout(STORE_DEADLINE) });
    await backend.close?.();
    const took = Math.round(systemClock.monotonic() - started);
    const found = Object.entries(probed).map(([name, value]) => `${name} ${value}`);
    return {
      check,
      verdict: 'ok',
      said: [`answers in ${took} ms`, `${listing.entries.length} entries on the first page`, ...found].join(
        ', ',
      ),
    };
  } catch (error) {
    const { what, why, remedy } = explain(error);
    return { check, verdict: 'fail', said: `${what} (${why})`, remedy };
  }
}

function room({ cache, mounts: all }: Configuration): Finding {
  const check = 'cache';
  if (all.every((mount) => mount.placement === 'inline')) {
    return { check, verdict: 'ok', said: 'not needed: nothing remote is mounted' };
  }
  let folder = cache.directory;
  while (!existsSync(folder)) folder = dirname(folder);
  const { bavail, bsize } = statfsSync(folder);
  const free = bavail * bsize;
  const said = `${Math.round(free / 2 ** 30)} GiB free for ${cache.directory} (${statSync(folder).isDirectory() ? folder : '?'})`;
  return free > LITTLE_ROOM
    ? { check, verdict: 'ok', said }
    : { check, verdict: 'warn', said, remedy: 'free some room, or set cache.directory to a larger disk' };
}

function attempt(check: string, run: () => string): Finding {
  try {
    return { check, verdict: 'ok', said: run() };
  } catch (error) {
    const { what, why, remedy } = explain(error);
    return { check, verdict: 'fail', said: `${what} (${why})`, remedy };
  }
}
