import { runtimeDirectory } from '../config/directories.js';
import { runningDaemons } from '../daemon/control-client.js';
import type { DaemonStatus } from '../daemon/status.js';
import type { LeaseStatus } from '../leases/leases.js';
import { exitCodes } from './exit-codes.js';
import { daemonAt } from './mounted.js';
import type { Output } from './output.js';

export async function status(folder: string | undefined, json: boolean, output: Output): Promise<number> {
  const daemons = await statusOf(folder);
  if (json) {
    output.json({ daemons });
    return exitCodes.ok;
  }
  if (daemons.length === 0) {
    output.note('Nothing is mounted. Try: mirage mount ram: /mnt');
    return exitCodes.ok;
  }
  output.table(
    ['MOUNT', 'TYPE', 'MODE', 'STATE', 'BINDING', 'PID'],
    daemons.flatMap(({ mountpoint, phase, binding, pid, mounts }) =>
      mounts.map(({ path, type, mode, reachable }) => [
        path === '/' ? mountpoint : `${mountpoint}${path}`,
        type,
        mode,
        reachable ? phase : 'unreachable',
        binding,
        String(pid),
      ]),
    ),
  );
  for (const daemon of daemons) details(daemon, folder !== undefined, output);
  return exitCodes.ok;
}

async function statusOf(folder: string | undefined): Promise<readonly DaemonStatus[]> {
  if (folder === undefined) {
    const daemons = await runningDaemons(runtimeDirectory(process.env));
    return daemons.map(({ status: one }) => one).sort((a, b) => a.mountpoint.localeCompare(b.mountpoint));
  }
  return [(await daemonAt(folder)).status];
}

/** For a person: what needs attention, and with a folder named also what the stores were found to honour. */
function details(daemon: DaemonStatus, everything: boolean, output: Output): void {
  if (!process.stdout.isTTY && !everything) return;
  for (const { path, error } of daemon.mounts) if (error !== undefined) output.line(`${path}: ${error}`);
  for (const { path, leases = [] } of daemon.mounts) {
    for (const lease of leases) output.line(`${path}: ${describe(lease)}`);
  }
  if (daemon.pending.length > 0) output.line(`Not on its store yet: ${daemon.pending.join(', ')}`);
  for (const changes of daemon.waiting ?? []) {
    output.line(`In the journal for what is not mounted for writing: ${changes}`);
  }
  if (!everything) return;
  for (const { path, probed } of daemon.mounts) {
    for (const [name, value] of Object.entries(probed)) output.line(`${path}\t${name}\t${value}`);
  }
  output.line(`state\t${daemon.state}`);
  if (daemon.configuration) output.line(`configuration\t${daemon.configuration}`);
  output.line(`memory\t${Math.round(daemon.memory / 2 ** 20)} MiB`);
}

function describe({ name, epoch, holders, waiting, left }: LeaseStatus): string {
  const counted = epoch === undefined ? '' : `, epoch ${epoch}`;
  const waiters = waiting === 0 ? '' : `, ${waiting} waiting`;
  if (left === undefined) return `${name} is open for writing at another host${waiters}`;
  if (left === 0) return `${name}: the lease has run out, ${holders} writing${waiters}`;
  return `${name} is ours to write for ${Math.ceil(left / 1000)} s and renewed, ${holders} writing${counted}${waiters}`;
}
