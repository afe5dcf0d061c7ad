import { isAbsolute, resolve } from 'node:path';
import type { Configuration } from '../config/configuration.js';
import { runtimeDirectory } from '../config/directories.js';
import { type CommandOptions, configurationOfSource, loadConfiguration } from '../config/load.js';
import { ConfigurationError } from '../config/problem.js';
import { askUnmount } from '../daemon/control-client.js';
import { socketPath } from '../daemon/control-protocol.js';
import { answersThroughKernel } from '../daemon/kernel-answer.js';
import { launchDaemon } from '../daemon/launch.js';
import { redactionOf } from '../daemon/process.js';
import { announce, type MountContext, noAnswer, PROOF_DEADLINE } from './announce.js';

export interface MountCommand {
  readonly positional: readonly string[];
  readonly config?: string;
  /** `-o`, as often as given. */
  readonly option: readonly string[];
  readonly foreground: boolean;
}

/** Returns the exit code when the mount stands (detached) or has ended (foreground). */
export async function mount(command: MountCommand, context: MountContext): Promise<number> {
  const configuration = configurationOf(command, context);
  context.conceal(redactionOf(configuration));
  if (!command.foreground) return detached(configuration, context);
  const { mountHere } = await import('./foreground.js');
  return mountHere(configuration, context);
}

async function detached(configuration: Configuration, { output, version }: MountContext): Promise<number> {
  const { mountpoint, mounts } = await launchDaemon({ configuration, version });
  if (!(await answersThroughKernel(mountpoint, PROOF_DEADLINE))) {
    const socket = socketPath(runtimeDirectory(process.env), configuration.state);
    await askUnmount(socket, true, () => undefined).catch(() => undefined);
    throw noAnswer(configuration);
  }
  return announce(mountpoint, mounts, configuration, output);
}

const isSource = (text: string): boolean => /^[a-z][a-z0-9+-]*:/i.test(text);
const isConfigurationFile = (text: string): boolean => /\.(ya?ml|json)$/i.test(text);

function configurationOf(
  { positional, config, option }: MountCommand,
  { types }: MountContext,
): Configuration {
  const options = parseOptions(option);
  const [first, second] = positional;
  const load = (mountpoint: string | undefined) => ({
    types,
    environment: process.env,
    options,
    mountpoint:
      mountpoint === undefined ? undefined : isAbsolute(mountpoint) ? mountpoint : resolve(mountpoint),
  });
  if (config !== undefined) {
    if (second !== undefined)
      throw usage(first!, 'a configuration file names the sources itself', 'leave the source out');
    return loadConfiguration(config, load(first));
  }
  if (first !== undefined && isSource(first)) {
    if (second === undefined) throw usage(first, 'no mount point', `say where: mirage mount ${first} /mnt`);
    return configurationOfSource(first, load(second));
  }
  if (first !== undefined && (second !== undefined || isConfigurationFile(first))) {
    if (!isConfigurationFile(first)) return configurationOfSource(first, load(second));
    return loadConfiguration(first, load(second));
  }
  return loadConfiguration(undefined, load(first));
}

/** `key=value,key=value`; a comma inside a value is `\,`. `ro` and `rw` are what mount(8) calls the modes. */
export function parseOptions(given: readonly string[]): CommandOptions {
  const options: Record<string, string> = {};
  for (const item of given.flatMap((text) => text.split(/(?<!\\),/))) {
    const text = item.replaceAll('\\,', ',').trim();
    if (text === '') continue;
    const at = text.indexOf('=');
    if (text === 'ro') options.mode = 'read';
    else if (text === 'rw') options.mode = 'write';
    else if (at < 0) options[text] = 'true';
    else options[text.slice(0, at)] = text.slice(at + 1);
  }
  return options;
}

const usage = (place: string, what: string, remedy: string): ConfigurationError =>
  new ConfigurationError([{ place, what, why: 'see: mirage mount --help', remedy }]);
