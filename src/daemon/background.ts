/** The detached daemon process: gets a configuration from the command that started it, reports, and stays. */
import { backendTypes } from '../backends/registry.js';
import type { Configuration } from '../config/configuration.js';
import { runtimeDirectory } from '../config/directories.js';
import { Daemon } from './daemon.js';
import { type Explanation, explain } from './explanation.js';
import { writeToFile } from './log-file.js';
import { endOnSignals, prepareProcess, redactionOf } from './process.js';
import { logFile } from './state-directory.js';
import type { MountStatus } from './status.js';

export interface BackgroundRequest {
  readonly configuration: Configuration;
  readonly version: string;
}

export type BackgroundReport =
  | { readonly mounted: { readonly mountpoint: string; readonly mounts: readonly MountStatus[] } }
  | { readonly failed: Explanation };

/** Who started us may be gone. */
const report = (message: BackgroundReport): Promise<void> =>
  new Promise((resolve) => {
    if (process.connected) process.send?.(message, undefined, undefined, () => resolve());
    else resolve();
  });

async function run({ configuration, version }: BackgroundRequest): Promise<void> {
  try {
    const redaction = redactionOf(configuration);
    const log = writeToFile(logFile(configuration.state), redaction);
    prepareProcess(log);
    const daemon = await Daemon.start({
      configuration,
      types: backendTypes,
      runtimeDirectory: runtimeDirectory(process.env),
      version,
      redaction,
      log,
    });
    endOnSignals(daemon);
    const { mounts } = await daemon.status();
    await report({ mounted: { mountpoint: daemon.mountpoint, mounts } });
    const left = await daemon.ended;
    await daemon.closed;
    process.exit(left.length === 0 ? 0 : 1);
  } catch (error) {
    await report({ failed: explain(error) });
    process.exit(1);
  }
}

process.once('message', (request: BackgroundRequest) => void run(request));
