import type { Configuration } from '../config/configuration.js';
import { isSecretName, Redaction } from '../log/redaction.js';
import type { LogRecord } from '../log/text-log.js';
import { localFiles } from '../native/local-files.js';
import type { Daemon } from './daemon.js';

/** Descriptors that a daemon asks for: open files of the programs, and cache files. */
const DESCRIPTORS = 1_048_576;

/** What a process must set before it serves a file system. `log` hears last words: what ends the process is not said anywhere else. */
export function prepareProcess(log: (record: LogRecord) => void): void {
  process.on('uncaughtExceptionMonitor', (error) => {
    const why = error instanceof Error ? (error.stack ?? error.message) : String(error);
    const remedy = 'mount it again; please report daemon.log';
    log({
      level: 'error',
      message: 'the daemon has died of a fault of its own',
      fields: { why, do: remedy },
    });
  });
  // The kernel has applied the umask of the program that asks; ours must not take more away.
  process.umask(0);
  localFiles().raiseDescriptorLimit(DESCRIPTORS);
}

/** SIGTERM and SIGINT drain and unmount; a terminal that is closed does the same. The second signal ends the process at once. */
export function endOnSignals(daemon: Daemon): void {
  let ending = false;
  const end = async (): Promise<void> => {
    if (ending) {
      await daemon.abandon();
      process.exit(1);
    }
    ending = true;
    await daemon.terminate().catch(() => process.exit(1));
  };
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, () => void end());
}

/** Everything secret that this process knows: from the configuration and from its environment. */
export function redactionOf(configuration: Configuration | undefined): Redaction {
  const redaction = new Redaction();
  for (const value of configuration?.secrets ?? []) redaction.add(value);
  for (const [name, value] of Object.entries(process.env)) {
    if (value !== undefined && isSecretName(name)) redaction.add(value);
  }
  return redaction;
}
