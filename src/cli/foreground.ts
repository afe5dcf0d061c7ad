import type { Configuration } from '../config/configuration.js';
import { runtimeDirectory } from '../config/directories.js';
import { Daemon } from '../daemon/daemon.js';
import { answersThroughKernel } from '../daemon/kernel-answer.js';
import { writeToErrorOutput } from '../daemon/log-file.js';
import { endOnSignals, prepareProcess, redactionOf } from '../daemon/process.js';
import { notifyService } from '../daemon/service.js';
import { announce, type MountContext, noAnswer, PROOF_DEADLINE } from './announce.js';
import { exitCodes } from './exit-codes.js';

/** The daemon in this process, for service managers and for watching it. Returns when the mount has ended. */
export async function mountHere(configuration: Configuration, context: MountContext): Promise<number> {
  const { output, types, version } = context;
  const redaction = redactionOf(configuration);
  const log = writeToErrorOutput(redaction);
  prepareProcess(log);
  const runtime = runtimeDirectory(process.env);
  const daemon = await Daemon.start({
    configuration,
    types,
    runtimeDirectory: runtime,
    version,
    redaction,
    log,
  });
  endOnSignals(daemon);
  if (!(await answersThroughKernel(daemon.mountpoint, PROOF_DEADLINE))) {
    await daemon.unmount(true, () => undefined);
    throw noAnswer(configuration);
  }
  const { mounts } = await daemon.status();
  announce(daemon.mountpoint, mounts, configuration, output);
  notifyService(`READY=1\nSTATUS=mounted at ${daemon.mountpoint}`);
  const left = await daemon.ended;
  await daemon.closed;
  if (left.length === 0) return exitCodes.ok;
  output.problem({
    what: `ended with ${left.length} changes that are not on their store`,
    why: left.join(', '),
    remedy: `look at the log above and at ${configuration.state}/conflicts`,
  });
  return exitCodes.failure;
}
