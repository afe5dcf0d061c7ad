/** Checks what a daemon keeps on the disk while none runs: what is cached, and what waits for its store. */
import { existsSync, mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { BackendType } from '../backends/backend-type.js';
import { cacheDirectory, findConfiguration, stateDirectory } from '../config/directories.js';
import { loadConfiguration } from '../config/load.js';
import { ConfigurationError } from '../config/problem.js';
import { checkContent } from '../content/check.js';
import { takeCacheDirectory, takeStateDirectory } from '../daemon/state-directory.js';
import type { DaemonStatus } from '../daemon/status.js';
import type { CheckOptions, Finding } from '../errors/finding.js';
import { MirageError } from '../errors/mirage-error.js';
import { logTo } from '../log/text-log.js';
import { checkMetadata } from '../metadata/check.js';
import { checkJournal } from '../vfs/object/journal/check.js';
import { exitCodes } from './exit-codes.js';
import { findDaemon } from './mounted.js';
import type { Output } from './output.js';

export interface FsckCommand {
  readonly mountpoint: string | undefined;
  readonly config: string | undefined;
  readonly repair: boolean;
}

interface Places {
  readonly state: string;
  readonly cache: string;
}

/** 0: nothing is wrong, or nothing any more; 1: something is; 3: there is nothing to check; 5: a daemon has it. */
export async function fsck(
  command: FsckCommand,
  { output, types }: { output: Output; types: Readonly<Record<string, BackendType>> },
): Promise<number> {
  const daemon = command.mountpoint === undefined ? undefined : await findDaemon(command.mountpoint);
  if (daemon !== undefined) {
    output.error(inUse(daemon.status));
    return exitCodes.temporary;
  }
  const places = findPlaces(command, types);
  if (!existsSync(places.state)) {
    throw new MirageError(`there is no state of Mirage at ${places.state}`, {
      errno: 'ENOENT',
      cause: new Error('nothing was mounted with it yet'),
      hint: 'name the mount point, or the configuration with --config',
    });
  }
  const release = take(places);
  if (release instanceof MirageError) {
    output.error(release);
    return exitCodes.temporary;
  }
  try {
    return await check(places, command.repair, output);
  } finally {
    release();
  }
}

const inUse = ({ mountpoint, pid }: DaemonStatus): MirageError =>
  new MirageError(`${mountpoint} is mounted`, {
    errno: 'EBUSY',
    cause: new Error(`process ${pid} uses its state and cache`),
    hint: `mirage unmount ${mountpoint}, then check`,
  });

async function check({ state, cache }: Places, repair: boolean, output: Output): Promise<number> {
  const recovered = join(cache, 'content', 'recovered');
  if (repair) mkdirSync(recovered, { recursive: true, mode: 0o700 });
  const options: CheckOptions = { repair, recovered };
  const log = logTo(() => undefined);
  // The journal first: what it needs is nobody's to clear away.
  const journal = { file: join(state, 'journal.log'), staged: join(cache, 'journal') };
  const checks: [string, () => Finding[] | Promise<Finding[]>][] = [
    ['journal', () => checkJournal(journal, options, log)],
    ['metadata', () => checkMetadata(join(state, 'metadata.db'), options, log)],
    ['content', () => checkContent(join(cache, 'content'), options)],
  ];
  let left = 0;
  for (const [name, run] of checks) {
    const findings = await run();
    if (findings.length === 0) output.line(`${output.style('green', 'ok  ')}  ${name}`);
    for (const { what, problem, mended, remedy } of findings) {
      const verdict = mended === undefined ? output.style('red', 'fail') : output.style('yellow', 'done');
      output.line(`${verdict}  ${name}: ${what}: ${problem}`);
      if (mended !== undefined) output.line(`      mended: ${mended}`);
      else if (remedy !== undefined) output.line(`      do: ${remedy}`);
      if (mended === undefined) left++;
    }
  }
  if (left > 0 && !repair) output.line('`mirage fsck --repair` mends what can be mended');
  return left > 0 ? exitCodes.failure : exitCodes.ok;
}

/** The state directory and, where there is one, the cache directory, for this process alone; or why not. */
function take({ state, cache }: Places): MirageError | (() => void) {
  const taken: (() => void)[] = [];
  try {
    taken.push(takeStateDirectory(state).release);
    if (existsSync(cache)) taken.push(takeCacheDirectory(cache));
  } catch (error) {
    for (const release of taken) release();
    if (MirageError.is(error, 'EBUSY')) return error;
    throw error;
  }
  return () => {
    for (const release of taken) release();
  };
}

/** Those of a configuration; of a mount without one, the folders that its mount point stands for. */
function findPlaces(
  { mountpoint, config }: FsckCommand,
  types: Readonly<Record<string, BackendType>>,
): Places {
  const at = mountpoint === undefined ? undefined : resolve(mountpoint);
  const own =
    at === undefined
      ? undefined
      : { state: stateDirectory(at, process.env), cache: cacheDirectory(at, process.env) };
  const file = findConfiguration(config, process.env);
  if (file === undefined) {
    if (own !== undefined) return own;
    throw new MirageError('there is no configuration', {
      errno: 'ENOENT',
      cause: new Error('none was named, and none is where they are looked for'),
      hint: 'name the mount point, or the configuration with --config',
    });
  }
  try {
    const configuration = loadConfiguration(file, { types, environment: process.env });
    if (config !== undefined || at === undefined || configuration.mountpoint === at) {
      return { state: configuration.state, cache: configuration.cache.directory };
    }
  } catch (error) {
    // One that was not asked for need not be right.
    if (config !== undefined || own === undefined || !(error instanceof ConfigurationError)) throw error;
  }
  return own as Places;
}
