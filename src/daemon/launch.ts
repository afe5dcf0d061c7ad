import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { MirageError } from '../errors/mirage-error.js';
import type { BackgroundReport, BackgroundRequest } from './background.js';
import { fromExplanation } from './explanation.js';
import type { MountStatus } from './status.js';

export interface Launched {
  readonly pid: number;
  readonly mountpoint: string;
  readonly mounts: readonly MountStatus[];
}

/**
 * Starts a daemon that outlives this process and waits until it has mounted. The configuration goes over a pipe, so that no secret
 * stands in an argument; the environment is inherited, for credentials that the SDK looks up itself.
 */
export function launchDaemon(request: BackgroundRequest): Promise<Launched> {
  const child = fork(fileURLToPath(new URL('./background.js', import.meta.url)), [], {
    detached: true,
    cwd: '/',
    execArgv: [],
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
    serialization: 'advanced',
  });
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code, signal) => {
      reject(
        new MirageError('the daemon ended before it had mounted', {
          errno: 'EIO',
          cause: new Error(signal ? `signal ${signal}` : `exit code ${code}`),
          hint: `look at daemon.log in ${request.configuration.state}`,
        }),
      );
    });
    child.once('message', (report: BackgroundReport) => {
      child.disconnect();
      child.unref();
      if ('failed' in report) reject(fromExplanation(report.failed));
      else resolve({ pid: child.pid!, ...report.mounted });
    });
    child.send(request);
  });
}
