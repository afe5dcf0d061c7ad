/** The tasks (threads) that requests come from, as /proc shows them. Asked only when a request has to wait. */
import { existsSync, readFileSync } from 'node:fs';

const REMEMBERED = 256;
const foreign = new Set<number>();

/** Whether a task id, as requests carry it, is a thread of this process. */
export function ownsTask(id: number): boolean {
  if (id === process.pid) return true;
  // 0: the kernel itself (write-back, read-ahead).
  if (id === 0 || foreign.has(id)) return false;
  if (existsSync(`/proc/self/task/${id}`)) return true;
  // Ids come back some day, as threads of ours perhaps: what is remembered is little and soon forgotten.
  if (foreign.size === REMEMBERED) foreign.clear();
  foreign.add(id);
  return false;
}

/** Signals that do not end a task that does not handle them: CHLD, CONT, STOP, TSTP, TTIN, TTOU, URG, WINCH (signal(7)). */
const HARMLESS = [17, 18, 19, 20, 21, 22, 23, 28].reduce(
  (mask, signal) => mask | (1n << BigInt(signal - 1)),
  0n,
);

/**
 * Whether a signal that ends the task is on its way, rather than one that it handles to go on afterwards. True when that cannot be seen:
 * the task is in another pid namespace, or gone.
 */
export function isEnding(id: number): boolean {
  if (id === 0) return true;
  try {
    const status = readFileSync(`/proc/${id}/status`, 'latin1');
    const mask = (name: string): bigint =>
      BigInt(`0x${new RegExp(`^${name}:\\s*([0-9a-f]+)$`, 'm').exec(status)?.[1] ?? '0'}`);
    const pending = (mask('SigPnd') | mask('ShdPnd')) & ~mask('SigBlk');
    return (pending & ~mask('SigIgn') & ~mask('SigCgt') & ~HARMLESS) !== 0n;
  } catch {
    return true;
  }
}
