import { existsSync } from 'node:fs';

const REMEMBERED = 256;
const foreign = new Set<number>();

/** Whether a task id, as requests carry it, is a thread of this process. Asked when a request has to wait, not before. */
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
